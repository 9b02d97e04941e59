"""The training loop: steps, measurements, early stopping, and checkpoints that resume bit for bit."""

import itertools
import time
from dataclasses import asdict, dataclass, field

import numpy as np
from tqdm import tqdm

from ..checks import is_real, is_seed, is_whole
from ..files import FileError, check_place, read_npz, write_npz
from ..methods.method import methods_of
from ..model.layers import Dropout
from ..model.loss import cross_entropy
from .evaluation import evaluate, parts, several
from .optimizers import clip_grad_norm, warmup_cosine


class Diverged(ArithmeticError):
    """The loss or a gradient is no longer a finite number.  .history holds the run so far."""


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
    bit for bit as if it had not stopped, or begins if there is none yet.  seed: of the generator that `batches` is called
    with.

    Raises: Diverged with the step and the likely causes; ValueError for settings out of range, an optimizer of other
    parameters, or a checkpoint of another run
    """
    counts = {"steps": steps, "val_every": val_every, "checkpoint_every": checkpoint_every}
    counts |= {} if patience is None else {"patience": patience}
    for name, count in counts.items():
        if not is_whole(count, 1):
            raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")
    if not is_seed(seed):
        raise ValueError(f"seed must be a whole number of at least 0, or None, not {seed!r}")
    if patience is not None and val is None:
        raise ValueError("patience needs val: early stopping goes by the validation loss")
    if resume and checkpoint is None:
        raise ValueError("resume needs checkpoint: the file to go on from")
    val = None if val is None else several(val)
    checkpoint = None if checkpoint is None else check_place(checkpoint)
    run = Run(model, optimizer, steps, np.random.default_rng(seed), seed)
    if resume and checkpoint.exists():
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
            ends = run.step == steps or run.history.stopped_early
            if ends or run.step % checkpoint_every == 0:
                run.check_weights()
                if checkpoint is not None:
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
    for batch in stream:
        return parts(batch)
    raise ValueError(f"the batches ended after {step} of {steps} steps")


class Run:
    """The state of one training run: all that has to be saved for it to go on."""

    def __init__(self, model, optimizer, steps, rng, seed):
        self.model, self.optimizer, self.rng, self.steps, self.seed = model, optimizer, rng, steps, seed
        self.step, self.history = 0, History()
        trained = {id(p) for _, p in model.named_parameters() if p.requires_grad}
        if any(id(p) not in trained for p in optimizer.parameters()):
            raise ValueError(
                "the optimizer has parameters that are frozen, or no longer in the model: make it after get_peft_model "
                "or load_adapter, and not for what was merged, unwrapped or disabled"
            )
        self.best, self.best_weights, self.since_best = np.inf, [], 0

    def one_step(self, batch, schedule, clip):
        began = time.perf_counter()
        ids, targets, mask = batch
        optimizer, factor = self.optimizer, schedule(self.step, self.steps)
        if not is_real(factor) or factor < 0:
            raise ValueError(f"schedule({self.step}, {self.steps}) must give a number of at least 0, not {factor!r}")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a run that diverges is reported below
            optimizer.zero_grad()
            logits, model_backward = self.model(ids)
            loss, loss_backward = cross_entropy(logits, targets, mask)
            del logits
            self.check(loss, "loss", f"in step {self.step + 1}")
            model_backward(loss_backward())
            norm = clip_grad_norm(optimizer.parameters(), clip)
            self.check(norm, "norm of the gradient", f"in step {self.step + 1}")
            optimizer.step(factor)
        self.step += 1
        self.history.loss.append(loss)
        self.history.grad_norm.append(norm)
        self.history.lr_factor.append(factor)
        self.history.seconds.append(time.perf_counter() - began)

    def check(self, value, what, when):
        if not np.isfinite(value):
            rates = sorted({group["lr"] for group in self.optimizer.groups})
            error = Diverged(
                f"the {what} is {value} {when} of {self.steps}. Likely causes: a learning rate that is "
                f"too high (here {rates}; try a third), no warm-up, no clipping, a scale alpha / r that is too large, "
                f"or numbers that are not finite in the data or the base. The last checkpoint, if any, is untouched."
            )
            error.history = self.history
            raise error

    def check_weights(self):
        """The last step may have spoilt them: such weights are not saved over good ones, nor handed back in silence."""
        if not all(np.isfinite(p.data).all() for p in self.optimizer.parameters()):
            self.check(np.nan, "norm of the weights", f"after step {self.step}")

    def validate(self, val, patience):
        with np.errstate(over="ignore", invalid="ignore"):
            loss = evaluate(self.model, val).loss
        self.check(loss, "validation loss", f"after step {self.step}")
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
        paths = {id(p): path for path, p in self.model.named_parameters()}
        arrays = [f"{paths[id(p)]} {p.data.shape} {p.data.dtype}" for p in self.optimizer.parameters()]
        methods = [f"{type(m).__name__} {vars(m)} {seed} {base}" for m, seed, base in methods_of(self.model)]
        return {
            "steps": self.steps, "seed": self.seed, "optimizer": type(self.optimizer).__name__, "groups": groups,
            "parameters": arrays, "methods": methods,
        }  # fmt: skip

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
