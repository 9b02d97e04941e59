"""Wrong answers to the exercises of lesson 02: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np

from minipeft.model.functional import softmax


def mean(dp, p):
    return (dp * p).sum(-1, keepdims=True)


def temperature(share=lambda z, tau: softmax(z / tau), dz=None, dtau=None):
    """A softmax with temperature whose dz is dz(dx, tau), and its dτ dtau(dx, z, tau, dp)."""

    def layer(z, tau):
        p = share(z, tau)

        def backward(dp):
            dx = p * (dp - mean(dp, p))
            slope = -(dx * z).sum() / tau**2 if dtau is None else dtau(dx, z, tau, dp)
            return dx / tau if dz is None else dz(dx, tau, p, dp), slope

        return p, backward

    return layer


def halves(dk, size):
    N, H, S, K = dk.shape
    return dk.reshape(N, H // size, size, S, K)


WRONG = {
    "log_softmax_backward": {
        "where is ln": lambda dy, p: p * (dy - mean(dy, p)),
        "dz is missing": lambda dy, p: None,
        "stands in E, too": lambda dy, p: dy,
        "go on to the scores": lambda dy, p: dy / p,
        "its own slope": lambda dy, p: dy - p,
        "not in its own only": lambda dy, p: (1 - p) * dy,
        "its share: where is it": lambda dy, p: dy - dy.sum(-1, keepdims=True),
        "that of z_s or that of y_u": lambda dy, p: dy - mean(dy, p),
        "takes no mean": lambda dy, p: dy - p * dy.mean(-1, keepdims=True),
        "which sign": lambda dy, p: dy + p * dy.sum(-1, keepdims=True),
        "over the last axis": lambda dy, p: dy - p * dy.sum(-2, keepdims=True),
        "each row by itself": lambda dy, p: dy - p * dy.sum(),
        "later multiplied by it, cancels on paper": lambda dy, p: p * (dy / p - mean(dy / p, p)),
        "needs no patch": lambda dy, p: p * (dy / np.maximum(p, 1e-12) - mean(dy / np.maximum(p, 1e-12), p)),
    },
    "predict_equal_values": {"is the share zero": "dv", "equal values": "none", "not answered": ...},
    "temperature": {
        "divide": temperature(lambda z, tau: softmax(z * tau)),
        "inside the exponential": temperature(lambda z, tau: softmax(z) / tau),
        "multiplied by 1/τ": temperature(dz=lambda dx, tau, p, dp: dx),
        "lands in all shares": temperature(dz=lambda dx, tau, p, dp: p * dp / tau),
        "several places": temperature(dtau=lambda dx, z, tau, dp: -(dx * z).sum(-1) / tau**2),
        "−1/τ²": temperature(dtau=lambda dx, z, tau, dp: (dx * z).sum() / tau**2),
        "is one τ missing": temperature(dtau=lambda dx, z, tau, dp: -(dx * z).sum() / tau),
        "through it first": temperature(dtau=lambda dx, z, tau, dp: -(dp * z).sum() / tau**2),
    },
    "grouped_queries": {
        "has shape": lambda dk, size: dk,
        "not a mean": lambda dk, size: halves(dk, size).mean(2),
        "inside a group": lambda dk, size: dk.reshape(dk.shape[0], size, dk.shape[1] // size, *dk.shape[2:]).sum(1),
        "one head of each": lambda dk, size: np.array(dk[:, ::size]),
    },
}
