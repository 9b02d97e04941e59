"""The checks of the exercises of lesson 10."""

import numpy as np

from .. import check

__all__ = ["dropout", "path_variance", "predict_merged_change", "row_dropped_lora"]


def predict_merged_change(answer):
    """The size of the merged change, against s A B: "half", "the same" or "double"."""
    answer = "the same" if check.plain(answer) == "same" else answer
    check.prediction("predict the merge", answer, "the same", {
        "half": "half of the inputs were dropped, but what happened to the others?",
        "double": "the numbers that were kept were doubled, but how many were there? And is a mask drawn in a merge?",
    })  # fmt: skip


def path_variance(fn):
    """fn(x, A, B, s, p) -> the variance of each output over the masks, (N, d_out)."""
    rng, s, p = np.random.default_rng(0), 1.7, 0.3
    x, A, B = rng.normal(size=(5, 4)), rng.normal(size=(4, 2)), rng.normal(size=(2, 6))
    spread, right = p / (1 - p), p / (1 - p) * s**2 * x**2 @ (A @ B) ** 2

    def shape():
        return check.compare(np.zeros(np.shape(fn(x, A, B, s, p))), np.zeros((5, 6)), "the variance")

    def off():
        mistakes = [(s**2 * x**2 @ (A @ B) ** 2, "nothing is dropped then: where does p enter?")]
        return check.compare(fn(x, A, B, s, 0.0), np.zeros((5, 6)), "with p = 0, the variance", mistakes)

    def value():
        return check.compare(fn(x, A, B, s, p), right, "the variance", [
            (right / s, "s is squared in a variance"),
            (right / s**2, "the scale s is missing"),
            (right / spread * p * (1 - p), "that is the variance of a coin; M is a coin divided by 1 − p"),
            (right / spread * p, "that is not yet the variance of M: E[M²] − E[M]², with M = 1/(1 − p) or 0"),
            (spread * s**2 * (x @ A @ B) ** 2, "square first, then add: the masks of the inputs are independent"),
            (spread * s**2 * x**2 @ A**2 @ B**2, "one mask number reaches all r: square the product A B, not its factors"),
            (spread * s**2 * x**2 @ (A @ B), "a constant comes out of a variance squared: which ones are there beside x?"),
            (right**0.5, "that is the standard deviation"),
        ])  # fmt: skip

    def simulated():
        M = (rng.random((4000, *x.shape)) >= p) / (1 - p)
        measured = (s * (M * x) @ A @ B).var(0)
        ratio = float(np.asarray(fn(x, A, B, s, p)).sum() / measured.sum())
        return abs(ratio - 1) < 0.05, "4000 masks give another variance"

    tests = [("shape", shape), ("p = 0", off), ("value", value), ("4000 masks", simulated)]
    check.report("path_variance", tests)


def dropout(fn):
    """fn(x, p, training, rng) -> y, backward(dy) -> dx; three bugs: left on, no division, a new mask in backward."""
    x, dy, p = np.random.default_rng(1).normal(size=(200, 50)), np.random.default_rng(2).normal(size=(200, 50)), 0.4

    def rng():
        return np.random.default_rng(3)

    def test_time():
        y, backward = fn(x, p, False, rng())
        right, hint = check.compare(y, x, "y at test time", [
            (fn(x, p, True, rng())[0], "the same noise as in training: who looks at `training`?"),
            (x * (1 - p), "with inverted dropout the scaling is done while training, not here"),
        ])  # fmt: skip
        return check.compare(backward(dy), dy, "dx at test time") if right else (right, hint)

    def varies():
        same = np.array_equal(fn(x, p, True, np.random.default_rng(4))[0], fn(x, p, True, rng())[0])
        return not same, "two generators give the same y in training: is there a mask at all?"

    def share():
        dropped = float(np.mean(np.asarray(fn(x, p, True, rng())[0]) == 0))
        return abs(dropped - p) < 0.03, (
            "p is the share that is kept here; it should be the share that is dropped"
            if abs(dropped - (1 - p)) < 0.03
            else "the share of numbers that are zero is not p"
        )

    def mean():
        y = np.asarray(fn(x, p, True, rng())[0])
        kept = float(np.mean(y[y != 0] / x[y != 0]))
        return abs(
            kept * (1 - p) - 1
        ) < 1e-9, "the mean over the masks is not x: what happens to the numbers that stay?"

    def backward():
        y, back = fn(x, p, True, rng())
        dx, kept = back(dy), np.asarray(y) != 0
        right, hint = check.compare(dx, dy * y / x, "dx", [
            (dy, "the mask is missing in dx"),
            (dy * kept, "y was scaled by 1/(1 − p), so dx is, too"),
        ])  # fmt: skip
        if not right and np.shape(dx) == dy.shape and np.any(np.equal(dx, 0) & kept):
            return False, "dx has zeros where y has none: which mask was it?"
        return right, hint

    check.report("dropout", [
        ("test time", test_time), ("training", varies), ("share", share), ("mean", mean), ("backward", backward),
    ])  # fmt: skip


def row_dropped_lora(fn):
    """fn(x, m, W, A, B, s) -> y, backward(dy) -> dx, dA, dB, with m (d_in, 1) on the rows of A."""
    rng, s = np.random.default_rng(0), 1.7
    x, W, A, B = (rng.normal(size=shape) for shape in ((5, 4), (4, 6), (4, 2), (2, 6)))
    m, dy = np.array([[0.0], [2.0], [2.0], [0.0]]), rng.normal(size=(5, 6))
    dh = s * dy @ B.T
    missing = "the LoRA path is missing: x goes two ways, and two gradients add"
    wanted = {
        "dx": (dy @ W.T + dh @ (m * A).T, [
            (dy @ W.T, missing),
            (dy @ W.T + dh @ A.T, "x met m ⊙ A, not A"),
            (m.T * (dy @ W.T + dh @ A.T), "the mask is on the base path, too"),
        ]),
        "dA": (m * (x.T @ dh), [
            (x.T @ dh, "a row that was dropped has no influence on y: what is its gradient?"),
            (m * (x.T @ dh) / s, "where does the scale s enter?"),
        ]),
        "dB": (s * (x @ (m * A)).T @ dy, [
            (s * (x @ A).T @ dy, "B saw the product of x with m ⊙ A"),
            ((x @ (m * A)).T @ dy, "where does the scale s enter?"),
            (s * s * (x @ (m * A)).T @ dy, "h carries the scale already"),
        ]),
    }  # fmt: skip

    def grads():
        return dict(zip(("dx", "dA", "dB"), fn(x, m, W, A, B, s)[1](dy), strict=True))

    def shape():
        return check.shapes(grads(), {"dx": x, "dA": A, "dB": B})

    def value():
        return check.compare_all(grads(), wanted)

    def slope():
        got = {name[1:]: grad for name, grad in grads().items()}
        return check.gradients(lambda: (fn(x, m, W, A, B, s)[0] * dy).sum(), {"x": x, "A": A, "B": B}, got)

    check.report("row_dropped_lora", [("shape", shape), ("value", value), ("gradient check", slope)])
