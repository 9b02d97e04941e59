"""Wrong answers to the exercises of lesson 10: {check: {what its hint must say: answer}}, for test_hints.py."""


def drop(test=lambda x, p: x, mask=None, back=None):
    """A `dropout`, right but for test(x, p), mask(x, p, rng) or back(dy, M, p, rng)."""

    def fn(x, p, training, rng):
        if not training and test:
            return test(x, p), lambda dy: dy
        M = mask(x, p, rng) if mask else (rng.random(x.shape) >= p) / (1 - p)
        return x * M, lambda dy: back(dy, M, p, rng) if back else dy * M

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
    "predict_merged_change": {"what happened to the others": "half", "drawn in a merge": "Double", "not answered": ...},
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
    "dropout": {
        "who looks at": drop(test=None),
        "not here": drop(test=lambda x, p: x * (1 - p)),
        "y at test time": drop(test=lambda x, p: 2 * x),
        "is there a mask": drop(mask=lambda x, p, rng: 1),
        "the share that is kept": drop(mask=lambda x, p, rng: (rng.random(x.shape) < p) / (1 - p)),
        "are zero is not p": drop(mask=lambda x, p, rng: (rng.random(x.shape) >= p * p) / (1 - p)),
        "the numbers that stay": drop(mask=lambda x, p, rng: rng.random(x.shape) >= p),
        "the mask is missing": drop(back=lambda dy, M, p, rng: dy),
        "so dx is, too": drop(back=lambda dy, M, p, rng: dy * (M != 0)),
        "which mask": drop(back=lambda dy, M, p, rng: dy * (rng.random(dy.shape) >= p) / (1 - p)),
        "dx is missing": drop(back=lambda dy, M, p, rng: None),
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
