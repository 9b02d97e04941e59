"""Fine-tune a base on your own text by one PEFT method: held-out improvement, samples before and after, an adapter file."""

import math
import shlex
from pathlib import Path

import numpy as np

from ..files import check_place
from ..lab.ledger import count_parameters
from ..methods import METHODS, disabled, get_peft_model, save_adapter
from ..training import AdamW, base_names, evaluate, fit, split_lines, text_batches, text_windows
from .text import BASE, at_least, line, open_base, replaced, write


def add_arguments(parser):
    add = parser.add_argument
    add("file", metavar="FILE.txt", help="your text, UTF-8")
    add("--base", default="english", help=f"{BASE} (default: english)")
    add("--method", default="lora", choices=list(METHODS), help="default: lora")
    add("--r", type=int, help="LoRA: rank (default: 8)")
    add("--alpha", type=float, help="LoRA: the update is scaled by alpha / r (default: 16)")
    add("--dropout", type=float, help="LoRA: on the input of its path (default: 0)")
    add("--targets", type=globs, metavar="GLOB[,GLOB]", help="LoRA, adapter: paths of layers, such as '*_proj,*.c_fc'")
    add("--train", choices=("AB", "A", "B"), help="LoRA: which factors to train (default: AB)")
    add("--rslora", action="store_true", default=None, help="LoRA: scale by alpha / √r")
    add(
        "--kind",
        choices=("sequential", "parallel"),
        help="adapter: after the layer, or beside it (default: sequential)",
    )
    add("--m", type=int, help="adapter: width; prefix, prompt: number of virtual tokens")
    add("--reparametrise", action="store_true", default=None,
        help="prefix: write it with a small network while training")  # fmt: skip
    add("--steps", type=at_least(1), default=200, help="default: 200")
    add("--batch", type=at_least(1), help="stretches of text a step (default: 8; with a GPT-2 folder 1)")
    add(
        "--length",
        type=at_least(1),
        help="characters or tokens in a stretch (default: 16 less than the context window, at most 256)",
    )
    rates = ", ".join(f"{name} {rate:g}" for name, rate in ((name, method.lr) for name, method in METHODS.items()))
    add("--lr", type=float, help=f"learning rate (default: {rates}; with a GPT-2 folder a tenth of it)")
    add("--seed", type=at_least(0), default=0, help="of the starting values and the batches (default: 0)")
    add("--out", default="adapter.npz", metavar="FILE", help="where the adapter goes (default: adapter.npz)")
    add("--checkpoint", metavar="FILE", help="write the state of the run here every 100 steps")
    add("--resume", action="store_true", help="go on from --checkpoint; from the beginning if there is none yet")


def globs(text):
    """One glob, or a tuple of those between the commas."""
    return tuple(text.split(",")) if "," in text else text


def run(args):
    method = method_of(args)
    if args.resume and args.checkpoint is None:
        raise ValueError("--resume goes on from a checkpoint: say which with --checkpoint FILE")
    places = [check_place(name) for name in (args.out, args.checkpoint) if name is not None]
    if len({path.resolve() for path in (Path(args.file), *places)}) < 1 + len(places):
        raise ValueError("the text, --out and --checkpoint must be different files: one would be written over another")
    base = open_base(args.base)
    model, shipped = base.model, args.base in base_names()
    window = model.config.n_positions
    T = min(256, max(window - 16, window // 2)) if args.length is None else args.length  # leaves virtual tokens room
    N, rate = (8, method.lr) if shipped else (1, method.lr / 10)
    N, rate = N if args.batch is None else args.batch, rate if args.lr is None else args.lr
    train, held_out = read(args.file, base, T)
    windows = held_out_windows(held_out, T, model.config.vocab_size)
    before = evaluate(model, windows).bits
    get_peft_model(model, method, args.seed)
    trained, total = count_parameters(model)
    print(f"{method}\ntrains {trained:,} of {total:,} numbers ({trained / total:.2%})")
    if args.resume and not Path(args.checkpoint).exists():
        print(f"there is no checkpoint {args.checkpoint} yet: this run begins at step 0, and writes it")
    history = fit(
        model, text_batches(train, T, N), args.steps, AdamW(model, rate), val=windows, val_every=max(args.steps // 8, 1),
        seed=args.seed, checkpoint=args.checkpoint, resume=args.resume, label=args.method,
    )  # fmt: skip
    after = evaluate(model, windows).bits
    save_adapter(model, args.out)
    print(f"held-out text: {before:.3f} -> {after:.3f} bits a {base.unit}, best of the run "
          f"{min(history.val_loss) / math.log(2):.3f}")  # fmt: skip
    prompt = beginning(base.decode(held_out[:T]))
    with disabled(model):
        print(f"before | {line(write(base, prompt, 120))}")
    print(f"after  | {line(write(base, prompt, 120))}")
    use = ["minipeft", "generate", "--adapter", args.out, "--prompt", prompt]
    use += ["--base", args.base] if args.base != "english" else []
    print(f"saved to {args.out}; use it with: {shlex.join(use)}")


def held_out_windows(held_out, T, V):
    """Windows for evaluate, as many at a time as 64 MB of logits allow; of a long text the first 256 at most."""
    n = max(1, min(16, 2**24 // (T * V)))
    return text_windows(held_out[: 256 * T + 1], T, n)


def beginning(text):
    """The first words, to go on from."""
    return text[: max(text.find(" ", 12), 1)].lstrip() or text[:1]


def method_of(args):
    """The method with the settings that were given; a setting that it does not have is an error."""
    settings = ("r", "alpha", "dropout", "targets", "train", "rslora", "kind", "m", "reparametrise")
    given = {name: getattr(args, name) for name in settings}
    given = {name: value for name, value in given.items() if value is not None}
    fields = METHODS[args.method].__dataclass_fields__
    unknown = [f"--{name}" for name in given if name not in fields]
    if unknown:
        raise ValueError(
            f"{args.method} has no {', '.join(unknown)}; it has: {', '.join(f'--{name}' for name in fields)}"
        )
    return METHODS[args.method](**given)


def read(path, base, T):
    """(training ids, held-out ids) of a file, with a word on what had to be replaced."""
    try:
        raw = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    text, unknown = base.plain(raw)
    if unknown:
        print(replaced(unknown))
    ids, need = base.encode(text), 6 * (T + 1)
    if len(ids) < need:
        raise ValueError(
            f"{path} has {len(ids)} {base.unit}s; it needs at least {need}, so that a fifth of it can be held out "
            f"and windows of --length {T} fit (or choose a smaller --length)"
        )
    train, held_out = (base.encode(part) for part in split_lines(text))
    if min(len(train), len(held_out)) < T + 1:  # few lines, or of very different lengths: the last fifth is held out
        train, held_out = np.split(ids, [4 * len(ids) // 5])
    return train, held_out
