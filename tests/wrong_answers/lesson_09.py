"""Wrong answers to the exercises of lesson 09: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def solved(full, T, d, alpha, root=3**0.5):
    """The way u of LoRA that goes as far as full fine-tuning: α u (1/root + d u) = d full T."""
    b = alpha / root
    return (-b + (b * b + 4 * alpha * d * d * full * T) ** 0.5) / (2 * alpha * d)


def push(sign=-1, outside=1, power=1):
    """A `first_push`; outside and power: how often s stands before h, and in the gradient."""

    def fn(x, dy, A, s, lr, optimizer):
        dB = s**power * (x @ A).T @ dy
        return sign * lr * s**outside * x @ A @ (dB if optimizer == "sgd" else np.sign(dB))

    return fn


WRONG = {
    "lora_rate": {
        "lacks √3": lambda full, T, d, alpha: full * d / alpha,
        "upside down": lambda full, T, d, alpha: full * alpha / d / 3**0.5,
        "that is the first step only": lambda full, T, d, alpha: full * 3**0.5 * d / alpha,
        "how many steps share it": solved,
        "its rate times T": lambda full, T, d, alpha: solved(full, 1, d, alpha),
        "other sizes": lambda full, T, d, alpha: solved(full, T, 64, alpha) / T,
        "not written yet": lambda *a: (_ for _ in ()).throw(NotImplementedError),
        "TypeError": lambda full: full,
    },
    "first_push": {
        "has shape (3, 4)": lambda x, dy, A, s, lr, optimizer: push()(x, dy, A, s, lr, optimizer).T,
        "SGD does not forget it": push(power=0),
        "downhill": push(sign=1),
        "that is Adam's step": lambda x, dy, A, s, lr, optimizer: push()(x, dy, A, s, lr, "adam"),
        "that is SGD's step": lambda x, dy, A, s, lr, optimizer: push()(x, dy, A, s, lr, "sgd"),
        "Adam: it forgets the s": lambda x, dy, A, s, lr, o: push(outside=int(o == "sgd"))(x, dy, A, s, lr, o),
        "s is there twice": lambda x, dy, A, s, lr, o: push(outside=1 if o == "sgd" else 2)(x, dy, A, s, lr, o),
        "first add up": lambda x, dy, A, s, lr, o: np.vstack(
            [push()(x[n : n + 1], dy[n : n + 1], A, s, lr, o) for n in range(len(x))]
        ),
        "TypeError": lambda x: x,
    },
    "predict_plus_sgd": {"that is so with Adam": 4, "not half of it": 2, "not answered": ...},
    "faster_rates": {
        "every path needs a rate": lambda paths, lr, ratio: {p: lr * ratio for p in paths if p.endswith(".B")},
        "B has the rate lr": lambda paths, lr, ratio: {p: lr * ratio if p.endswith(".A") else lr for p in paths},
        "the ratio is not a rate": lambda paths, lr, ratio: {p: ratio if p.endswith(".B") else lr for p in paths},
        "B is the faster one": lambda paths, lr, ratio: {p: lr / ratio if p.endswith(".B") else lr for p in paths},
        "the rate of A": lambda paths, lr, ratio: dict.fromkeys(paths, lr * ratio),
        "BERT.0.q_proj.A is no B": lambda paths, lr, ratio: {p: lr * ratio if "B" in p else lr for p in paths},
        "ALBERT.head.weight is no B": lambda paths, lr, ratio: {
            p: lr if p.endswith("A") else lr * ratio for p in paths
        },
    },
}
