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


def autoencoder(dW=lambda x, h, dy, dh, du: x.T @ du, dx=None):
    """The autoencoder with another dW or dx; by itself as the exercise gives it."""

    def network(x, W, b):
        h = np.tanh(x @ W)

        def backward(dy):
            dh = dy @ W
            du = dh * (1 - h**2)
            return du @ W.T if dx is None else dx(W, dh), dW(x, h, dy, dh, du), dy.sum(0)

        return h @ W.T + b, backward

    return network


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
    "autoencoder_bug": {
        "dW is not the slope": autoencoder(),
        "ValueError": autoencoder(lambda x, h, dy, dh, du: x.T @ du + h.T @ dy),
        "has shape (3, 4)": autoencoder(lambda x, h, dy, dh, du: h.T @ dy),
        "dx was right": autoencoder(dx=lambda W, dh: dh @ W.T),
        "has to stay": autoencoder(lambda x, h, dy, dh, du: dy.T @ h),
        "do not average": autoencoder(lambda x, h, dy, dh, du: (x.T @ du + dy.T @ h) / 2),
        "wrong sign": autoencoder(lambda x, h, dy, dh, du: x.T @ du - dy.T @ h),
        "two parts differ": autoencoder(lambda x, h, dy, dh, du: 2 * x.T @ du),
        "not by a derivative": autoencoder(lambda x, h, dy, dh, du: x.T @ du + dy.T @ (1 - h**2)),
        "through tanh again": autoencoder(lambda x, h, dy, dh, du: x.T @ du + dy.T @ (h * (1 - h**2))),
        "not multiplied by x": autoencoder(lambda x, h, dy, dh, du: x.T @ du + x.T @ dh),
        "comes back through tanh": autoencoder(lambda x, h, dy, dh, du: x.T @ dh + dy.T @ h),
    },
    "one_sided_step": {
        "not written": ...,
        "above 0": -8,
        "what two sides cancel": 1e-5,
        "part that rounding makes": 1e-3,
        "Taylor part is the larger one": 1e-7,
        "is the larger part": 1e-11,
    },
}
