"""Ways to fine-tune one model, side by side: the English base learns to write about the climate.

--out is written over only if it is a figure of the tour.
"""

import time
from pathlib import Path

import numpy as np

from ..files import FileError, NotWritten, check_place
from ..lab.ledger import count_parameters, optimizer_bytes, saved_bytes
from ..methods import METHODS, disabled, fingerprint, get_peft_model
from ..training import AdamW, encode, evaluate, fit, load_base, read_text, split_lines, text_batches, text_windows
from .output import saved
from .settings import at_least
from .text import line, open_base, write

T, N = 112, 8  # characters in a stretch, stretches in a step; T leaves room for 16 virtual tokens
DEFAULT = "lora,adapter,prefix,prompt,full"
PROMPTS = ("The climate ", "The ocean ", "Warm air ", "Sea ice ", "Rainfall ")  # how a sampled sentence begins, in turn


def methods_named(text):
    """The methods between the commas, each with its own settings: [(name, method, prompt), ...]."""
    names = text.split(",")
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"there is no method {unknown[0]!r}; there are: {', '.join(METHODS)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} stands twice in --methods: a row for each is all there is to see")
    return [(name, METHODS[name](), PROMPTS[i % len(PROMPTS)]) for i, name in enumerate(names)]


FIGURES = (".png", ".pdf", ".svg")


def add_arguments(parser):
    parser.add_argument("--steps", type=at_least(1), default=120, help="training steps of each method (default: 120)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of the starting values, batches and samples (default: 0)"
    )
    parser.add_argument(
        "--methods", default=DEFAULT, metavar="NAME,NAME", help=f"of {', '.join(METHODS)} (default: {DEFAULT})"
    )
    parser.add_argument("--out", default="tour.png", metavar="FILE", help="where the figure goes (default: tour.png)")


def run(args):
    began = time.perf_counter()
    from ..lab.plots import FIGURE, tour_figure

    if check_place(args.out, "figure of the tour", FIGURE).suffix not in FIGURES:
        raise ValueError(f"the figure is written as {', '.join(FIGURES)}; --out {args.out} ends in none of them")
    plan = methods_named(args.methods)
    train, held_out = split_lines(read_text("climate"))
    new, old = text_windows(encode(held_out), T), text_windows(encode(read_text("prose")), T)
    base = load_base("english", "float32")
    before, before_old = evaluate(base, new).bits, evaluate(base, old).bits
    print(
        f"The base, {count_parameters(base)[1]:,} parameters, has read Python's documentation and nothing on the climate.\n"
        f"It is fine-tuned on {len(train.splitlines())} sentences about the climate, {args.steps} steps of {N} x {T} "
        f"characters; {len(held_out.splitlines())} sentences are held out.\n"
    )
    rows = [one_method(*one, encode(train), new, old, args) for one in plan]
    print_table(rows, before, before_old)
    print("\nA sentence from each, before and after (the same draws):")
    for row in rows:
        print(f"\n{row['label']:>9}  before  {row['sample_before']}\n{'':9}  after   {row['sample_after']}")

    try:
        tour_figure(rows, before, args.out)
    except (FileError, NotWritten) as error:
        error.path, error.again = Path(args.out), lambda other: tour_figure(rows, before, other)
        raise
    saved(args.out)
    print(f"\n{args.out} has the learning curves. {time.perf_counter() - began:.0f} s in all.")


def one_method(label, method, prompt, train, new, old, args):
    """Train one method on a fresh base, and measure all that the table says."""
    base = open_base("english")
    model, digest, sample_before = base.model, fingerprint(base.model), write(base, prompt, 80, seed=args.seed)
    get_peft_model(model, method, args.seed)
    batches = text_batches(train, T, N)
    _, backward = model(batches(np.random.default_rng(0))[0])
    activations = saved_bytes(backward)
    del backward
    optimizer = AdamW(model, lr=method.lr)
    history = fit(
        model, batches, args.steps, optimizer, val=new, val_every=max(args.steps // 6, 1), seed=args.seed, label=label
    )
    row = {
        "label": label,
        "trained": count_parameters(model)[0],
        "share": count_parameters(model)[0] / count_parameters(load_base("english", "float32"))[1],
        "val_step": history.val_step,
        "bits": [loss / np.log(2) for loss in history.val_loss],
        "old": evaluate(model, old).bits,
        "ms": 1000 * float(np.median(history.seconds)),
        "activations": activations,
        "optimizer": optimizer_bytes(model),
        "sample_before": line(sample_before),
        "sample_after": line(write(base, prompt, 80, seed=args.seed)),
    }
    with disabled(model):
        row["base"] = "bitwise the same" if fingerprint(model) == digest else "CHANGED"
    return row


def print_table(rows, before, before_old):
    """Bits a character: how many bits the model needs for each character of a text; less is better."""
    print(f"{'':9} {'trained':>9} {'share':>7}  {'climate, held out':>17}  {'old text':>8} {'ms a':>6} "
          f"{'activa-':>8} {'optim-':>8}")  # fmt: skip
    print(f"{'':9} {'numbers':>9} {'':>7}  {'bits a character':>17}  {'lost':>8} {'step':>6} {'tions MB':>8} "
          f"{'izer kB':>8}  base")  # fmt: skip
    for row in rows:
        print(
            f"{row['label']:9} {row['trained']:>9,} {row['share']:>7.2%}  {before:>7.3f} -> {row['bits'][-1]:.3f}   "
            f"{row['old'] - before_old:>+8.3f} {row['ms']:>6.0f} {row['activations'] / 1e6:>8.1f} "
            f"{row['optimizer'] / 1e3:>8.1f}  {row['base']}"
        )
    print(
        "\nold text lost: bits a character more than before on a page like the documentation that the base learned from."
    )
    print("Switched off, a PEFT method loses nothing of it: the base is still there, bit for bit.")
