"""Mathematics without parameters: softmax, gelu, standardising and attention, each with its backward.

Speed lives here, so that a layer can stay as it is in the paper.  NumPy is fast where it makes few passes over memory,
so sums below are arranged for few passes, and reuse their memory.
"""

from functools import lru_cache

import numpy as np


def rows(x):
    """View x as a matrix, one row per token: (..., D) -> (N T, D), so that BLAS sees one large product."""
    return x.reshape(-1, x.shape[-1])


def matmul(x, W):
    """x W over the last axis: (..., I), (I, O) -> (..., O)."""
    return (rows(x) @ W).reshape(*x.shape[:-1], W.shape[-1])


def outer(x, dy):
    """dW for y = x W: xᵀ dy summed over batch and time, (..., I), (..., O) -> (I, O)."""
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
    """(e, Σ e, m): e = exp(z − m) along the last axis, with any m that keeps Σ e well inside the range of floats.

    softmax is the same for every m.  The largest z is always safe, but to find and subtract it takes as long as exp
    itself, so m = 0 is tried first.

    Shapes:   z, e (..., S), Σ e (..., 1), m (..., 1) or 0
    """
    with np.errstate(over="ignore"):
        e = np.exp(z)
    total = np.einsum("...s->...", e)[..., None]
    if total.min(initial=1) > 1e-15 and total.max(initial=1) < 1e15:
        return e, total, 0
    m = z.max(-1, keepdims=True)
    np.exp(np.subtract(z, m, out=e), out=e)
    return e, np.einsum("...s->...", e)[..., None], m


def softmax(z):
    """p = exp z / Σ exp z along the last axis: (..., S) -> (..., S)."""
    p, total, _ = exponentials(z)
    p /= total
    return p


def softmax_backward(dp, p):
    """dz = p ⊙ (dp − Σ_s dp_s p_s): (..., S), (..., S) -> (..., S)."""
    dz = dp - dot(dp, p)
    dz *= p
    return dz


def softmax_log(z, targets):
    """p = softmax(z), and the logarithm of the target's p:  log p_t = z_t − log Σ exp z.

    Shapes:   z, p (..., V), targets (...) of integers in 0 ... V − 1, log p_t (...)
    """
    p, total, m = exponentials(z)
    z_t = np.take_along_axis(z, targets[..., None], -1)
    # Where p is near 1 the two terms nearly cancel: float64 keeps the digits that are left.
    log_p = (z_t.astype("float64") - m - np.log(total, dtype="float64"))[..., 0].astype(z.dtype)
    p /= total
    return p, log_p


def cross_entropy_backward(p, targets, weight):
    """dz = weight ⊙ (p − onehot(targets)) for L = −Σ weight ⊙ log p_t, without a one-hot being formed.

    Shapes:   p, dz (..., V), targets (...) of integers in 0 ... V − 1, weight (...)
    """
    dz = p * weight[..., None]
    each = np.arange(targets.size), targets.reshape(-1)
    rows(dz)[each] -= weight.reshape(-1)
    return dz


def gelu(x):
    """y = ½ x (1 + tanh u) = x σ(z), z = 2u, and dy/dx (Hendrycks & Gimpel, 2016; the form GPT-2 uses).

        z = c (x + 0.044715 x³),   c = 2 √(2/π),   σ(z) = 1 / (1 + e⁻ᶻ)
        dy/dx = σ (1 + x (1 − σ) dz/dx) = (1 + (x − y) dz/dx) / (1 + e⁻ᶻ)

    Returns (y, slope).  The slope is computed here, while x and e⁻ᶻ are at hand: backward then keeps one array instead
    of two.  This is the widest array of the model, so sums reuse their memory, and z is had from dz/dx:  z = x (dz/dx +
    2c) / 3.
    """
    c = (8 / np.pi) ** 0.5
    with np.errstate(over="ignore"):  # far to the left e⁻ᶻ is ∞, and x / ∞ = 0 is right
        dz = x * x
        np.clip(dz, 0, 100, out=dz)  # beyond |x| = 10, σ is 0 or 1 already; without a bound ∞ · 0 would come up
        dz *= 3 * 0.044715 * c
        dz += c  # dz/dx
        e = dz + 2 * c
        e *= x
        e *= -1 / 3  # −z
        np.exp(e, out=e)
    e += 1  # 1 / σ
    y = x / e
    dz *= x - y
    dz += 1
    dz /= e
    return y, dz


def standardise(x, eps):
    """x̂ = (x − mean x) / σ and 1/σ, σ = √(var x + ε), along the last axis.

    Shapes:   x, x̂ (..., D), 1/σ (..., 1)
    """
    xhat = x - mean(x)
    rstd = 1 / np.sqrt(dot(xhat, xhat) / x.shape[-1] + eps)
    xhat *= rstd
    return xhat, rstd


def standardise_backward(dxhat, xhat, rstd):
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / σ: what changes the mean or the length of x is taken away."""
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
    """o = p v,   p = softmax(q kᵀ + mask): causal attention (Vaswani et al., 2017, eq. 1; q is divided by √K already).

    Returns o and p, which is a list: one array of (N, H, block of T, keys seen) for each of causal_blocks(T, S).

    Shapes:   q, o (N, H, T, K), k, v (N, H, S, K), S ≥ T
    """
    o, kT, p = np.empty_like(q), transposed(k), []
    for t, s in causal_blocks(q.shape[2], k.shape[2]):
        z = q[:, :, t] @ kT[..., s]
        z += causal_mask(*z.shape[2:], z.dtype)
        p.append(softmax(z))
        np.matmul(p[-1], v[:, :, s], out=o[:, :, t])
    return o, p


def attend_backward(do, q, k, v, p):
    """dv = pᵀ do,   dp = do vᵀ,   dz = p ⊙ (dp − Σ_s dp ⊙ p),   dq = dz k,   dk = dzᵀ q, for attend(q, k, v)."""
    dq, dk, dv, vT = np.empty_like(q), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype), transposed(v)
    for (t, s), p_t in zip(causal_blocks(q.shape[2], k.shape[2]), p, strict=True):
        dv[:, :, s] += p_t.swapaxes(-1, -2) @ do[:, :, t]
        dz = softmax_backward(do[:, :, t] @ vT[..., s], p_t)
        np.matmul(dz, k[:, :, s], out=dq[:, :, t])
        dk[:, :, s] += dz.swapaxes(-1, -2) @ q[:, :, t]
    return dq, dk, dv


def transposed(x):
    """xᵀ of the last two axes, laid out anew: BLAS takes twice as long to multiply by a short matrix read sideways."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))
