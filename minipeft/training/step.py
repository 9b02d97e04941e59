"""One step of training: forward, loss, backward, update."""

import numpy as np

from ..model.loss import cross_entropy
from ..model.module import Module
from .optimizers import Optimizer, clip_grad_norm


class Diverged(ArithmeticError):
    """The loss or a gradient is no longer a finite number.  .history holds the run so far."""


def add_gradients(model, batch, weight=1.0):
    """Forward and backward: add weight times the batch's gradients to every .grad, and return its loss.

    weight: a worker's share of a batch, 1 for all of it.
    """
    ids, targets, mask = parts(batch)
    logits, back_model = model(ids)
    loss, back_loss = cross_entropy(logits, targets, mask)
    del logits  # backward does not need them
    if np.isfinite(loss):
        back_model(back_loss(weight))  # from dlogits down to the lowest trained layer, adding to every .grad on the way
    return loss


def train_step(
    model: Module, batch: tuple, optimizer: Optimizer, clip: float | None = 1.0, lr_factor: float = 1.0,
    backpropagate=add_gradients,
) -> tuple[float, float]:  # fmt: skip
    """One update of what is trained; return (loss before the update, norm of the gradient before it was clipped).

    batch: (ids, targets) or (ids, targets, mask)
    clip: largest norm of the gradient, None for no limit
    lr_factor: of the optimizer's learning rates
    backpropagate: another way to the loss and its gradients (see workers.py)

    Raises: Diverged where loss or gradient is not finite; nothing is updated then
    """
    optimizer.zero_grad()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a run that diverges is reported below
        loss = backpropagate(model, batch)
        check_finite(loss, "loss", in_step(optimizer), optimizer)
        norm = clip_grad_norm(optimizer.parameters(), clip)
        check_finite(norm, "norm of the gradient", in_step(optimizer), optimizer)
        optimizer.step(lr_factor)
    return loss, norm


def parts(batch):
    """(ids, targets, mask or None), arrays all, of one batch."""
    if not isinstance(batch, (tuple, list, np.ndarray)) or len(batch) not in (2, 3):
        raise ValueError(f"a batch is (ids, targets) or (ids, targets, mask), not a {type(batch).__name__}")
    ids, targets, *mask = batch
    return np.asarray(ids), np.asarray(targets), np.asarray(mask[0]) if mask and mask[0] is not None else None


def in_step(optimizer):
    return f"in step {optimizer.steps + 1}"


def check_finite(value, what, when, optimizer):
    """Raises: Diverged that names the likely causes, unless the value is a finite number"""
    if not np.isfinite(value):
        rates = sorted({group["lr"] for group in optimizer.groups})
        raise Diverged(
            f"the {what} is {value} {when}. Likely causes: a learning rate that is "
            f"too high (here {rates}; try a third), no warm-up, no clipping, a scale alpha / r that is too large, "
            f"or numbers that are not finite in the data or the base. The last checkpoint, if any, is untouched."
        )
