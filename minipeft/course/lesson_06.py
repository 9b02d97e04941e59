"""What lesson 06 calls and does not show: it draws, measures, trains several runs and prints tables.

Nothing here is needed to understand LoRA, but for the three layers of *Break it*, from `class LayerOne` on.
"""

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from ..lab.drawing.shapes import arrow, numeral, plus
from ..lab.gradcheck import nudge
from ..lab.picture import COLORS, LINE, Picture, canvas
from ..lab.table import Table
from ..methods import Beside, LoRA, get_peft_model
from ..methods.lora import LoRALinear
from ..model.functional import matmul, outer
from ..training import AdamW, constant, evaluate, fit, load_base, symbols_batch, symbols_batches
from ..training.data import new_sequences
from . import ALL
from .check import answers

FROZEN, TRAINED, BACK, OPEN = "#e4e4e4", COLORS[0], COLORS[1], "#fde9dc"


# ---- section 2: the two lanes with numbers


def draw_numbers(x, W, A, B, target):
    """The two lanes with the numbers of one token on them; the loss is half the squared distance to the target."""
    h, y = x @ A, x @ W + x @ A @ B
    dy = y - target
    dh = dy @ B.T
    found = {"x": x, "h": h, "y": y, "W": W, "A": A, "B": B, "dy": dy, "dh": dh, "dB": h.T @ dy, "dA": x.T @ dh,
             "dx": dy @ W.T + dh @ A.T}  # fmt: skip
    figure, axes = canvas(10.4, 3.4, 1, 2, width_ratios=(13.65, 15.7))
    forward_lanes(axes[0], found)
    backward_lanes(axes[1], found)
    said = ", ".join(f"{name} = {in_words(found[name])}" for name in ("x", "h", "y", "dy", "dh", "dB", "dA", "dx"))
    return Picture(figure, f"The two lanes of LoRA, forward and back, with numbers on every arrow: {said}.")


def in_words(array):
    """(1, 2) for one row or one column, 3 for one number; four digits, and a true minus sign."""
    numbers = [numeral(value, 4) for value in np.ravel(array)]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def in_matrix(array):
    """The numbers of a small matrix, row under row."""
    return "\n".join("  ".join(numeral(value, 4) for value in row) for row in array)


def panel(axes, title, left, right):
    axes.set(xlim=(left, right), ylim=(-0.95, 6.9), aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=12, fontweight="bold", x=0.0)


def matrices(axes, numbers):
    """W, A and B where they stand in both panels."""
    places = {"W": (6.0, 5.3, 2.6, 2.6), "A": (3.5, 1.7, 0.62, 2.6), "B": (7.3, 1.7, 2.6, 0.62)}
    for name, (x, y, w, h) in places.items():
        face, ink = (FROZEN, "black") if name == "W" else (TRAINED, "white")
        axes.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, facecolor=face, edgecolor=LINE, linewidth=0.9))
        axes.text(x, y, in_matrix(numbers[name]), ha="center", va="center_baseline", fontsize=13, color=ink)
    axes.text(7.5, 6.45, "W", fontsize=13, va="top")
    axes.text(2.85, 2.3, "A", fontsize=13, ha="center", color=TRAINED)
    axes.text(8.4, 2.15, "B", fontsize=13, ha="center", color=TRAINED)


def value(axes, numbers, name, x, y, side="center", color=LINE):
    """A name above an arrow, and its number below."""
    axes.text(x, y + 0.25, name, fontsize=14, ha=side, color=color)
    axes.text(x, y - 0.2, in_words(numbers[name]), ha=side, va="top", fontsize=11, color=color)


def found_box(axes, x, y, text):
    """A slope that was looked for."""
    lines = text.split("\n")
    w, h = 0.5 + 0.27 * max(map(len, lines)), 0.2 + 0.55 * len(lines)
    axes.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=0.12",
                                  facecolor=OPEN, edgecolor=BACK, linewidth=1.3, zorder=3))  # fmt: skip
    axes.text(x, y, text, ha="center", va="center", fontsize=12, zorder=4, linespacing=1.15)


def forward_lanes(axes, numbers):
    panel(axes, "forward", -0.3, 13.35)
    arrow(axes, (-0.2, 3.5), (1.3, 3.5), head=False)
    arrow(axes, (1.3, 3.5), (1.3, 5.3), (4.65, 5.3))
    arrow(axes, (1.3, 3.5), (1.3, 1.7), (3.15, 1.7))
    arrow(axes, (3.85, 1.7), (5.95, 1.7))
    arrow(axes, (8.65, 1.7), (10.7, 1.7), (10.7, 3.1))
    arrow(axes, (7.35, 5.3), (10.7, 5.3), (10.7, 3.9))
    arrow(axes, (11.06, 3.5), (12.5, 3.5))
    matrices(axes, numbers)
    plus(axes, 10.7, 3.5, 0.36)
    value(axes, numbers, "x", -0.15, 3.5, "left")
    value(axes, numbers, "h", 4.9, 1.7)
    value(axes, numbers, "y", 12.1, 3.5)


def backward_lanes(axes, numbers):
    panel(axes, "and back", -2.35, 13.35)
    way = {"color": BACK}
    arrow(axes, (12.5, 3.5), (10.7, 3.5), head=False, **way)
    arrow(axes, (10.7, 3.5), (10.7, 5.3), (7.35, 5.3), **way)
    arrow(axes, (10.7, 3.5), (10.7, 1.7), (8.65, 1.7), **way)
    arrow(axes, (5.95, 1.7), (3.85, 1.7), **way)
    arrow(axes, (3.15, 1.7), (1.3, 1.7), (1.3, 3.1), **way)
    arrow(axes, (4.65, 5.3), (1.3, 5.3), (1.3, 3.9), **way)
    arrow(axes, (0.94, 3.5), (0.25, 3.5), **way)
    arrow(axes, (7.3, 1.35), (7.3, 0.62), **way)
    arrow(axes, (3.5, 0.4), (3.5, -0.1), **way)
    matrices(axes, numbers)
    plus(axes, 1.3, 3.5, 0.36, BACK)
    value(axes, numbers, "dh", 4.9, 1.7, color=BACK)
    value(axes, numbers, "dy", 12.1, 3.5, color=BACK)
    found_box(axes, 9.3, 0.25, f"dB = {in_words(numbers['dB'])}")
    found_box(axes, 3.5, -0.45, "dA = " + in_words(numbers["dA"]) + "ᵀ")  # a column
    found_box(axes, -0.85, 3.5, "dx =\n" + in_words(numbers["dx"]).replace(", ", ",\n"))


# ---- sections 3 and 4: the example, and what checks the blanks


def example(N=3, d_in=4, d_out=5, r=2, s=3.0):
    """x, W, b, A, B, s, dy: small whole numbers, none of them zero, so every sum below is exact on every machine."""
    rng = np.random.default_rng(19)
    shapes = ((N, d_in), (d_in, d_out), (d_out,), (d_in, r), (r, d_out), (N, d_out))
    x, W, b, A, B, dy = (rng.choice([-2.0, -1, 1, 2], shape) for shape in shapes)
    return x, W, b, A, B, s, dy


def blanks(**given):
    """Compare dB, dh, dA or dx with the slopes that nudging measures, for the arrays of example(); say what is wrong."""
    x, W, b, A, B, s, dy = example()
    h = x @ A
    loss = lambda: (dy * (x @ W + b + s * x @ A @ B)).sum()  # noqa: E731
    measured = {
        "dB": lambda: nudge(loss, B), "dA": lambda: nudge(loss, A), "dx": lambda: nudge(loss, x),
        "dh": lambda: nudge(lambda: (dy * (x @ W + b + s * h @ B)).sum(), h),
    }  # fmt: skip
    dh = s * dy @ B.T
    mistakes = {
        "dx": {
            "dx has the slope of one way only: how many ways did x go?": dy @ W.T,
            "dx has the slope of the lower lane only: x goes through W as well": dh @ A.T,
            "dx lacks the scale in one of its ways: what did dh contain?": dy @ W.T + dh @ A.T / s,
        },
    }
    answers(measured, mistakes, **given)


# ---- section 7: four ways to start

STARTS = {"A random, B zero": (1, 0), "A zero, B random": (0, 1), "both zero": (0, 0), "both random": (1, 1)}


def loras(model):
    """The LoRALinear layers of a model."""
    return [layer for _, layer in model.walk() if isinstance(layer, LoRALinear)]


def started(kind, seed, **settings):
    """`symbols` with LoRA (r = 4, α = 8) whose factors start as STARTS says: uniform in ±1/√(inputs), or zero."""
    model = get_peft_model(load_base("symbols"), LoRA(**{"r": 4, "alpha": 8} | settings))
    rng = np.random.default_rng(seed)
    for layer in loras(model):
        for factor, on in zip((layer.A, layer.B), STARTS[kind], strict=True):
            factor.data[...] = on * rng.uniform(-1, 1, factor.data.shape) / factor.data.shape[0] ** 0.5
    return model


def factors(model):
    """All numbers of every A in one row, and of every B in another."""
    return [np.concatenate([getattr(layer, name).data.ravel() for layer in loras(model)]) for name in "AB"]


def four_starts(steps=24, watched=5, seeds=(0, 1, 2)):
    """{start: a list, one entry a seed, of {"A", "B": distance moved, "copy", "near": shares right}}.

    A and B are watched in the first steps, copy is tested before them, and near after all.
    """
    tests = {task: new_sequences(task) for task in ("copy", "near")}
    runs = {}
    for kind in STARTS:
        runs[kind] = []
        for seed in seeds:
            model = started(kind, seed)
            optimizer = AdamW(model, lr=3e-3)
            copy, first, seen = evaluate(model, tests["copy"]).exact, factors(model), [(0.0, 0.0)]
            settings = {"schedule": constant, "progress": False}
            for step in range(watched):
                fit(model, symbols_batches("near", 12), 1, optimizer, seed=step, **settings)
                seen.append([np.linalg.norm(now - old) for now, old in zip(factors(model), first, strict=True)])
            fit(model, symbols_batches("near", 12), steps - watched, optimizer, seed=seed, **settings)
            A, B = np.transpose(seen)
            runs[kind].append({"A": A, "B": B, "copy": copy, "near": evaluate(model, tests["near"]).exact})
    return runs


def plot_starts(runs, steps=5):
    """How far A and B have moved in the first steps, a panel for each start, a line for each seed."""
    figure, axes = canvas(10, 3.0, 1, 4, sharey=True)
    top, said = max(run[name][steps] for seeds in runs.values() for run in seeds for name in "AB"), []
    for ax, (kind, seeds) in zip(axes, runs.items(), strict=True):
        for run in seeds:
            for name, color, style in (("A", BACK, "--"), ("B", TRAINED, "-")):
                ax.plot(run[name][: steps + 1], color=color, linestyle=style, marker="o", markersize=3.5, linewidth=1.6)
        ax.set(title=kind, xlabel="step", xticks=range(steps + 1), ylim=(-0.06 * top, 1.2 * top))
        a, b = (np.mean([run[name][steps] for run in seeds]) for name in "AB")
        if abs(a - b) > 0.04 * top:
            for name, color, height, other in (("A", BACK, a, b), ("B", TRAINED, b, a)):
                shift = 0.09 if height > other else -0.16
                ax.text(steps - 0.25, height + shift * top, name, color=color, fontweight="bold", ha="center")
        else:
            height = 1.1 * top if a else 0.1 * top
            ax.text(steps + 0.15, height, "A (dashed) and B", color=LINE, fontweight="bold", ha="right")
        said.append(f"{kind}: {', '.join(f'{name} {first_move(seeds, name)}' for name in 'AB')}")
    axes[0].set_ylabel("‖A − A₀‖, ‖B − B₀‖")
    return Picture(figure, f"Four panels: how far A and B have moved in {steps} steps, {len(seeds)} seeds each. "
                   + ". ".join(said) + ".")  # fmt: skip


def first_move(seeds, name):
    """In which step a factor first leaves its place, in words."""
    steps = [int(np.flatnonzero(run[name])[0]) if run[name].any() else 0 for run in seeds]
    return "never moves" if not any(steps) else f"moves from step {min(steps)} on"


def starts_table(runs):
    """How far A and B moved in step 1 (means), and for each seed what the model could do before and after."""
    rows = []
    for kind, seeds in runs.items():
        A, B = (float(np.mean([run[name][1] for run in seeds])) for name in "AB")
        copy, near = ("  ".join(f"{run[task]:4.0%}" for run in seeds) for task in ("copy", "near"))
        rows.append((kind, f"{A:.3f}", f"{B:.3f}", copy, near))
    columns = ["start", "step 1:\nA moved", "\nB moved", "copy,\nbefore training", "near,\nafter 24 steps"]
    return Table(columns, rows)


# ---- section 8: three layers, two of them wrong


class LayerOne(Beside):
    def __init__(self, base, A, B, s):
        super().__init__(base)
        self.A, self.B, self.s = A, B, s

    def path(self, x):
        A, B, s = self.A, self.B, self.s
        h = matmul(x, A.data)

        def backward(dy):
            dh = matmul(dy, B.data.T)
            A.grad += outer(x, dh)
            B.grad += s * outer(h, dy)
            return s * matmul(dh, A.data.T)

        return s * matmul(h, B.data), backward


class LayerTwo(LayerOne):
    def path(self, x):
        A, B, s = self.A, self.B, self.s
        h = matmul(x, A.data)

        def backward(dy):
            dh = s * matmul(dy, B.data.T)
            A.grad += outer(x, dh)
            B.grad += s * outer(h, dy)
            return matmul(dh, A.data.T)

        return s * matmul(h, B.data), backward


class LayerThree(LayerOne):
    def path(self, x):
        A, B, s = self.A, self.B, self.s
        h = matmul(x, A.data)

        def backward(dy):
            dh = s * matmul(dy, B.data.T)
            A.grad += outer(x, dh)
            B.grad += s * outer(h, dy)
            return 0

        return s * matmul(h, B.data), backward


THREE = {1: LayerOne, 2: LayerTwo, 3: LayerThree}


def with_layer(number, seed=0, alpha=8):
    """`symbols` with layer 1, 2 or 3 around every Linear of its blocks: r = 4, s = α / 4, A random, B zero."""
    model = get_peft_model(load_base("symbols"), LoRA(r=4, alpha=alpha, targets=ALL), seed)
    for path, layer in list(model.walk()):
        if isinstance(layer, LoRALinear):
            model.set_submodule(path, THREE[number](layer.base, layer.A, layer.B, layer.scaling))
    return model


def train_three(steps=40, seeds=(0, 1, 2)):
    """({number: model of the first seed, trained}, {number: losses (seeds, steps)}) for the task `near`."""
    models, losses = {}, {}
    for number in THREE:
        losses[number] = []
        for seed in seeds:
            model = with_layer(number, seed)
            history = fit(model, symbols_batches("near", 12), steps, AdamW(model, lr=3e-3), seed=seed, progress=False)
            losses[number].append(history.loss)
            models.setdefault(number, model)
    return models, losses


def plot_three(losses):
    """A panel for each layer, a line for each seed."""
    figure, axes = canvas(9.6, 2.7, 1, 3, sharey=True)
    said = []
    for ax, (number, runs) in zip(axes, losses.items(), strict=True):
        ax.plot(range(1, len(runs[0]) + 1), np.transpose(runs), color=TRAINED, linestyle="-", linewidth=0.9)
        first, last = np.mean([run[0] for run in runs]), np.mean([run[-8:] for run in runs])
        ax.set(title=f"layer {number}: {last:.3f} at the end", xlabel="step", yscale="log")
        said.append(f"layer {number} from {first:.1f} to {last:.3f}")
    axes[0].set_ylabel("loss, nats a symbol")
    return Picture(figure, f"The losses of three layers, {len(runs)} seeds each: {', '.join(said)}, the last a mean of "
                   "eight steps.")  # fmt: skip


def batch():
    """Eight sequences of `near`, the same ones each time: what gradients are checked on."""
    return symbols_batch("near", np.random.default_rng(3), 8)


# ---- section 9: fold it in


def bfloat16(x):
    """The nearest numbers with 8 significant bits: a float32 whose lower 16 bits are rounded away (ties to even)."""
    bits = np.ascontiguousarray(x, "float32").view("uint32").astype("uint64")
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits & 0xFFFF0000).astype("uint32").view("float32")


PRECISIONS = {"float32, 24 bits": lambda x: x.astype("float32"), "float16, 11 bits": lambda x: x.astype("float16"),
              "bfloat16, 8 bits": bfloat16}  # fmt: skip


def merged_in_half(W, delta, sizes=(1, 0.1, 0.01)):
    """A Table: W + t ΔW, stored with fewer bits; the share of the weights that are the same number as before merging."""
    rows = []
    for name, stored in PRECISIONS.items():
        before = stored(W).astype("float64")
        rows.append((name, *(float(np.mean(stored(before + t * delta) == before)) for t in sizes)))
    columns = ["stored as", *(f"ΔW / {1 / t:.0f}" if t < 1 else "ΔW" for t in sizes)]
    return Table(
        columns, rows, title="weights that merging left as they were", formats=dict.fromkeys(columns[1:], ".0%")
    )
