"""Measuring a model: mean loss and accuracy over batches."""

from typing import NamedTuple

import numpy as np

from ..model.loss import cross_entropy
from ..model.module import evaluating


class Evaluation(NamedTuple):
    """loss: nats for each counted target.  accuracy: share of targets that are the likeliest token.  exact: share of
    sequences in which all are.  tokens: how many targets counted."""

    loss: float
    accuracy: float
    exact: float
    tokens: int

    @property
    def bits(self):
        return self.loss / np.log(2)


def evaluate(model, batches):
    """Mean loss and accuracy over batches of (ids, targets) or (ids, targets, mask), dropout off; nothing is trained.

    Raises: ValueError if there is no batch; TypeError for a function, such as fit takes: which batches would be chance
    """
    loss = right = exact = sequences = tokens = 0
    with evaluating(model):
        for batch in several(batches):
            ids, targets, mask = parts(batch)
            logits, _ = model(ids)
            value, _ = cross_entropy(logits, targets, mask)
            counted = np.ones(targets.shape, bool) if mask is None else mask != 0
            hits = (logits.argmax(-1) == targets) | ~counted
            loss += value * counted.sum()
            right += (hits & counted).sum()
            exact += hits.all(-1).sum()
            sequences += len(ids)
            tokens += counted.sum()
    if not tokens:
        raise ValueError("there is no batch to evaluate on")
    return Evaluation(float(loss / tokens), float(right / tokens), float(exact / sequences), int(tokens))


def several(batches):
    """Batches to evaluate on as a list: a generator would be used up after the first evaluation."""
    if callable(batches):
        raise TypeError("evaluation takes the batches themselves, [batches(rng), ...], not a function that makes them")
    return list(batches)


def parts(batch):
    """(ids, targets, mask or None), arrays all, of one batch."""
    if not isinstance(batch, (tuple, list, np.ndarray)) or len(batch) not in (2, 3):
        raise ValueError(f"a batch is (ids, targets) or (ids, targets, mask), not a {type(batch).__name__}")
    ids, targets, *mask = batch
    return np.asarray(ids), np.asarray(targets), np.asarray(mask[0]) if mask and mask[0] is not None else None
