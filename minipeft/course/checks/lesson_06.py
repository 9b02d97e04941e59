"""The checks of the exercises of lesson 06."""

import numpy as np

from .. import check

__all__ = [
    "buggy_lora",
    "dropout_lora",
    "lora_start",
    "lora_start_A_only",
    "predict_two_zeros",
]


def lora_case(N, d_in, d_out, r, seed=0):
    """x, M (a dropout mask), W, A, B of these sizes, nothing zero but in M."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (N, d_in), "W": (d_in, d_out), "A": (d_in, r), "B": (r, d_out)}
    case = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    case["M"] = (rng.random((N, d_in)) >= 0.5) / 0.5
    return case, rng.normal(size=(N, d_out))


def lora_slopes(case, dy, s):
    """The gradients, and what likely mistakes give: {name: (right, [(wrong, hint), ...])}."""
    x, M, W, A, B = (case[name] for name in ("x", "M", "W", "A", "B"))
    dh, h = s * (dy @ B.T), s * ((M * x) @ A)
    twice = "where does the scale s enter? Once in each gradient of the path"
    return {
        "dx": (dy @ W.T + M * (dh @ A.T), [
            (dy @ W.T, "the LoRA path is missing: x goes two ways, and two gradients add"),
            (dy @ W.T + dh @ A.T, "the LoRA path saw M ⊙ x: what does its mask do to the gradient that comes back?"),
            (M * (dy @ W.T + dh @ A.T), "the mask is on the base path, too: the base saw all of x"),
            (dy @ W.T + M * (dh @ A.T) / s, twice),
        ]),
        "dA": ((M * x).T @ dh, [
            (x.T @ dh, "A saw M ⊙ x, not x"), ((M * x).T @ dh / s, twice), ((M * x).T @ dh * s, twice),
        ]),
        "dB": (h.T @ dy, [
            (s * (x @ A).T @ dy, "B saw the product of M ⊙ x with A"), (h.T @ dy / s, twice), (h.T @ dy * s, twice),
        ]),
    }  # fmt: skip


def dropout_lora(fn):
    """fn(x, M, W, b, A, B, s) -> y, backward(dy) -> dx, dA, dB."""
    s = 1.7
    case, dy = lora_case(5, 4, 6, 2)
    case["b"] = np.arange(6.0)

    def grads(**other):
        return dict(zip(("dx", "dA", "dB"), fn(**(case | other), s=s)[1](dy), strict=True))

    def shape():
        return check.shapes(grads(), {"dx": case["x"], "dA": case["A"], "dB": case["B"]})

    def start():
        got = grads(B=0 * case["B"])
        if np.any(got["dA"]):
            return False, "with B = 0, dA must be zero exactly"
        want, mistakes = lora_slopes(case | {"B": 0 * case["B"]}, dy, s)["dx"]
        return check.compare(got["dx"], want, "with B = 0, dx", mistakes)

    def value():
        return check.compare_all(grads(), lora_slopes(case, dy, s))

    def slope():
        arrays = {name: case[name] for name in ("x", "A", "B")}
        got = {name[1:]: grad for name, grad in grads().items()}
        return check.gradients(lambda: (fn(**case, s=s)[0] * dy).sum(), arrays, got)

    check.report("dropout_lora", [("shape", shape), ("B = 0", start), ("value", value), ("gradient check", slope)])


def predict_two_zeros(answer):
    """The norm of B after ten steps from A = 0, B = 0."""
    why = {"small": "what is dB a product of, and which of its factors is zero?",
           "large": "a learning rate multiplies a gradient: which one is there?"}  # fmt: skip
    check.prediction("predict two zeros", answer, "zero", why)


def buggy_lora(fn):
    """fn(x, M, W, A, B, s) -> y, backward(dy) -> dx, dA, dB; three bugs, square shapes first."""
    s = 0.8
    square, dy = lora_case(5, 4, 4, 4, seed=1)

    def base_path():
        case = square | {"B": 0 * square["B"]}
        x, M, W = case["x"], case["M"], case["W"]
        hint = "with B = 0 the layer must be its base, for any mask: who sees the mask?"
        return check.compare(fn(**case, s=s)[0], x @ W, "y with B = 0", [((M * x) @ W, hint)])

    def gradient(name):
        def test():
            got = dict(zip(("dx", "dA", "dB"), fn(**square, s=s)[1](dy), strict=True))
            hints = {
                "A": "dA is not the slope of the loss. Everything is square here: do its shapes fit with r = 2, too?",
                "x": "dx is not the slope of the loss: how many ways does x go?",
            }
            loss = lambda: (fn(**square, s=s)[0] * dy).sum()  # noqa: E731
            return check.gradients(loss, {name: square[name]}, {name: got[f"d{name}"]}, hints=hints)

        return test

    def oblong():
        case, slope = lora_case(3, 5, 6, 2, seed=2)
        got = dict(zip(("dx", "dA", "dB"), fn(**case, s=s)[1](slope), strict=True))
        return check.compare_all(got, lora_slopes(case, slope, s))

    check.report("buggy_lora", [
        ("dropout", base_path), ("gradient check of B", gradient("B")), ("gradient check of A", gradient("A")),
        ("gradient check of x", gradient("x")), ("shapes that differ", oblong),
    ])  # fmt: skip


def drawn(fn, d_in, d_out, r):
    A, B = fn(d_in, d_out, r, np.random.default_rng(0))
    return np.asarray(A, float), np.asarray(B, float)


def start_shapes(fn):
    def test():
        A, B = drawn(fn, 400, 30, 4)
        return check.shapes({"A": A, "B": B}, {"A": np.zeros((400, 4)), "B": np.zeros((4, 30))})

    return test


def unchanged(fn):
    def test():
        A, B = drawn(fn, 400, 30, 4)
        return not np.any(A @ B), "A B is not zero: the model would not start as its base"

    return test


def bound(name, array, want, wrong):
    """Is the array uniform in ± want?"""
    size = float(np.abs(array).max())
    if not size:
        return False, f"{name} is zero everywhere"
    if wrong is not None and abs(size - wrong) < 0.05 * wrong:
        return False, f"{name} is of the wrong size: which axis of it counts the inputs?"
    flat = abs(np.std(array) * 3**0.5 - want) < 0.1 * want
    return abs(size - want) < 0.05 * want and flat, f"{name} is not uniform in ± 1/√(its number of inputs)"


def lora_start(fn):
    """fn(d_in, d_out, r, rng) -> A, B for training both."""

    def learns():
        return np.any(np.concatenate(drawn(fn, 400, 30, 4), None)), "both factors are zero: neither can ever move"

    def fan():
        return bound("A", drawn(fn, 400, 30, 4)[0], 400**-0.5, 4**-0.5)

    check.report("start", [("shape", start_shapes(fn)), ("unchanged", unchanged(fn)), ("learns", learns), ("fan", fan)])


def lora_start_A_only(fn):
    """fn(d_in, d_out, r, rng) -> A, B for training A alone."""

    def learns():
        return np.any(drawn(fn, 400, 30, 4)[1]), "A has a gradient only through B, and B is frozen: at which value?"

    def zero():
        return not np.any(drawn(fn, 400, 30, 4)[0]), "the factor that is trained should be the one that starts at zero"

    def fan():
        return bound("B", drawn(fn, 400, 900, 4)[1], 4**-0.5, None)

    tests = [
        ("shape", start_shapes(fn)),
        ("unchanged", unchanged(fn)),
        ("learns", learns),
        ("zero", zero),
        ("fan", fan),
    ]
    check.report("start_A_only", tests)
