"""Wrong answers to the exercises of lesson 08: {check: {what its hint must say: answer}}, for test_hints.py."""


def rate(wrong):
    """A `new_rate` from wrong(lr, a, sgd): a is how much α grows."""
    return lambda lr, alpha, new_alpha, optimizer: wrong(lr, new_alpha / alpha, optimizer == "sgd")


def last(wrong):
    """A `lora_scaled_last` whose backward returns wrong(x, W, A, B, s, dy)."""
    return lambda x, W, A, B, s: (x @ W + s * (x @ A) @ B, lambda dy: wrong(x, W, A, B, s, dy))


def three(base=1.0, path=1.0, dA=1.0, dB=1.0):
    """The gradients, each s to another power than it should be."""
    return last(lambda x, W, A, B, s, dy: (
        s ** (base - 1) * dy @ W.T + s**path * dy @ B.T @ A.T, s**dA * x.T @ dy @ B.T, s**dB * A.T @ x.T @ dy
    ))  # fmt: skip


WRONG = {
    "new_rate": {
        "the rate is the old one": rate(lambda lr, a, sgd: lr),
        "the rule of plain descent": rate(lambda lr, a, sgd: lr / a**2),
        "takes larger steps": rate(lambda lr, a, sgd: lr * a),
        "enters ΔW twice": rate(lambda lr, a, sgd: lr / a),
        "the other way round": rate(lambda lr, a, sgd: lr * a**2 if sgd else lr / a),
        "three times as large": rate(lambda lr, a, sgd: lr if sgd else lr / a),
        "nothing changed": rate(lambda lr, a, sgd: 2 * lr),
        "TypeError": lambda lr: lr,
    },
    "lora_scaled_last": {
        "stood in y, so it stands in dx": three(path=0.0),
        "s is on the base path too": three(base=2.0, path=1.0),
        "path is missing": last(lambda x, W, A, B, s, dy: (dy @ W.T, s * x.T @ dy @ B.T, s * A.T @ x.T @ dy)),
        "stood in y, so it stands in dA": last(lambda x, W, A, B, s, dy: (
            dy @ W.T + s * dy @ B.T @ A.T, (s > 0) * x.T @ dy @ B.T, s * A.T @ x.T @ dy)),
        "twice in dA": three(dA=2.0),
        "stood in y, so it stands in dB": last(lambda x, W, A, B, s, dy: (
            dy @ W.T + s * dy @ B.T @ A.T, s * x.T @ dy @ B.T, (s > 0) * A.T @ x.T @ dy)),
        "twice in dB": three(dB=2.0),
        "dA and dB must be zero": three(dA=0.0),
        "dA has shape (2, 4)": last(lambda x, W, A, B, s, dy: (dy @ W.T, B @ dy.T @ x, A.T @ x.T @ dy)),
        "TypeError": lambda *a: (0, lambda dy: None),
    },
    "merged": {
        "scale is missing": lambda W, A, B, r, alpha, rslora=False: W + A @ B,
        "that is α, not": lambda W, A, B, r, alpha, rslora=False: W + alpha * A @ B,
        "which is off here": lambda W, A, B, r, alpha, rslora=False: W + alpha / r**0.5 * A @ B,
        "another scale than it is merged with": lambda W, A, B, r, alpha, rslora=False: W + alpha / r * A @ B,
        "not α √r": lambda W, A, B, r, alpha, rslora=False: W + alpha * (r**0.5 if rslora else 1 / r) * A @ B,
        "with B = 0": lambda W, A, B, r, alpha, rslora=False: A @ B,
    },
    "predict_half": {"How many factors": 50, "count the halves": 12.5, "not answered": ...},
}  # fmt: skip
