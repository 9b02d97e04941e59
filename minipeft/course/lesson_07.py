"""What lesson 07 calls and does not show: a teacher of known rank, its walls, cut models, and examples with wrong labels."""

from copy import deepcopy

import numpy as np

from ..lab.changes import deltas
from ..lab.picture import COLORS, LINE, MARKERS, STYLES, Picture, canvas
from ..lab.spectra import rank_for, singular_values, tail, truncate
from ..lab.sweeps import sweep
from ..lab.table import Table, below  # noqa: F401 (the lesson calls below)
from ..methods import LoRA, get_peft_model
from ..model.module import innermost
from ..training import AdamW, constant, evaluate, fit, load_base, symbols_batch, symbols_batches
from ..training.data import LENGTH, SYMBOLS, new_sequences
from . import ALL
from .check import answers

SIGMA = np.array([6.0, 5, 4, 3, 2, 1])


# ---- the teacher


def teacher(d=32, seed=0):
    """D (d, d), the change that a task asks for: of rank 6, with the singular values 6, 5, 4, 3, 2, 1."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((d, d)))[0][:, : len(SIGMA)] for _ in "UV")
    return U * SIGMA @ V.T


def start(r, seed=0, d=32):
    """LoRA's start: A (d, r) uniform in ±1/√d, and B (r, d) zero."""
    return np.random.default_rng(seed).uniform(-1, 1, (d, r)) / d**0.5, np.zeros((r, d))


def walls(D, r, steps, lr=0.02, seed=0):
    """‖A B − D‖² after each step of gradient descent, (steps + 1,)."""
    A, B = start(r, seed, len(D))
    errors = [((A @ B - D) ** 2).sum()]
    for _ in range(steps):
        E = A @ B - D
        A, B = A - lr * E @ B.T, B - lr * A.T @ E
        errors.append(((A @ B - D) ** 2).sum())
    return np.array(errors)


# ---- the first picture


def wall_or_slowness(ranks=(1, 3, 6), steps=120, every=10, stop=60):
    """Two kinds of failing at a small rank, measured: one that stays, and one that goes away with more steps.

    Left, ‖A B − D‖² of plain descent towards the teacher, for a few ranks.  Right, the share of right symbols while LoRA of
    rank 1, and of rank 16, learns `map` in the base `symbols`.
    """
    D, places = teacher(), np.arange(0, steps + 1, every)
    figure, (left, right) = canvas(10.2, 2.9, 1, 2)
    ends, said = [], []
    for i, r in enumerate(ranks):
        errors, bound = walls(D, r, 400), tail(SIGMA)[r] ** 2
        left.plot(errors, color=COLORS[i], linestyle=STYLES[i])
        ends.append((r, errors[-1], COLORS[i]))
        said.append(f"rank {r} ends at {errors[-1]:.1g}, and goes on" if not bound
                    else f"rank {r} ends at {errors[-1]:.1f}, and no matrix of rank {r} comes below {bound:g}")  # fmt: skip
    left.set(xlabel="step of gradient descent", ylabel="squared error ‖A B − D‖²", yscale="log", xlim=(0, 480))
    for r, y, color in ends:
        left.text(408, y, f"rank {r}", color=color, va="center", fontsize=10)
    stay = ", ".join(f"rank {r} at {tail(SIGMA)[r] ** 2:g}" for r in ranks if tail(SIGMA)[r])
    left.set_title(f"A wall stays ({stay})")
    told, ended = [], []
    found = sweep(while_learning, {"task": ["map"], "r": [1, 16], "lr": [2.5e-3], "steps": [steps], "every": [every]},
                  seeds=(0,))  # fmt: skip
    for i, r in enumerate((1, 16)):
        shares = found.values(r=r)[0]
        right.plot(places, shares, color=COLORS[i], linestyle=STYLES[i])
        early = shares[stop // every]
        right.plot(stop, early, "o", color=COLORS[i])
        half = int(np.argmax(shares > 0.5))
        at, shift = ((places[half], shares[half]), (-8, 0)) if r > 1 else ((stop, early), (8, -10))
        right.annotate(f"rank {r}", at, shift, textcoords="offset points", color=COLORS[i],
                       ha="right" if r > 1 else "left")  # fmt: skip
        ended.append(f"{early:.0%}, then {shares[-1]:.0%}")
        told.append(
            f"rank {r} has {early:.0%} of the symbols right after {stop} steps, and {shares[-1]:.0%} after {steps}"
        )
    right.set(xlabel="training step", ylabel="right symbols", ylim=(-0.03, 1.05))
    right.yaxis.set_major_formatter(lambda value, _: format(value, ".0%"))
    right.axvline(stop, color=LINE, linewidth=0.8, linestyle=":")
    right.set_title(f"Slowness goes away (rank 1: {ended[0]})")
    return Picture(figure, f"Two panels. Left, descent towards a matrix D of rank 6: {'; '.join(said)}. Right, LoRA learns "
                   f"the task map: {'; '.join(told)}.")  # fmt: skip


def while_learning(task, r, lr, steps, every, seed=0):
    """The share of right symbols before training, and after each `every` steps, at a constant rate."""
    model = get_peft_model(load_base("symbols"), LoRA(r=r, alpha=16, targets=ALL), seed)
    optimizer, test = AdamW(model, lr=lr), new_sequences(task, 64)
    shares, quiet = [evaluate(model, test).accuracy], {"schedule": constant, "progress": False}
    for part in range(steps // every):
        fit(model, symbols_batches(task, 8), every, optimizer, seed=1000 * seed + part, **quiet)
        shares.append(evaluate(model, test).accuracy)
    return np.array(shares)


# ---- the blanks


def example():
    """A (4, 2), B (2, 5) and D (4, 5): whole numbers, and no two sizes alike."""
    A = np.array([[1.0, 0], [2, -1], [0, 3], [1, 1]])
    B = np.array([[1.0, 0, 2, -1, 1], [0, 1, -1, 2, 3]])
    D = np.array([[2.0, 1, 0, 1, -1], [0, 3, 1, -2, 1], [1, 1, -1, 2, 0], [3, 0, 1, 1, 2]])
    return A, B, D


def check(**given):
    """Say of dA and dB of `example` whether they are right, and name the slip."""
    A, B, D = example()
    E = A @ B - D
    wanted = {"dA": E @ B.T, "dB": A.T @ E}
    mistakes = {
        "dA": {"D is missing: where does the slope at A B come from?": A @ B @ B.T,
               "the sign: the loss falls as A B comes closer to D": -E @ B.T},
        "dB": {"D is missing: where does the slope at A B come from?": A.T @ A @ B,
               "the sign: the loss falls as A B comes closer to D": -A.T @ E},
    }  # fmt: skip
    answers(wanted, mistakes, **given)


# ---- trained models, cut


def cut(model, base, k):
    """Replace, in the model itself, each ΔW of a full training by its best copy of rank k; all else stays as trained.

    base: an untrained model, whose weights the copies are added to
    """
    for path, delta in deltas(model).items():
        weight = innermost(model.get_submodule(path)).weight.data
        weight[...] = innermost(base.get_submodule(path)).weight.data + truncate(delta, k)


# ---- examples with wrong labels


def examples(task, n, wrong, seed=11):
    """n sequences of a task, in which a share of the answers is replaced by a symbol drawn at random.

    Returns (ids, targets, mask) as they are trained on, and a mask of the answers that are wrong.  What the model reads
    holds the same wrong answers: a wrong text is wrong for whoever reads on.
    """
    rng = np.random.default_rng(seed)
    ids, targets, mask = symbols_batch(task, rng, n)
    drawn = np.where(rng.random(targets.shape) < wrong, rng.integers(0, SYMBOLS, targets.shape), targets)
    given = np.where(mask, drawn, targets)
    read = ids.copy()
    read[:, -LENGTH + 1 :] = given[:, -LENGTH:-1]
    return (read, given, mask), mask & (given != targets)


def batches_of(data, n=8):
    """Random rows of some examples, for fit: the same few, again and again."""

    def batch(rng):
        rows = rng.integers(0, len(data[0]), n)
        return tuple(array[rows] for array in data)

    return batch


# ---- numbers and tables


def elbow_and_cuts(models, ranks):
    """A Table: for each fully trained model the ranks that hold 90% of ‖ΔW‖², and the right symbols after cuts to rank k.

    models: {task: model}
    """
    rows, base = [], load_base("symbols")
    for task, model in models.items():
        test = new_sequences(task, 64)
        elbows = [rank_for(singular_values(delta), 0.9) for delta in deltas(model).values()]
        spread = f"{min(elbows)} to {max(elbows)}, median {np.median(elbows):g}"
        shares = []
        for k in ranks:
            copied = deepcopy(model)
            cut(copied, base, k)
            shares.append(evaluate(copied, test).accuracy)
        rows.append((task, spread, *shares, evaluate(model, test).accuracy))
    names = [f"cut to {k}" for k in ranks] + ["not cut"]
    return Table(["task", "elbow of the 12 ΔW", *names], rows, "right symbols, new sequences",
                 formats=dict.fromkeys(names, ".0%"))  # fmt: skip


def learn(task, r, steps, seed):
    """LoRA of rank r on all matrices, α = 16, learning rate 0.005; right symbols in new sequences."""
    model = get_peft_model(load_base("symbols"), LoRA(r=r, alpha=16, targets=ALL), seed)
    fit(model, symbols_batches(task, 8), steps, AdamW(model, lr=5e-3), seed=seed, schedule=constant, progress=False)
    return evaluate(model, new_sequences(task, 64))


def remedies(heart):
    """A Table: right symbols and loss on the other new sequences, for each seed of by_heart's sweep.

    Where training stops early, the step was chosen by the loss on the watched sequences, which are not these.
    """
    few, seeds = {"r": 16, "n": 40}, range(len(heart.seeds))
    chosen = heart.values("loss", **few).argmin(axis=1)
    rows = [
        ("rank 16, to the end", *(heart.values(name, **few)[:, -1] for name in ("other right", "other loss"))),
        (
            "rank 16, stopped early",
            *(heart.values(name, **few)[seeds, chosen] for name in ("other right", "other loss")),
        ),
    ]
    for name, point in (("rank 1, to the end", {"r": 1, "n": 40}), ("rank 16, 400 sequences", {"r": 16, "n": 400})):
        rows.append((name, *(heart.values(measure, **point)[:, -1] for measure in ("other right", "other loss"))))
    written = [(name, *(" ".join(format(v, form).rstrip("%") for v in values) for values, form in
                        ((right, ".0%"), (losses, ".2f")))) for name, right, losses in rows]  # fmt: skip
    return Table(["", "right symbols, %", "loss"], written, "64 other new sequences, every seed")


# ---- one factor alone


def plot_alone(found, alone):
    """Right symbols against the learning rate, for A alone, B alone and both, all with s = 4.

    found: a Sweep of `trial`, in which both were trained at rank 4; alone: one of the rest.
    """
    both = [(lr, found.values("accuracy", r=4, lr=lr)) for lr in found.labels("lr")]
    lines = {"A and B, rank 4": both}
    for train, name in (("AB", None), ("A", "A alone, rank 8"), ("B", "B alone, rank 8")):
        part = alone.where(train=train)
        lines.setdefault(name or "A and B, rank 4", []).extend(
            (lr, part.values("accuracy", lr=lr)) for lr in part.labels("lr")
        )
    figure, axes = canvas(7.2, 3.2)
    said = []
    for i, (name, points) in enumerate(lines.items()):
        rates, means = [lr for lr, _ in points], [float(np.mean(shares)) for _, shares in points]
        axes.plot(rates, means, color=COLORS[i], linestyle=STYLES[i])
        for lr, shares in points:
            axes.plot([lr] * len(shares), shares, MARKERS[i], color=COLORS[i], markersize=5, markeredgecolor="white",
                      markeredgewidth=0.5, clip_on=False, zorder=3)  # fmt: skip
        shift, side = {0: ((9, -9), "left"), 1: ((10, -12), "left"), 2: ((-9, 3), "right")}[i]
        axes.annotate(name, (rates[0], means[0]), shift, textcoords="offset points", color=COLORS[i], ha=side)
        said.append(f"{name}: " + ", ".join(f"{m:.0%} at {lr:g}" for lr, m in zip(rates, means, strict=True)))
    axes.set_xscale("log")
    places = sorted({lr for points in lines.values() for lr, _ in points})
    axes.set_xticks(places, [f"{lr:g}" for lr in places])
    axes.minorticks_off()
    axes.set(xlabel="learning rate", ylabel="right symbols", ylim=(-0.03, 1.05))
    axes.yaxis.set_major_formatter(lambda value, _: format(value, ".0%"))
    axes.set_title("Equal numbers trained, equal s: one dot for each seed")
    return Picture(figure, f"Right symbols against the learning rate, every seed a dot; the means: {'; '.join(said)}.")
