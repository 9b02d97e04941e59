"""Fine-tune a base on your own text by one PEFT method: held-out improvement, samples before and after, an adapter file.

A fifth of the text is held out.  --out, if you name it, is written over only if it is an adapter, --checkpoint only if it
is a checkpoint of a run that has ended, or that --resume goes on with.  Stopped by Ctrl-C, kill or a closed terminal, the
command ends the step, and saves what is trained so far as NAME.interrupted.npz beside --out.  If --out cannot be written
(a full disk), the adapter goes to the working folder, the temporary or your own, and the last line says where.
"""

import os
import shlex
from pathlib import Path

import numpy as np

from ..files import FileError, NotWritten, check_place
from ..lab.ledger import count_parameters
from ..methods import METHODS, PrefixTuning, PromptTuning, get_peft_model, save_adapter
from ..training import AdamW, base_names, evaluate, fit, split_lines, text_batches, text_windows
from ..training.checkpoints import read_checkpoint
from ..training.data import TEXTS
from ..training.workers import suitable_workers
from .output import saved
from .rescue import free, save_elsewhere
from .settings import add_settings, add_workers, at_least, method_of
from .signals import BetweenSteps, Stopped
from .text import BASE, line, lost, open_base, read_beside, read_text_file, unknown_share, write

MOST_UNKNOWN = 0.05  # share of the letters that a base need not know
MOST_SEEN = 0.1  # share of the held-out lines that may stand in the training part without a word on it
USUAL_TOKENS, MOST_TOKENS = 0.3, 0.45  # tokens a character: of English text, and from where on it is none


def add_arguments(parser):
    add = parser.add_argument
    add("file", metavar="FILE.txt", help=f"your text, UTF-8, or one that is shipped: {', '.join(TEXTS[:2])}")
    add("--base", default="english", help=f"{BASE} (default: english)")
    add("--method", default="lora", choices=list(METHODS), help="default: lora")
    add("--steps", type=at_least(1), default=200, help="default: 200")
    add("--batch", type=at_least(1), help="stretches of text a step (default: 8; with a GPT-2 folder 1)")
    add(
        "--length",
        type=at_least(1),
        help="tokens in a stretch (default: 16 less than the context window, or what virtual tokens leave; at most 256)",
    )
    rates = ", ".join(f"{name} {method.lr:g}" for name, method in METHODS.items())
    add("--lr", type=float, help=f"learning rate (default: {rates}; with a GPT-2 folder a tenth of it)")
    add("--seed", type=at_least(0), default=0, help="of the starting values and the batches (default: 0)")
    add("--out", metavar="FILE", help="where the adapter goes (default: adapter.npz, adapter-2.npz, ..., what is free)")
    add("--checkpoint", metavar="FILE", help="write the state of the run here every 100 steps")
    add("--resume", action="store_true", help="go on from --checkpoint; from the beginning if there is none yet")
    add("--allow-unknown", action="store_true",
        help=f"train even if more than {MOST_UNKNOWN:.0%}% of the letters are unknown to the base, and lost")  # fmt: skip
    add_workers(parser)
    add_settings(parser)


def run(args):
    method = method_of(args)
    args.is_named = args.out is not None
    args.out = args.out if args.is_named else str(free("adapter.npz"))
    check_places(args)
    base = open_base(args.base)
    model, shipped = base.model, args.base in base_names()
    T = stretch_length(args, method, model.config.n_positions)
    N, lr = (8, method.lr) if shipped else (1, method.lr / 10)
    N, lr = N if args.batch is None else args.batch, lr if args.lr is None else args.lr
    if not lr > 0:
        raise ValueError(f"--lr must be above 0, not {lr:g}")
    train, held_out, sample, seen = read(args, base, T)
    windows = held_out_windows(held_out, T, model.config.vocab_size)
    before, prompt = evaluate(model, windows), beginning(sample)
    measured = base.decode(held_out[1 : before.tokens + 1])  # the first token is not predicted
    written_before = line(write(base, prompt, 40))
    get_peft_model(model, method, args.seed)
    trained, total = count_parameters(model)
    print(f"{method}\ntrains {trained:,} of {total:,} numbers ({trained / total:.2%})")
    if args.resume and not Path(args.checkpoint).exists():
        print(f"there is no checkpoint {args.checkpoint} yet: this run begins at step 0, and writes it")
    options = {
        "val": windows,
        "val_every": max(args.steps // 8, 1),
        "checkpoint": args.checkpoint,
        "resume": args.resume,
    }
    options["workers"] = args.workers or suitable_workers(model, N)
    history, place, problem = train_and_save(args, model, text_batches(train, T, N), AdamW(model, lr), options)
    after = evaluate(model, windows)
    of_it = f" (its first {before.tokens:,} of {len(held_out):,} tokens)" if before.tokens + 1 < len(held_out) else ""
    lowest, its_step = min(zip(history.val_loss, history.val_step, strict=True))
    best = before._replace(loss=lowest)
    print(
        f"held-out text{of_it}: {before.bits_a_character(measured):.3f} -> {after.bits_a_character(measured):.3f} bits a "
        f"character, best of the run {best.bits_a_character(measured):.3f} after {its_step} steps\n"
        f"perplexity a token: {before.perplexity:.1f} -> {after.perplexity:.1f}, best of the run {best.perplexity:.1f}; "
        "between bases with other tokens compare the bits"
    )
    if after.loss > before.loss:
        times = args.steps * N * T / len(train)
        print(
            f"it reads this text worse than before, and has met each sentence {times:.0f} times: try fewer than "
            f"--steps {args.steps}, or a smaller rate than --lr {lr:g}"
        )
    if seen > MOST_SEEN:
        print(f"{seen:.0%} of the held-out lines stand in the training part, too: on new text it may be worse")
    print(f"before | {written_before}\nafter  | {line(write(base, prompt, 40))}")
    use = ["minipeft", "generate", "--adapter", str(place), "--prompt", prompt]
    use += ["--base", args.base] if args.base != "english" else []
    print(f"saved to {place}; use it with: {shlex.join(use)}")
    if problem is not None:
        raise OSError(f"{problem}; it is in {place} instead")


def stretch_length(args, method, window):
    """Tokens in a stretch: as --length says, or what fits beside 16 virtual tokens, or beside all that the method has."""
    taken = method.m if isinstance(method, (PrefixTuning, PromptTuning)) else 0
    left = window - taken
    if left < 1:
        raise ValueError(f"--m {taken} leaves no position for a token: the base has {window}")
    if args.length is None:
        return min(256, left, max(window - 16, window // 2))
    if args.length > left:
        beside = f", and {taken} of them go to virtual tokens" if taken else ""
        raise ValueError(
            f"--length {args.length} is too long: the base has {window} positions{beside}; choose --length {left} or less"
        )
    return args.length


def check_places(args):
    """All that can be said of the files before anything is read, trained or written."""
    if args.resume and args.checkpoint is None:
        raise ValueError("--resume goes on from a checkpoint: say which with --checkpoint FILE")
    names = [args.file, args.out, *([args.checkpoint] if args.checkpoint is not None else [])]
    if len({os.path.realpath(name) for name in names}) < len(names):
        raise ValueError(
            f"the text, --out ({args.out}) and --checkpoint must be different files: one would be written over another"
        )
    check_place(args.out, "adapter")
    if args.checkpoint is None:
        return
    place = check_place(args.checkpoint, "checkpoint")
    if place.exists() and place.stat().st_size and not args.resume:
        header, _ = read_checkpoint(place)
        step, steps = header.get("step"), dict(header.get("settings") or {}).get("steps")
        if isinstance(step, int) and isinstance(steps, int) and step < steps:
            raise ValueError(
                f"{place} holds a run that was stopped at step {step} of {steps}, and would be lost: go on with it by "
                "--resume, or choose another name for --checkpoint"
            )


def train_and_save(args, model, batches, optimizer, options):
    """(History, where the adapter is, None or the error that kept it from --out).  Signals wait until it is saved."""
    with BetweenSteps() as pause:
        try:
            history = fit(
                model, pause.watch(batches), args.steps, optimizer, seed=args.seed, label=args.method, **options
            )
        except (Stopped, NotWritten, FileError) as error:  # the last two: of the checkpoint
            if not optimizer.steps or not getattr(error, "between_steps", True):
                raise
            place, problem = save(model, place_for(args) if optimizer.steps == args.steps else interrupted(args.out))
            where = f"as it was after step {optimizer.steps} of {args.steps}, the adapter is in {place}"
            where += f" ({problem})" if problem else ""
            if not isinstance(error, Stopped):
                raise OSError(f"{error}; {where}") from error
            if args.checkpoint and Path(args.checkpoint).exists():
                where += f"; --resume goes on from {args.checkpoint}"
            raise Stopped(error.signum, where) from error
        place, problem = save(model, place_for(args))
    if pause.signum is not None:  # after the last step had begun
        raise Stopped(pause.signum, f"the training had ended, the adapter is in {place}")
    return history, place, problem


def place_for(args):
    """--out; where it was not given, what is free by now: another run may have taken the name meanwhile."""
    return args.out if args.is_named else free("adapter.npz")


def interrupted(path):
    """adapter.interrupted.npz for adapter.npz, or what is free: no adapter is written over by a part of one."""
    path = Path(path)
    return free(path.with_name(f"{path.stem}.interrupted{path.suffix}"))


def save(model, path):
    """(where the adapter is now, None or the error that kept it from `path`).  Raises: NotWritten if it is nowhere"""
    try:
        save_adapter(model, path)
    except (FileError, NotWritten) as error:
        place = save_elsewhere(error.path, error.again)
        if place is None:
            raise
        saved(place)
        return place, error
    saved(path)
    return path, None


def held_out_windows(held_out, T, V):
    """Windows for evaluate, as many at a time as 64 MB of logits allow; of a long text the first 256 at most."""
    n = max(1, min(16, 2**24 // (T * V)))
    return text_windows(held_out[: 256 * T + 1], T, n)


def beginning(text):
    """The first words, to go on from."""
    return text[: max(text.find(" ", 12), 1)].lstrip() or text[:1]


def read(args, base, T):
    """(training ids, held-out ids, held-out text, share of its lines that are trained on, too) of the file, with a word on
    what had to be replaced."""
    text = read_text_file(args.file)
    unknown = base.unknown(text)
    if unknown:
        print(lost(unknown))
    share = unknown_share(text, unknown)
    if share > MOST_UNKNOWN and not args.allow_unknown:
        raise ValueError(
            f"the base {args.base} does not know {share:.0%} of the letters in {args.file}, and would learn the marks in "
            f"their place: choose a base that knows them, or go on with --allow-unknown"
        )
    ids, need = base.encode(text), 6 * (T + 1)
    if len(ids) < need:
        raise ValueError(
            f"{args.file} has {len(ids)} tokens; it needs at least {need}, so that a fifth of it can be held out "
            f"and windows of --length {T} fit (or choose a smaller --length)"
        )
    if args.base == "english" and len(ids) > MOST_TOKENS * len(text):
        print(
            f"this text takes {len(ids) / len(text):.2f} tokens a character, English about {USUAL_TOKENS}: the base english "
            "knows only English, and spells everything else"
        )
    train_text, held_out_text = split_lines(text)
    train, held_out = base.encode(train_text), base.encode(held_out_text)
    if min(len(train), len(held_out)) < T + 1:  # few lines, or of very different lengths: the last fifth is held out
        cut = 4 * len(ids) // 5
        (train, held_out), held_out_text = np.split(ids, [cut]), read_beside(base, ids, cut)
        if held_out_text is None:
            held_out_text = base.decode(held_out)
        train_text = base.decode(train)
        held_out_text = held_out_text.partition(" ")[2] or held_out_text  # the cut may be in the middle of a word
    lines, known = [one for one in held_out_text.splitlines() if one.strip()], set(train_text.splitlines())
    return train, held_out, held_out_text, sum(one in known for one in lines) / max(len(lines), 1)
