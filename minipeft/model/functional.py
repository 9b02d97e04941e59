"""Mathematics without parameters: softmax, gelu, standardising and attention, each with its backward.

Speed lives here, so that a layer can stay as it is in the paper.  NumPy is fast where it makes few passes over memory,
so sums below are arranged for few passes, and reuse their memory.
"""

from functools import lru_cache

import numpy as np


def rows(x):
    """View x as a matrix, one row per token: (..., D) -> (N T, D), so that BLAS sees one large product."""
    return x.reshape(-1, x.shape[-1])


def matmul(x: np.ndarray, W: np.ndarray) -> np.ndarray:
    """x W over the last axis: (..., I), (I, O) -> (..., O)."""
    return (rows(x) @ W).reshape(*x.shape[:-1], W.shape[-1])


def outer(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """xᵀ dy, summed over batch and time: the dW of y = x W.  (..., I), (..., O) -> (I, O).  (It is not np.outer.)"""
    return rows(x).T @ rows(dy)


def total(dy, x=None):
    """Σ dy, or Σ dy ⊙ x, over batch and time: db of y = ... + b, dg of y = x ⊙ g.  (..., O) -> (O,)."""
    return rows(dy if x is None else dy * x).sum(0)


def dot(a, b):
    """⟨a, b⟩ along the last axis, kept as an axis of one: (..., D), (..., D) -> (..., 1).

    einsum never forms the product a ⊙ b, and is three times faster than (a * b).sum(-1) on short rows.
    """
    return np.einsum("...d,...d->...", a, b)[..., None]


def mean(x):
    """The mean along the last axis, kept as an axis of one: (..., D) -> (..., 1)."""
    return np.einsum("...d->...", x)[..., None] / x.shape[-1]


def exponentials(z):
    """(e, Σ e, m) along the last axis, with any m that keeps Σ e well inside the range of floats.

        e = exp(z − m)

    softmax is the same for every m.  The largest z is always safe, but to find and subtract it takes as long as exp
    itself, so m = 0 is tried first.

    Shapes:   z, e (..., S), Σ e (..., 1), m (..., 1) or 0
    """
    with np.errstate(over="ignore"):
        e = np.exp(z)
    sums = np.einsum("...s->...", e)[..., None]
    if sums.min(initial=1) > 1e-15 and sums.max(initial=1) < 1e15:  # neither ∞, nor so small that digits are lost
        return e, sums, 0
    m = z.max(-1, keepdims=True)
    np.exp(np.subtract(z, m, out=e), out=e)
    return e, np.einsum("...s->...", e)[..., None], m


def softmax(z):
    """Shares that sum to 1 along the last axis.

        p = exp z / Σ exp z

    Shapes:   z, p (..., S)
    """
    p, sums, _ = exponentials(z)
    p /= sums
    return p


def softmax_backward(dp, p):
    """The gradient through softmax.

        dz = p ⊙ (dp − Σ_s dp_s p_s)

    Shapes:   p, dp, dz (..., S)
    """
    dz = dp - dot(dp, p)
    dz *= p
    return dz


def softmax_and_log_target(z, targets):
    """softmax along the last axis, and the logarithm of the target's p.

        p = softmax(z),   log p_t = z_t − log Σ exp z

    Shapes:   z, p (..., V), targets (...) of integers in 0 ... V − 1, log p_t (...)
    """
    p, sums, m = exponentials(z)
    z_t = np.take_along_axis(z, targets[..., None], -1)
    # Where p is near 1 the two terms nearly cancel: float64 keeps the digits that are left.
    log_p = (z_t.astype("float64") - m - np.log(sums, dtype="float64"))[..., 0].astype(z.dtype)
    p /= sums
    return p, log_p


def gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian error linear unit, and its slope (Hendrycks & Gimpel, 2016; the form with tanh, which GPT-2 uses).

        y = ½ x (1 + tanh u) = x σ(z),   σ(z) = 1 / (1 + e⁻ᶻ)
        z = 2 u = c (x + 0.044715 x³),   c = 2 √(2/π),   z′ = c (1 + 3 · 0.044715 x²)
        gelu′(x) = σ (1 + x (1 − σ) z′) = (1 + (x − y) z′) / (1 + e⁻ᶻ)

    Returns (y, gelu′(x)).  The slope is computed here, while x and e⁻ᶻ are at hand: backward then keeps one array
    instead of two.  This is the widest array of the model, so sums reuse their memory, and z is had from z′:
    z = x (z′ + 2c) / 3.
    """
    c = (8 / np.pi) ** 0.5
    with np.errstate(over="ignore"):  # far to the left e⁻ᶻ is ∞, and x / ∞ = 0 is right
        dz_dx = x * x
        np.clip(dz_dx, 0, 100, out=dz_dx)  # beyond |x| = 10, σ is 0 or 1 already; without a bound ∞ · 0 would come up
        dz_dx *= 3 * 0.044715 * c
        dz_dx += c
        inverse = dz_dx + 2 * c
        inverse *= x
        inverse *= -1 / 3  # −z
        np.exp(inverse, out=inverse)
    inverse += 1  # 1 + e⁻ᶻ = 1 / σ
    y = x / inverse
    slope = dz_dx
    slope *= x - y
    slope += 1
    slope /= inverse
    return y, slope


def standardise(x, eps):
    """Centre and scale along the last axis: x̂ and 1/σ.

        x̂ = (x − mean x) / σ,   σ = √(var x + ε)

    Shapes:   x, x̂ (..., D), 1/σ (..., 1)
    """
    xhat = x - mean(x)
    rstd = 1 / np.sqrt(dot(xhat, xhat) / x.shape[-1] + eps)
    xhat *= rstd
    return xhat, rstd


def standardise_backward(dxhat, xhat, rstd):
    """The gradient through standardise: what changes the mean or the length of x is taken away.

        dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / σ

    Shapes:   x̂, dx̂, dx (..., D), 1/σ (..., 1)
    """
    dx = dxhat - mean(dxhat)
    dx -= xhat * (dot(dxhat, xhat) / xhat.shape[-1])
    dx *= rstd
    return dx


@lru_cache
def causal_mask(T, S, dtype):
    """0 where query t sees key s, −∞ where s > t + S − T: (T, S).  It is made once for each shape; do not write to it.

    The last query sees all keys, so the first S − T keys are seen by every query.
    """
    mask = np.where(np.tri(T, S, S - T, dtype=bool), 0, -np.inf).astype(dtype)
    mask.flags.writeable = False
    return mask


QUERIES = 32  # so many queries at a time in attention: fewer would make the products too small to be fast


def causal_blocks(T, S):
    """(queries, keys): slices of a few queries at a time, and of the keys that any of them sees.

    A causal query sees no key after its own, so with T = S nearly half of q kᵀ need not be computed.
    """
    for start in range(0, T, QUERIES):
        end = min(start + QUERIES, T)
        yield slice(start, end), slice(0, end + S - T)


def attend(q, k, v):
    """Causal attention (Vaswani et al., 2017, eq. 1), for a q that holds 1 / √K already.

        p = softmax(q kᵀ + mask),   o = p v

    In one go this would be

        z = q @ k.swapaxes(-1, -2) + causal_mask(T, S, q.dtype)
        p = softmax(z)
        o = p @ v

    It is done for a few queries at a time, without the keys that none of them sees.  The mask sets the last query at the
    last key, so it is right for such a block as for the whole.

    Returns o and p, which is a list: (N, H, block of T, keys seen) for each of causal_blocks(T, S).

    Shapes:   q, o (N, H, T, K), k, v (N, H, S, K), S ≥ T
    """
    o, kT, p = np.empty_like(q), transposed(k), []
    for block, seen in causal_blocks(q.shape[2], k.shape[2]):
        z = q[:, :, block] @ kT[..., seen]
        z += causal_mask(*z.shape[2:], z.dtype)
        p.append(softmax(z))
        np.matmul(p[-1], v[:, :, seen], out=o[:, :, block])
    return o, p


def attend_backward(do, q, k, v, p):
    """(dq, dk, dv) of attend(q, k, v), which gave p.

        dv = pᵀ do,   dp = do vᵀ,   dz = p ⊙ (dp − Σ_s (dp ⊙ p)),   dq = dz k,   dk = dzᵀ q

    In one go this would be

        dv = p.swapaxes(-1, -2) @ do
        dz = softmax_backward(do @ v.swapaxes(-1, -2), p)
        dq = dz @ k
        dk = dz.swapaxes(-1, -2) @ q

    A query stands in one block, so its dq is written there; a key is seen from several, so its dk and dv add up.
    """
    dq, dk, dv, vT = np.empty_like(q), np.zeros_like(k, order="C"), np.zeros_like(v, order="C"), transposed(v)
    for (block, seen), pb in zip(causal_blocks(q.shape[2], k.shape[2]), p, strict=True):
        dob = do[:, :, block]
        dv[:, :, seen] += pb.swapaxes(-1, -2) @ dob
        dp = dob @ vT[..., seen]
        dz = softmax_backward(dp, pb)
        np.matmul(dz, k[:, :, seen], out=dq[:, :, block])
        dk[:, :, seen] += dz.swapaxes(-1, -2) @ q[:, :, block]
    return dq, dk, dv


def transposed(x):
    """xᵀ of the last two axes, laid out anew: BLAS takes twice as long to multiply by a short matrix read sideways."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))
