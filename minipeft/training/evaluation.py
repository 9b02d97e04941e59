"""Measuring a model: mean loss and accuracy over batches."""

from typing import NamedTuple

import numpy as np

from ..model.loss import cross_entropy
from ..model.module import Module, evaluating
from ..process import computing
from .step import parts


class Evaluation(NamedTuple):
    """What a model's answers are worth, over all batches.

    loss: nats for each counted target
    accuracy: share of targets that are the likeliest token
    exact: of the sequences with a counted target, the share in which every counted target is the likeliest token
    tokens: how many targets counted
    """

    loss: float
    accuracy: float
    exact: float
    tokens: int

    @property
    def bits(self):
        """Bits for each counted target."""
        return self.loss / np.log(2)

    @property
    def perplexity(self):
        """e to the loss: as unsure as between so many tokens of equal chance."""
        return float(np.exp(self.loss))

    def bits_a_character(self, text):
        """Bits for each character of the text that was evaluated.  Its tokens do not count, so bases can be compared."""
        return self.bits * self.tokens / len(text)


def evaluate(model: Module, batches: list) -> Evaluation:
    """Mean loss and accuracy over batches of (ids, targets) or (ids, targets, mask), dropout off; nothing is trained.

    Raises: ValueError if there is no batch; TypeError for a function, such as fit takes: which batches would be chance
    """
    loss = right = exact = sequences = tokens = 0
    with computing(), evaluating(model):
        for batch in as_list(batches):
            ids, targets, mask = parts(batch)
            counted = np.ones(targets.shape, bool) if mask is None else mask != 0
            if not counted.any():
                continue
            logits, _ = model(ids)
            value, _ = cross_entropy(logits, targets, mask)
            hits = (logits.argmax(-1) == targets) | ~counted
            loss += value * counted.sum()
            right += (hits & counted).sum()
            exact += (hits.all(-1) & counted.any(-1)).sum()
            sequences += counted.any(-1).sum()
            tokens += counted.sum()
    if not tokens:
        raise ValueError("there is nothing to evaluate on: no batch has a target that counts")
    return Evaluation(float(loss / tokens), float(right / tokens), float(exact / sequences), int(tokens))


def as_list(batches):
    """Batches to evaluate on as a list: a generator would be used up after the first evaluation."""
    if callable(batches):
        raise TypeError("evaluation takes the batches themselves, [batches(rng), ...], not a function that makes them")
    return list(batches)
