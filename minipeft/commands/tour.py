"""Ways to fine-tune one model, side by side: a base that has read everyday English learns to write about the climate.

--out is written over only if it is a figure of the tour.
"""

import os
import shutil
import textwrap
import time
from pathlib import Path

import numpy as np

from ..files import FileError, NotWritten, check_place
from ..lab.ledger import count_parameters, optimizer_bytes, saved_bytes
from ..lab.memorised import RUN, copied
from ..methods import METHODS, disabled, fingerprint, get_peft_model
from ..methods.records import records_of
from ..training import AdamW, evaluate, fit, load_base, load_tokens, read_text, split_lines, text_batches, text_windows
from .output import saved
from .settings import at_least
from .text import line, open_base, write

T, N = 48, 8  # tokens in a stretch, stretches in a step
LENGTH, TEMPERATURE = 32, 0.4  # of a sample: tokens, and how bold
DEFAULT = "lora,adapter,prefix,prompt,full"
SETTINGS = {"lora": {"r": 4, "alpha": 8, "targets": ("*_proj", "*.c_fc")}}  # all six matrices; the others as they are
PROMPTS = ("The climate", "The ocean", "Warm air", "Sea ice", "Coral reefs")  # how held-out sentences begin, in turn


def methods_named(text):
    """The methods between the commas, each with its own settings: [(name, method, prompt), ...]."""
    names = text.split(",")
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"there is no method {unknown[0]!r}; there are: {', '.join(METHODS)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} stands twice in --methods: a row for each is all there is to see")
    return [(name, METHODS[name](**SETTINGS.get(name, {})), PROMPTS[i % len(PROMPTS)]) for i, name in enumerate(names)]


FIGURES = (".png", ".pdf", ".svg")


def add_arguments(parser):
    parser.add_argument("--steps", type=at_least(1), default=200, help="training steps of each method (default: 200)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of the starting values, batches and samples (default: 0)"
    )
    parser.add_argument(
        "--methods", default=DEFAULT, metavar="NAME,NAME", help=f"of {', '.join(METHODS)} (default: {DEFAULT})"
    )
    parser.add_argument("--out", default="tour.png", metavar="FILE", help="where the figure goes (default: tour.png)")


class Text:
    """A text to measure on, and how many bits a character a loss in nats a token is on it."""

    def __init__(self, text, tokens):
        ids = tokens.encode(text)
        self.windows, self.characters = text_windows(ids, T), tokens.decode(ids[1:])

    def bits(self, model):
        return evaluate(model, self.windows).bits_a_character(self.characters)


def run(args):
    began = time.perf_counter()
    from .tour_figure import FIGURE, tour_figure

    if check_place(args.out, "figure of the tour", FIGURE).suffix not in FIGURES:
        raise ValueError(f"the figure is written as {', '.join(FIGURES)}; --out {args.out} ends in none of them")
    plan = methods_named(args.methods)
    tokens, (train, held_out) = load_tokens(), split_lines(read_text("climate"))
    new, old = Text(held_out, tokens), Text(read_text("conversation"), tokens)
    base = load_base("english", "float32")
    before, before_old = new.bits(base), old.bits(base)
    print(
        f"The base, {count_parameters(base)[1]:,} parameters, has read conversations and example sentences.\n"
        f"It is fine-tuned on {len(train.splitlines()):,} sentences about the climate, {args.steps} steps of {N} x {T} "
        f"tokens; {len(held_out.splitlines())} sentences are held out.\n"
    )
    rows = [one_method(*one, tokens.encode(train), new, old, args) for one in plan]
    print("\n".join(f"{name}: {method}" for name, method, _ in plan) + "\n")
    print("How each begins, and goes on before (the base) and after, with the same draws:\n")
    print_samples(rows)
    print_table(rows, before, before_old)
    try:
        tour_figure(rows, before, args.out)
    except (FileError, NotWritten) as error:
        error.path, error.again = Path(args.out), lambda other: tour_figure(rows, before, other)
        raise
    saved(args.out)
    print(f"\n{args.out} has the learning curves. {time.perf_counter() - began:.0f} s in all.")


def one_method(label, method, prompt, train, new, old, args):
    """Train one method on a fresh base, and measure all that the tour says of it."""
    base = open_base("english")
    model, digest, sample_before = base.model, fingerprint(base.model), sample_of(base, prompt, args.seed)
    get_peft_model(model, method, args.seed)
    batches = text_batches(train, T, N)
    _, backward = model(batches(np.random.default_rng(0))[0])
    activations = saved_bytes(backward)
    del backward
    workers = 2 if (os.cpu_count() or 1) > 1 else 1
    history = fit(
        model, batches, args.steps, AdamW(model, lr=method.lr), val=new.windows, val_every=max(args.steps // 4, 1),
        seed=args.seed, label=label, workers=workers,
    )  # fmt: skip
    sample = sample_of(base, prompt, args.seed)
    a_character = sum(targets.size for _, targets in new.windows) / len(new.characters) / np.log(2)
    trained, total = count_parameters(model)[0], count_parameters(load_base("english", "float32"))[1]
    row = {
        "label": label,
        "trained": trained,
        "share": trained / total,
        "val_step": history.val_step,
        "bits": [loss * a_character for loss in history.val_loss],
        "old": old.bits(model),
        "ms": 1000 * float(np.median(history.seconds)),
        "activations": activations,
        "optimizer": optimizer_bytes(model),
        "copied": copied(base.encode(sample), train, ends=base.encode("\n"))[0],
        "sample_before": sample_before,
        "sample_after": sample,
    }
    records = records_of(model)
    with disabled(model):
        is_the_same, kept = fingerprint(model) == digest, any(record.kept for record in records)
    row["base"] = ("bitwise the same, by a copy" if kept else "bitwise the same") if is_the_same else "CHANGED"
    return row


def sample_of(base, prompt, seed):
    """A text on one line; the dots say that it was cut off in the middle of a sentence."""
    text = line(write(base, prompt, LENGTH, TEMPERATURE, seed=seed))
    return text if text.endswith((".", "?", "!")) else f"{text} ..."


def print_samples(rows):
    """The base's text and the method's side by side, as wide as the terminal."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    label = max(len(row["label"]) for row in rows) + 2
    column = max((width - label - 3) // 2, 16)
    print(f"{'':{label}}{'the base':{column}}   after training")
    for row in rows:
        left, right = (textwrap.wrap(row[name], column) for name in ("sample_before", "sample_after"))
        height = max(len(left), len(right))
        left, right = (lines + [""] * (height - len(lines)) for lines in (left, right))
        for i, (before, after) in enumerate(zip(left, right, strict=True)):
            print(f"{row['label'] if i == 0 else '':{label}}{before:{column}} | {after}".rstrip())
        print()


def print_table(rows, before, before_old):
    """Bits a character: how many bits the model needs for each character of a text; less is better."""
    print(f"{'':9} {'trained':>9} {'share':>7}  {'climate, held out':>17}  {'chats':>8} {'by':>6} {'ms a':>6} "
          f"{'activa-':>8} {'optim-':>8}")  # fmt: skip
    print(f"{'':9} {'numbers':>9} {'':>7}  {'bits a character':>17}  {'lost':>8} {'heart':>6} {'step':>6} {'tions MB':>8} "
          f"{'izer kB':>8}  base")  # fmt: skip
    for row in rows:
        print(
            f"{row['label']:9} {row['trained']:>9,} {row['share']:>7.2%}  {before:>7.3f} -> {row['bits'][-1]:.3f}   "
            f"{row['old'] - before_old:>+8.3f} {row['copied']:>6.0%} {row['ms']:>6.0f} {row['activations'] / 1e6:>8.1f} "
            f"{row['optimizer'] / 1e3:>8.1f}  {row['base']}"
        )
    print(
        "\nchats lost: bits a character more than before on held-out conversations, of the kind that the base had read."
        f"\nby heart: share of the sample that stands in the training sentences, in runs of {RUN} tokens or more."
        "\nms a step: the median on this machine, with all else that it was doing."
        "\nSwitched off, a PEFT method loses nothing: the base is still there, bit for bit. (full keeps a copy of it.)"
    )
