"""Wrong answers to the exercises of lesson 07: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def factors(share=0.5, power=1.0, by=lambda s: s):
    """Factors of the best copy, each with its share of σ^power, divided by by(s)."""

    def fn(D, r, s):
        U, sigma, V = np.linalg.svd(D, full_matrices=False)
        U, sigma, V = U[:, :r], sigma[:r] ** power / by(s), V[:r]
        return U * sigma**share, sigma[:, None] ** (1 - share) * V

    return fn


WRONG = {
    "last_saving_rank": {
        "not fewer": lambda d_in, d_out: d_in * d_out // (d_in + d_out),
        "the rank for 64 × 64": lambda d_in, d_out: min(d_in, d_out),
        "right for squares only": lambda d_in, d_out: min(d_in, d_out) // 2 - 1,
        "the rank for 64 × 256": lambda d_in, d_out: d_in * d_out // (d_in + d_out) - 1,
        "the rank for 2 × 2": lambda d_in, d_out: max(1, (d_in * d_out - 1) // (d_in + d_out)),
    },
    "best_factors": {
        "A has shape (2, 6)": lambda D, r, s: [f.T for f in factors()(D, r, s)],
        "B has shape (5, 2)": lambda D, r, s: (factors()(D, r, s)[0], factors()(D, r, s)[1].T),
        "share them out": factors(power=2.0),
        "singular values are missing": factors(power=0.0),
        "full rank": lambda D, r, s: [f[:, ::-1] for f in factors()(D, r, s)],
        "the layer multiplies by s": factors(by=lambda s: 1),
        "each factor takes √": factors(by=lambda s: s**2),
        "one factor is larger": factors(share=1.0),
        "TypeError": lambda D, r, s: None,
    },
    "predict_what_helps_least": {
        "What did it need": "steps",
        "what did it reach": "place",
        "not answered": ...,
        "look again": "rate",
    },
    "rank_by_energy": {
        "where does the count begin": lambda s, share: np.searchsorted(np.cumsum(s**2) / (s**2).sum(), share),
        "is the sum of what": lambda s, share: np.searchsorted(np.cumsum(s) / s.sum(), share) + 1,
        "for 4, 3, 1": lambda s, share: 1,
        "a single direction": lambda s, share: 2,
    },
}
