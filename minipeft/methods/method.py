"""What all of PEFT shares: freeze everything, put something in; take it off, fold it in, switch it off, save it."""

import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from ..files import FileError, read_npz, write_npz
from ..model.module import Wrapper


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
    """Several methods in one model, the first innermost: prefix and parallel adapter, say (MAM; He et al., 2022)."""

    methods: tuple

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

    Raises: ValueError where the method does not fit; the model is then as it was.
    """
    before = [(parameter, parameter.grad) for _, parameter in model.named_parameters()]
    present = {id(node) for _, node in model.walk()}
    base = fingerprint(model)
    try:
        model.requires_grad_(False)
        method.inject(model, np.random.default_rng(seed))
    except Exception:
        take_off(model, lambda node: id(node) not in present)
        for parameter, grad in before:
            parameter.grad = grad
        raise
    model.peft = (*getattr(model, "peft", ()), (method, seed, base))
    return model


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


def unwrap(model):
    """Take off every wrapper, merged ones too; return the model, bit for bit the base that it was (still frozen)."""
    if any(method.trains_base for method, _, _ in getattr(model, "peft", ())):
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
    if any(method.trains_base for method, _, _ in getattr(model, "peft", ())):
        raise ValueError("full fine-tuning has no switch: it changed the base itself")
    done = take_off(model)
    try:
        yield model
    finally:
        put_back(model, done)


def own_arrays(model):
    """{path: array} of what the methods put into the model, and of what they trained in the base."""
    arrays, inside = {}, set()
    for path, node in model.walk():
        if isinstance(node, Wrapper):
            arrays |= {f"{path}.{name}": array for name, array in node.own_arrays().items()}
            inside |= {id(parameter) for _, parameter in node.own_parameters()}
    base = {path: p.data for path, p in model.named_parameters() if p.requires_grad and id(p) not in inside}
    return arrays | base


def fingerprint(model):
    """A digest of the base: its shape and its weights, whatever is wrapped around them.

    Taken in float32, so that a base loaded in float64 is the same base.
    """
    inside = {id(p) for _, node in model.walk() if isinstance(node, Wrapper) for _, p in node.own_parameters()}
    shape = {name: value for name, value in vars(model.config).items() if name != "dtype"}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for path, parameter in model.named_parameters():
        if id(parameter) not in inside:
            digest.update(path.replace(".base.", ".").encode())
            digest.update(np.ascontiguousarray(parameter.data, "<f4"))
    return digest.hexdigest()


def to_json(method):
    if isinstance(method, Stack):
        return {"name": "stack", "methods": [to_json(one) for one in method.methods]}
    return {"name": method.name, "settings": asdict(method)}


def from_json(saved):
    from . import METHODS

    if saved["name"] == "stack":
        return Stack(tuple(from_json(one) for one in saved["methods"]))
    if saved["name"] not in METHODS:
        raise FileError(f"this minipeft has no method {saved['name']!r}; it has: {', '.join(METHODS)}")
    try:
        return METHODS[saved["name"]](**saved["settings"])
    except TypeError as error:
        raise FileError(f"the settings {saved['settings']} are not those of {saved['name']}") from error


def save_adapter(model, path):
    """Write what was trained, the method's settings, and the fingerprint of the base, to one npz file.

    The file is written whole or not at all, and holds no pickle.  For LoRA on q and v of GPT-2 it is 0.2% of the model.

    Raises: ValueError if the model carries no method.
    """
    if not getattr(model, "peft", ()):
        raise ValueError("this model carries no PEFT method: there is nothing to save")
    header = {
        "kind": "adapter",
        "version": 1,
        "methods": [to_json(method.as_saved()) | {"seed": seed} for method, seed, _ in model.peft],
        "base": model.peft[0][2],
        "config": vars(model.config),
    }
    write_npz(path, header, own_arrays(model))


def load_adapter(model, path):
    """Put a saved adapter into the base that it was trained on; return the model, ready to use or to train further.

    Raises: FileNotFoundError; ValueError if the file is damaged or not an adapter, belongs to another base, or lacks
    or adds arrays.  The model is then as it was.
    """
    header, arrays = read_npz(path, "adapter")
    if getattr(model, "peft", ()):
        raise ValueError("this model already carries a PEFT method: unwrap(model) first")
    theirs = header.get("config", {})
    for name, ours in vars(model.config).items():
        if name != "dtype" and theirs.get(name) != ours:
            raise FileError(f"{path} belongs to another base: there {name} is {theirs.get(name)}, here it is {ours}")
    if header.get("base") != fingerprint(model):
        raise FileError(f"{path} belongs to another base: the shapes agree, the weights do not")
    methods = [(from_json(saved), saved.get("seed", 0)) for saved in header.get("methods", ())]

    flags = [(parameter, parameter.grad) for _, parameter in model.named_parameters()]
    try:
        for method, seed in methods:
            get_peft_model(model, method, seed)
        fill(model, arrays, path)
    except Exception:
        take_off(model)
        model.peft = ()
        for parameter, grad in flags:
            parameter.grad = grad
        raise
    return model


def fill(model, arrays, path):
    """Copy the arrays of a file over the parameters of the same names, once all of them are seen to fit."""
    ours = own_arrays(model)
    if arrays.keys() != ours.keys():
        missing, extra = sorted(ours.keys() - arrays.keys()), sorted(arrays.keys() - ours.keys())
        raise FileError(
            f"{path} does not hold what its method needs: missing {missing or 'nothing'}, unknown {extra or 'nothing'}"
        )
    for name, array in arrays.items():
        if array.shape != ours[name].shape:
            raise FileError(f"{path}: {name} has shape {array.shape} where {ours[name].shape} is needed")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise FileError(f"{path}: {name} holds something other than finite numbers")
    parameters = dict(model.named_parameters())
    for name, array in arrays.items():
        parameters[name].data[...] = array
