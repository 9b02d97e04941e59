"""The checks of the exercises of lesson 05."""

import numpy as np

from ...lab.spectra import truncate
from .. import check

__all__ = [
    "add_adapters",
    "factor_gradients",
    "predict_rank_of_sum",
    "smallest_rank",
    "to_lora",
]


def smallest_rank(fn):
    """fn(s, share) -> the smallest k at which the cut to rank k is at most share · ‖M‖ away from M."""
    cases = [((12, 12, 12, 12, 5, 5, 5, 5), 0.3), ((4, 2, 2, 1), 0.5), ((9, 6, 4, 3, 1, 1), 0.2), ((6, 5, 4, 2), 0.8)]
    cases = [(np.array(s, float), share) for s, share in cases]

    def first(enough):
        """The first k that is enough(dropped, kept, all, share), for each of the cases."""
        return np.array([
            next(k for k in range(len(s) + 1) if k == len(s) or enough(s[k:], s[:k], s, share)) for s, share in cases
        ])  # fmt: skip

    def square(s):
        return float(s @ s)

    def value():
        want = first(lambda dropped, kept, s, share: square(dropped) <= share**2 * square(s))
        root = "that is a share of the energy: the distance is the root of an energy"
        what_is_kept = "that is a share of what is kept. Which of the s are lost?"
        largest = "that looks at one s: the distance is made of all that are dropped"
        absolute = "a share of ‖M‖: where is ‖M‖?"
        slips = {
            absolute: [lambda dropped, kept, s, share: square(dropped) <= share**2,
                       lambda dropped, kept, s, share: square(dropped) <= share],
            root: [lambda dropped, kept, s, share: square(dropped) <= share * square(s),
                   lambda dropped, kept, s, share: square(kept) >= (1 - share) * square(s)],
            "lengths do not add up, energies do: where are the squares?":
                  [lambda dropped, kept, s, share: dropped.sum() <= share * s.sum()],
            "‖M‖ is the root of all energies, and no sum of lengths":
                  [lambda dropped, kept, s, share: square(dropped) <= (share * s.sum()) ** 2],
            "what is kept and what is lost stand at right angles: their energies add up to all, their lengths do not":
                  [lambda dropped, kept, s, share: square(kept) >= (1 - share) ** 2 * square(s)],
            what_is_kept: [lambda dropped, kept, s, share: square(kept) >= share * square(s),
                           lambda dropped, kept, s, share: square(kept) >= share**2 * square(s)],
            largest: [lambda dropped, kept, s, share: dropped[0] <= share * s[0],
                      lambda dropped, kept, s, share: dropped[0] <= share * square(s) ** 0.5],
            "‖M‖ is made of all s, and not of the largest alone":
                  [lambda dropped, kept, s, share: square(dropped) <= share**2 * s[0] ** 2],
        }  # fmt: skip
        mistakes = [(want - 1, "each k is too small by one: at rank k, which s is the first that is dropped?"),
                    (want + 1, "each k is too large by one: at rank k, which s is the first that is dropped?"),
                    *((first(enough), hint) for hint, all_of_it in slips.items() for enough in all_of_it)]  # fmt: skip
        got = [fn(s.copy(), share) for s, share in cases]
        if any(np.shape(k) != () or k is None or k is ... for k in got):
            return False, "k should be one number: is there a return?"
        right, hint = check.compare(got, want, "k", mistakes)
        return right, hint.replace("of its 4 numbers", "of 4 cases").replace("k has the right shape, but ", "")

    def edges():
        s = cases[0][0]
        if fn(s.copy(), 1.0) != 0:
            return False, "all of M may be lost at share = 1: then k = 0 is enough"
        return fn(s.copy(), 0.0) == len(s), "nothing may be lost at share = 0: then k is len(s)"

    check.report("smallest_rank", [("value", value), ("shares 0 and 1", edges)])


def predict_rank_of_sum(answer):
    """The rank of the sum of two adapters of rank 4."""
    why = {4: "are the two adapters' directions the same?",
           16: "ranks multiply in a Kronecker product, not in a sum. How many outer products are there?",
           128: "the sum has room for 128. How many outer products is it made of?"}  # fmt: skip
    check.prediction("predict the rank of a sum", answer, 8, why)


def add_adapters(fn):
    """fn(A1, B1, A2, B2) -> (A, B) with A B = A1 B1 + A2 B2."""
    rng = np.random.default_rng(0)
    A1, B1, A2, B2 = (rng.normal(size=shape) for shape in ((6, 2), (2, 5), (6, 3), (3, 5)))
    A3, B3 = rng.normal(size=(6, 2)), rng.normal(size=(2, 5))

    def product(*pairs):
        A, B = fn(*pairs)
        return np.asarray(A) @ np.asarray(B)

    def nothing():
        cross, no = (A1 + A3) @ B1, "a factor cannot take cross terms away: A of the second still meets B of the first"
        mistakes = [(cross, "A of the second adapter meets B of the first"), (cross / 2, no), (cross / 4, no),
                    (A3 @ B1, "are the rows of B in the order of the columns of A?")]  # fmt: skip
        return check.compare(
            product(A1, B1, A3, 0 * B3), A1 @ B1, "the sum with an adapter that does nothing", mistakes
        )

    def equal():
        return check.compare(product(A1, B1, A3, B3), A1 @ B1 + A3 @ B3, "the sum")

    def unequal():
        return check.compare(product(A1, B1, A2, B2), A1 @ B1 + A2 @ B2, "the sum of a rank 2 and a rank 3")

    def thin():
        A, B = fn(A1, B1, A3, B3)
        return np.shape(A)[1] == np.shape(B)[
            0
        ] <= 4, "A and B should stay thin: at most as many columns as both together"

    checks = [
        ("with an adapter that does nothing", nothing),
        ("equal ranks", equal),
        ("ranks 2 and 3", unequal),
        ("thin factors", thin),
    ]
    check.report("add_adapters", checks)


def factor_gradients(fn):
    """fn(W, A, B, s, M) -> (L, dA, dB) for L = ½ ‖W + s A B − M‖²."""
    rng = np.random.default_rng(0)
    W, M, s = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), 0.7
    A, B = rng.normal(size=(5, 2)), rng.normal(size=(2, 4))
    E = W + s * A @ B - M

    def loss():
        half = 0.5 * (E * E).sum()
        mistakes = [(np.array(2 * half), "where is the ½?"), (np.array((E * E).mean() / 2), "a sum, not a mean"),
                    (np.array(0.5 * np.sqrt((E * E).sum())), "the norm is squared in L"),
                    (np.array(0.5 * ((E - W) ** 2).sum()), "where is W?"),
                    (np.array(0.5 * ((W + A @ B - M) ** 2).sum()), "where is s?")]  # fmt: skip
        return check.compare(fn(W, A, B, s, M)[0], half, "L", mistakes)

    def shapes():
        _, dA, dB = fn(W, A, B, s, M)
        return np.shape(dA) == A.shape and np.shape(dB) == B.shape, "dA has the shape of A, and dB that of B"

    def start():
        _, dA, dB = fn(W, A, 0 * B, s, M)
        return not np.any(dA) and bool(np.any(dB)), "at B = 0 dA is zero, and dB is not"

    def value(i, what, want, without, no_base):
        hints = [(without, "s stands in the forward: where is it in the backward?"),
                 (s * want, "s is there twice"), (2 * want, "what becomes of the ½ when the square is differentiated?"),
                 (no_base, "the difference holds W too"), (-want, "which way round is the difference?")]  # fmt: skip
        return lambda: check.compare(fn(W, A, B, s, M)[i], want, what, hints)

    def slope():
        x = {"A": A.copy(), "B": B.copy()}
        _, dA, dB = fn(W, x["A"], x["B"], s, M)
        return check.gradients(lambda: fn(W, x["A"], x["B"], s, M)[0], x, {"A": dA, "B": dB})

    checks = [("loss", loss), ("shapes", shapes), ("at B = 0", start),
              ("dA", value(1, "dA", s * E @ B.T, E @ B.T, s * (E - W) @ B.T)),
              ("dB", value(2, "dB", s * A.T @ E, A.T @ E, s * A.T @ (E - W))),
              ("gradient check", slope)]  # fmt: skip
    check.report("factor_gradients", checks)


def to_lora(fn):
    """fn(dW, r, alpha) -> (A, B) with (alpha / r) A B = the best copy of dW of rank r."""
    dW = np.random.default_rng(0).normal(size=(6, 5))

    def shapes():
        A, B = fn(dW, 2, 8)
        return np.shape(A) == (6, 2) and np.shape(B) == (2, 5), "A should be (d_in, r), and B (r, d_out)"

    def plain():
        A, B = fn(dW, 2, 2)
        want = truncate(dW, 2)
        U, s, V = np.linalg.svd(dW, full_matrices=False)
        mistakes = [(want / 2, "taken out by alpha, where the scale is alpha / r"),
                    (U[:, :2] @ V[:2], "how strong is each direction?"),
                    ((U[:, :2] * s[:2]) @ V[:, :2].T, "NumPy's third result is transposed already"),
                    ((U[:, -2:] * s[-2:]) @ V[-2:], "those are the weakest directions")]  # fmt: skip
        return check.compare(np.asarray(A) @ np.asarray(B), want, "A B at alpha = r", mistakes)

    def scaled():
        A, B = fn(dW, 2, 8)
        want, got = truncate(dW, 2), 4 * (np.asarray(A) @ np.asarray(B))
        mistakes = [(4 * want, "LoRA multiplies by alpha / r afterwards: who takes that out again?"),
                    (16 * want, "the scale goes the wrong way"),
                    (want / 4, "the scale is taken out of both factors: once is enough"),
                    (2 * want, "half of the scale is taken out: a root in one factor only")]  # fmt: skip
        return check.compare(got, want, "(alpha / r) A B", mistakes)

    check.report("to_lora", [("shapes", shapes), ("scale 1", plain), ("scale 4", scaled)])
