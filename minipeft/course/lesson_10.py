"""What lesson 10 (drop the adapter path) calls and does not show: its picture, the answers to its blanks, and its trainings."""

import numpy as np

from ..lab.gradcheck import nudge
from ..methods import LoRA, get_peft_model
from ..methods.lora import LoRALinear
from ..model import cross_entropy
from ..training import AdamW, evaluate, fit, load_base, symbols_batch
from ..training.data import SYMBOLS
from ..training.optimizers import constant
from . import check as checks


def draw_dropped(solved=False):
    """LoRA's two lanes with a mask M in front of A: it stands on the blue lane only, forward and back.

    solved: with the gradients, or with a question mark in place of each
    """
    from ..lab.drawing.lanes import LOW, lora_backward, lora_forward
    from ..lab.drawing.shapes import BACK, INK, Pen
    from ..lab.picture import Picture

    pen, sizes = Pen(748, 222), (66, 66, 17)
    lora_forward(pen, 0, sizes, ("d_in", "d_out", "r"))
    lora_backward(pen, 368, sizes, False)
    pen.knot(62, LOW, "M", INK, r=9)
    pen.text(47, LOW - 21, "zeros and\n1 / (1 − p)", 8.5, INK, va="top")
    pen.knot(368 + 36 + 62, LOW, "M" if solved else "?", BACK, r=9)
    alt = ("Two panels. Forward: x goes two ways. The upper one leads through W, frozen, and meets no mask. On the lower one x is "
           "multiplied by a mask M of zeros and 1 / (1 − p), then by A, B and s. A plus joins them to y. Back: dy goes both "
           "ways, ")  # fmt: skip
    alt += "and the lower one meets the same M again." if solved else "and dA, dB, dx and what stands at M are question marks."
    return Picture(pen.figure, alt)


# ---- the blanks


def example():
    """x (3, 4), M (3, 4), W (4, 5), A (4, 2), B (2, 5), s, dy (3, 5): small whole numbers, and a mask of p = ½."""
    rng = np.random.default_rng(4)
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


# ---- noisy labels


def noisy(n, seed):
    """n sequences of `map` in which three answers of ten are drawn anew; the inputs stay as they are."""
    rng = np.random.default_rng(seed)
    ids, targets, mask = symbols_batch("map", rng, n)
    redrawn = rng.permutation(np.flatnonzero(mask))[: round(0.3 * mask.sum())]
    targets = targets.copy()
    targets.flat[redrawn] = rng.integers(0, SYMBOLS, len(redrawn))
    return ids, targets, mask


def learn(n, p, seed, steps=100, every=10):
    """Train LoRA of rank 16 with dropout p on n noisy sequences, six a step; return the model, and what it was at each stop.

    {"seen": loss on up to 32 of the n, "unseen": loss on 64 others, as noisy, "right": share of 32 clean ones}: curves
    """
    data, unseen = noisy(n, 1000 + seed), [noisy(64, 99)]
    seen, clean = [tuple(array[:32] for array in data)], [symbols_batch("map", np.random.default_rng(99), 32)]

    def draw(rng):
        few = rng.permutation(n)[:6]
        return tuple(array[few] for array in data)

    method = LoRA(r=16, alpha=128, dropout=p, targets=("*.[qv]_proj", "*.c_*"))
    model = get_peft_model(load_base("symbols"), method, seed)
    optimizer, curves = AdamW(model, lr=3e-3), {"seen": [], "unseen": [], "right": []}
    for step in range(0, steps, every):
        fit(model, draw, every, optimizer, seed=1000 * seed + step, schedule=constant, progress=False)
        curves["seen"].append(evaluate(model, seen).loss)
        curves["unseen"].append(evaluate(model, unseen).loss)
        curves["right"].append(evaluate(model, clean).accuracy)
    return model, curves


def noisy_labels(n, p, seed):
    """The curves of learn."""
    return learn(n, p, seed)[1]


def plot_noisy(*sweeps):
    """The loss on unseen sequences along the steps, a panel for each sweep of noisy_labels, a line for each p; seeds thin."""
    from ..lab.picture import COLORS, FAINT, LINE, STYLES, Picture, canvas, direct_labels

    figure, axes = canvas(9.2, 3.5, 1, len(sweeps), sharey=True)
    said = []
    for ax, found in zip(axes, sweeps, strict=True):
        ends, (n,) = [], found.labels("n")
        for i, p in enumerate(found.labels("p")):
            curves = found.values("unseen", p=p)
            steps, mean = 10 * np.arange(1, curves.shape[1] + 1), curves.mean(0)
            ax.plot(steps, curves.T, color=COLORS[i], linestyle=STYLES[i], linewidth=0.6, alpha=0.5)
            ax.plot(steps, mean, color=COLORS[i], linestyle=STYLES[i])
            ends.append((f"p = {p}", mean[-1], COLORS[i]))
            said.append(f"{n} sequences, p = {p}: lowest {mean.min():.2f}, at the end {mean[-1]:.2f}")
        ax.axhline(np.log(SYMBOLS), color=FAINT, linewidth=1)
        direct_labels(ax, ends, steps[-1] + 2, 0.22)
        best = found.labels("p")[int(np.argmin([found.values("unseen", p=p).mean(0)[-1] for p in found.labels("p")]))]
        ax.set(title=f"{n} sequences: p = {best} ends lowest", xlabel="steps", xlim=(8, 1.24 * steps[-1]), ylim=(1.2, 4.4))
        ax.set_xticks(range(20, steps[-1] + 1, 20))
    axes[-1].text(steps[-1] * 1.23, np.log(SYMBOLS) + 0.05, "guessing", color=LINE, fontsize=9, ha="right", va="bottom")
    axes[0].set_ylabel("loss on unseen sequences, nats")
    words = f"Loss on unseen noisy sequences along {steps[-1]} steps, means of {len(found.seeds)} seeds and each seed. "
    return Picture(figure, words + "; ".join(said) + f". Guessing costs {np.log(SYMBOLS):.2f}.")


def table_noisy(*sweeps):
    """What the curves end with, means over the seeds: losses on seen and unseen, the lowest mean on the way, clean ones right."""
    from ..lab.table import Table

    rows = []
    for found in sweeps:
        for p in found.labels("p"):
            seen, unseen, right = (found.values(name, p=p).mean(0) for name in ("seen", "unseen", "right"))
            rows.append((*found.labels("n"), p, f"{seen[-1]:.2f}", f"{unseen[-1]:.2f}", f"{unseen.min():.2f}", f"{right[-1]:.0%}"))
    return Table(["sequences", "p", "seen", "unseen", "lowest unseen", "clean ones right"], rows,
                 title=f"after the last step, means of {len(found.seeds)} seeds")  # fmt: skip


def cost_of_bugs():
    """A Table: the loss on unseen sequences of a model trained with p = 0.2, as it is, and with two bugs."""
    from ..lab.table import Table

    model, _ = learn(256, 0.2, seed=3)
    ids, targets, mask = noisy(64, 99)

    def loss():  # evaluate would switch dropout off
        return cross_entropy(model(ids)[0], targets, mask)[0]

    rows = [("right", f"{loss():.2f}" if model.eval() else "")]
    model.train()
    rows.append(("left on at test", f"{loss():.2f}"))
    model.eval()
    for _, module in model.walk():
        if isinstance(module, LoRALinear):
            module.scaling /= 1 - 0.2  # what a training without the division learns is too strong at test
    rows.append(("no 1/(1 − p)", f"{loss():.2f}"))
    return Table(["", "loss on unseen"], rows)


# ---- ridge


def ridge_error(rows, p, seed):
    """A teacher of twelve inputs, noise as strong as the signal, and the best ΔW under dropout p; error on new, clean data."""
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
