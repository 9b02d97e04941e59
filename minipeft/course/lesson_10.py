"""What lesson 10 (drop the adapter path) calls and does not show: its picture, the answers to its blanks, its trainings."""

import numpy as np

from ..lab.charts import label_ends
from ..lab.drawing.lanes import LOW, PAGE, RIGHT, ROOM, lora_backward, lora_forward, sides
from ..lab.drawing.shapes import BACK, INK, Pen
from ..lab.gradcheck import nudge
from ..lab.picture import COLORS, FAINT, LINE, STYLES, Picture, canvas
from ..lab.table import Table
from ..methods import LoRA, get_peft_model
from ..methods.lora import LoRALinear
from ..model import Dropout, Module, chain, cross_entropy
from ..model.functional import softmax
from ..training import AdamW, evaluate, fit, load_base, symbols_batch
from ..training.data import SYMBOLS, new_sequences
from ..training.optimizers import constant
from . import check as checks
from . import starmap


def draw_dropped():
    """LoRA's two lanes with a mask M in front of A: it stands on the blue lane only, forward and back."""
    pen, names = Pen(*PAGE), ("d_in", "d_out", "r")
    sizes, before_A = sides(*names), 62
    lora_forward(pen, 0, sizes, names)
    lora_backward(pen, RIGHT, sizes, solved=False)
    pen.knot(before_A, LOW, "M", INK, r=9)
    pen.text(40, LOW - 13, "zeros and\n1 / (1 − p)", 8.5, INK, va="top")
    pen.knot(RIGHT + ROOM + before_A, LOW, "?", BACK, r=9)
    return Picture(pen.figure, "Two panels. Forward: x goes two ways. The upper one leads through W, frozen, and meets no "
                   "mask. On the lower one x is multiplied by a mask M of zeros and 1 / (1 − p), then by A, B and s. A plus "
                   "joins them to y. Back: dy goes both ways, and dA, dB, dx and what stands at M are open.")  # fmt: skip


# ---- the blanks


def example():
    """x (3, 4), M (3, 4), W (4, 5), A (4, 2), B (2, 5), s, dy (3, 5): small whole numbers, and a mask of p = ½."""
    rng = np.random.default_rng(13)  # with this seed every row and column of M keeps something
    x, W, A, B, dy = (rng.integers(-3, 4, shape).astype(float) for shape in ((3, 4), (4, 5), (4, 2), (2, 5), (3, 5)))
    M = 2.0 * (rng.random((3, 4)) < 0.5)
    return x, M, W, A, B, 2.0, dy


def check(**given):
    """Check the blanks of the lesson: check(dA=..., dB=..., dx=...)."""
    x, M, W, A, B, s, dy = example()

    def slopes(array):
        return nudge(lambda: (dy * (x @ W + s * (M * x) @ A @ B)).sum(), array)

    dh = s * dy @ B.T
    wanted = {"dA": lambda: slopes(A), "dB": lambda: slopes(B), "dx": lambda: slopes(x)}
    mistakes = {
        "dA": {
            "A was multiplied by M ⊙ x, not by x": x.T @ dh,
            "the mask counts, and so does its size: what is kept was doubled": (np.sign(M) * x).T @ dh,
        },
        "dB": {"B was multiplied by (M ⊙ x) A, not by x A": s * (x @ A).T @ dy},
        "dx": {
            "x reached A through the mask, so that way back goes through it, too": dy @ W.T + dh @ A.T,
            "no mask stands on the way through W": M * (dy @ W.T + dh @ A.T),
            "x goes two ways, and this is one of them": M * (dh @ A.T),
        },
    }
    checks.answers(wanted, mistakes, **given)


# ---- a dropout of the base's own


class ThenDropout(Module):
    """y = M ⊙ layer(x), in training"""

    def __init__(self, layer, p):
        self.layer, self.dropout = layer, Dropout(p, np.random.default_rng(0))

    def forward(self, x):
        return chain(x, self.layer, self.dropout)


def with_dropout_in_the_base(p):
    """The base `symbols` with a dropout behind its first MLP, and a LoRA at B = 0 that has none."""
    model = get_peft_model(load_base("symbols"), LoRA(r=4, dropout=0.0), seed=0)
    model.h[0].mlp = ThenDropout(model.h[0].mlp, p)
    return model


# ---- noisy labels


def noisy(n, seed, noise=0.3):
    """n sequences of `map` in which a share `noise` of the answers is drawn anew; the inputs stay as they are."""
    rng = np.random.default_rng(seed)
    ids, targets, mask = symbols_batch("map", rng, n)
    redrawn = rng.permutation(np.flatnonzero(mask))[: round(noise * mask.sum())]
    targets = targets.copy()
    targets.flat[redrawn] = rng.integers(0, SYMBOLS, len(redrawn))
    return ids, targets, mask


def learn(n, p, seed, rank=16, noise=0.3, steps=80, every=10):
    """Train LoRA with dropout p on n noisy sequences, six a step; return the model, and what it was at each stop.

    {"seen": loss on up to 32 of the n, "unseen": loss on 64 others, three answers of ten drawn anew, "right": share of
    32 clean ones}: curves that begin before the first step; "sure": the mean of the largest probability at the end
    """
    data, unseen = noisy(n, 1000 + seed, noise), [noisy(64, 99)]
    seen, clean = [tuple(array[:32] for array in data)], new_sequences("map", 32, seed=99)

    def draw(rng):
        few = rng.permutation(n)[:6]
        return tuple(array[few] for array in data)

    method = LoRA(r=rank, alpha=8 * rank, dropout=p, targets=("*.[qv]_proj", "*.c_*"))
    model = get_peft_model(load_base("symbols"), method, seed)
    optimizer, curves = AdamW(model, lr=3e-3), {"seen": [], "unseen": [], "right": []}

    def look():
        curves["seen"].append(evaluate(model, seen).loss)
        curves["unseen"].append(evaluate(model, unseen).loss)
        curves["right"].append(evaluate(model, clean).accuracy)

    look()
    for step in range(0, steps, every):
        fit(model, draw, every, optimizer, seed=1000 * seed + step, schedule=constant, progress=False)
        look()
    model.eval()
    ids, _, mask = unseen[0]
    return model, curves | {"sure": float(softmax(model(ids)[0][mask]).max(-1).mean())}


def noisy_labels(n, p, seed, rank=16, noise=0.3):
    """The curves of learn."""
    return learn(n, p, seed, rank, noise)[1]


def plot_noisy(*sweeps):
    """The loss on unseen sequences along the steps, a panel for each sweep of noisy_labels, a line for each p."""
    figure, axes = canvas(9.2, 3.5, 1, len(sweeps), sharey=True)
    said = []
    for ax, found in zip(axes, sweeps, strict=True):
        ends, (n,) = [], found.labels("n")
        for i, p in enumerate(found.labels("p")):
            curves = found.values("unseen", p=p)
            steps, mean = 10 * np.arange(curves.shape[1]), curves.mean(0)
            ax.plot(steps, curves.T, color=COLORS[i], linestyle=STYLES[i], linewidth=0.6, alpha=0.5)
            ax.plot(steps, mean, color=COLORS[i], linestyle=STYLES[i])
            ends.append((f"p = {p}", steps[-1], mean[-1], COLORS[i]))
            said.append(
                f"{n} sequences, p = {p}: from {mean[0]:.2f}, lowest {mean.min():.2f}, at the end {mean[-1]:.2f}"
            )
        ax.axhline(np.log(SYMBOLS), color=FAINT, linewidth=1)
        ax.text(12, 4.36, f"from {mean[0]:.1f}", color=LINE, fontsize=9, va="top")
        ax.set(title=f"{n} sequences, each seen {6 * steps[-1] / n:.2g} times", xlabel="steps", xlim=(0, steps[-1]),
               ylim=(1.2, 4.4))  # fmt: skip
        ax.set_xticks(range(0, steps[-1] + 1, 20))
        label_ends(ax, ends)
    axes[-1].text(steps[-1] * 0.99, np.log(SYMBOLS) + 0.05, "guessing", color=LINE, fontsize=9, ha="right", va="bottom")
    axes[0].set_ylabel("loss on unseen sequences, nats")
    words = f"Loss on unseen noisy sequences along {steps[-1]} steps, means of {len(found.seeds)} seeds and each seed. "
    return Picture(figure, words + "; ".join(said) + f". Guessing costs {np.log(SYMBOLS):.2f}.")


def table_noisy(*sweeps):
    """What the curves end with, means over the seeds: losses on seen and unseen ones, the lowest mean on the way, how sure
    the model is, and the share of clean ones that is right, with each seed."""
    rows, extra = [], {}
    for found in sweeps:
        for point in found.points:
            seen, unseen, right = (found.values(name, **point).mean(0) for name in ("seen", "unseen", "right"))
            each = " ".join(f"{100 * one:.0f}" for one in found.values("right", **point)[:, -1])
            row = f"{seen[-1]:.2f}", f"{unseen[-1]:.2f}", f"{unseen.min():.2f}", f"{found.mean('sure', **point):.0%}"
            rows.append((*point.values(), *row, f"{right[-1]:.0%} ({each})"))
            extra = [name for name in point if name not in ("n", "p")]
    columns = ["sequences", "p", *extra, "seen", "unseen", "lowest", "sure", "clean ones right"]
    return Table(columns, rows, title=f"after the last step, means of {len(found.seeds)} seeds; losses in nats")


def cost_of_bugs(seeds=range(4)):
    """A Table: the loss on unseen sequences of models trained with p = 0.2, as they are, and with two bugs."""
    losses = np.array(starmap(losses_with_bugs, [(seed,) for seed in seeds]))
    rows = [(name, f"{each.mean():.2f}", " ".join(f"{one:.2f}" for one in each))
            for name, each in zip(("right", "left on at test", "no 1/(1 − p)"), losses.T, strict=True)]  # fmt: skip
    return Table(["", "loss on unseen", "each seed"], rows)


def losses_with_bugs(seed, p=0.2):
    """The loss on unseen sequences of a model trained with dropout p: right, left on at test, and without the division."""
    model, _ = learn(256, p, seed)
    ids, targets, mask = noisy(64, 99)

    def loss():  # evaluate would switch dropout off
        return cross_entropy(model(ids)[0], targets, mask)[0]

    model.eval()
    right = loss()
    model.train()
    left_on = loss()
    model.eval()
    for _, module in model.walk():
        if isinstance(module, LoRALinear):
            module.scaling /= 1 - p  # what a training without the division learns is too strong at test
    return right, left_on, loss()


# ---- ridge


def ridge_error(rows, p, seed):
    """A teacher of twelve inputs, noise as strong as the signal; the error of the best ΔW under dropout p on clean data."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((12, 1))
    teacher /= np.linalg.norm(teacher)
    X = rng.standard_normal((rows, 12))
    Y = X @ teacher + rng.standard_normal((rows, 1))
    return float(((ridge(X, Y, p) - teacher) ** 2).sum())


def ridge(X, Y, p):
    """(XᵀX + p / (1 − p) diag(XᵀX))⁻¹ Xᵀ Y"""
    G = X.T @ X
    return np.linalg.solve(G + p / (1 - p) * np.diag(np.diag(G)), X.T @ Y)
