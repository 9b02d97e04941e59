"""The checks of the exercises of lesson 12."""

import numpy as np

from ...model.functional import softmax
from .. import check

__all__ = ["gated_prefix", "one_column", "predict_zeros", "two_columns"]


def two_columns(answer):
    """(λ, the output), by pencil."""
    mine = check.two_numbers("two columns", answer, "(λ, the output)")
    if mine is None:
        return
    lam, o = mine

    check.report("two columns", [
        ("λ", check.one_number("λ", lam, 1 / 2, {"the two columns have 1 + 2 parts: of how many?": 1 / 3,
                                      "are the parts of both columns in it?": 1 / 6,
                                      "of all six parts, not of the others": 1.0})),
        ("o", check.one_number("o", o, 4.0, {"each part times its value, and then?": 24.0, "that is o_text alone": 5.0,
                                  "that is what the prefix alone would say": 3.0})),
    ])  # fmt: skip


def predict_zeros(answer):
    """Which slopes of a prefix of zeros are zero."""
    why = {"dP_k": "P_v = 0 is worth nothing; is the output worth nothing, too?",
           "dP_v": "a key of zero has the score 0: is its share 0?",
           "both": "that is LoRA with A = 0 and B = 0; does dP_v have P_k as a factor?"}  # fmt: skip
    check.prediction("predict zeros", answer, "neither", why)


def one_column(fn):
    """fn(lam, P_v, o_text, do) -> dz for m = 1: λ (1 − λ) (P_v − o_text) · do, one number a query."""
    rng = np.random.default_rng(0)
    z, P_v, o_text, do = rng.normal(size=4), rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    lam = 1 / (1 + np.exp(-z))

    def answer():
        return fn(lam.copy(), P_v.copy(), o_text.copy(), do.copy())

    def value():
        worth = ((P_v - o_text) * do).sum(1)
        mistakes = [
            (lam * worth, "P_v − o is (1 − λ) (P_v − o_text): the factor 1 − λ is missing"),
            ((1 - lam) * worth, "the share λ itself is missing"),
            (lam * (1 - lam) * (P_v * do).sum(1), "what the text says is worth something, too: take it away"),
            (-lam * (1 - lam) * worth, "the sign: a larger share helps what P_v says, and not what the text says"),
        ]
        return check.compare(answer(), lam * (1 - lam) * worth, "dz", mistakes)

    def shape():
        return check.shapes({"dz": answer()}, {"dz": lam})

    check.report("one_column", [("shape", shape), ("value", value)])


def gate_case():
    """q, P_k, P_v, a and do, nothing zero."""
    rng = np.random.default_rng(0)
    case = {"q": rng.normal(size=(4, 3)), "P_k": rng.normal(size=(2, 3)), "P_v": rng.normal(size=(2, 5))}
    return case | {"a": np.array(0.7)}, rng.normal(size=(4, 5))


def gate_slopes(case, do):
    """The right slopes, and what likely mistakes give: {name: (right, [(wrong, hint), ...])}."""
    q, P_k, P_v, a = case.values()
    p, t = softmax(q @ P_k.T), np.tanh(a)
    said = p @ P_v
    da = (do * said).sum()
    dp = t * do @ P_v.T
    dz = p * (dp - (dp * p).sum(1, keepdims=True))
    gate = "the gate tanh(a) multiplies what the prefix says: is it in this slope?"
    bend = "a passes through tanh: its slope is 1 − tanh(a)²"
    soft = "the softmax: share × (its own slope − the mean of all slopes)"
    both = "both terms in the bracket of dz have the gate, each of them once"
    mixed = [p * (f * do @ P_v.T - g * (do * said).sum(1, keepdims=True)) for f, g in ((1, t), (t, 1), (t, t * t))]
    return {
        "da": (np.array(da * (1 - t * t)), [(np.array(da), bend), (np.array(da * t), bend)]),
        "dP_v": (t * p.T @ do, [(p.T @ do, gate), (a * p.T @ do, "the gate is tanh(a), and not a")]),
        "dP_k": (dz.T @ q, [(dz.T @ q / t, gate), ((p * dp).T @ q, soft), (dp.T @ q, soft),
                             *((wrong.T @ q, both) for wrong in mixed)]),
        "dq": (dz @ P_k, [(dz @ P_k / t, gate), ((p * dp) @ P_k, soft), (dp @ P_k, soft),
                           *((wrong @ P_k, both) for wrong in mixed)]),
    }  # fmt: skip


def gated_prefix(fn):
    """fn(q, P_k, P_v, a) -> o, backward(do) -> dq, dP_k, dP_v, da; o = tanh(a) softmax(q P_kᵀ) P_v."""
    case, do = gate_case()
    names = ("dq", "dP_k", "dP_v", "da")

    def slopes(**other):
        return dict(zip(names, fn(**(case | other))[1](do), strict=True))

    def shape():
        return check.shapes(slopes(), dict(zip(names, case.values(), strict=True)))

    def closed():
        got = slopes(a=np.array(0.0))
        silent = not any(np.any(got[name]) for name in ("dq", "dP_k", "dP_v"))
        return silent, "with a = 0 the gate is closed: nothing but a has a slope"

    def value():
        return check.compare_all(slopes(), gate_slopes(case, do))

    def slope():
        got = {name[1:]: grad for name, grad in slopes().items()}
        return check.gradients(lambda: (fn(**case)[0] * do).sum(), case, got)

    check.report("gated_prefix", [("shape", shape), ("value", value), ("a = 0", closed), ("gradient check", slope)])
