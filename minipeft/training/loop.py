"""The training loop: steps, measurements, early stopping, and checkpoints that resume bit for bit."""

import itertools
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..files import FileError, read_npz, write_npz
from ..model.layers import Dropout
from ..model.loss import cross_entropy
from ..model.module import evaluating
from .optimizers import clip_grad_norm, warmup_cosine


class Diverged(ArithmeticError):
    """The loss or a gradient is no longer a finite number.  .history holds the run so far."""


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


@dataclass
class History:
    """What a run measured: an entry a step, and an entry an evaluation (val_step counts finished steps)."""

    loss: list = field(default_factory=list)
    grad_norm: list = field(default_factory=list)
    lr_factor: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    val_step: list = field(default_factory=list)
    val_loss: list = field(default_factory=list)
    stopped_early: bool = False


def evaluate(model, batches):
    """Mean loss and accuracy over batches of (ids, targets) or (ids, targets, mask), dropout off; nothing is trained."""
    loss = right = exact = sequences = tokens = 0
    with evaluating(model):
        for ids, targets, *mask in batches:
            logits, _ = model(ids)
            counted = np.ones(targets.shape, bool) if not mask or mask[0] is None else np.asarray(mask[0]) != 0
            hits = (logits.argmax(-1) == targets) | ~counted
            loss += cross_entropy(logits, targets, *mask)[0] * counted.sum()
            right += (hits & counted).sum()
            exact += hits.all(-1).sum()
            sequences += len(ids)
            tokens += counted.sum()
    if not tokens:
        raise ValueError("there is no batch to evaluate on")
    return Evaluation(float(loss / tokens), float(right / tokens), float(exact / sequences), int(tokens))


def fit(
    model, batches, steps, optimizer, *, schedule=warmup_cosine, clip=1.0, val=None, val_every=50, patience=None,
    checkpoint=None, checkpoint_every=100, resume=False, seed=0, progress=True, label="training",
):  # fmt: skip
    """Train for `steps` steps of the optimizer and return the History.

    batches: a function rng -> (ids, targets) or (ids, targets, mask), called once a step; or an iterable of such tuples
    (a list is gone through again and again).  schedule: (step, steps) -> factor of the learning rate.  clip: largest
    norm of the gradient, None for no limit.  val: batches to evaluate on before the first step, every val_every steps
    and at the end.  patience: stop after so many evaluations without a better val loss, and return to the best weights.
    checkpoint: a file, written every checkpoint_every steps and at the end; with resume=True a run goes on from it,
    bit for bit as if it had not stopped.  seed: of the generator that `batches` is called with.

    Raises: Diverged with the step and the likely causes; ValueError for settings out of range, or a checkpoint of
    another run
    """
    if steps < 1 or val_every < 1 or checkpoint_every < 1:
        raise ValueError(
            f"steps, val_every and checkpoint_every must be at least 1: {steps}, {val_every}, {checkpoint_every}"
        )
    if patience is not None and val is None:
        raise ValueError("patience needs val: early stopping goes by the validation loss")
    run = Run(model, optimizer, steps, np.random.default_rng(seed), seed)
    if resume and checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    stream = take_batches(batches, run.rng, run.step)
    model.train()
    if val is not None and run.step == 0:
        run.validate(val, patience)
    with tqdm(total=steps, initial=run.step, desc=label, disable=not progress, mininterval=0.5) as bar:
        while run.step < steps and not run.history.stopped_early:
            run.one_step(next_batch(stream, run.step, steps), schedule, clip)
            if val is not None and (run.step % val_every == 0 or run.step == steps):
                run.validate(val, patience)
            if checkpoint is not None and (run.step % checkpoint_every == 0 or run.step == steps):
                run.save(checkpoint)
            bar.update()
            bar.set_postfix(loss=f"{run.history.loss[-1]:.3f}", refresh=False)
    if patience is not None:
        run.restore_best()
    return run.history


def take_batches(batches, rng, start):
    """An endless or finite iterator over batches, the first `start` of them already used."""
    if callable(batches):
        return (batches(rng) for _ in itertools.count())
    batches = itertools.cycle(batches) if isinstance(batches, (list, tuple)) else iter(batches)
    return itertools.islice(batches, start, None)


def next_batch(stream, step, steps):
    batch = next(stream, None)
    if batch is None:
        raise ValueError(f"the batches ended after {step} of {steps} steps")
    return batch


class Run:
    """The state of one training run: all that has to be saved for it to go on."""

    def __init__(self, model, optimizer, steps, rng, seed):
        self.model, self.optimizer, self.rng, self.steps, self.seed = model, optimizer, rng, steps, seed
        self.step, self.history = 0, History()
        self.best, self.best_weights, self.since_best = np.inf, [], 0

    def one_step(self, batch, schedule, clip):
        began = time.perf_counter()
        ids, targets, *mask = batch
        optimizer, factor = self.optimizer, schedule(self.step, self.steps)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a run that diverges is reported below
            optimizer.zero_grad()
            logits, model_backward = self.model(ids)
            loss, loss_backward = cross_entropy(logits, targets, *mask)
            del logits
            self.check(loss, "loss")
            model_backward(loss_backward())
            norm = clip_grad_norm(optimizer.parameters(), clip)
            self.check(norm, "norm of the gradient")
            optimizer.step(factor)
        self.step += 1
        self.history.loss.append(loss)
        self.history.grad_norm.append(norm)
        self.history.lr_factor.append(factor)
        self.history.seconds.append(time.perf_counter() - began)

    def check(self, value, what):
        if not np.isfinite(value):
            rates = sorted({group["lr"] for group in self.optimizer.groups})
            error = Diverged(
                f"the {what} is {value} in step {self.step + 1} of {self.steps}. Likely causes: a learning rate that is "
                f"too high (here {rates}; try a third), no warm-up, no clipping, a scale alpha / r that is too large, "
                f"or numbers that are not finite in the data or the base. The last checkpoint, if any, is untouched."
            )
            error.history = self.history
            raise error

    def validate(self, val, patience):
        with np.errstate(over="ignore", invalid="ignore"):
            loss = evaluate(self.model, val).loss
        self.check(loss, "validation loss")
        self.history.val_step.append(self.step)
        self.history.val_loss.append(loss)
        if patience is None:
            return
        if loss < self.best:
            self.best, self.since_best = loss, 0
            self.best_weights = [p.data.copy() for p in self.optimizer.parameters()]
        else:
            self.since_best += 1
            self.history.stopped_early = self.since_best >= patience

    def restore_best(self):
        for p, data in zip(self.optimizer.parameters(), self.best_weights, strict=True):
            p.data[...] = data

    def generators(self):
        """Every generator of the run: of the batches, and of each dropout."""
        dropouts = [node.rng for _, node in self.model.walk() if isinstance(node, Dropout)]
        return [self.rng, *dropouts]

    def arrays(self):
        """{name: array} of all that changes in place: the trained weights, the optimizer's state, the best weights."""
        groups = {"weight": [[p.data] for p in self.optimizer.parameters()], "state": self.optimizer.state}
        groups["best"] = [[data] for data in self.best_weights]
        return {
            f"{name}.{i}.{j}": array
            for name, rows in groups.items()
            for i, row in enumerate(rows)
            for j, array in enumerate(row)
        }

    def settings(self):
        """What two runs must share for one to go on with the other's checkpoint."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.groups]
        shapes = [list(p.data.shape) for p in self.optimizer.parameters()]
        kind = type(self.optimizer).__name__
        return {"steps": self.steps, "seed": self.seed, "optimizer": kind, "groups": groups, "shapes": shapes}

    def save(self, path):
        header = {
            "kind": "checkpoint",
            "settings": self.settings(),
            "step": self.step,
            "updates": self.optimizer.steps,
            "history": asdict(self.history),
            "best": [self.best, self.since_best],
            "generators": [rng.bit_generator.state for rng in self.generators()],
        }
        write_npz(path, header, self.arrays())

    def load(self, path):
        header, arrays = read_npz(path, "checkpoint")
        if header["settings"] != self.settings():
            differ = [key for key, value in self.settings().items() if header["settings"].get(key) != value]
            raise FileError(f"{path} is the checkpoint of another run: {', '.join(differ)} differ")
        self.best_weights = [p.data.copy() for p in self.optimizer.parameters()] if "best.0.0" in arrays else []
        ours = self.arrays()
        if arrays.keys() != ours.keys() or any(arrays[name].shape != ours[name].shape for name in ours):
            raise FileError(f"{path} is the checkpoint of another run: its arrays are others")
        if len(header["generators"]) != len(self.generators()):
            raise FileError(f"{path} is the checkpoint of another run: its dropouts are others")
        for name, array in arrays.items():
            ours[name][...] = array
        for rng, state in zip(self.generators(), header["generators"], strict=True):
            rng.bit_generator.state = state
        self.step, self.optimizer.steps = header["step"], header["updates"]
        self.history, (self.best, self.since_best) = History(**header["history"]), header["best"]
