"""What lesson 11 calls: its pictures of adapters, its short trainings, and the checks of its blanks."""

from copy import deepcopy

import numpy as np
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from ..lab.drawing.shapes import arrow, plus
from ..lab.picture import FAINT, FROZEN, TRAINED, Picture, canvas
from ..methods.adapter import ParallelAdapter, SequentialAdapter
from ..methods.wrapper import Beside, Wrapper
from ..model.functional import gelu
from ..model.module import Module, innermost
from ..training.data import symbols_batch
from . import check

PLUS = 0.24  # radius of a plus

# ---- pictures


def draw_adapter(model, number=0):
    """One block of a model, lying on its side, and one of its adapters enlarged: frozen parts grey, trained ones blue."""
    figure, ax = canvas(9.4, 3.95)
    ends = block_on_its_side(ax, model, number)
    block, d = innermost(model.h[number]), model.config.n_embd
    m = max(width_of(part) for part in (block.attn, block.mlp, model.h[number]))
    y, half, narrow = -3.15, 1.0, max(0.2, m / d)
    left, right, top, pale = 2.6, 16.6, -1.25, "#f7fafd"
    ax.add_patch(FancyBboxPatch((left, y - 1.5), right - left, top - y + 1.5, boxstyle="round,pad=0,rounding_size=0.3",
                                facecolor=pale, edgecolor=TRAINED, linewidth=1.2, zorder=0))  # fmt: skip
    for corner, side in ((left + 0.3, -0.62), (right - 0.3, 0.62)):
        ax.plot([ends[0][0] + side, corner], [ends[0][1] - 0.5, top], color=TRAINED, lw=0.9, ls=":", zorder=0)
    arrow(ax, (left + 0.9, y), (right - 0.9, y))
    arrow(ax, (left + 1.6, y), (left + 1.6, y + 1.4), (right - 2.4, y + 1.4), (right - 2.4, y + 0.26))
    plus(ax, right - 2.4, y, PLUS)
    ax.text(left + 0.75, y, "u", ha="right", va="center", fontsize=13)
    ax.text(right - 0.75, y, "y", ha="left", va="center", fontsize=13)
    ax.text(9.3, y + 1.4, "u goes straight on", ha="center", va="center", bbox={"fc": pale, "ec": "none", "pad": 2})
    for x, name, s in ((6.2, "down", 1), (12.0, "up", -1)):
        corners = [(x - s, y - half), (x - s, y + half), (x + s, y + narrow), (x + s, y - narrow)]
        ax.add_patch(Polygon(corners, facecolor=TRAINED, edgecolor="#00406a", lw=1, zorder=2))
        ax.text(x - 0.12 * s, y, name, ha="center", va="center", color="white", zorder=3)
        ax.text(x - s * 1.12, y - half - 0.02, f"{d}", ha="right" if s > 0 else "left", va="center", color=TRAINED)
    ax.add_patch(FancyBboxPatch((8.5, y - 0.5), 1.2, 1.0, boxstyle="round,pad=0,rounding_size=0.14", fc="white",
                                ec=TRAINED, zorder=2))  # fmt: skip
    bend = np.linspace(-3, 3, 60)
    ax.plot(9.1 + bend * 0.15, y - 0.28 + gelu(bend)[0] * 0.2, color=TRAINED, lw=2, ls="-", zorder=3)
    ax.text(9.1, y - 0.86, f"bend, {m} wide", ha="center", va="center", color=TRAINED)
    ax.text(13.55, y + 0.36, "f(u)", ha="center", va="center", fontsize=10.5)
    for x, color, word in ((0.05, FROZEN, "frozen"), (3.0, TRAINED, "new, and trained")):
        ax.add_patch(Rectangle((x, 3.0), 0.5, 0.36, facecolor=color, edgecolor=FAINT, lw=1))
        ax.text(x + 0.75, 3.17, word, va="center", fontsize=10.5)
    ax.set(ylim=(-4.75, 3.5), xlim=(-1, 18.6))
    return Picture(figure, f"A transformer block lying on its side: {in_words(model, number)}. Enlarged below: u goes "
                   f"straight on; beside it, down from {d} numbers to {m}, a bend, up to {d}, and the result, f(u), is "
                   "added to u.")  # fmt: skip


def draw_places(models, number=0):
    """A block of each model, lying on its side, one below the other, with its name.  models: {name: model}"""
    tops = [3.75 if kind_of(innermost(one.h[number]).mlp) == "beside" else 2.5 for one in models.values()]
    lows = [-0.95 if kind_of(one.h[number]) else -0.45 for one in models.values()]
    ratios = [top - low for top, low in zip(tops, lows, strict=True)]
    figure, axes = canvas(
        8.8, 0.44 * sum(ratios) + 0.28 * len(models), len(models), 1, height_ratios=ratios, squeeze=False
    )
    said = []
    for ax, low, top, (name, model) in zip(axes[:, 0], lows, tops, models.items(), strict=True):
        block_on_its_side(ax, model, number)
        ax.set(ylim=(low, top))
        ax.set_title(f"{name}: {trained(model):,} trained numbers", fontsize=11, loc="left")
        said.append(f"{name}: {in_words(model, number)}, {trained(model):,} trained numbers")
    return Picture(figure, f"{len(models)} transformer blocks lying on their sides. {'; '.join(said)}.")


def trained(model):
    """How many numbers are trained."""
    return sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)


def adapter_around(node):
    """The library's adapter around a part of a model, None if there is none."""
    while isinstance(node, Wrapper):
        if isinstance(node, (SequentialAdapter, ParallelAdapter)):
            return node
        node = node.base
    return None


def width_of(node):
    """The width of the adapter around a part of a model, 0 if there is none."""
    found = adapter_around(node)
    return 0 if found is None else len(found.adapter.up.weight.data)


def kind_of(node):
    """ "after" or "beside"; None if there is no adapter around this part."""
    found = adapter_around(node)
    return None if found is None else "beside" if isinstance(found, Beside) else "after"


def in_words(model, number):
    """Where the adapters of a block are."""
    block = innermost(model.h[number])
    places = (("the attention", block.attn), ("the MLP", block.mlp), ("the whole block", model.h[number]))
    found = [f"{kind_of(part)} {name}, {width_of(part)} wide" for name, part in places if kind_of(part)]
    return f"grey and frozen layer norm, attention, layer norm and MLP; a blue, trained bottleneck {' and one '.join(found)}"


def block_on_its_side(ax, model, number):
    """Draw a block from left to right; return where its adapters are."""
    block = innermost(model.h[number])
    lane, ends, end = 1.75, [], 19.6 if kind_of(model.h[number]) else 17.9
    arrow(ax, (-0.3, 0), (end, 0))
    ax.text(-0.45, 0, "x", ha="right", va="center", fontsize=13)
    for start, norm, name, part in ((0.6, "ln_1", "attention", block.attn), (9.1, "ln_2", "MLP", block.mlp)):
        kind = kind_of(part)
        arrow(ax, (start, 0), (start, lane), (start + 7.5, lane), (start + 7.5, 0.25))
        box(ax, start + 1.35, lane, 1.3, 0.95, norm)
        box(ax, start + 3.65, lane, 2.1, 0.95, name)
        if kind == "after":
            detour(ax, start + 5.85, lane)
            ends.append((start + 5.85, lane))
        if kind == "beside":
            high = lane + 1.25
            arrow(ax, (start + 2.3, lane), (start + 2.3, high), (start + 5.1, high), (start + 5.1, lane + 0.25))
            hourglass(ax, start + 3.65, high)
            plus(ax, start + 5.1, lane, PLUS)
            ends.append((start + 3.65, high))
        plus(ax, start + 7.5, 0, PLUS)
    if kind_of(model.h[number]):
        detour(ax, 17.65, 0)
        ends.append((17.65, 0))
    ax.text(end + 0.15, 0, "y", ha="left", va="center", fontsize=13)
    ax.set(xlim=(-1, 20.2), aspect="equal")
    ax.axis("off")
    return ends


def box(ax, x, y, w, h, text):
    """A frozen part: a grey box with its name."""
    style = "round,pad=0,rounding_size=0.14"
    ax.add_patch(
        FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=style, facecolor=FROZEN, edgecolor=FAINT, zorder=2)
    )
    ax.text(x, y, text, ha="center", va="center", zorder=3)


def hourglass(ax, x, y):
    """A bottleneck in small: wide, narrow, wide."""
    for s in (-1, 1):
        corners = [(x + s * 0.62, y - 0.5), (x + s * 0.62, y + 0.5), (x + s * 0.1, y + 0.14), (x + s * 0.1, y - 0.14)]
        ax.add_patch(Polygon(corners, facecolor=TRAINED, edgecolor="#00406a", lw=1, zorder=3))
    ax.plot([x - 0.1, x + 0.1], [y, y], color=TRAINED, lw=2, ls="-", zorder=2)


def detour(ax, x, y):
    """A bottleneck after something: u goes straight on underneath, f(u) is added.  Its plus is at x + 1.1."""
    hourglass(ax, x, y)
    arrow(ax, (x - 0.85, y), (x - 0.85, y - 0.72), (x + 1.1, y - 0.72), (x + 1.1, y - 0.24))
    plus(ax, x + 1.1, y, PLUS)


# ---- short trainings


def spoil_start(model, std, seed=0):
    """Draw the `up` of every adapter of a model from N(0, std²), instead of the zero that it starts from."""
    rng = np.random.default_rng(seed)
    for path, p in model.named_parameters():
        if path.endswith("up.weight"):
            p.data[...] = rng.normal(0, std, p.data.shape)
    return model


# ---- is the bend needed?


class NearestMatrix(Module):
    """The affine map that comes closest to a path: f(u) = u M + c, by least squares over what the path read and wrote."""

    def __init__(self, u, f):
        self.M = np.linalg.lstsq(np.hstack([u, np.ones((len(u), 1))]), f, rcond=None)[0]

    def forward(self, x):
        def backward(df):
            return df @ self.M[:-1].T

        return x @ self.M[:-1] + self.M[-1], backward


class Recorder(Module):
    """A path that notes what it reads and writes."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def forward(self, u):
        f, backward = self.path(u)
        self.seen.append((u.reshape(-1, u.shape[-1]), f.reshape(-1, f.shape[-1])))
        return f, backward


def straighten(model, task, n=200, seed=8):
    """A copy of the model in which each bottleneck is the affine map closest to it, on what it reads in n sequences.

    The class of the wrapper may be the reader's own, so the bottleneck is found by its name: the library calls it adapter,
    the lesson detour.
    """
    model = deepcopy(model)
    wrappers = [node for _, node in model.walk() if isinstance(node, Wrapper)]
    homes = [(node, name) for node in wrappers for name in ("adapter", "detour") if hasattr(node, name)]
    recorders = [Recorder(getattr(node, name)) for node, name in homes]
    for (node, name), recorder in zip(homes, recorders, strict=True):
        setattr(node, name, recorder)
    model(symbols_batch(task, np.random.default_rng(seed), n)[0])
    for (node, name), recorder in zip(homes, recorders, strict=True):
        setattr(node, name, NearestMatrix(*(np.concatenate(part) for part in zip(*recorder.seen, strict=True))))
    return model


# ---- the checks of the blanks


def example():
    """(u, down, up, dy): the small numbers of sections 2 and 4."""
    u, down = np.array([[1.0, 2.0, -1.0]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return u, down, np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]]), np.array([[1.0, 0.0, -1.0]])


def slopes(**given):
    """slopes(dup=my_dup, ...): is this blank filled with the right gradient?  It names the slip, and not the answer."""
    u, down, up, dy = example()
    z = u @ down
    g, slope = gelu(z)
    dg = dy @ up.T
    dz = dg * slope
    wanted = {"dup": g.T @ dy, "dg": dg, "dz": dz, "ddown": u.T @ dz, "du": dy + dz @ down.T}
    mistakes = {
        "dup": {"up multiplies g, the numbers after the bend, and not z": z.T @ dy},
        "dz": {"the slope of the bend is missing": dg, "multiply by the slope of gelu, and not by its value": dg * g},
        "ddown": {"this is made with dg, and the bend lies between": u.T @ dg},
        "du": {
            "u went two ways: straight on, and through the detour. Two slopes add": dz @ down.T,
            "only the straight way is there": dy,
        },
    }
    check.answers(wanted, mistakes, tolerance=2e-3, **given)
