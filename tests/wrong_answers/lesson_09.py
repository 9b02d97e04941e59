"""Wrong answers to the exercises of lesson 09: {check: {what its hint must say: answer}}, for test_hints.py."""


def solved(full, T, d, alpha, root=3**0.5):
    """The way u of LoRA that goes as far as full fine-tuning: α u (1/root + d u) = d full T."""
    b = alpha / root
    return (-b + (b * b + 4 * alpha * d * d * full * T) ** 0.5) / (2 * alpha * d)


def rate(wrong):
    """A `carried_rate` from wrong(lr, a, k, sgd): a is how much α grows, k how much r grows."""
    return lambda lr, r, alpha, new_r, new_alpha, optimizer: wrong(lr, new_alpha / alpha, new_r / r, optimizer == "sgd")


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
    "carried_rate": {
        "the rate is the old one": rate(lambda lr, a, k, sgd: lr),
        "that is the rule of SGD": rate(lambda lr, a, k, sgd: lr / a**2),
        "takes larger steps": rate(lambda lr, a, k, sgd: lr * a),
        "s is a quarter, but": rate(lambda lr, a, k, sgd: lr * k / a),
        "pushes, but s is a quarter": rate(lambda lr, a, k, sgd: lr / k / a),
        "SGD does not forget it": rate(lambda lr, a, k, sgd: lr / a),
        "SGD, α doubled: the rate": rate(lambda lr, a, k, sgd: lr if sgd else lr / a),
        "s² is a sixteenth": rate(lambda lr, a, k, sgd: lr * k**2 / a**2 if sgd else lr / a),
        "that is so for Adam": rate(lambda lr, a, k, sgd: lr / a**2 if sgd else lr / a),
        "nothing changed": rate(lambda lr, a, k, sgd: 2 * lr),
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
