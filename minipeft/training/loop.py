"""The training loop: steps, measurements, early stopping.  One step is in step.py, what a file keeps in checkpoints.py."""

import itertools
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..files import check_place
from ..methods.method import after_step
from ..model.module import Module
from ..process import computing
from ..validation import is_real, is_seed, is_whole
from .checkpoints import History, Run
from .evaluation import as_list, evaluate
from .optimizers import Optimizer, warmup_cosine
from .progress import progress_bar
from .step import Diverged, check_finite, parts, train_step
from .workers import sharing

MOST_WORKERS = 64


def fit(
    model: Module, batches, steps: int, optimizer: Optimizer, *, schedule=warmup_cosine, clip: float | None = 1.0,
    val: list | None = None, val_every: int = 50, patience: int | None = None, checkpoint: str | Path | None = None,
    checkpoint_every: int = 100, resume: bool = False, seed: int | None = 0, progress: bool = True,
    label: str = "training", workers: int = 1,
) -> History:  # fmt: skip
    """Train for `steps` steps of the optimizer and return the History.

    batches: a function rng -> (ids, targets) or (ids, targets, mask), called once a step; or an iterable of such tuples (a
        list is gone through again and again)
    schedule: (step, steps) -> factor of the learning rate, where step counts from 0; the same whenever it is asked
    clip: largest norm of the gradient; None for no limit
    val: batches to evaluate on before the first step, every val_every steps and at the end
    patience: stop after so many evaluations without a better loss on val, and return to the best weights
    checkpoint: a file, written every checkpoint_every steps and at the end
    resume: go on from the checkpoint, bit for bit as if the run had not stopped; begin, if there is none yet
    seed: of the generator that `batches` is called with
    workers: threads that share each batch

    Raises: Diverged with the step and the likely causes; ValueError for settings out of range, an optimizer of other
    parameters, or a checkpoint of another run
    """
    check_counts(steps, val_every, checkpoint_every, patience, workers, seed, val, checkpoint, resume)
    val, rng = None if val is None else as_list(val), np.random.default_rng(seed)
    if val == []:
        raise ValueError("val holds no batch: leave it out, or give it some")
    with computing(), sharing(model, workers) as (backpropagate, replicas):
        options = {"clip": clip} | ({} if val is None else {"val_every": val_every, "patience": patience})
        run = Run(replicas, optimizer, steps, seed, rng, batches, val, options)
        if resume and Path(checkpoint).exists():
            run.load(checkpoint, batches, lambda step: factor_at(schedule, step, steps))
        stream, history = take_batches(batches, rng, run.step), run.history
        for replica in replicas:
            replica.train()
        if val and run.step == 0:
            measure(run, val, patience)
        with progress_bar(steps, run.step, label, progress) as advance, history_on_divergence(history):
            while run.step < steps and not history.stopped_early:
                began = time.perf_counter()
                batch = next_batch(stream, run.step, steps)
                run.note_first(batch)
                factor = factor_at(schedule, run.step, steps)
                loss, norm = train_step(model, batch, optimizer, clip, factor, backpropagate)
                run.step += 1
                after_step(model, run.step, steps)
                history.add(loss, norm, factor, time.perf_counter() - began)
                if val and (run.step % val_every == 0 or run.step == steps):
                    measure(run, val, patience)
                if run.step % checkpoint_every == 0 or run.step == steps or history.stopped_early:
                    run.check_weights()
                    if checkpoint is not None:
                        run.save(checkpoint)
                advance(loss)
    if patience is not None:
        run.restore_best()
    return history


def check_counts(steps, val_every, checkpoint_every, patience, workers, seed, val, checkpoint, resume):
    counts = {"steps": steps, "val_every": val_every, "checkpoint_every": checkpoint_every, "workers": workers}
    counts |= {} if patience is None else {"patience": patience}
    for name, count in counts.items():
        if not is_whole(count, 1):
            raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")
    if workers > MOST_WORKERS:
        raise ValueError(
            f"workers must be at most {MOST_WORKERS}, not {workers}: each is a thread with its own gradients"
        )
    if not is_seed(seed):
        raise ValueError(f"seed must be a whole number of at least 0, or None, not {seed!r}")
    if patience is not None and val is None:
        raise ValueError("patience needs val: early stopping goes by the validation loss")
    if resume and checkpoint is None:
        raise ValueError("resume needs checkpoint: the file to go on from")
    if checkpoint is not None:
        check_place(checkpoint, "checkpoint")


def factor_at(schedule, step, steps):
    factor = schedule(step, steps)
    if not is_real(factor) or factor < 0:
        raise ValueError(f"schedule({step}, {steps}) must give a number of at least 0, not {factor!r}")
    return factor


def take_batches(batches, rng, start):
    """An iterator over batches, endless or not.  After `start` steps a function goes on with the generator as the
    checkpoint left it; of anything else so many batches are passed over."""
    if callable(batches):
        return (batches(rng) for _ in itertools.count())
    batches = itertools.cycle(batches) if isinstance(batches, (list, tuple)) else iter(batches)
    return itertools.islice(batches, start, None)


def next_batch(stream, step, steps):
    try:
        batch = next(stream)
    except StopIteration:
        raise ValueError(f"the batches ended after {step} of {steps} steps") from None
    return parts(batch)


def measure(run, val, patience):
    """Evaluate, write it down, and see whether it is time to stop."""
    with np.errstate(over="ignore", invalid="ignore"):
        loss = evaluate(run.model, val).loss
    check_finite(loss, "validation loss", f"after step {run.step}", run.optimizer)
    run.history.val_step.append(run.step)
    run.history.val_loss.append(loss)
    if patience is not None:
        run.remember_if_best(loss)
        run.history.stopped_early = run.since_best >= patience


@contextmanager
def history_on_divergence(history):
    """A run that diverges hands over what it measured until then."""
    try:
        yield
    except Diverged as error:
        error.history = history
        raise
