"""Wrong answers to the exercises of lesson 00: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def fits(f, x):
    """The matrix read off f, if it fits at x."""
    matrix = f(np.eye(x.shape[1]))
    return matrix if np.allclose(f(x), x @ matrix) else None


def affine(f, x):
    """The matrix between the differences from f(0), if it fits at x."""
    start, eye = f(np.zeros((1, x.shape[1]))), np.eye(x.shape[1])
    return f(eye) - start if np.allclose(f(x), x @ (f(eye) - start) + start) else None


WRONG = {
    "lora_count": {
        "W itself": lambda d_in, d_out, r: d_in * d_out,
        "only if W is square": lambda d_in, d_out, r: 2 * r * d_in,
        "do their counts multiply": lambda d_in, d_out, r: (d_in * r) * (r * d_out),
        "no bias": lambda d_in, d_out, r: r * (d_in + d_out) + d_out,
        "is there a return": lambda d_in, d_out, r: None,
    },
    "virtual_share": {
        "e to the power of 0": lambda scores, m: 0.0,
        "part of the whole": lambda scores, m: m / np.exp(scores).sum(),
        "which powers": lambda scores, m: m / (m + scores.sum()),
        "left to the tokens": lambda scores, m: np.exp(scores).sum() / (m + np.exp(scores).sum()),
        "one of the eight": lambda scores, m: 1 / (m + np.exp(scores).sum()),
        "where is m": lambda scores, m: 1 / (1 + np.exp(scores).sum()),
        "more than the whole": lambda scores, m: m / (1 + np.exp(scores).sum()),
    },
    "who_trains": {
        "no LoRA": lambda model, method, rng: None,
        "more than A and B": lambda model, method, rng: (method.inject(model, rng), model.requires_grad_(True)),
    },
    "merged_weight": {
        "Is there a return": lambda f, d: None,
        "the sum of its rows": lambda f, d: f(np.ones((1, d))),
        "sum of its rows: which": lambda f, d: f(np.ones(d)),
        "should have (4, 3): is something transposed": lambda f, d: f(np.eye(d)).T,
        "there is a bend in it": lambda f, d: f(np.eye(d)),
        "no number is below zero": lambda f, d: fits(f, np.random.default_rng(1).random((8, d))),
        "a bend at zero: the matrix fits": lambda f, d: fits(f, np.full((1, d), 0.5)),
        "of several sizes": lambda f, d: f(np.eye(d)) if np.allclose(f(-np.eye(d)), -f(np.eye(d))) else None,
        "Which matrix could do that": lambda f, d: affine(f, np.random.default_rng(1).normal(size=(8, d))),
    },
}
