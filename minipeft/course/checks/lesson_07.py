"""The checks of the exercises of lesson 07."""

import numpy as np

from .. import check

__all__ = [
    "best_factors",
    "last_saving_rank",
    "predict_what_helps_least",
    "rank_by_energy",
]


def last_saving_rank(fn):
    """fn(d_in, d_out) -> the largest r with r (d_in + d_out) < d_in d_out."""

    def even():
        mistakes = [(np.array(32), "at 32 it trains exactly as many as the matrix has: not fewer")]
        return check.compare(fn(64, 64), 31, "the rank for 64 × 64", mistakes)

    def odd():
        mistakes = [
            (np.array(31), "half of a side is right for squares only: how many numbers does rank r train here?")
        ]
        return check.compare(fn(64, 256), 51, "the rank for 64 × 256", mistakes)

    def tiny():
        return check.compare(fn(2, 2), 0, "the rank for 2 × 2")

    check.report("last_saving_rank", [("64 × 64", even), ("64 × 256", odd), ("2 × 2", tiny)])


def best_factors(fn):
    """fn(D, r, s) -> A, B with s A B the best copy of D of rank r."""
    D, r, s = np.random.default_rng(3).normal(size=(6, 5)), 2, 4.0
    U, sigma, V = np.linalg.svd(D, full_matrices=False)
    want = (U[:, :r] * sigma[:r]) @ V[:r]

    def shape():
        A, B = fn(D, r, s)
        return check.shapes({"A": A, "B": B}, {"A": np.zeros((6, r)), "B": np.zeros((r, 5))})

    def full():
        A, B = fn(D, 5, 1.0)
        mistakes = [((U * sigma**2) @ V, "the singular values are there twice: share them out"),
                    (U @ V, "the singular values are missing: which factor carries them?")]  # fmt: skip
        return check.compare(A @ B, D, "at full rank and s = 1, A B", mistakes)

    def value():
        A, B = fn(D, r, s)
        mistakes = [(s * want, "the layer multiplies by s: A B must be D's copy divided by s"),
                    (want / s, "divided by s once too often: each factor takes √ of it")]  # fmt: skip
        return check.compare(s * (A @ B), want, "s A B", mistakes)

    def balance():
        A, B = (np.linalg.norm(factor) for factor in fn(D, r, s))
        return abs(A - B) < 1e-8 * A, "s A B is right, but one factor is larger than the other"

    check.report("best_factors", [("shape", shape), ("full rank", full), ("value", value), ("balance", balance)])


def predict_what_helps_least(answer):
    """Which of rank, steps and place helps least where the last block alone has 28% of `swap` after 60 steps."""
    check.prediction("predict what helps least", answer, "rank", {
        "steps": "in section 4 rank 1 had failed after 40 steps. What did it need?",
        "place": "the table of section 8 has rank 2 on both blocks: what did it reach in these 60 steps?",
    })  # fmt: skip


def rank_by_energy(fn):
    """fn(s, share) -> how many directions hold that share of the sum of squares."""

    def one():
        mistakes = [(np.array(0), "one direction is rank 1: where does the count begin?")]
        return check.compare(fn(np.array([5.0, 0.0, 0.0]), 0.9), 1, "the rank for a single direction", mistakes)

    def tail():
        s = np.array([3.0] + [0.5] * 8)  # 9 of 11 in the first
        mistakes = [(np.array(7), "‖M‖² is the sum of what, over the singular values?")]
        return check.compare(fn(s, 0.8), 1, "the rank for a long tail", mistakes)

    def more():
        return check.compare(fn(np.array([4.0, 3.0, 1.0]), 0.9), 2, "the rank for 4, 3, 1 and 90%")

    check.report("rank_by_energy", [("one direction", one), ("a long tail", tail), ("three directions", more)])
