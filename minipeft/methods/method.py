"""What all of PEFT shares: freeze everything, put something in; take it off, fold it in, switch it off."""

from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase

import numpy as np

from ..model.module import Module, plain_path, several
from ..validation import is_bool, is_seed
from .records import (
    Record,
    base_parameters,
    fingerprint,
    is_inside,
    parent,
    put_back,
    recorded,
    records_of,
    take_off,
    taken_off,
)
from .wrapper import wrappers_of


class Method:
    """A PEFT method: how to put trainable parameters into a frozen model.  Subclasses are dataclasses of settings.

    A new method is one file with such a class, and its name in METHODS.  It must say inject; everything else here is a
    default.  What it trains or changes in the base itself (a bias, say) is kept as it was by get_peft_model, so that
    disabled, unwrap and save_adapter hold for it, too.  To change a base parameter, inject gives it a new array.

    Class attributes:  name, in METHODS, in files, on the command line; lr, the learning rate that suits it
    """

    name: str
    lr = 1e-2
    identity_at_init = True  # before training, the model computes what it computed without the method
    merges = False  # what it puts in can be folded into the weights that it stands beside

    def inject(self, model, rng):
        """Wrap layers of the frozen model, or thaw some of its own parameters; all random values come from rng.

        get_peft_model ignores what it returns.  LoRA returns the paths that it wrapped, which LoRA+ asks for.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is put into a model")

    def as_saved(self):
        """The method whose layers hold what was saved (the same, unless training used a scaffold)."""
        return self

    def parameter_groups(self, model, lr):
        """Groups for the optimizer, [{"params": [...], "lr": ...}, ...], for what shall not be trained at lr itself."""
        return []

    def after_step(self, model, step, steps):
        """Called by fit after each update, `step` of `steps` done: to prune, to move a budget, to anneal."""


@dataclass
class Stack(Method):
    """Several methods in one model, the first innermost: prefix and parallel adapter, say, as in MAM (He et al., 2022).

    Raises: TypeError for anything but a tuple or list of methods, at least one
    """

    methods: tuple

    name = "stack"

    def __post_init__(self):
        is_list = isinstance(self.methods, (tuple, list)) and len(self.methods) > 0
        if not is_list or not all(isinstance(method, Method) for method in self.methods):
            raise TypeError(
                f"a Stack holds methods, such as Stack((LoRA(r=8), PrefixTuning(m=4))), not {self.methods!r}"
            )

    @property
    def identity_at_init(self):
        return all(method.identity_at_init for method in self.methods)

    @property
    def merges(self):
        return all(method.merges for method in self.methods)

    @property
    def lr(self):
        return min(method.lr for method in self.methods)

    def inject(self, model, rng):
        for method in self.methods:
            method.inject(model, rng)

    def as_saved(self):
        return Stack(tuple(method.as_saved() for method in self.methods))

    def parameter_groups(self, model, lr):
        return [group for method in self.methods for group in method.parameter_groups(model, lr)]

    def after_step(self, model, step, steps):
        for method in self.methods:
            method.after_step(model, step, steps)


def one_by_one(methods):
    """[method, ...]: in the place of a Stack, those that it holds."""
    found = []
    for method in methods:
        found += one_by_one(method.methods) if isinstance(method, Stack) else [method]
    return found


def get_peft_model(model: Module, method: Method, seed: int | None = 0, start: dict | None = None) -> Module:
    """Freeze everything, put something in: the two acts that all of PEFT shares.

    The model is changed in place and returned.  A second call freezes what the first put in, and adds to it; to train
    several methods together, put them in one Stack.

    start: other starting values than the method's own, {glob over paths: an array, a number, or a function of
    (shape, rng)}; {"*.B": 0.1}, say, or {"*.A": lambda shape, rng: rng.normal(0, 0.02, shape)}.

    Raises: ValueError where the method does not fit; TypeError for no model or no method.  The model is then as it was.
    """
    check_method(model, method, seed)
    with recorded(model, method, seed, start):
        model.requires_grad_(False)
        method.inject(model, np.random.default_rng(seed))
    return model


def check_method(model, method, seed):
    if not isinstance(model, Module) or not isinstance(method, Method):
        raise TypeError(f"a model and a method are needed, such as LoRA(r=8), not {model!r:.50} and {method!r}")
    if not is_seed(seed):
        raise ValueError(f"seed must be a whole number of at least 0, or None, not {seed!r}")
    for one in filter(is_dataclass, one_by_one([method])):
        for field in fields(one):
            value = getattr(one, field.name)
            if field.type in (bool, "bool") and not is_bool(value):  # "no" would count as True
                raise ValueError(f"{field.name} must be True or False, not {value!r}")


def thaw(model, targets, name="*", kind=Module):
    """Train what is called `name` in the base's own layers whose paths match; leave alone what other methods brought.

    targets: a glob, or several, over paths of the bare base, whatever stands around the layers by now
    kind: only layers of this class count

    Raises: ValueError that lists what there is, when a glob matches nothing
    """
    named = [(path, p) for path, p in base_parameters(model) if isinstance(model.get_submodule(parent(path)), kind)]
    named = [(plain_path(path), p) for path, p in named]
    for glob in several(targets):
        matching = [p for path, p in named if fnmatchcase(path, f"{glob}.{name}")]
        if not matching:
            there_is = dict.fromkeys(parent(path) for path, _ in named if fnmatchcase(path, f"*.{name}"))
            raise ValueError(f"{glob!r} matches nothing that can be trained here; there is: {', '.join(there_is)}")
        for p in matching:
            p.requires_grad = True


@contextmanager
def disabled(model: Module):
    """with disabled(model): ...   Inside, the model is its base, bit for bit; afterwards the methods are back."""
    records = records_of(model)
    kept = [one.parameter for record in records for one in record.kept]
    grads = [p.grad for p in kept]
    with taken_off(model):
        model.peft = None
        for p in kept:
            p.grad = None  # inside, nothing of the base is trained
        try:
            yield model
        finally:
            model.peft = records
            for p, grad in zip(kept, grads, strict=True):
                p.grad = grad


def unwrap(model: Module) -> Module:
    """Take off every method, merged ones too; return the model, bit for bit the base that it was, and frozen."""
    records_of(model)
    take_off(model)
    model.peft = []
    return model.requires_grad_(False)


def merge(model: Module) -> Module:
    """Fold every wrapper into the weights it stands for and drop it: the same function, at no extra cost.

    The wrappers are kept out of the tree, in model.peft, so that unwrap still gives the base back bit for bit:
    subtracting ΔW again would leave rounding errors.  What a method trained in the base itself is there already.

    Raises: ValueError that says why, if a wrapper cannot be folded; the model is then as it was.
    """
    records = records_of(model)
    outermost = [(path, wrapper) for path, wrapper in wrappers_of(model) if not is_inside(path, model)]
    folded = [(path, wrapper.fold()) for path, wrapper in outermost]
    if folded:
        last = records[-1] if records else Record(Method(), None, fingerprint(model))
        last.replaced = outermost + last.replaced
        model.peft = records or [last]
        for record in model.peft:
            record.merged = True
    put_back(model, folded)
    return model


def is_merged(model):
    """True if merge folded a wrapper into one of the layers."""
    return any(record.merged for record in records_of(model))


def parameter_groups(model, lr):
    """What is trained in the model, in groups for an optimizer: as its methods ask, and the rest at lr."""
    groups, claimed = [], set()
    for record in getattr(model, "peft", None) or []:
        for group in record.method.parameter_groups(model, lr):
            params = [p for p in group["params"] if p.requires_grad and id(p) not in claimed]
            claimed |= {id(p) for p in params}
            groups += [group | {"params": params}] if params else []
    rest = [p for _, p in model.named_parameters() if p.requires_grad and id(p) not in claimed]
    return ([{"params": rest}] if rest else []) + groups


def after_step(model, step, steps):
    """Let every method in the model do what it does after an update."""
    for record in records_of(model):
        record.method.after_step(model, step, steps)
