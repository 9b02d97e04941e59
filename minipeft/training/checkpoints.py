"""Checkpoints: all that a run needs to go on bit for bit as if it had not stopped, in one file."""

import hashlib
from dataclasses import asdict, dataclass, field

import numpy as np

from ..files import FileError, read_npz, write_npz
from ..methods import records_of
from ..methods.wrapper import wrappers_of
from ..validation import is_real
from .step import check_finite, parts
from .workers import dropouts


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

    def add(self, loss, norm, factor, seconds):
        self.loss.append(loss)
        self.grad_norm.append(norm)
        self.lr_factor.append(factor)
        self.seconds.append(seconds)


class Run:
    """The state of one training run: all that has to be saved for it to go on.

    Raises: ValueError if the optimizer holds parameters that are not trained in this model
    """

    def __init__(self, replicas, optimizer, steps, seed, rng, batches, val, options):
        self.optimizer, self.steps, self.seed, self.rng = optimizer, steps, seed, rng
        self.model = model = replicas[0]
        self.replicas, self.records, self.options = replicas, records_of(model), options
        self.data = {"batches": getattr(batches, "digest", None), "val": [digest(batch) for batch in val or ()]}
        self.first_batch = None  # its digest
        self.step, self.history = 0, History()
        self.best, self.best_weights, self.since_best = np.inf, [], 0
        trained = {id(p) for _, p in model.named_parameters() if p.requires_grad}
        if any(id(p) not in trained for p in optimizer.parameters()):
            raise ValueError(
                "the optimizer has parameters that are frozen, or no longer in the model: make it after get_peft_model "
                "or load_adapter, and not for what was merged, unwrapped or disabled"
            )

    def note_first(self, batch):
        """Remember the first batch of the run: with another text it would be another."""
        if self.step == 0:
            self.first_batch = digest(batch)

    def remember_if_best(self, loss):
        """Keep the weights of the best validation loss, and count the evaluations since."""
        if loss < self.best:
            self.best, self.since_best = loss, 0
            self.best_weights = [p.data.copy() for p in self.optimizer.parameters()]
        else:
            self.since_best += 1

    def check_weights(self):
        """The last step may have spoilt them: such weights are not saved over good ones, nor handed back in silence."""
        if not all(np.isfinite(p.data).all() for p in self.optimizer.parameters()):
            check_finite(np.nan, "norm of the weights", f"after step {self.step}", self.optimizer)

    def restore_best(self):
        for p, data in zip(self.optimizer.parameters(), self.best_weights, strict=True):
            p.data[...] = data

    def generators(self):
        """Every generator of the run: of the batches, and of each dropout, in each replica."""
        return [self.rng, *(dropout.rng for model in self.replicas for dropout in dropouts(model))]

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

    def frozen(self):
        """A digest of what methods brought and nothing trains: drawn without a seed, say, or trained before."""
        found = hashlib.sha256()
        trained = {id(p) for p in self.optimizer.parameters()}
        brought = {id(p): (path, p) for _, wrapper in wrappers_of(self.model) for path, p in wrapper.own_parameters()}
        for key, (path, p) in brought.items():
            if key not in trained:
                found.update(path.encode())
                found.update(np.ascontiguousarray(p.data))
        return found.hexdigest()

    def settings(self):
        """What two runs must share for one to go on with the other's checkpoint."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.groups]
        paths = {id(p): path for path, p in self.model.named_parameters()}
        arrays = [f"{paths[id(p)]} {p.data.shape} {p.data.dtype}" for p in self.optimizer.parameters()]
        methods = [f"{type(one.method).__name__} {vars(one.method)} {one.seed} {one.base}" for one in self.records]
        return {
            "frozen": self.frozen(), "steps": self.steps, "seed": self.seed, "groups": groups, "parameters": arrays,
            "optimizer": type(self.optimizer).__name__, "methods": methods, "workers": len(self.replicas),
            "data": self.data, **self.options,
        }  # fmt: skip

    def save(self, path):
        """Write the run to a file."""
        header = {
            "kind": "checkpoint",
            "settings": self.settings(),
            "first_batch": self.first_batch,
            "step": self.step,
            "updates": self.optimizer.steps,
            "history": asdict(self.history),
            "best": [self.best, self.since_best],
            "generators": [rng.bit_generator.state for rng in self.generators()],
        }
        write_npz(path, header, self.arrays())

    def load(self, path, batches, factor):
        """Take over the state that save wrote; factor(step) is that of this run's schedule.

        Raises: FileError if it is that of another run, and says what differs
        """
        header, arrays = read_checkpoint(path)
        over = header["step"] >= self.steps or header["history"]["stopped_early"]
        if header["settings"] != self.settings():
            differ = [key for key, value in self.settings().items() if header["settings"].get(key) != value]
            raise FileError(
                f"{path} is the checkpoint of another run: {', '.join(differ)} differ.  Go on with the settings that it "
                "began with, or begin anew with another checkpoint file"
            )
        for step, was in enumerate(header["history"]["lr_factor"]):
            if factor(step) != was:
                raise FileError(
                    f"{path} is the checkpoint of another run: its schedule differs, which gave {was:g} at step {step}"
                )
        if not over and first_of(batches, self.seed) not in (None, header["first_batch"]):
            raise FileError(
                f"{path} is the checkpoint of another run: its first batch was another (text, length or size)"
            )
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
        self.first_batch = header["first_batch"]
        for name, value in header["history"].items():
            setattr(self.history, name, value)
        self.best, self.since_best = header["best"]


def read_checkpoint(path):
    """(header, arrays) of a checkpoint.  Raises: what read_npz raises; FileError if the header lacks what a run needs"""
    header, arrays = read_npz(path, "checkpoint")
    needed = {"settings": dict, "step": int, "updates": int, "history": dict, "best": list, "generators": list}
    for name, kind in needed.items():
        if not isinstance(header.get(name), kind):
            raise FileError(f"{path} is damaged: its header has no {name}, so no run can go on from it")
    factors = header["history"].get("lr_factor")
    is_whole = {"steps", "clip"} <= header["settings"].keys() and {"first_batch"} <= header.keys()
    is_whole &= "stopped_early" in header["history"] and isinstance(factors, list) and all(map(is_real, factors))
    if not is_whole:
        raise FileError(f"{path} is damaged, or of an older minipeft: its header does not say which run it belongs to")
    return header, arrays


def first_of(batches, seed):
    """The digest of the first batch of a run; None of an iterator, whose batches are gone once they were looked at."""
    if callable(batches):
        return None if seed is None else digest(batches(np.random.default_rng(seed)))
    return digest(batches[0]) if isinstance(batches, (list, tuple)) and batches else None


def digest(batch):
    """What tells one batch from another."""
    found = hashlib.sha256()
    for array in parts(batch):
        if array is not None:
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array))
    return found.hexdigest()
