"""The checks of the exercises of lesson 08."""

import numpy as np

from .. import check

__all__ = ["lora_scaled_last", "merged", "new_rate", "predict_half"]


def new_rate(fn):
    """fn(lr, alpha, new_alpha, optimizer) -> the rate that keeps the size of the first step, at one rank."""

    def rate(*case):
        return np.asarray(fn(*case), float)

    def same():
        return check.compare(rate(0.01, 16, 16, "adam"), 0.01, "with nothing changed, the rate")

    def adam():
        return check.compare(rate(0.01, 16, 32, "adam"), 0.005, "Adam, α doubled: the rate", [
            (0.01, "the rate is the old one, though α doubled: what does s do to a step?"),
            (0.01 / 4, "that is the rule of plain descent: Adam divides the gradient by its own size"),
            (0.02, "the other way round: a larger α takes larger steps"),
        ])  # fmt: skip

    def sgd():
        return check.compare(rate(0.01, 16, 48, "sgd"), 0.01 / 9, "plain descent, α three times as large: the rate", [
            (0.01 / 3, "s enters ΔW twice: in s A B, and in the gradient of B"),
            (0.09, "the other way round: a larger α takes larger steps"),
        ])  # fmt: skip

    check.report("new_rate", [("special case", same), ("Adam", adam), ("plain descent", sgd)])


def lora_scaled_last(fn):
    """fn(x, W, A, B, s) -> y, backward(dy) -> dx, dA, dB."""
    rng, s = np.random.default_rng(0), 1.7
    case = {name: rng.normal(size=shape) for name, shape in
            {"x": (5, 4), "W": (4, 6), "A": (4, 2), "B": (2, 6)}.items()}  # fmt: skip
    x, W, A, B = case.values()
    dy = rng.normal(size=(5, 6))
    dh, h = s * (dy @ B.T), x @ A
    lost, twice = "where does the scale s enter? It stood in y, so it stands in", "s is there twice in"
    wanted = {
        "dx": (dy @ W.T + dh @ A.T, [
            (dy @ W.T, "the LoRA path is missing: x goes two ways, and two gradients add"),
        ]),
        "dA": (x.T @ dh, [(x.T @ dh / s, f"{lost} dA"), (x.T @ dh * s, f"{twice} dA")]),
        "dB": (s * h.T @ dy, [(h.T @ dy, f"{lost} dB"), (s * s * h.T @ dy, f"{twice} dB")]),
    }  # fmt: skip

    def grads(scale=s):
        return dict(zip(("dx", "dA", "dB"), fn(**case, s=scale)[1](dy), strict=True))

    def shape():
        return check.shapes(grads(), {"dx": x, "dA": A, "dB": B})

    def off():
        got = grads(0.0)
        if np.any(got["dA"]) or np.any(got["dB"]):
            return False, "with s = 0 the path is off: dA and dB must be zero"
        return check.compare(got["dx"], dy @ W.T, "with s = 0, dx", [
            (dy @ W.T + dy @ B.T @ A.T, f"{lost} dx, on the path's part only"),
            (0 * x, "s is on the base path too: only the path was scaled"),
        ])  # fmt: skip

    def value():
        return check.compare_all(grads(), wanted)

    def slope():
        arrays = {name: case[name] for name in ("x", "A", "B")}
        return check.gradients(lambda: (fn(**case, s=s)[0] * dy).sum(), arrays,
                               {name[1:]: value for name, value in grads().items()})  # fmt: skip

    checks = [("shape", shape), ("special case", off), ("value", value), ("gradient check", slope)]
    check.report("lora_scaled_last", checks)


def predict_half(answer):
    """Per cent of ΔW that are left when A and B are halved."""
    check.prediction("predict_half", answer, 25, {
        50: "that is what half of s would leave. How many factors were halved here?",
        12.5: "s is not touched: count the halves again",
    })  # fmt: skip


def merged(fn):
    """fn(W, A, B, r, alpha, rslora=False) -> W'."""
    rng, r, alpha = np.random.default_rng(0), 4, 6.0
    W, A, B = rng.normal(size=(5, 7)), rng.normal(size=(5, r)), rng.normal(size=(r, 7))

    def zero():
        return check.compare(fn(W, A, 0 * B, r, alpha), W, "with B = 0, W'")

    def plain():
        return check.compare(fn(W, A, B, r, alpha), W + alpha / r * A @ B, "W'", [
            (W + A @ B, "the scale is missing: the layer computed s (x A) B"),
            (W + alpha * A @ B, "that is α, not α/r"),
            (W + alpha / r**0.5 * A @ B, "that is the scale of rsLoRA, which is off here"),
        ])  # fmt: skip

    def stable():
        return check.compare(fn(W, A, B, r, alpha, rslora=True), W + alpha / r**0.5 * A @ B, "with rslora, W'", [
            (W + alpha / r * A @ B, "the layer trained with another scale than it is merged with"),
            (W + alpha * r**0.5 * A @ B, "α/√r, not α √r"),
        ])  # fmt: skip

    check.report("merged", [("special case", zero), ("α/r", plain), ("rsLoRA", stable)])
