"""Wrong answers to the exercises of lesson 06: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def lora(*, y=None, dx=None, dA=None, dB=None):
    """A LoRA layer under a mask of its input, right but for what is given: functions of (x, M, W, A, B, s, dy)."""

    def fn(x, M, W, A, B, s, b=0.0):
        def backward(dy):
            case, dh = (x, M, W, A, B, s, dy), s * (dy @ B.T)
            return (
                dx(*case) if dx else dy @ W.T + M * (dh @ A.T),
                dA(*case) if dA else (M * x).T @ dh,
                dB(*case) if dB else s * ((M * x) @ A).T @ dy,
            )

        return (y(x, M, W, A, B, s) if y else x @ W + s * ((M * x) @ A) @ B) + b, backward

    return fn


def square(array):
    return array.shape[0] == array.shape[1]


def uniform(d_in, d_out, r, rng, A=None, B=None):
    """A and B uniform within these bounds (None: zero)."""
    draw = lambda bound, shape: rng.uniform(-bound, bound, shape) if bound else np.zeros(shape)  # noqa: E731
    return draw(A, (d_in, r)), draw(B, (r, d_out))


def start(A=None, B=None):
    """A start from bounds that are functions of (d_in, r)."""
    return lambda d_in, d_out, r, rng: uniform(d_in, d_out, r, rng, A and A(d_in, r), B and B(d_in, r))


def orthogonal(d_in, d_out, r, rng):
    """A and B that are both random, and whose product is zero all the same."""
    A, B = uniform(d_in, d_out, r, rng, d_in**-0.5, r**-0.5)
    A[:, 1:], B[0] = 0, 0
    return A, B


WRONG = {
    "dropout_lora": {
        "dx has shape (4, 5)": lora(dx=lambda x, M, W, A, B, s, dy: (dy @ W.T).T),
        "dA must be zero exactly": lora(dA=lambda x, M, W, A, B, s, dy: s * (M * x).T @ dy @ (B + 1).T),
        "the mask is on the base path": lora(dx=lambda x, M, W, A, B, s, dy: M * (dy @ W.T + s * dy @ B.T @ A.T)),
        "the LoRA path is missing": lora(dx=lambda x, M, W, A, B, s, dy: dy @ W.T),
        "what does its mask do": lora(dx=lambda x, M, W, A, B, s, dy: dy @ W.T + s * dy @ B.T @ A.T),
        "where does the scale s enter": lora(dx=lambda x, M, W, A, B, s, dy: dy @ W.T + M * (dy @ B.T @ A.T)),
        "A saw M ⊙ x": lora(dA=lambda x, M, W, A, B, s, dy: s * x.T @ dy @ B.T),
        "value: where does the scale": lora(dA=lambda x, M, W, A, B, s, dy: s**2 * (M * x).T @ dy @ B.T),
        "B saw the product": lora(dB=lambda x, M, W, A, B, s, dy: s * (x @ A).T @ dy),
        "Once in each gradient": lora(dB=lambda x, M, W, A, B, s, dy: ((M * x) @ A).T @ dy),
        "gradient check": lora(y=lambda x, M, W, A, B, s: x @ W + ((M * x) @ A) @ B),
        "TypeError": lambda x: x,
    },
    "predict_two_zeros": {"a product of": "small", "which one is there": "large", "not answered": ...},
    "buggy_lora": {
        "who sees the mask": lora(y=lambda x, M, W, A, B, s: (M * x) @ W + s * ((M * x) @ A) @ B),
        "dB is not the slope": lora(dB=lambda x, M, W, A, B, s, dy: s * (x @ A).T @ dy),
        "Everything is square here": lora(dA=lambda x, M, W, A, B, s, dy: s * (M * x).T @ dy @ B),
        "how many ways": lora(dx=lambda x, M, W, A, B, s, dy: dy @ W.T),
        "shapes that differ: the LoRA path saw": lora(
            dx=lambda x, M, W, A, B, s, dy: dy @ W.T + (M if square(W) else 1) * (s * dy @ B.T @ A.T)
        ),
    },
    "lora_start": {
        "A has shape (4, 400), and should have (400, 4)": lambda *a: [f.T for f in uniform(*a, A=0.05)],
        "B has shape (30, 4)": lambda *a: (uniform(*a, A=0.05)[0], np.zeros((30, 4))),
        "A B is not zero": start(lambda d, r: d**-0.5, lambda d, r: r**-0.5),
        "both factors are zero": start(),
        "A is zero everywhere": start(None, lambda d, r: r**-0.5),
        "which axis of it": start(lambda d, r: r**-0.5),
        "A is not uniform": start(lambda d, r: 2 * d**-0.5),
        "fan: A is not uniform": lambda d, o, r, rng: (rng.choice([-1, 1], (d, r)) * d**-0.5, np.zeros((r, o))),
    },
    "lora_start_A_only": {
        "at which value": start(lambda d, r: d**-0.5),
        "A B is not zero": start(lambda d, r: d**-0.5, lambda d, r: r**-0.5),
        "the one that starts at zero": orthogonal,
        "B is not uniform": start(None, lambda d, r: d**-0.5),
        "not written yet": lambda *a: (_ for _ in ()).throw(NotImplementedError),
    },
}
