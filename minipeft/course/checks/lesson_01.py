"""The checks of the exercises of lesson 01."""

import numpy as np

from .. import check

__all__ = [
    "gradient_bug",
    "predict_v",
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


def predict_v(answer):
    """By what factor a relative error falls from h = 0.01 to h = 0.001."""
    why = {10: "that would be a one-sided difference. What does the minus side cancel?",
           1000: "which is the first power of h that a central difference does not cancel?"}  # fmt: skip
    check.prediction("predict the V", answer, 100, why)


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


def gradient_bug(fn):
    """fn(x, W, b) -> (y, backward): a Linear whose backward holds a bug, mended."""
    rng = np.random.default_rng(2)
    x, W, b, dy = rng.normal(size=(5, 4)), rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=(5, 4))

    def forward():
        return check.compare(fn(x, W, b)[0], x @ W + b, "y")

    def three():
        return check.shapes(
            dict(zip(("dx", "dW", "db"), fn(x, W, b)[1](dy), strict=False)), {"dx": x, "dW": W, "db": b}
        )

    def shapes():
        narrow = rng.normal(size=(4, 3))
        dx = fn(x, narrow, b[:3])[1](dy[:, :3])[0]
        return np.shape(dx) == x.shape, "try a W that is not square: what does not fit any more?"

    def slope():
        return slopes(fn, {"x": x, "W": W, "b": b}, dy)

    checks = [
        ("forward", forward),
        ("three gradients", three),
        ("gradient check", slope),
        ("a W that is not square", shapes),
    ]
    check.report("gradient_bug", checks)


def slopes(fn, arrays, dy):
    """check.gradients for fn(*arrays) -> (y, backward) under the loss Σ dy ⊙ y."""
    grads = fn(*arrays.values())[1](dy)
    grads = grads if isinstance(grads, (tuple, list)) else (grads,)
    named = dict(zip(arrays, grads, strict=True))
    return check.gradients(lambda: np.vdot(dy, fn(*arrays.values())[0]), arrays, named)
