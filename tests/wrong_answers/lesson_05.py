"""Wrong answers to the exercises of lesson 05: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def svd(M):
    return np.linalg.svd(M, full_matrices=False)


def first_k(enough, begin=0):
    """A wrong smallest_rank: the first k for which enough(s, k, share)."""
    return lambda s, share: next((k for k in range(begin, len(s) + 1) if enough(s, k, share)), len(s))


def size(s):
    return np.linalg.norm(s)


def near(s, k, share):
    return size(s[k:]) <= share * size(s)


def factorised(wrong):
    return lambda W, A, B, s, M: wrong(A, B, s, W + s * A @ B - M)


def scaled(by):
    return lambda dW, r, alpha: (svd(dW)[0][:, :r] * (svd(dW)[1][:r] * by(r, alpha)), svd(dW)[2][:r])


WRONG = {
    "smallest_rank": {
        "where is ‖M‖": first_k(lambda s, k, share: size(s[k:]) <= share),
        "root of an energy": first_k(lambda s, k, share: size(s[k:]) ** 2 <= share * size(s) ** 2),
        "where are the squares": first_k(lambda s, k, share: s[k:].sum() <= share * s.sum()),
        "no sum of lengths": first_k(lambda s, k, share: size(s[k:]) <= share * s.sum()),
        "their energies add up to all": first_k(lambda s, k, share: size(s[:k]) >= (1 - share) * size(s)),
        "share of what is kept": first_k(lambda s, k, share: size(s[:k]) >= share * size(s)),
        "share of what is kept.": first_k(lambda s, k, share: size(s[:k]) ** 2 >= share * size(s) ** 2),
        "looks at one s": first_k(lambda s, k, share: k == len(s) or s[k] <= share * s[0]),
        "looks at one s:": first_k(lambda s, k, share: k == len(s) or s[k] <= share * size(s)),
        "not of the largest alone": first_k(lambda s, k, share: size(s[k:]) <= share * s[0]),
        "too small by one": lambda s, share: first_k(near)(s, share) - 1,
        "too large by one": lambda s, share: first_k(near)(s, share) + 1,
        "of 4 cases are wrong": lambda s, share: 1,
        "k = 0 is enough": first_k(near, begin=1),
        "then k is len(s)": lambda s, share: next((k for k in range(len(s)) if near(s, k, share)), None),
        "is there a return": lambda s, share: None,
        "one number": lambda s, share: s[:2],
        "not written yet": lambda s, share: (_ for _ in ()).throw(NotImplementedError),
    },
    "add_adapters": {
        "A of the second": lambda A1, B1, A2, B2: (A1 + A2, B1 + B2),
        "take cross terms away": lambda A1, B1, A2, B2: ((A1 + A2) / 2, (B1 + B2) / 2),
        "in the order": lambda A1, B1, A2, B2: (np.hstack([A1, A2]), np.vstack([B2, B1])),
        "thin": lambda A1, B1, A2, B2: (np.eye(len(A1)), A1 @ B1 + A2 @ B2),
    },
    "factor_gradients": {
        "½": factorised(lambda A, B, s, E: ((E * E).sum(), s * E @ B.T, s * A.T @ E)),
        "dA: s stands": factorised(lambda A, B, s, E: (0.5 * (E * E).sum(), E @ B.T, s * A.T @ E)),
        "dB: s stands": factorised(lambda A, B, s, E: (0.5 * (E * E).sum(), s * E @ B.T, A.T @ E)),
        "squared": factorised(lambda A, B, s, E: (0.5 * np.linalg.norm(E), s * E @ B.T, s * A.T @ E)),
        "where is W": lambda W, A, B, s, M: (0.5 * ((s * A @ B - M) ** 2).sum(), None, None),
        "where is s": lambda W, A, B, s, M: (0.5 * ((W + A @ B - M) ** 2).sum(), None, None),
        "becomes of the ½": factorised(lambda A, B, s, E: (0.5 * (E * E).sum(), 2 * s * E @ B.T, 2 * s * A.T @ E)),
        "holds W too": lambda W, A, B, s, M: (
            0.5 * ((W + s * A @ B - M) ** 2).sum(),
            s * (s * A @ B - M) @ B.T,
            s * A.T @ (s * A @ B - M),
        ),
        "which way round": factorised(lambda A, B, s, E: (0.5 * (E * E).sum(), -s * E @ B.T, -s * A.T @ E)),
    },
    "to_lora": {
        "who takes that out": scaled(lambda r, alpha: 1),
        "wrong way": scaled(lambda r, alpha: alpha / r),
        "taken out by alpha": scaled(lambda r, alpha: 1 / alpha),
        "a root in one factor": scaled(lambda r, alpha: (r / alpha) ** 0.5),
        "how strong": lambda dW, r, alpha: (svd(dW)[0][:, :r] * r / alpha, svd(dW)[2][:r]),
        "transposed already": lambda dW, r, alpha: (
            svd(dW)[0][:, :r] * svd(dW)[1][:r] * r / alpha,
            svd(dW)[2][:, :r].T,
        ),
        "weakest": lambda dW, r, alpha: (svd(dW)[0][:, -r:] * svd(dW)[1][-r:] * r / alpha, svd(dW)[2][-r:]),
        "once is enough": scaled(lambda r, alpha: (r / alpha) ** 2),
    },
    "predict_rank_of_sum": {"directions the same": 4, "Kronecker": 16, "room": 128, "not answered": ...},
}
