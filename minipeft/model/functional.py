"""Mathematics without parameters: softmax, gelu and its slope, and the few sums that every backward needs."""

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


def softmax(z):
    """p = exp(z − max z) / Σ exp(z − max z) along the last axis; the max only guards against overflow."""
    p = z - z.max(-1, keepdims=True)
    np.exp(p, out=p)
    p /= np.einsum("...s->...", p)[..., None]
    return p


def softmax_backward(dp, p):
    """dz = p ⊙ (dp − Σ_s dp ⊙ p), for p = softmax(z) along the last axis."""
    dz = dp - dot(dp, p)
    dz *= p
    return dz


def softmax_log(z, targets):
    """p = softmax(z) along the last axis, and log p at the targets = z_target − max z − log Σ exp(z − max z).

    Shapes:   z, p (..., V); targets, log p (...) of integers
    """
    p = z - z.max(-1, keepdims=True)
    log_p = np.take_along_axis(p, targets[..., None], -1)[..., 0]
    np.exp(p, out=p)
    normaliser = np.einsum("...v->...", p)
    p /= normaliser[..., None]
    return p, log_p - np.log(normaliser)


def cross_entropy_backward(p, targets, weight):
    """dz = weight ⊙ (p − onehot(targets)); the one-hot is never formed.

    Shapes:   p, dz (..., V); targets, weight (...)
    """
    dz = p * weight[..., None]
    at_target = np.take_along_axis(dz, targets[..., None], -1) - weight[..., None]
    np.put_along_axis(dz, targets[..., None], at_target, -1)
    return dz


@lru_cache(maxsize=32)
def causal_mask(T, S, dtype):
    """0 where query t may see key s ≤ t + S − T, −∞ elsewhere, (T, S): to be added to the scores."""
    mask = np.where(np.tri(T, S, S - T, dtype=bool), 0, -np.inf).astype(dtype)
    mask.flags.writeable = False
    return mask


def standardise(x, eps):
    """x̂ = (x − mean x) / σ along the last axis, and 1 / σ, where σ = √(var x + ε).

    Shapes:   x, x̂ (..., D), 1 / σ (..., 1)
    """
    xhat = x - mean(x)
    rstd = 1 / np.sqrt(dot(xhat, xhat) / x.shape[-1] + eps)
    xhat *= rstd
    return xhat, rstd


def standardise_backward(dxhat, xhat, rstd):
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / σ."""
    along = dot(dxhat, xhat) / xhat.shape[-1]
    dx = dxhat - mean(dxhat)
    dx -= xhat * along
    dx *= rstd
    return dx


def gelu(x):
    """y = ½ x (1 + tanh u) = x σ(z), z = 2u, and dy/dx (Hendrycks & Gimpel, 2016; the form GPT-2 uses).

        z = c (x + 0.044715 x³),   c = 2 √(2/π),   σ(z) = 1 / (1 + e⁻ᶻ)
        dy/dx = σ (1 + (1 − σ) x dz/dx),   x dz/dx = 3 z − 2 c x

    Returns (y, slope).  The slope is computed here, while x and σ are at hand: backward then keeps one array instead of
    two.  This is the widest array of the model, so the sums below reuse their memory; and NumPy's exp takes half the
    time of its tanh.
    """
    c = (8 / np.pi) ** 0.5
    minus_z = x * x
    minus_z *= -0.044715 * c
    minus_z -= c
    minus_z *= x
    with np.errstate(over="ignore"):  # far to the left e⁻ᶻ is ∞, and σ = 1 / ∞ = 0 is right
        sigma = np.exp(minus_z)
    sigma += 1
    np.divide(1, sigma, out=sigma)
    minus_z *= 3
    minus_z += (2 * c) * x  # −x dz/dx
    slope = sigma - 1  # −(1 − σ): the two signs cancel
    slope *= minus_z
    slope += 1
    slope *= sigma
    sigma *= x
    return sigma, slope


def transposed(x):
    """xᵀ of the last two axes, laid out anew: BLAS takes twice as long to multiply by a short matrix read sideways."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))
