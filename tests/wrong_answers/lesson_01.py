"""Wrong answers to the exercises of lesson 01: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def scale_and_shift(wrong):
    return lambda x, g, b: (x * g + b, lambda dy: wrong(x, g, dy))


def rmsnorm(root=None, gain=True, slope=None):
    """An RMSNorm that divides by root(x, eps), and whose dx is slope(x̂, g, dy, r)."""

    def layer(x, g, eps=1e-5):
        r = np.sqrt((x * x).mean(-1, keepdims=True) + eps) if root is None else root(x, eps)
        xhat = x / r
        return xhat * (g if gain else 1), lambda dy: (slope(xhat, g, dy, r), (dy * xhat).sum(0))

    return layer


def square(x):
    return (x * x).mean(-1, keepdims=True)


def along(xhat, d):
    return xhat * (d * xhat).mean(-1, keepdims=True)


WRONG = {
    "scale_and_shift": {
        "three arrays": scale_and_shift(lambda x, g, dy: (dy * g, (dy * x).sum(0))),
        "dx, summed": scale_and_shift(lambda x, g, dy: (dy * g, (dy * g).sum(0), dy.sum(0))),
        "that is db": scale_and_shift(lambda x, g, dy: (dy * g, dy.sum(0), dy.sum(0))),
    },
    "rmsnorm": {
        "deviation": rmsnorm(lambda x, eps: x.std(-1, keepdims=True)),
        "where is eps": rmsnorm(lambda x, eps: np.sqrt(square(x))),
        "under the root": rmsnorm(lambda x, eps: np.sqrt(square(x)) + eps),
        "its own mean": rmsnorm(lambda x, eps: np.sqrt((x * x).mean() + eps)),
        "not a sum": rmsnorm(lambda x, eps: np.sqrt((x * x).sum(-1, keepdims=True) + eps)),
        "where is the root": rmsnorm(lambda x, eps: square(x) + eps),
        "gain g": rmsnorm(gain=False),
        "1 / r": rmsnorm(slope=lambda xhat, g, dy, r: dy * g - along(xhat, dy * g)),
        "through g first": rmsnorm(slope=lambda xhat, g, dy, r: (dy - along(xhat, dy)) / r),
        "which way is missing": rmsnorm(slope=lambda xhat, g, dy, r: dy * g / r),
    },
    "gradient_bug": {
        "ValueError": lambda x, W, b: (x @ W + b, lambda dy: (W @ dy, x.T @ dy, dy.sum(0))),
        "dW is not": lambda x, W, b: (x @ W + b, lambda dy: (dy @ W.T, dy.T @ x, dy.sum(0))),
    },
    "predict_v": {"one-sided": 10, "does not cancel": 1000, "not answered": ...},
}
