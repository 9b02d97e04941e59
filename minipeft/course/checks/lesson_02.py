"""The checks of the exercises of lesson 02."""

import numpy as np

from ...model.functional import attend, attend_backward, softmax
from .. import check

__all__ = [
    "grouped_queries",
    "predict_equal_values",
    "softmax_backward",
    "temperature",
]


def softmax_backward(fn):
    """fn(dp, p) -> dz for p = softmax(z) over the last axis."""
    rng = np.random.default_rng(0)
    z, dp = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    p = softmax(z)
    dz = p * (dp - (dp * p).sum(-1, keepdims=True))

    def alike():
        got = fn(np.ones_like(p), p)
        if got is None or np.shape(got) != p.shape:
            return check.compare(got, dz, "dz")
        hint = "if all shares have the same slope, no score matters, since their sum stays 1: what is missing?"
        return bool(np.abs(got).max() < 1e-9), hint

    def value():
        mistakes = [(p * (dp - (dp * p).sum(-2, keepdims=True)), "the sum runs over the keys, the last axis"),
                    (p * (dp - (dp * p).sum()), "the sum runs over the keys, for each query by itself"),
                    (p * (dp - dp.mean(-1, keepdims=True)), "the mean has the shares as weights"),
                    (dp - (dp * p).sum(-1, keepdims=True), "a score of a key with a small share moves little"),
                    (p * (1 - p) * dp, "a score lands in all shares, not in its own only")]  # fmt: skip
        return check.compare(fn(dp, p), dz, "dz", mistakes)

    def slope():
        return check.gradients(lambda: (softmax(z) * dp).sum(), {"z": z}, {"z": fn(dp, p)})

    check.report("softmax_backward", [("all slopes alike", alike), ("value", value), ("gradient check", slope)])


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
