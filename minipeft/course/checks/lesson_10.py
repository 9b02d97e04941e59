"""The checks of the exercises of lesson 10."""

import numpy as np

from .. import check

__all__ = ["mended_merge", "middle_dropout", "path_variance", "row_dropped_lora"]


def mended_merge(fn):
    """fn(W, A, B, s, p) -> the weight that gives the mean over masks of zeros and ones, without a division by 1 − p."""
    rng, s, p = np.random.default_rng(0), 1.7, 0.3
    x, W, A, B = (rng.normal(size=shape) for shape in ((5, 3), (3, 6), (3, 2), (2, 6)))

    def weight():  # an answer may write into what it is given
        return fn(W.copy(), A.copy(), B.copy(), s, p)

    def value():
        return check.compare(weight(), W + (1 - p) * s * A @ B, "the weight", [
            (W + s * A @ B, "that is the merge as it is. It is right if the mean of M is 1: what is it here?"),
            (W + s * A @ B / (1 - p), "did the path give more in training than in this merge, or less?"),
            (W + p * s * A @ B, "p is the share that is dropped"),
            ((1 - p) * (W + s * A @ B), "the base path saw all of x"),
            ((1 - p) * s * A @ B, "that is the path alone: where is the base?"),
            (W + (1 - p) * A @ B, "the scale s is missing"),
        ])  # fmt: skip

    def all_masks():
        masks = np.array(list(np.ndindex(2, 2, 2)))
        chances = np.prod(np.where(masks, 1 - p, p), axis=1)
        mean = sum(chance * (x @ W + s * (M * x) @ A @ B) for chance, M in zip(chances, masks, strict=True))
        return check.compare(x @ weight(), mean, "x times the weight, against the mean over all eight masks,")

    check.report("mended_merge", [("value", value), ("all masks", all_masks)])


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


def middle_dropout(fn):
    """fn(x, W, A, B, s, p, training, rng) -> y, backward(dy) -> dx, dA, dB, with a mask on h = x A.

    Three bugs: p is the share that is kept, evaluation is scaled by 1 − p, and the backward takes a zero of h for a mask.
    """
    rng, s, p = np.random.default_rng(0), 1.7, 0.3
    x, W, A, B = (rng.normal(size=shape) for shape in ((6, 4), (4, 5), (4, 3), (3, 5)))
    dy, h, path = rng.normal(size=(6, 5)), x @ A, s * x @ A @ B
    wide = rng.normal(size=(4, 2000))

    def run(training, p=p, A=A, seed=3):
        return fn(x, W, A, B, s, p, training, np.random.default_rng(seed))

    def mask(A):
        """M, where nothing of x A is zero: what comes out of an identity for B, without a base."""
        r = A.shape[1]
        y, _ = fn(x, np.zeros((4, r)), A, np.eye(r), 1.0, p, True, np.random.default_rng(3))
        return np.asarray(y) / (x @ A)

    def evaluation():
        return check.compare(run(False)[0], x @ W + path, "y in evaluation", [
            (run(True)[0], "the same noise as in training: who looks at `training`?"),
            (x @ W + (1 - p) * path, "is the path as strong as its mean in training?"),
            (x @ W + path / (1 - p), "is the path as strong as its mean in training?"),
            (x @ W, "the path is missing"),
        ])  # fmt: skip

    def nothing_dropped():
        return check.compare(run(True, p=0.0)[0], x @ W + path, "y in training, with p = 0,", [
            (x @ W, "everything is dropped: of which share is p the probability?"),
        ])  # fmt: skip

    def varies():
        same = np.array_equal(run(True)[0], run(True, seed=4)[0])
        return not same, "two generators give the same y in training: is there a mask at all?"

    def each():
        dropped, alone = mask(A) == 0, "the numbers of a token are dropped together: each is drawn for itself"
        if (dropped == dropped[:1]).all():
            return False, "all tokens have one mask: each has its own"
        return (dropped != dropped[:, :1]).any(), alone

    def share():
        dropped = float(np.mean(mask(wide) == 0))
        return abs(dropped - p) < 0.03, (
            "p is the share that is kept here; it should be the share that is dropped"
            if abs(dropped - (1 - p)) < 0.03
            else "the share of numbers that are zero is not p"
        )

    def mean():
        M = mask(wide)
        right = np.abs(M[M != 0] * (1 - p) - 1).max() < 1e-9
        return right, "the mean over the masks is not h: what happens to the numbers that stay?"

    def slopes(M, training, A, mistakes):
        """(right?, hint) of the three gradients.  mistakes: {hint: another M in the backward}."""

        def given(M):
            dh = M * (s * dy @ B.T)
            return {"dx": dy @ W.T + dh @ A.T, "dA": x.T @ dh}

        wanted = {
            name: (want, [(given(wrong)[name], hint) for hint, wrong in mistakes.items()])
            for name, want in given(M).items()
        }
        kept = M * (x @ A)
        wanted["dB"] = s * kept.T @ dy, [(s * (x @ A).T @ dy, "B saw M ⊙ h, and not h"), (kept.T @ dy, "where is s?")]
        return check.compare_all(dict(zip(wanted, run(training, A=A)[1](dy), strict=True)), wanted)

    def backward():
        M = mask(A)
        fresh = np.random.default_rng(3)
        fresh.random(h.shape)
        return slopes(M, True, A, {
            "the mask is missing on the way back": np.ones_like(M),
            "what is kept was divided by 1 − p on its way into y, so its slope is, too": 1.0 * (M != 0),
            "what is kept is divided by 1 − p once": M / (1 - p),
            "a new mask was drawn: it should be that of the forward": (fresh.random(h.shape) >= p) / (1 - p),
        })  # fmt: skip

    def zero_start():
        return slopes(mask(A), True, 0 * A, {
            "at A = 0 every h is zero, dropped or not, and A never moves: where does the backward have its mask from?": 0.0,
        })  # fmt: skip

    def back_in_evaluation():
        return slopes(np.ones_like(h), False, A, {"in evaluation y was not divided by 1 − p": 1 / (1 - p)})

    check.report("middle_dropout", [
        ("evaluation", evaluation), ("p = 0", nothing_dropped), ("training", varies), ("each number", each),
        ("share", share), ("mean", mean),
        ("backward", backward), ("start at A = 0", zero_start), ("backward in evaluation", back_in_evaluation),
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
