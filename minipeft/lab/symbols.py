"""What a model of symbols has learned, made visible: what it writes, and the share that is right."""

from typing import NamedTuple

import numpy as np

from ..generation import generate
from ..model.module import Module
from ..training.data import LENGTH, SYMBOLS, TASKS, new_sequences, symbols_batch
from ..training.evaluation import evaluate
from .table import Table


class Writing(NamedTuple):
    """What was read, what was wanted, and what was written: symbols (n, 8) each."""

    reads: np.ndarray
    wanted: np.ndarray
    written: np.ndarray

    def __repr__(self):
        lines = [f"{letters(a)}   {letters(b)}   {letters(c)}" for a, b, c in zip(*self, strict=True)]
        right = int((self.wanted == self.written).sum())
        return "\n".join(
            ["it reads   wanted     it writes", *lines, f"{right} of {self.wanted.size} symbols are right"]
        )


def letters(symbols):
    """Symbols 0 ... 15 as letters a ... p; what is no symbol as a dot."""
    return "".join(chr(97 + i) if 0 <= i < SYMBOLS else "·" for i in map(int, symbols))


def write(model, task, n=4, seed=5, cache=True):
    """Let the model write the answers of n sequences of a task, the likeliest symbol each time; return a Writing.

    The same seed gives the same sequences, for every model.  cache=False computes every step anew, see generate.
    """
    question, wanted = question_and_answer(symbols_batch(task, np.random.default_rng(seed), n))
    return writing_of(question, wanted, generate(model, question, LENGTH, cache=cache))


def question_and_answer(batch):
    """Of (ids, targets, mask): what is read, up to and with SEP, (n, 10), and the symbols that are wanted then, (n, 8)."""
    ids, targets, _ = batch
    return ids[:, : ids.shape[1] - LENGTH + 1], targets[:, -LENGTH:]


def writing_of(question, wanted, written):
    """The Writing of a model that went on after the question.  written (n, at least 8), of which the end counts"""
    return Writing(question[:, -LENGTH - 1 : -1], wanted, np.asarray(written)[:, -LENGTH:])


def commonest_letter(task, n=128, seed=7):
    """The share of right symbols of one who writes the commonest letter of each sequence, eight times."""
    question, wanted = question_and_answer(new_sequences(task, n, seed)[0])
    guesses = [np.bincount(row).argmax() for row in question[:, 1:-1]]
    return float(np.mean(wanted == np.array(guesses)[:, None]))


def show_writing(task, models, n=3, seed=5, title=None):
    """What models write for n sequences of a task, as tiles: dark where a symbol is right.

    models: {label: a model, or a Writing that write(model, task, n, seed) returned earlier}.  Returns a Picture.
    Raises: ValueError for Writings of different sequences
    """
    from matplotlib.patches import Rectangle

    from .picture import FAINT, LINE, TRAINED, Picture, canvas

    models = models if isinstance(models, dict) else {"it writes": models}
    writings = {label: write(one, task, n, seed) if isinstance(one, Module) else one for label, one in models.items()}
    first = next(iter(writings.values()))
    for label, one in writings.items():
        if not np.array_equal(one.reads, first.reads) or not np.array_equal(one.wanted, first.wanted):
            raise ValueError(
                f"{label!r} was written for other sequences than the first one: the same task, n and seed?"
            )
    rows = {"it reads": first.reads, f"wanted ({task})": first.wanted}
    rows |= {label: one.written for label, one in writings.items()}
    n, wide = len(first.reads), LENGTH + 0.8
    left = max(len(str(label)) for label in rows) * 0.34 + 0.6
    right = 4.2
    unit = 0.245  # inches a tile
    figure, axes = canvas(unit * (left + wide * n + right), unit * (1.12 * len(rows) + 1.0 + 1.4 * bool(title)))
    for i, (label, symbols) in enumerate(rows.items()):
        y = -1.12 * i - (0.4 if i > 1 else 0)
        axes.text(-0.3, y, label, ha="right", va="center", fontsize=10)
        for sequence, row in enumerate(symbols):
            for t, symbol in enumerate(row):
                hit = i > 1 and symbol == first.wanted[sequence, t]
                x = wide * sequence + t
                if i > 1:
                    axes.add_patch(Rectangle((x + 0.03, y - 0.47), 0.94, 0.94, facecolor=TRAINED if hit else "white",
                                             edgecolor=TRAINED if hit else FAINT, linewidth=0.8))  # fmt: skip
                axes.text(x + 0.5, y - 0.02, letters([symbol]), ha="center", va="center", fontsize=10,
                          color="white" if hit else LINE, fontweight="bold" if hit else "normal")  # fmt: skip
        if i > 1:
            count = int((symbols == first.wanted).sum())
            axes.text(wide * n - 0.4, y, f"{count} of {first.wanted.size}", va="center", fontsize=10)
    axes.set(xlim=(-left, wide * n + right - 0.8), ylim=(-1.12 * len(rows) - 0.2, 0.8), aspect="equal")
    axes.axis("off")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    said = "; ".join(
        f"{label} writes {', '.join(map(letters, one.written))}: {int((one.written == one.wanted).sum())} right"
        for label, one in writings.items()
    )
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}Task {task}. It reads {', '.join(map(letters, first.reads))}; wanted is "
                   f"{', '.join(map(letters, first.wanted))}. {said}, of {first.wanted.size}.")  # fmt: skip


class Skills(Table):
    """The table of skills; found[label, task] is the Evaluation that stands there."""

    def __init__(self, found, tasks, labels, n):
        self.found = found
        rows = [
            [label, *(f"{e.exact:.0%} ({e.accuracy:.0%})" for e in (found[label, t] for t in tasks))]
            for label in labels
        ]
        super().__init__(["", *tasks], rows, title=f"exact sequences of {n} new ones, in brackets right symbols")


def skills(models, tasks=("copy", "reverse", "plus"), n=128, seed=7):
    """A table of what models can do: for each task the share of n new sequences that are right in all eight places.

    In brackets the share of right symbols; guessing one of 16 gives 6%.  Each place is judged with the right symbols
    before it, as in training.  The same seed gives the same sequences.

    models: {label: model}, or a model.  skills(...).found[label, task] is an Evaluation.
    Raises: ValueError for a task that is not in TASKS
    """
    models = models if isinstance(models, dict) else {"model": models}
    tasks = [tasks] if isinstance(tasks, str) else list(tasks)
    if strange := [task for task in tasks if task not in TASKS]:
        raise ValueError(f"there is no task {strange[0]!r}; there are: {', '.join(TASKS)}")
    tests = {task: new_sequences(task, n, seed) for task in tasks}
    found = {(label, task): evaluate(model, tests[task]) for label, model in models.items() for task in tasks}
    return Skills(found, tasks, list(models), n)
