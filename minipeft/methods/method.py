"""What all of PEFT shares: freeze everything, put something in; take it off, fold it in, switch it off."""

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..checks import is_seed
from ..memory import give_back_freed_memory
from ..model.module import Module, Wrapper


class Method:
    """A PEFT method: how to put trainable parameters into a frozen model.  Subclasses are dataclasses of settings."""

    identity_at_init = True  # before training, the model computes what it computed without the method
    trains_base = False  # the base's own parameters change, so they cannot be given back

    def inject(self, model, rng):
        """Wrap layers of the frozen model; all random starting values come from rng."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is put into a model")

    def as_saved(self):
        """The method whose layers hold what was saved (the same, unless training used a scaffold)."""
        return self


@dataclass
class Stack(Method):
    """Several methods in one model, the first innermost: prefix and parallel adapter, say (MAM; He et al., 2022).

    Raises: TypeError for anything but a tuple or list of methods, at least one
    """

    methods: tuple

    def __post_init__(self):
        several = isinstance(self.methods, (tuple, list)) and len(self.methods) > 0
        if not several or not all(isinstance(method, Method) for method in self.methods):
            raise TypeError(
                f"a Stack holds methods, such as Stack((LoRA(r=8), PrefixTuning(m=4))), not {self.methods!r}"
            )

    @property
    def identity_at_init(self):
        return all(method.identity_at_init for method in self.methods)

    @property
    def trains_base(self):
        return any(method.trains_base for method in self.methods)

    def inject(self, model, rng):
        for method in self.methods:
            method.inject(model, rng)

    def as_saved(self):
        return Stack(tuple(method.as_saved() for method in self.methods))


def get_peft_model(model, method, seed=0):
    """Freeze everything, put something in: the two acts that all of PEFT shares.

    The model is changed in place and returned.  A second call freezes what the first put in, and adds to it; to train
    several methods together, put them in one Stack.

    Raises: ValueError where the method does not fit; TypeError for no model or no method.  The model is then as it was.
    """
    if not isinstance(model, Module) or not isinstance(method, Method):
        raise TypeError(f"a model and a method are needed, such as LoRA(r=8), not {model!r:.50} and {method!r}")
    if not is_seed(seed):
        raise ValueError(f"seed must be a whole number of at least 0, or None, not {seed!r}")
    record = (*methods_of(model), (method, seed, fingerprint(model)))
    with undone_on_error(model):
        model.requires_grad_(False)
        give_back_freed_memory()  # of the base's gradient buffers
        method.inject(model, np.random.default_rng(seed))
    model.peft = record
    return model


def methods_of(model):
    """(method, seed, fingerprint of the base) of every get_peft_model, in order."""
    methods = getattr(model, "peft", ())
    if methods is None:
        raise ValueError("the methods of this model are disabled: leave the `with disabled(model)` first")
    return methods


@contextmanager
def undone_on_error(model):
    """If the block fails, take off what it wrapped and freeze what it thawed: the model is as it was."""
    grads = [(parameter, parameter.grad) for _, parameter in model.named_parameters()]
    present, methods = {id(node) for _, node in model.walk()}, getattr(model, "peft", ())
    try:
        yield
    except BaseException:
        take_off(model, lambda node: id(node) not in present)
        for parameter, grad in grads:
            parameter.grad = grad
        model.peft = methods
        raise


def take_off(model, which=lambda node: True):
    """Replace wrappers by their base, outermost first; return what was done, for put_back."""
    done = []
    while wrapped := [(path, node) for path, node in model.walk() if under(node) and which(node)]:
        path, node = wrapped[0]
        model.set_submodule(path, under(node))
        done.append((path, node))
    return done


def put_back(model, done):
    for path, node in reversed(done):
        model.set_submodule(path, node)


def under(node):
    """What a wrapper, or a layer that one was merged into, stands in place of; None for any other node."""
    return node.base if isinstance(node, Wrapper) else getattr(node, "merged_from", (None,))[0]


def is_merged(model):
    """True if merge folded a wrapper into one of the layers."""
    return any(under(node) and not isinstance(node, Wrapper) for _, node in model.walk())


def unwrap(model):
    """Take off every wrapper, merged ones too; return the model, bit for bit the base that it was (still frozen)."""
    if any(method.trains_base for method, _, _ in methods_of(model)):
        raise ValueError("full fine-tuning changed the base itself: load the base again to have it back")
    take_off(model)
    model.peft = ()
    return model


def merge(model):
    """Fold every wrapper into the weights it stands for and drop it: the same function, at no extra cost.

    The pristine layers are kept out of sight (merged_from), so that unwrap still gives the base back bit for bit:
    subtracting ΔW again would leave rounding errors.

    Raises: ValueError that says why, if a wrapper cannot be folded; the model is then as it was.
    """
    methods_of(model)  # while disabled there is nothing to fold, and nothing would be said
    inside = {id(node.base) for _, node in model.walk() if isinstance(node, Wrapper)}
    wrappers = [(path, node) for path, node in model.walk() if isinstance(node, Wrapper) and id(node) not in inside]
    folded = [(path, node, node.fold()) for path, node in wrappers]
    for path, node, layer in folded:
        layer.merged_from = (node,)  # in a tuple it is no branch of the tree: nothing is listed or trained twice
        model.set_submodule(path, layer)
    return model


@contextmanager
def disabled(model):
    """with disabled(model): ...   Inside, the model is its base; afterwards the wrappers are back.

    Raises: ValueError after full fine-tuning, which leaves no base to go back to.
    """
    methods = methods_of(model)
    if any(method.trains_base for method, _, _ in methods):
        raise ValueError("full fine-tuning has no switch: it changed the base itself")
    done, model.peft = take_off(model), None
    try:
        yield model
    finally:
        put_back(model, done)
        model.peft = methods


def inside_wrappers(model):
    """The ids of the parameters that methods put in; every other is the base's own."""
    return {id(p) for _, node in model.walk() if isinstance(node, Wrapper) for _, p in node.own_parameters()}


def fingerprint(model):
    """A digest of the base: its shape and its weights, whatever is wrapped around them.

    Taken in float32, so that a base loaded in float64 is the same base.
    """
    inside = inside_wrappers(model)
    shape = {name: value for name, value in vars(model.config).items() if name != "dtype"}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for path, parameter in model.named_parameters():
        if id(parameter) not in inside:
            digest.update(".".join(name for name in path.split(".") if name != "base").encode())
            digest.update(np.ascontiguousarray(parameter.data, "<f4"))
    return digest.hexdigest()
