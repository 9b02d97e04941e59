"""Several cores: each thread takes its share of the batch, and the gradients are added up (data parallelism).

The replicas hold the model's own arrays.  What each has of its own are gradient buffers, and those only for what is
trained: with LoRA, A and B are all that has to be added.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy

import numpy as np

from ..model.module import Parameter
from .step import add_gradients, parts

LARGE = 96  # n_embd from which two threads are faster than one (see docs/speed.md)


def cores():
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def suitable_workers(model, rows):
    """How many threads to share a batch of so many rows: the cores, up to 4; one where the model is too small to gain."""
    return max(1, min(4, cores(), rows)) if model.config.n_embd >= LARGE else 1


@contextmanager
def sharing(model, workers):
    """with sharing(model, n) as (backpropagate, replicas): n threads do the work of add_gradients, always in the same order.

        L = Σ_k w_k L_k,   dL/dp = Σ_k w_k dL_k/dp,   w_k = share of the counted targets

    Each thread has one of the replicas, the first of which is the model.  The same seed and number of workers give the
    same bits; another number rounds differently.
    """
    if workers == 1:
        yield add_gradients, [model]
        return
    replicas = [model, *(replica(model, k) for k in range(1, workers))]
    trained = [[p for _, p in one.named_parameters() if p.requires_grad] for one in replicas]
    with ThreadPoolExecutor(workers) as pool:

        def backpropagate(_, batch):
            shares = split(batch, workers)
            for p in (p for own in trained[1:] for p in own):
                p.grad.fill(0)
            losses = list(pool.map(work, replicas, [rows for rows, _ in shares], [w for _, w in shares]))
            for own in trained[1:]:
                for p, q in zip(trained[0], own, strict=True):
                    p.grad += q.grad
            return sum(w * loss for (_, w), loss in zip(shares, losses, strict=True))

        yield backpropagate, replicas


def work(model, rows, weight):
    """One thread's share of a step.  NumPy's error state is each thread's own."""
    if weight == 0:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return add_gradients(model, rows, weight)


def replica(model, k):
    """The same model once more, number k, with the same arrays, but with gradients and dropouts of its own."""
    records = getattr(model, "peft", None)
    shared = {} if records is None else {id(records): []}  # what stands outside the tree is not needed to train
    for _, node in model.walk():
        arrays = [vars(node)["data"]] if isinstance(node, Parameter) else node.stored_arrays().values()
        shared |= {id(array): array for array in arrays}
        if isinstance(node, Parameter) and not node.requires_grad:
            shared[id(node)] = node
    twin = deepcopy(model, shared)
    for j, dropout in enumerate(dropouts(twin)):
        dropout.rng = np.random.default_rng([k, j, *deepcopy(dropout.rng).integers(1 << 32, size=4)])
    return twin


def dropouts(model):
    """Every layer that draws at random in training: dropouts, and whatever else has a generator, .rng, of its own."""
    return [node for _, node in model.walk() if isinstance(getattr(node, "rng", None), np.random.Generator)]


def split(batch, workers):
    """[(rows of the batch, their share of the counted targets), ...], one for each worker."""
    ids, targets, mask = parts(batch)
    if ids.ndim != 2 or targets.shape != ids.shape or (mask is not None and mask.shape != ids.shape):
        return [(batch, 1.0), *[(batch, 0.0)] * (workers - 1)]  # which the model and the loss refuse in their own words
    mask = np.ones(targets.shape, bool) if mask is None else mask
    counted = (mask != 0).sum()
    rows = [(ids[i], targets[i], mask[i]) for i in np.array_split(np.arange(len(ids)), workers)]
    return [(share, float((share[2] != 0).sum() / counted)) for share in rows]
