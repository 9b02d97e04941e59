"""What a matrix is made of: singular values, the best copy of rank k, and how much of the whole it holds.

Lesson 04 looks at the spectrum of a fine-tuned ΔW; lesson 05 takes this file apart.
"""

import numpy as np


def svd(M):
    """M = U diag(s) V, the singular value decomposition, with signs that are the same on every machine.

        M = Σ sᵢ uᵢ vᵢ,   uᵢ = U[:, i],   vᵢ = V[i],   s₁ ≥ s₂ ≥ ... ≥ 0

    uᵢ and vᵢ may both change sign, and each LAPACK chooses in its own way; here the largest entry of uᵢ is positive, the
    first of them if there are several.
    Directions with sᵢ = 0 are arbitrary all the same: cut them off before you look at them.

    Shapes:   M (m, n), U (m, q), s (q,), V (q, n), q = min(m, n).  V's rows are the right vectors (NumPy's Vh)
    """
    U, s, V = np.linalg.svd(M, full_matrices=False)
    size = np.abs(U)
    largest = (size > (1 - 1e-9) * size.max(0)).argmax(0)  # equal ones differ by rounding, which must not choose
    sign = np.sign(U[largest, np.arange(len(s))])
    return U * sign, s, V * sign[:, None]


def singular_values(M):
    """s₁ ≥ s₂ ≥ ... ≥ 0, (min(m, n),)."""
    return np.linalg.svd(M, compute_uv=False)


def energy(s):
    """The share of ‖M‖² in the first 1, 2, ... directions: (s₁² + ... + s_k²) / (s₁² + ... + s_q²), (q,).

    ‖M‖² is the sum of all squared entries, which is the sum of all sᵢ².  Raises: ValueError for a matrix of zeros
    """
    total = np.cumsum(np.square(s))
    if not total[-1] > 0:
        raise ValueError("every singular value is zero: there is no energy to share out")
    return total / total[-1]


def rank_for(s, share):
    """How many directions hold at least this share of the energy.  Raises: ValueError unless 0 < share ≤ 1"""
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    return int(np.argmax(energy(s) >= share * (1 - 1e-12))) + 1  # rounding must not ask for one more


def factors(M, k):
    """(A, B), two thin matrices whose product is the best copy of M of rank k: A = U_k √s_k, B = √s_k V_k.

    Shapes:   M (m, n), A (m, k), B (k, n): k (m + n) numbers instead of m n
    Raises:   ValueError for k outside 0 ... min(m, n)
    """
    U, s, V = svd(M)
    if not isinstance(k, (int, np.integer)) or not 0 <= k <= len(s):
        raise ValueError(f"k must be a whole number in 0 ... {len(s)}, not {k!r}")
    root = np.sqrt(s[:k])
    return U[:, :k] * root, root[:, None] * V[:k]


def truncate(M, k):
    """The best copy of M of rank at most k: its first k outer products (Eckart & Young, 1936).

    No matrix of rank k is closer to M, in the Frobenius norm or the spectral norm; tail says how close.
    """
    A, B = factors(M, k)
    return A @ B


def tail(s):
    """‖M − truncate(M, k)‖ for k = 0, 1, ..., q: √(s_{k+1}² + ... + s_q²), (q + 1,).  What no copy of rank k can beat."""
    return np.sqrt(np.append(np.cumsum(np.square(s)[::-1])[::-1], 0.0))
