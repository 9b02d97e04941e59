"""What lesson 01 calls and does not show: it draws, holds small examples, and trains networks of which one is right.

    from minipeft.course import lesson_01 as tools

Every function can be opened from the lesson: inspect.getsource(tools.moon).
"""

import numpy as np

from ..lab.drawing.shapes import BACK, INK, Pen, numeral
from ..lab.gradcheck import nudge
from ..lab.picture import COLORS, FROZEN, STYLES, Picture, canvas
from ..model.functional import gelu
from . import check

ARRAYS = ("W1", "b1", "g", "s", "W2", "b2", "W3", "b3")  # the arrays of the network that paints, in its order


# ---- pictures


def draw_chain():
    """Three layers, forward and back: what each is handed, what it hands on, and empty boxes for its slopes."""
    layers = [
        ("Linear", "y = x W + b", ["dW = ?", "db = ?", "dx = ?"]),
        ("GELU", "y = x g(x)", ["dx = ?"]),
        ("LayerNorm", "y = g ⊙ x̂ + b", ["dg = ?", "db = ?", "dx = ?"]),
    ]
    wide, gap, w, h = 118, 74, 694, 196
    pen, left, y = Pen(w, h), 62, 106
    pen.text(12, h - 12, "forward", 11, INK, ha="left", weight="bold")
    for i, (name, formula, blanks) in enumerate(layers):
        x = left + i * (wide + gap)
        pen.box(x, y, wide, 62)
        pen.text(x + wide / 2, y + 42, name, 12, va="center_baseline", weight="bold")
        pen.text(x + wide / 2, y + 20, formula, 10.5, va="center_baseline")
        pen.wire((x - gap + 14 * (i == 0), y + 46), (x - 1, y + 46), lw=1.4)
        pen.wire((x - 1, y + 14), (x - gap + 14 * (i == 0), y + 14), color=BACK, lw=1.4)
        pen.text(x - 14, y + 56, "x", 11)
        pen.text(x - 14, y + 2, "dx", 11, BACK)
        if i:
            pen.text(x - gap + 14, y + 56, "y", 11)
            pen.text(x - gap + 14, y + 2, "dy", 11, BACK)
        for j, text in enumerate(blanks):
            top = y - 18 - 28 * j
            pen.box(x + 2, top - 11, wide - 4, 22, "white", BACK, dashed=True, lw=1.1)
            pen.text(x + wide / 2, top, text, 10.5, BACK, va="center_baseline")
    end = left + 3 * wide + 2 * gap
    pen.wire((end + 1, y + 46), (end + gap - 14, y + 46), lw=1.4)
    pen.wire((end + gap - 14, y + 14), (end + 1, y + 14), color=BACK, lw=1.4)
    pen.text(end + 14, y + 56, "y", 11)
    pen.text(end + 14, y + 2, "dy", 11, BACK)
    pen.box(end + gap - 13, y, 58, 62, "white")
    pen.text(end + gap + 16, y + 42, "loss", 12, weight="bold")
    pen.text(end + gap + 16, y + 20, "L", 12)
    pen.text(end + gap + 16, y - 22, "and back", 11, BACK, weight="bold")
    missing = "; ".join(f"{name}: {', '.join(blank[:2] for blank in blanks)}" for name, _, blanks in layers)
    return Picture(pen.figure, "Linear, GELU and LayerNorm in a row, black arrows from x to the loss L, orange arrows with "
                   f"dy and dx from L back to x. Below each layer empty boxes. {missing}.")  # fmt: skip


def draw_net(x, W, dy):
    """Two inputs, two outputs, four weights on their lines: forward, and the same lines back.

    Shapes: x (1, 2), W (2, 2), dy (1, 2)
    """
    y, dx = x @ W, dy @ W.T
    pen = Pen(700, 190)
    for start, back in ((0, False), (360, True)):
        color = BACK if back else INK
        pen.text(start + 12, 178, "and back" if back else "forward", 11, color, ha="left", weight="bold")
        at = [[(start + across, 130 - 92 * i) for i in range(2)] for across in (72, 250)]
        names = ("dx", "dy") if back else ("x", "y")
        for places, name, numbers in zip(at, names, (dx, dy) if back else (x, y), strict=True):
            for i, (px, py) in enumerate(places):
                pen.box(px - 24, py - 15, 48, 30, "#fde9dc" if back else FROZEN, color)
                pen.text(px, py, numeral(numbers[0, i]), 12)
                pen.text(px, py + 24, name + "₁₂"[i], 11, color)
        for i in range(2):
            for j in range(2):
                (ax, ay), (bx, by) = at[0][i], at[1][j]
                line = ((bx - 24, by), (ax + 24, ay)) if back else ((ax + 24, ay), (bx - 24, by))
                pen.slanted(*line, color, lw=1.2)
                share = 0.24 if i != j else 0.5
                pen.text(
                    ax + 24 + share * (bx - ax - 48), ay + share * (by - ay), numeral(W[i, j]), 10.5, color, pad="white"
                )
    sums = [f"dx{'₁₂'[i]} = " + " + ".join(f"{numeral(W[i, j])} · {numeral(dy[0, j])}" for j in range(2))
            + f" = {numeral(dx[0, i])}" for i in range(2)]  # fmt: skip
    return Picture(pen.figure, f"A net of two inputs and two outputs. Forward: x = {numbers_of(x)}, the weights "
                   f"{numbers_of(W)} stand on the four lines, and y = {numbers_of(y)}. Back, along the same lines: "
                   f"dy = {numbers_of(dy)}, {'; '.join(sums)}.")  # fmt: skip


def numbers_of(array):
    return ", ".join(numeral(value) for value in np.ravel(array))


def show_paintings(paintings, right=None):
    """Pictures side by side: {label: grey values (n n, 1) or (n n,), 0 white and 1 black}.  Returns a Picture.

    right: what was wanted, for the share of points on the right side of 1/2 that stands below each.
    """
    figure, axes = canvas(1.72 * len(paintings), 2.05, 1, len(paintings), squeeze=False)
    said = []
    for ax, (label, grey) in zip(axes[0], paintings.items(), strict=True):
        n = round(np.size(grey) ** 0.5)
        ax.imshow(1 - np.clip(np.reshape(grey, (n, n)), 0, 1), cmap="gray", vmin=0, vmax=1)
        ax.set_title(label, fontsize=10.5)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set(visible=True, color="#bbbbbb")
        words = label
        if right is not None:
            share = np.mean((np.ravel(grey) > 0.5) == (np.ravel(right) > 0.5))
            ax.set_xlabel(f"{share:.0%} right", fontsize=10)
            words += f" ({share:.0%} of the points right)"
        said.append(words)
    return Picture(figure, f"Square pictures in grey, side by side: {'; '.join(said)}.")


def plot_steps(curves, steps):
    """The error of a gradient check against its step h, both axes by powers of ten: {label: errors (steps,)}.

    The last curve is the one to look at, and is black.  Each name stands at its line.
    """
    figure, ax = canvas(7.6, 4.0)
    places, said = [(-3.5, 5, 4), (-3.5, 6, -9), (-3, -7, -1), (-12, 0, 5), (-12, 0, 5)], []  # step, aside, up
    for i, (label, errors) in enumerate(curves.items()):
        last = i == len(curves) - 1
        look = {"color": "black", "linewidth": 3.2} if last else {"color": COLORS[i], "linestyle": STYLES[i]}
        ax.loglog(steps, np.maximum(errors, 1e-16), **look)
        power, aside, up = places[i]
        at = np.argmin(abs(steps - 10.0**power))
        side, weight = "right" if aside < 0 else "left", "bold" if last else "normal"
        ax.annotate(label, (steps[at], max(errors[at], 1e-16)), (aside, up), textcoords="offset points", fontsize=10,
                    color=look["color"], ha=side, weight=weight)  # fmt: skip
        said.append(f"{label}: {shape_of(np.maximum(errors, 1e-16), steps)}")
    ax.set(xlabel="step h", ylabel="relative error", ylim=(3e-17, 30))
    ax.axvline(1e-5, color="#999999", lw=0.8, zorder=0)
    ax.text(1.3e-5, 5, "h = 10⁻⁵", fontsize=9.5, color="#666666", va="center")
    ax.set_title("A wrong gradient stays wrong at every small step", fontsize=11.5)
    return Picture(
        figure,
        "The relative error of a gradient check against its step h, both axes logarithmic. " + "; ".join(said) + ".",
    )


def shape_of(errors, steps):
    """What a curve of errors looks like, in words that rounding does not change."""
    at = {power: errors[np.argmin(abs(steps - 10.0**power))] for power in (-12, -5, -2, -1)}
    if at[-2] < 1e-8:
        return "grows to the left only"
    if at[-2] > 5e-3 and at[-12] < 0.1:
        return f"flat at {at[-12]:.2f} for all small steps"
    return f"a V, {'below' if at[-5] < 1e-7 else 'above'} 10^-7 at h = 10^-5"


# ---- small examples


def example(N=4, d_in=3, d_out=5):
    """x, W, b, dy of a Linear: small whole numbers, no two sizes equal."""
    rng = np.random.default_rng(0)
    return [rng.choice([-2.0, -1, 1, 2, 3], shape) for shape in ((N, d_in), (d_in, d_out), (d_out,), (N, d_out))]


def norm_example(N=4, D=3):
    """x, g, b, dy of a LayerNorm: small whole numbers."""
    rng = np.random.default_rng(6)
    x = np.array([rng.choice(6, D, replace=False) for _ in range(N)], float)
    return [x, *(rng.choice([-2.0, -1, 1, 2, 3], shape) for shape in ((D,), (D,), (N, D)))]


def slope_table(function, x):
    """Row i: how steeply each number that function(x) returns changes when number i of x rises, by nudging."""
    columns = [nudge(lambda j=j: function(x)[j], x) for j in range(len(x))]
    return np.stack(columns, axis=1)


def check_linear(x, W, b, dy, **given):
    """Compare dW, db, dx of y = x W + b with what nudging measures; a line for each."""

    def loss():
        return (dy * (x @ W + b)).sum()

    wanted = {"dW": lambda: nudge(loss, W), "db": lambda: nudge(loss, b), "dx": lambda: nudge(loss, x)}
    slips = {"db": {"a mean over the tokens: the rule adds up, over all places where b lands": dy.mean(0)}}
    check.answers(wanted, slips, **given)


def check_slope(x, **given):
    """Compare the slope of GELU at the numbers x with what nudging measures."""
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    slips = {"that is one of the two ways: x also stands inside g": 0.5 * (1 + t),
             "that is one of the two ways: x is also multiplied by g": 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2),
             "the slope of u is missing": 0.5 * (1 + t) + 0.5 * x * (1 - t**2)}  # fmt: skip
    check.answers({"slope": lambda: nudge(lambda: gelu(x)[0].sum(), x)}, {"slope": slips}, **given)


def check_norm(x, g, b, dy, **given):
    """Compare dx, dg, db of LayerNorm (ε = 0) with what nudging measures."""

    def xhat():
        return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)

    def loss():
        return (dy * (g * xhat() + b)).sum()

    sigma, dxhat = x.std(-1, keepdims=True), dy * g
    centred, third = dxhat - dxhat.mean(-1, keepdims=True), xhat() * (dxhat * xhat()).mean(-1, keepdims=True)
    one = "one way of three: a row of dx has the sum {:.4f}, but if all numbers of a token rise alike, nothing changes"
    slips = {"dx": {one.format((dxhat / sigma)[0].sum()): dxhat / sigma,
                    "two ways of three: σ moves, too": centred / sigma,
                    "two ways of three: the mean moves, too": (dxhat - third) / sigma,
                    "back through σ: what is divided forward is divided on the way back":
                        centred - third},
             "dg": {"g is multiplied by x̂, not by x": (dy * x).sum(0)}}  # fmt: skip
    wanted = {"dx": lambda: nudge(loss, x), "dg": lambda: nudge(loss, g), "db": lambda: nudge(loss, b)}
    check.answers(wanted, slips, tolerance=1e-4, **given)


# ---- a network that paints


def moon(n=24):
    """n × n points of a square, (n n, 2), and what stands there, (n n, 1): 1 on a moon, 0 beside it."""
    line = np.linspace(-1.3, 1.3, n)
    across, up = (part.ravel() for part in np.meshgrid(line, -line))
    on = (across**2 + up**2 < 1.1) & ((across - 0.55) ** 2 + (up - 0.2) ** 2 > 0.65)
    return np.stack([across, up], axis=1), on.astype(float)[:, None]


def network(linear, gelu, layernorm, seed=0, D=32):
    """Layers for `chain`, with random arrays: Linear 2 → D, GELU, LayerNorm, Linear D → D, GELU, Linear D → 1.

    Returns a list of (layer, [its arrays])
    """
    rng = np.random.default_rng(seed)
    W1, b1, W2, W3 = rng.normal(size=(2, D)), rng.normal(size=D), rng.normal(size=(D, D)), rng.normal(size=(D, 1))
    return [
        (linear, [W1, b1]), (gelu, []), (layernorm, [np.ones(D), np.zeros(D)]),
        (linear, [W2 / D**0.5, np.zeros(D)]), (gelu, []), (linear, [W3 / D**0.5, np.zeros(1)]),
    ]  # fmt: skip


def mean_of_bias(linear):
    """A Linear whose db is a mean over the tokens."""

    def layer(x, W, b):
        y, backward = linear(x, W, b)
        return y, lambda dy: (*backward(dy)[:2], dy.mean(0))

    return layer


def turned(linear):
    """A Linear whose dx is dy W where W is square: Wᵀ was forgotten, and the shapes fit."""

    def layer(x, W, b):
        y, backward = linear(x, W, b)
        return y, lambda dy: (dy @ W if W.shape[0] == W.shape[1] else dy @ W.T, *backward(dy)[1:])

    return layer


def one_way(layernorm):
    """A LayerNorm whose dx knows one way of the three: it takes mean and σ as constants."""

    def layer(x, g, b):
        y, backward = layernorm(x, g, b)
        sigma = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y, lambda dy: (dy * g / sigma, *backward(dy)[1:])

    return layer


def four(linear, gelu, layernorm, seed=0):
    """{number: network}: four networks with the same arrays, of which one is right; the code says what is wrong."""
    return {
        1: network(turned(linear), gelu, layernorm, seed),
        2: network(mean_of_bias(linear), gelu, layernorm, seed),
        3: network(linear, gelu, layernorm, seed),
        4: network(linear, gelu, one_way(layernorm), seed),
    }


def at_rest(layers):
    """A speed of zero for every array of the layers: [[array, ...], ...]."""
    return [[np.zeros_like(array) for array in arrays] for _, arrays in layers]


def train_four(linear, gelu, layernorm, step, steps=300, seeds=(0, 1, 2)):
    """Train the four networks from the same starts.  Returns ({number: losses (seeds, steps)}, {number: network of seed 0}).

    step(layers, speeds, x, target) -> loss, and moves the arrays.
    """
    (x, target), losses, first = moon(), {}, {}
    for seed in seeds:
        for number, layers in four(linear, gelu, layernorm, seed).items():
            speeds = at_rest(layers)
            losses.setdefault(number, []).append([step(layers, speeds, x, target) for _ in range(steps)])
            first.setdefault(number, layers)
    return {number: np.array(runs) for number, runs in losses.items()}, first


def check_four(networks, chain, direction_error):
    """Print, for each network, which of its arrays get a wrong gradient: a relative error above 1e-4.

    direction_error(loss, array, slopes) -> relative error
    """
    x, target = moon()
    for number, layers in networks.items():
        y, backward = chain(x, layers)
        slopes = [slope for found in backward(2 * (y - target) / len(y))[1] for slope in found]
        arrays = [array for _, own in layers for array in own]

        def loss(layers=layers):
            return ((chain(x, layers)[0] - target) ** 2).mean()

        wrong = [name for name, array, slope in zip(ARRAYS, arrays, slopes, strict=True)
                 if direction_error(loss, array, slope) > 1e-4]  # fmt: skip
        words = f"{len(wrong)} of {len(arrays)} wrong: {' '.join(wrong)}" if wrong else f"all {len(arrays)} right"
        print(f"network {number}: {words}")


def still_downhill(linear, gelu, layernorm, chain):
    """Print the cosine between the slopes of each wrong network and the right ones, at its start: all, and each wrong array.

    Above zero, a small step against the wrong slopes goes downhill.
    """
    (x, target), found = moon(), {}
    for number, layers in four(linear, gelu, layernorm).items():
        y, backward = chain(x, layers)
        found[number] = [slope.ravel() for own in backward(2 * (y - target) / len(y))[1] for slope in own]
    right = found.pop(3)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for number, slopes in found.items():
        each = [f"{name} {cosine(a, b):.2f}" for name, a, b in zip(ARRAYS, slopes, right, strict=True)
                if np.abs(a - b).max() > 1e-9]  # fmt: skip
        whole = cosine(np.concatenate(slopes), np.concatenate(right))
        print(f"network {number}: cosine with the right slopes {whole:.2f}; of the wrong arrays: {'  '.join(each)}")


def check_steps(cases, steps, direction_error, directions=7):
    """The error of a check of dx at each step h, the median over several random directions: {label: errors (steps,)}.

    cases: {label: (f, x, w)}, where f(x) -> (y, backward), backward(dy)[0] is dx, and the loss is Σ w ⊙ y; or a fourth one,
    a factor that makes dx wrong.  direction_error(loss, array, slopes, h, seed) -> relative error
    """
    found = {}
    for label, (f, x, w, *factor) in cases.items():
        dx = f(x)[1](w)[0] * (factor[0] if factor else 1)

        def loss(f=f, x=x, w=w):
            return (f(x)[0] * w).sum()

        errors = [[direction_error(loss, x, dx, h, seed) for h in steps] for seed in range(directions)]
        found[label] = np.median(errors, axis=0)
    return found
