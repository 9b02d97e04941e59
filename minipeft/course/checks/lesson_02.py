"""The checks of the exercises of lesson 02."""

import numpy as np

from ...model.functional import attend, attend_backward, softmax
from .. import check

__all__ = [
    "grouped_queries",
    "log_softmax_backward",
    "predict_equal_values",
    "temperature",
]


def log_softmax_backward(fn):
    """fn(dy, p) -> dz for y = ln p, p = softmax(z) over the last axis."""
    rng = np.random.default_rng(0)
    z, dy = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    p = softmax(z)
    dz = dy - p * dy.sum(-1, keepdims=True)

    def value():
        mistakes = [(p * (dy - (dy * p).sum(-1, keepdims=True)), "that is dz if dy were the slope at p: where is ln?"),
                    (dy, "every score stands in E, too: where is that way?"),
                    (dy / p, "that is the slope at the shares: go on to the scores"),
                    (dy - p, "E stands in all y of the row: each brings its own slope"),
                    (dy - p * dy, "a score lands in all y of its row, not in its own only"),
                    (dy - dy.sum(-1, keepdims=True), "the derivative of ln E at a score is its share: where is it?"),
                    (dy - (dy * p).sum(-1, keepdims=True), "which share stands there, that of z_s or that of y_u?"),
                    (dy - p * dy.mean(-1, keepdims=True), "the rule adds up the places, and takes no mean"),
                    (dy + p * dy.sum(-1, keepdims=True), "ln E is taken away from z: which sign has that way?"),
                    (dy - p * dy.sum(-2, keepdims=True), "the sum runs over the last axis"),
                    (dy - p * dy.sum(), "the sum runs over the last axis, for each row by itself")]  # fmt: skip
        return check.compare(fn(dy, p), dz, "dz", mistakes)

    def tiny():
        far, slopes = softmax(np.array([[0.0, 1.0, -1000.0]])), np.array([[1.0, -2.0, 3.0]])
        got = fn(slopes, far)
        if got is not None and not np.isfinite(got).all():
            return False, "dz is not finite: what is divided by a share, and later multiplied by it, cancels on paper"
        patched = "it is finite, and wrong: what is divided by a share needs no patch, since the share cancels on paper"
        return check.compare(got, slopes - far * 2.0, "dz")[0], patched

    def slope():
        return check.gradients(lambda: (np.log(softmax(z)) * dy).sum(), {"z": z}, {"z": fn(dy, p)})

    checks = [("value", value), ("a share of 0", tiny), ("gradient check", slope)]
    check.report("log_softmax_backward", checks)


def predict_equal_values(answer):
    """Which slopes are zero if all values are equal."""
    why = {"dv": "a value is multiplied by its share, and lands in o: is the share zero?",
           "none": "the output is a mean of equal values. What changes if the shares change?",
           "all": "a value is multiplied by its share, and lands in o: is the share zero?"}  # fmt: skip
    check.prediction("predict equal values", answer, "dq and dk", why)


def temperature(fn):
    """fn(z, tau) -> (p, backward), p = softmax(z / τ) over the last axis; backward(dp) -> dz (T, S), dτ, a number."""
    rng = np.random.default_rng(1)
    z, dp, tau = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), 1.7
    p = softmax(z / tau)
    dx = p * (dp - (dp * p).sum(-1, keepdims=True))
    dtau = np.array(-(dx * z).sum() / tau**2)

    def forward():
        mistakes = [(softmax(z * tau), "a high temperature makes shares alike: divide"), (softmax(z), "where is τ?"),
                    (softmax(z) / tau, "τ stands inside the exponential")]  # fmt: skip
        return check.compare(fn(z, tau)[0], p, "p", mistakes)

    def two():
        return len(fn(z, tau)[1](dp)) == 2, "backward should return dz and dτ"

    def scores():
        mistakes = [(dx, "z is multiplied by 1/τ on its way: where is that in dz?"), (dx * tau, "divide dz by τ"),
                    (p * dp / tau, "a score lands in all shares of its query")]  # fmt: skip
        return check.compare(fn(z, tau)[1](dp)[0], dx / tau, "dz", mistakes)

    def heat():
        mistakes = [(-dtau, "1/τ has the derivative −1/τ²"), ((dx * z).sum(), "1/τ has the derivative −1/τ²"),
                    (-(dx * z).sum() / tau, "the derivative of 1/τ is −1/τ²: is one τ missing?"),
                    (-(dp * z).sum() / tau**2, "after z / τ comes the softmax: go back through it first")]  # fmt: skip
        mistakes = [(np.array(wrong), hint) for wrong, hint in mistakes]
        got = fn(z, tau)[1](dp)[1]
        if np.shape(got):
            return False, "one τ stands in all scores of all queries: what does the rule do with several places?"
        return check.compare(got, dtau, "dτ", mistakes)

    checks = [("forward", forward), ("two slopes", two), ("dz", scores), ("dτ", heat)]
    check.report("temperature", checks)


def grouped_queries(fn):
    """fn(dk_heads, size) -> dk: (N, H, S, K), summed over the heads of q that share a head of k -> (N, H / size, S, K).

    Head h of the queries looks at head h // size of the keys.
    """
    rng = np.random.default_rng(2)
    N, H, size, T, K = 2, 6, 2, 5, 3
    q, do = rng.normal(size=(2, N, H, T, K))
    k, v = rng.normal(size=(2, N, H // size, T, K))
    wide_k, wide_v = (np.repeat(x, size, axis=1) for x in (k, v))
    _, p = attend(q, wide_k, wide_v)
    _, dk_heads, _ = attend_backward(do, q, wide_k, wide_v, p)
    dk = dk_heads.reshape(N, H // size, size, T, K).sum(2)

    def shape():
        return check.compare(np.zeros(np.shape(fn(dk_heads, size))), np.zeros(k.shape), "dk")

    def one():
        return check.compare(fn(dk_heads, 1), dk_heads, "dk with groups of one head")

    def value():
        other = dk_heads.reshape(N, size, H // size, T, K).sum(1)
        mistakes = [(dk / size, "a sum over the heads that share a key, not a mean"),
                    (other, "heads 0 and 1 share the first key head: which axis counts inside a group?"),
                    (dk_heads[:, ::size], "that is one head of each group: the key lands in all of them")]  # fmt: skip
        return check.compare(fn(dk_heads, size), dk, "dk", mistakes)

    def slope():
        def loss():
            return (do * attend(q, np.repeat(k, size, axis=1), wide_v)[0]).sum()

        return check.gradients(loss, {"k": k}, {"k": fn(dk_heads, size)})

    checks = [("shape", shape), ("one head a group", one), ("value", value), ("gradient check", slope)]
    check.report("grouped_queries", checks)
