"""The checks of the exercises of lesson 01."""

import numpy as np

from .. import check

__all__ = [
    "autoencoder_bug",
    "one_sided_step",
    "rmsnorm",
    "scale_and_shift",
]


def scale_and_shift(fn):
    """fn(x, g, b) -> (y, backward), y = x * g + b; backward(dy) -> dx, dg, db."""
    rng = np.random.default_rng(0)
    x, g, b, dy = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=3), rng.normal(size=(4, 3))

    def part(i, what, want, mistakes=()):
        return lambda: check.compare(fn(x, g, b)[1](dy)[i], want, what, mistakes)

    def forward():
        return check.compare(fn(x, g, b)[0], x * g + b, "y")

    def slope():
        return slopes(fn, {"x": x, "g": g, "b": b}, dy)

    dxs = [(dy, "dx passes through g on its way back"), (dy * x, "that is dg before it is summed")]
    dgs = [((dy * x).mean(0), "a sum over the batch, not a mean"),
           (dy.sum(0), "that is db: what multiplies g in the forward?"),
           ((dy * g).sum(0), "that is dx, summed: what multiplies g in the forward?")]  # fmt: skip
    dbs = [(dy.mean(0), "a sum over the batch, not a mean")]

    def three():
        return len(fn(x, g, b)[1](dy)) == 3, "backward should return three arrays: dx, dg, db"

    checks = [("forward", forward), ("three gradients", three), ("dx", part(0, "dx", dy * g, dxs)),
              ("dg", part(1, "dg", (dy * x).sum(0), dgs)), ("db", part(2, "db", dy.sum(0), dbs)),
              ("gradient check", slope)]  # fmt: skip
    check.report("scale_and_shift", checks)


def one_sided_step(answer):
    """The h at which (L(x + h) - L(x)) / h is nearest to the slope, in float64: h = 1e-16 / h, to a factor of four."""

    def size():
        if answer is ... or answer is None:
            raise NotImplementedError
        h = float(answer)
        if not h > 0:
            return False, "a step is a number above 0, such as 0.01"
        if 1e-6 < h < 5e-5:
            return False, "that is where h² meets the rounding: does one side cancel what two sides cancel?"
        if h > 4e-8:
            return False, "there the Taylor part is the larger one: how large is the part that rounding makes?"
        return h > 2.5e-9, "there 1e-16 / h is the larger part: how large is the Taylor part?"

    check.report("one_sided_step", [("h", size)])


def rmsnorm(fn):
    """fn(x, g, eps) -> (y, backward), y = g * x / sqrt(mean x² + eps); backward(dy) -> dx, dg."""
    rng = np.random.default_rng(1)
    x, g, dy, eps = rng.normal(size=(4, 6)), rng.normal(size=6), rng.normal(size=(4, 6)), 1e-5
    r = np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    xhat, dxhat = x / r, dy * g
    dx = (dxhat - xhat * (dxhat * xhat).mean(-1, keepdims=True)) / r

    def forward():
        centred = x - x.mean(-1, keepdims=True)

        def over(r):
            return g * x / r

        square = x * x
        mistakes = [(g * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps),
                     "that is LayerNorm: RMSNorm does not subtract the mean"),
                    (over(x.std(-1, keepdims=True)), "a standard deviation subtracts the mean: RMSNorm does not"),
                    (over(np.sqrt(square.mean(-1, keepdims=True))), "where is eps?"),
                    (over(np.sqrt(square.mean(-1, keepdims=True)) + eps), "eps stands under the root"),
                    (over(np.sqrt(square.mean() + eps)), "each row has its own mean of squares"),
                    (over(np.sqrt(square.sum(-1, keepdims=True) + eps)), "a mean of squares, not a sum"),
                    (over(r * r), "where is the root?"),
                    (xhat, "the gain g is missing")]  # fmt: skip
        return check.compare(fn(x, g, eps)[0], g * xhat, "y", mistakes)

    def gain():
        mistakes = [
            ((dy * x).sum(0), "dg needs the normalised x"),
            ((dy * xhat).mean(0), "a sum over the batch, not a mean"),
        ]
        return check.compare(fn(x, g, eps)[1](dy)[1], (dy * xhat).sum(0), "dg", mistakes)

    def stretch():
        got = fn(x, g, 0.0)[1](dy)[0]
        if got is None or np.shape(got) != x.shape:
            return check.compare(got, x, "dx")
        along = np.abs((got * x).sum(-1)).max()
        return bool(
            along < 1e-9
        ), "a stretch of x changes nothing, so dx should have no part along x: which way is missing?"

    def value():
        centred = dx - dxhat.mean(-1, keepdims=True) / r
        no_gain = (dy - xhat * (dy * xhat).mean(-1, keepdims=True)) / r
        mistakes = [(dxhat / r, "x reaches y through r as well"), (centred, "no mean was subtracted in the forward"),
                    (dx * r, "y = g x / r: where is the 1 / r?"), (no_gain, "back through g first")]  # fmt: skip
        return check.compare(fn(x, g, eps)[1](dy)[0], dx, "dx", mistakes)

    def slope():
        return slopes(lambda x, g: fn(x, g, eps), {"x": x, "g": g}, dy)

    checks = [("forward", forward), ("dg", gain), ("dx along x", stretch), ("dx", value), ("gradient check", slope)]
    check.report("rmsnorm", checks)


def autoencoder_bug(fn):
    """fn(x, W, b) -> (y, backward): y = tanh(x W) W^T + b, whose backward holds a bug, mended."""
    rng = np.random.default_rng(2)
    x, W, b, dy = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(5, 4))
    h, dh = np.tanh(x @ W), dy @ W
    du = dh * (1 - h**2)
    first, second = x.T @ du, dy.T @ h

    def forward():
        return check.compare(fn(x, W, b)[0], h @ W.T + b, "y")

    def three():
        got = dict(zip(("dx", "dW", "db"), fn(x, W, b)[1](dy), strict=False))
        return check.shapes(got, {"dx": x, "dW": W, "db": b})

    def as_given():
        dx, _, db = fn(x, W, b)[1](dy)
        for name, got, want in (("dx", dx, du @ W.T), ("db", db, dy.sum(0))):
            if not check.compare(got, want)[0]:
                return False, f"{name} was right as it was given"
        return True, ""

    def slips():
        dW = fn(x, W, b)[1](dy)[1]
        for wrong, hint in ((second, "the part that was there has to stay: the slopes of all places are added"),
                            ((first + second) / 2, "add up, do not average"),
                            (first - second, "one part has the wrong sign"),
                            (2 * first, "the two parts differ: what is W multiplied by in each place?"),
                            (first + dy.T @ (1 - h**2), "W is multiplied by h there, not by a derivative"),
                            (first + dy.T @ (h * (1 - h**2)), "what lands in y does not pass through tanh again"),
                            (first + x.T @ dh, "in its second place W is not multiplied by x"),
                            (x.T @ dh + second, "what lands in u comes back through tanh")):  # fmt: skip
            if check.compare(dW, wrong)[0]:
                return False, hint
        return True, ""

    def slope():
        return slopes(fn, {"x": x, "W": W, "b": b}, dy)

    checks = [("forward", forward), ("three gradients", three), ("what was right", as_given), ("dW", slips),
              ("gradient check", slope)]  # fmt: skip
    check.report("autoencoder_bug", checks)


def slopes(fn, arrays, dy):
    """check.gradients for fn(*arrays) -> (y, backward) under the loss Σ dy ⊙ y."""
    grads = fn(*arrays.values())[1](dy)
    grads = grads if isinstance(grads, (tuple, list)) else (grads,)
    named = dict(zip(arrays, grads, strict=True))
    return check.gradients(lambda: np.vdot(dy, fn(*arrays.values())[0]), arrays, named)
