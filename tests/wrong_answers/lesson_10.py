"""Wrong answers to the exercises of lesson 10: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def middle(test=1, mask=None, back=None, dB=None):
    """A `middle_dropout`, right but for M = test in evaluation, mask(h, p, rng), back(M, kept, p, rng) or dB(h, kept, s)."""

    def fn(x, W, A, B, s, p, training, rng):
        h = x @ A
        M = (mask(h, p, rng) if mask else (rng.random(h.shape) >= p) / (1 - p)) if training else test
        kept = M * h

        def backward(dy):
            dh = s * dy @ B.T * (back(M, kept, p, rng) if back else M)
            return dy @ W.T + dh @ A.T, x.T @ dh, (dB(h, kept, s) if dB else s * kept).T @ dy

        return x @ W + s * kept @ B, backward

    return fn


def rows(dx=None, dA=None, dB=None):
    """A `row_dropped_lora`, right but for functions of (x, m, W, A, B, s, dy)."""

    def fn(x, m, W, A, B, s):
        def backward(dy):
            case, dh = (x, m, W, A, B, s, dy), s * dy @ B.T
            return (
                dx(*case) if dx else dy @ W.T + dh @ (m * A).T,
                dA(*case) if dA else m * (x.T @ dh),
                dB(*case) if dB else s * (x @ (m * A)).T @ dy,
            )

        return x @ W + s * x @ (m * A) @ B, backward

    return fn


WRONG = {
    "mended_merge": {
        "the merge as it is": lambda W, A, B, s, p: W + s * A @ B,
        "or less": lambda W, A, B, s, p: W + s * A @ B / (1 - p),
        "the share that is dropped": lambda W, A, B, s, p: W + p * s * A @ B,
        "saw all of x": lambda W, A, B, s, p: (1 - p) * (W + s * A @ B),
        "the path alone": lambda W, A, B, s, p: (1 - p) * s * A @ B,
        "s is missing": lambda W, A, B, s, p: W + (1 - p) * A @ B,
        "is there a return": lambda W, A, B, s, p: None,
    },
    "path_variance": {
        "the variance has shape (6,)": lambda x, A, B, s, p: (x**2 @ (A @ B) ** 2).sum(0),
        "where does p enter": lambda x, A, B, s, p: s**2 * x**2 @ (A @ B) ** 2,
        "s is squared": lambda x, A, B, s, p: p / (1 - p) * s * x**2 @ (A @ B) ** 2,
        "s is missing": lambda x, A, B, s, p: p / (1 - p) * x**2 @ (A @ B) ** 2,
        "the variance of a coin": lambda x, A, B, s, p: p * (1 - p) * s**2 * x**2 @ (A @ B) ** 2,
        "not yet the variance": lambda x, A, B, s, p: p * s**2 * x**2 @ (A @ B) ** 2,
        "square first": lambda x, A, B, s, p: p / (1 - p) * s**2 * (x @ A @ B) ** 2,
        "not its factors": lambda x, A, B, s, p: p / (1 - p) * s**2 * x**2 @ A**2 @ B**2,
        "a constant comes out": lambda x, A, B, s, p: p / (1 - p) * s**2 * x**2 @ (A @ B),
        "the standard deviation": lambda x, A, B, s, p: (p / (1 - p) * s**2 * x**2 @ (A @ B) ** 2) ** 0.5,
        "is there a return": lambda x, A, B, s, p: None if p == 0 else x @ A @ B,
    },
    "middle_dropout": {
        "who looks at": lambda x, W, A, B, s, p, training, rng: middle()(x, W, A, B, s, p, True, rng),
        "evaluation: is the path as strong": middle(test=0.7),
        "as its mean in training": middle(test=1 / 0.7),
        "the path is missing": middle(test=0),
        "p = 0, is not finite": middle(mask=lambda h, p, rng: (rng.random(h.shape) < p) / p),
        "everything is dropped": middle(mask=lambda h, p, rng: (rng.random(h.shape) < p) / (1 - p)),
        "is there a mask at all": middle(mask=lambda h, p, rng: 1),
        "have one mask": middle(mask=lambda h, p, rng: (rng.random((1, h.shape[1])) >= p) / (1 - p)),
        "dropped together": middle(mask=lambda h, p, rng: (rng.random((len(h), 1)) >= p) / (1 - p)),
        "the share that is kept": middle(mask=lambda h, p, rng: (rng.random(h.shape) < p) / p if p else 1),
        "are zero is not p": middle(mask=lambda h, p, rng: (rng.random(h.shape) >= p * p) / (1 - p)),
        "the numbers that stay": middle(mask=lambda h, p, rng: rng.random(h.shape) >= p),
        "the mask is missing": middle(back=lambda M, kept, p, rng: 1),
        "so its slope is, too": middle(back=lambda M, kept, p, rng: M != 0),
        "divided by 1 − p once": middle(back=lambda M, kept, p, rng: M / (1 - p)),
        "a new mask": middle(back=lambda M, kept, p, rng: (rng.random(kept.shape) >= p) / (1 - p)),
        "B saw M": middle(dB=lambda h, kept, s: s * h),
        "where is s": middle(dB=lambda h, kept, s: kept),
        "A never moves": middle(back=lambda M, kept, p, rng: (kept != 0) / (1 - p)),
        "in evaluation y was not": middle(back=lambda M, kept, p, rng: M if np.ndim(M) else 1 / (1 - p)),
        "TypeError": lambda x: x,
    },
    "row_dropped_lora": {
        "dA has shape (2, 4)": rows(dA=lambda x, m, W, A, B, s, dy: B @ dy.T @ x),
        "two gradients add": rows(dx=lambda x, m, W, A, B, s, dy: dy @ W.T),
        "x met m ⊙ A": rows(dx=lambda x, m, W, A, B, s, dy: dy @ W.T + s * dy @ B.T @ A.T),
        "on the base path": rows(dx=lambda x, m, W, A, B, s, dy: m.T * (dy @ W.T + s * dy @ B.T @ A.T)),
        "no influence on y": rows(dA=lambda x, m, W, A, B, s, dy: s * x.T @ dy @ B.T),
        "where does the scale s enter": rows(dA=lambda x, m, W, A, B, s, dy: m * (x.T @ dy @ B.T)),
        "B saw the product": rows(dB=lambda x, m, W, A, B, s, dy: s * (x @ A).T @ dy),
        "the scale s enter": rows(dB=lambda x, m, W, A, B, s, dy: (x @ (m * A)).T @ dy),
        "carries the scale already": rows(dB=lambda x, m, W, A, B, s, dy: s * s * (x @ (m * A)).T @ dy),
        "gradient check": lambda *case: (0 * case[0] @ case[2], rows()(*case)[1]),
    },
}
