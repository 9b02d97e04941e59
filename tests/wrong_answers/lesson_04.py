"""Wrong answers to the exercises of lesson 04: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def adamw(p, g, m, v, t, lr, fix=True, root=True, sign=-1, kept=False):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    mhat, vhat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if fix else (m, v)
    return p + sign * lr * mhat / ((np.sqrt(vhat) if root else vhat) + 1e-8), mhat if kept else m, v


def half_corrected(p, g, m, v, t, lr, which):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    mhat, vhat = (m / (1 - 0.9**t), v) if which == "m" else (m, v / (1 - 0.999**t))
    return p - lr * mhat / (np.sqrt(vhat) + 1e-8), m, v


def mixed(rows):
    """A wrong `rehearse`, from a function of two batches."""
    return lambda new, old: lambda rng: rows(new(rng), old(rng))


WRONG = {
    "training_bytes": {
        "AdamW": lambda total, trained, size: size * (total + trained),
        "only the weights": lambda total, trained, size: size * total,
        "counted twice": lambda total, trained, size: size * (total + 4 * trained),
        "which count": lambda total, trained, size: size * (3 * total + trained),
        "two numbers": lambda total, trained, size: size * (total + 2 * trained),
        "how many bytes": lambda total, trained, size: total + 3 * trained,
        "needs no gradient": lambda total, trained, size: 4 * total * size,
        "frozen weights": lambda total, trained, size: 4 * trained * size,
    },
    "adamw_step": {
        "tenth of g": lambda *a, **k: adamw(*a, **k, fix=False),
        "root": lambda *a, **k: adamw(*a, **k, root=False),
        "m starts at zero": lambda *a, **k: half_corrected(*a, **k, which="v"),
        "v starts at zero": lambda *a, **k: half_corrected(*a, **k, which="m"),
        "return m itself": lambda *a, **k: adamw(*a, **k, kept=True),
        "uphill": lambda *a, **k: adamw(*a, **k, sign=1),
        "where is t": lambda p, g, m, v, t, lr: adamw(p, g, m, v, 1, lr),
        "TypeError": lambda *a, **k: None,
    },
    "remember": {
        "memory moved": lambda model: {path: p.data for path, p in model.named_parameters()},
        "paths": lambda model: {},
    },
    "rehearse": {
        "16 rows": mixed(lambda new, old: tuple(np.concatenate(pair) for pair in zip(new, old, strict=True))),
        "half of the rows": mixed(lambda new, old: new),
        "typed in": mixed(
            lambda new, old: tuple(np.concatenate([n[:4], o[:4]]) for n, o in zip(new, old, strict=True))
        ),
        "different texts": mixed(lambda new, old: (np.concatenate([new[0][:4], old[0][:4]]), new[1])),
    },
    "predict_gradient_rank": {"outer products": 1, "each of its tokens": 2, "room": 128, "not answered": ...},
}
