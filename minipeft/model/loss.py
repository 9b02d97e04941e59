"""The loss: how surprised the model is by the next token.  targets[n, t] is the token that comes after ids[n, t]."""

import numpy as np

from .functional import softmax_and_log_target


def cross_entropy(logits: np.ndarray, targets: np.ndarray, mask: np.ndarray | None = None):
    """Mean negative log-likelihood of the targets, in nats; divide by ln 2 for bits.

        L = − Σ w log p[target],   p = softmax(z),   z = logits,   w = mask / Σ mask
        log p[target] = z[target] − log Σ exp z
        dlogits = w (p − onehot(target))

    Returns (loss, backward); loss is a Python float, and backward(dloss=1.0) returns dloss times these dlogits.

    Shapes:   logits (N, T, V); targets (N, T) of integers in 0 ... V − 1; mask (N, T), 1 counts and 0 does not
    Raises:   ValueError for other shapes, targets out of range, a mask of other numbers or without a 1; TypeError for
              targets that are not integers, or logits that are not floats
    """
    targets, w = targets_and_weights(logits, targets, mask)
    p, log_p = softmax_and_log_target(logits, targets)  # (N, T, V), (N, T)
    loss = -float(np.vdot(w, log_p))

    def backward(dloss=1.0):
        c = dloss * w
        dlogits = c[..., None] * p
        dlogits[(*np.indices(targets.shape, sparse=True), targets)] -= c  # at [n, t, target]; no one-hot is formed
        return dlogits

    return loss, backward


def targets_and_weights(logits, targets, mask):
    """targets and w = mask / Σ mask.  Where the mask is 0 the target does not matter, and is set to 0, a token."""
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f":
        raise TypeError(f"logits must be an array of floats, as in logits, backward = model(ids); not {logits!r:.50}")
    targets = np.asarray(targets)
    V = logits.shape[-1]
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"logits {logits.shape} need targets of shape {logits.shape[:-1]}, not {targets.shape}")
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, not {targets.dtype}")
    mask = np.ones(targets.shape, bool) if mask is None else np.asarray(mask)
    if mask.shape != targets.shape:
        raise ValueError(f"the mask needs the targets' shape {targets.shape}, not {mask.shape}")
    if mask.dtype.kind not in "biuf" or not ((mask == 0) | (mask == 1)).all() or not mask.any():
        raise ValueError("the mask must be of zeros and ones, with at least one 1: nothing is left to learn from")
    mask = mask != 0
    counted = targets[mask]
    if counted.min() < 0 or counted.max() >= V:
        raise ValueError(f"targets must lie in 0 ... {V - 1}; these go from {counted.min()} to {counted.max()}")
    return np.where(mask, targets, 0).astype(np.intp), (mask / mask.sum()).astype(logits.dtype)
