"""Wrong answers to the exercises of lesson 12: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np

from minipeft.model.functional import softmax


def column(wrong):
    return lambda lam, P_v, o_text, do: wrong(lam, ((P_v - o_text) * do).sum(1))


def gate(*, o=None, **wrong):
    """A gated prefix, right but for what is given: functions of (q, P_k, P_v, a, do)."""

    def fn(q, P_k, P_v, a):
        p, t = softmax(q @ P_k.T), np.tanh(a)

        def backward(do):
            dp = t * do @ P_v.T
            dz = p * (dp - (dp * p).sum(1, keepdims=True))
            right = {"dq": dz @ P_k, "dP_k": dz.T @ q, "dP_v": t * p.T @ do, "da": (do * (p @ P_v)).sum() * (1 - t * t)}
            return tuple(wrong[n](q, P_k, P_v, a, do) if n in wrong else x for n, x in right.items())

        return o(p, P_v, a) if o else t * p @ P_v, backward

    return fn


def shares(q, P_k):
    return softmax(q @ P_k.T)


def bracket(q, P_k, P_v, a, do, left, right):
    """dz with other factors than tanh(a) at the two terms in its bracket."""
    p = shares(q, P_k)
    return p * (left * do @ P_v.T - right * (do * (p @ P_v)).sum(1, keepdims=True))


WRONG = {
    "two_columns": {
        "of how many": (1 / 3, 4), "of both columns": (1 / 6, 4), "all six parts": (1, 4), "and then?": (0.5, 24),
        "o_text alone": (0.5, 5), "the prefix alone": (0.5, 3), "not written yet": (..., ...),
        "two numbers are asked for: (λ, the output)": 0.5,
    },
    "predict_zeros": {"is the output worth nothing": "dP_k", "is its share 0": "dP_v", "LoRA with A = 0": "both",
                      "look again": "0.5", "not answered": ...},
    "one_column": {
        "dz has shape (4, 3)": lambda lam, P_v, o_text, do: lam[:, None] * (P_v - o_text) * do,
        "the factor 1 − λ": column(lambda lam, worth: lam * worth),
        "the share λ itself": column(lambda lam, worth: (1 - lam) * worth),
        "take it away": lambda lam, P_v, o_text, do: lam * (1 - lam) * (P_v * do).sum(1),
        "the sign": column(lambda lam, worth: -lam * (1 - lam) * worth),
    },
    "gated_prefix": {
        "dq has shape (3, 4)": gate(dq=lambda q, P_k, P_v, a, do: q.T),
        "is it in this slope": gate(dP_v=lambda q, P_k, P_v, a, do: shares(q, P_k).T @ do),
        "not a": gate(dP_v=lambda q, P_k, P_v, a, do: a * shares(q, P_k).T @ do),
        "through tanh": gate(da=lambda q, P_k, P_v, a, do: (do * (shares(q, P_k) @ P_v)).sum()),
        "both terms in the bracket": gate(dP_k=lambda q, P_k, P_v, a, do: bracket(q, P_k, P_v, a, do, 1, np.tanh(a)).T @ q),
        "in the bracket of dz": gate(dq=lambda q, P_k, P_v, a, do: bracket(q, P_k, P_v, a, do, np.tanh(a), 1) @ P_k),
        "of dz have the gate": gate(
            dq=lambda q, P_k, P_v, a, do: bracket(q, P_k, P_v, a, do, np.tanh(a), np.tanh(a) ** 2) @ P_k
        ),
        "the softmax": gate(dP_k=lambda q, P_k, P_v, a, do: (np.tanh(a) * shares(q, P_k) * (do @ P_v.T)).T @ q),
        "mean of all slopes": gate(dq=lambda q, P_k, P_v, a, do: np.tanh(a) * (do @ P_v.T) @ P_k),
        "gradient check": gate(o=lambda p, P_v, a: p @ P_v),
        "not written yet": lambda **case: (_ for _ in ()).throw(NotImplementedError),
    },
}  # fmt: skip
