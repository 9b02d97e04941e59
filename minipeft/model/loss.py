"""The loss: how surprised the model is by the next token."""

import numpy as np

from .functional import rows


def cross_entropy(logits, targets, mask=None):
    """Mean negative log-likelihood of the targets, in nats; divide by ln 2 for bits.

        L = Σ mask ⊙ (log Σ_v exp z_v − z_target) / Σ mask
        dz = (softmax(z) − onehot(target)) ⊙ mask / Σ mask

    Returns (loss, backward); loss is a Python float, and backward(dloss=1.0) returns dlogits.

    Shapes:   logits z (N, T, V); targets (N, T) of integers in 0 ... V − 1; mask (N, T), 1 counts and 0 does not
    Raises:   ValueError for other shapes, targets out of range, or a mask without a 1; TypeError unless integers
    """
    targets = np.asarray(targets)
    V = logits.shape[-1]
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"logits {logits.shape} need targets of shape {logits.shape[:-1]}, not {targets.shape}")
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, not {targets.dtype}")
    mask = np.ones(targets.shape, bool) if mask is None else np.asarray(mask)
    if mask.shape != targets.shape:
        raise ValueError(f"the mask needs the targets' shape {targets.shape}, not {mask.shape}")
    if not np.isfinite(mask).all() or (mask < 0).any() or not mask.any():
        raise ValueError("the mask must be of zeros and ones, with at least one 1: nothing is left to learn from")
    counted = targets[mask != 0]
    if counted.min() < 0 or counted.max() >= V:
        raise ValueError(f"targets must lie in 0 ... {V - 1}; these go from {counted.min()} to {counted.max()}")

    weight = (mask / mask.sum()).astype(logits.dtype).reshape(-1, 1)  # (N T, 1)
    index = (np.arange(targets.size), np.where(mask != 0, targets, 0).reshape(-1))
    z, shape = rows(logits), logits.shape  # of the logits, backward keeps the shape alone
    e = z - z.max(-1, keepdims=True)  # (N T, V)
    z_target = e[index]
    np.exp(e, out=e)
    normaliser = np.einsum("nv->n", e)
    loss = float(weight[:, 0] @ (np.log(normaliser) - z_target))

    def backward(dloss=1.0):
        scale = weight * dloss
        dz = e * (scale / normaliser[:, None])
        dz[index] -= scale[:, 0]
        return dz.reshape(shape)

    return loss, backward
