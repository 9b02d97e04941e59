"""Wrong answers to the exercises of lesson 04: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def pulls(a=None, b=None):
    """A wrong `pulls`: a(w, g, λ w) and b(w, g, λ w), right where not given."""

    def both(w, g, decay):
        own = decay * w
        right = own / np.sqrt(g**2 + own**2), own
        return right[0] if a is None else a(w, g, own), right[1] if b is None else b(w, g, own)

    return both


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
    "pulls": {
        "TypeError": lambda w, g, decay: None,
        "two arrays": lambda w, g, decay: decay * w,
        "plain descent": pulls(lambda w, g, own: own),
        "goes into v, too": pulls(lambda w, g, own: own / np.abs(g)),
        "is a root missing": pulls(lambda w, g, own: own / (g**2 + own**2)),
        "not of sizes": pulls(lambda w, g, own: own / ((np.abs(g + own) + np.abs(g - own)) / 2)),
        "root of a sum": pulls(lambda w, g, own: own / (np.abs(g) + np.abs(own))),
        "the first step": pulls(lambda w, g, own: (g + own) / np.abs(g + own)),
        "wrong sign": pulls(lambda w, g, own: -own / np.sqrt(g**2 + own**2)),
        "2 g λ w": pulls(lambda w, g, own: own / np.abs(g + own)),
        "in the slope: g turns": pulls(lambda w, g, own: (g + own) / np.sqrt(g**2 + own**2)),
        "square of the mean": pulls(lambda w, g, own: own / np.abs(own)),
        "before it goes into m": pulls(lambda w, g, own: w / np.sqrt(g**2 + own**2)),
        "where g is 0": pulls(lambda w, g, own: own / np.sqrt(g**2 + own**2) if g.any() else own),
        "neither into m": pulls(b=lambda w, g, own: own / np.sqrt(g**2 + own**2)),
        "not divided": pulls(b=lambda w, g, own: own / np.abs(g)),
        "would be left": pulls(b=lambda w, g, own: w - own),
        "decoupled: g turns": pulls(b=lambda w, g, own: own + np.sign(g)),
        "where is λ": pulls(b=lambda w, g, own: w),
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
