"""Fine-tune a base on your own text by one PEFT method: held-out improvement, samples before and after, an adapter file."""

import math
from pathlib import Path

from ..lab.ledger import count_parameters
from ..methods import METHODS, disabled, get_peft_model, save_adapter
from ..training import (
    AdamW,
    base_names,
    encode,
    evaluate,
    fit,
    load_base,
    plain,
    split_lines,
    text_batches,
    text_windows,
)
from .generate import replaced, write

RATES = {"lora": 1e-2, "adapter": 1e-2, "prefix": 1e-1, "prompt": 3e-2, "full": 1e-3}  # what worked in the tour


def add_arguments(parser):
    add = parser.add_argument
    add("file", metavar="FILE.txt", help="your text, UTF-8")
    add("--base", default="english", choices=[name for name in base_names() if name != "symbols"])
    add("--method", default="lora", choices=list(METHODS), help="default: lora")
    add("--r", type=int, help="LoRA: rank (default: 8)")
    add("--alpha", type=float, help="LoRA: the update is scaled by alpha / r (default: 16)")
    add("--dropout", type=float, help="LoRA: on the input of its path (default: 0)")
    add("--targets", help="LoRA, adapter: a glob over paths, such as '*.c_*'")
    add("--m", type=int, help="adapter: width; prefix, prompt: number of virtual tokens")
    add(
        "--reparametrise",
        action="store_true",
        default=None,
        help="prefix: write it with a small network while training",
    )
    add("--steps", type=int, default=200, help="default: 200")
    add("--batch", type=int, default=8, help="stretches of text a step (default: 8)")
    add("--length", type=int, default=112, help="characters in a stretch (default: 112)")
    add("--lr", type=float, help=f"learning rate (default: {', '.join(f'{k} {v:g}' for k, v in RATES.items())})")
    add("--seed", type=int, default=0)
    add("--out", default="adapter.npz", metavar="FILE", help="where the adapter goes (default: adapter.npz)")
    add("--checkpoint", metavar="FILE", help="write the state of the run here every 100 steps")
    add("--resume", action="store_true", help="go on from --checkpoint")


def run(args):
    out, method = Path(args.out), method_of(args)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {out.absolute().parent} to save the adapter in")
    if args.resume and not args.checkpoint:
        raise ValueError("--resume goes on from a checkpoint: say which with --checkpoint FILE")
    train, held_out = read(args.file, args.length)
    model = load_base(args.base, "float32")
    windows = text_windows(encode(held_out), args.length)
    before = evaluate(model, windows).bits
    get_peft_model(model, method, args.seed)
    trained, total = count_parameters(model)
    print(f"{method}\ntrains {trained:,} of {total:,} numbers ({trained / total:.2%})")
    history = fit(
        model, text_batches(encode(train), args.length, args.batch), args.steps,
        AdamW(model, args.lr or RATES[args.method]), val=windows, val_every=max(args.steps // 8, 1), seed=args.seed,
        checkpoint=args.checkpoint, resume=args.resume, label=args.method,
    )  # fmt: skip
    after = evaluate(model, windows).bits
    save_adapter(model, out)
    print(f"held-out text: {before:.3f} -> {after:.3f} bits a character, best of the run "
          f"{min(history.val_loss) / math.log(2):.3f}")  # fmt: skip
    prompt = held_out[: max(held_out.find(" ", 12), 1)].lstrip() or held_out[:1]
    if not method.trains_base:
        with disabled(model):
            print(f"before | {line(write(model, prompt, 120))}")
    print(f"after  | {line(write(model, prompt, 120))}")
    print(f'saved to {out}; use it with: minipeft generate --adapter {out} --prompt "{prompt}"')


def line(text):
    return " ".join(text.split())


def method_of(args):
    """The method with the settings that were given; a setting that it does not have is an error."""
    given = {name: getattr(args, name) for name in ("r", "alpha", "dropout", "targets", "m", "reparametrise")}
    given = {name: value for name, value in given.items() if value is not None}
    fields = METHODS[args.method].__dataclass_fields__
    unknown = [f"--{name}" for name in given if name not in fields]
    if unknown:
        raise ValueError(
            f"{args.method} has no {', '.join(unknown)}; it has: {', '.join(f'--{name}' for name in fields)}"
        )
    return METHODS[args.method](**given)


def read(path, T):
    """(training text, held-out text) of a file, with a word on what had to be replaced."""
    try:
        raw = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    text, unknown = plain(raw)
    if unknown:
        print(replaced(unknown))
    need = 6 * (T + 1)
    if len(text) < need:
        raise ValueError(
            f"{path} has {len(text)} characters; it needs at least {need}, so that a fifth of it can be held out "
            f"and windows of --length {T} fit (or choose a smaller --length)"
        )
    train, held_out = split_lines(text)
    if len(train) < T + 1 or len(held_out) < T + 1:  # few lines, or of very different lengths: cut by characters
        cut = 4 * len(text) // 5
        train, held_out = text[:cut], text[cut:]
    return train, held_out
