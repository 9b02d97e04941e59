"""What was done to a model, and how it is undone: a Record of each get_peft_model, and the fingerprint of the base."""

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from ..model.module import Module, Parameter
from .wrapper import Wrapper, wrappers_of


@dataclass
class Record:
    """What one get_peft_model did, and what is needed to take it off again."""

    method: object  # a Method
    seed: int | None
    base: str  # the fingerprint of the base
    replaced: list = field(default_factory=list)  # (path, layer) that stood where something else stands now
    wrappers: list = field(default_factory=list)  # all that stood in the model when the method was in
    kept: list = field(default_factory=list)  # Kept: the base's own parameters that the method trains or has changed
    merged: bool = False


@dataclass
class Kept:
    """A parameter of the base, and the array that it held before."""

    path: str
    parameter: Parameter
    data: np.ndarray


def records_of(model):
    """A Record of every get_peft_model, in order.  Raises: ValueError while they are disabled"""
    if not isinstance(model, Module):
        raise TypeError(f"a model is needed, such as load_base('english'), not {model!r:.50}")
    records = getattr(model, "peft", [])
    if records is None:
        raise ValueError("the methods of this model are disabled: leave the `with disabled(model)` first")
    return records


@contextmanager
def recorded(model, method, seed, start=None):
    """Write down what the block does to the model, in a Record; if it fails, undo it."""
    records, digest = records_of(model), fingerprint(model)
    layers = [(path, node) for path, node in model.walk() if isinstance(node, Module)]
    base = [(path, p, array_of(p)) for path, p in base_parameters(model)]
    with undone_on_error(model):
        yield
        begin_at(model, {} if start is None else start, np.random.default_rng(seed))
    record = Record(method, seed, digest)
    record.replaced = replaced_since(model, layers)
    record.wrappers = [wrapper for _, wrapper in wrappers_of(model)]
    for path, p, data in base:
        if p.requires_grad or array_of(p) is not data:
            record.kept.append(Kept(path, p, data.copy() if array_of(p) is data else data))
    model.peft = [*records, record]


def begin_at(model, start, rng):
    """Give trained parameters the starting values that get_peft_model was asked for."""
    if not isinstance(start, dict):
        raise TypeError(f"start is {{glob over paths: values}}, not {start!r:.50}")
    trained = [(path, p) for path, p in model.named_parameters() if p.requires_grad]
    for glob, value in start.items():
        matching = [(path, p) for path, p in trained if fnmatchcase(path, glob)]
        if not matching:
            raise ValueError(
                f"start: {glob!r} matches no trained parameter; there are: {', '.join(p for p, _ in trained)}"
            )
        for path, p in matching:
            values = np.asarray(value(p.data.shape, rng) if callable(value) else value)
            if values.shape not in ((), p.data.shape):
                raise ValueError(f"start: {path} has shape {p.data.shape}; it was given {values.shape}")
            with np.errstate(over="ignore"):
                fits = values.dtype.kind in "fiu" and np.isfinite(values.astype(p.data.dtype)).all()
            if not fits:
                raise ValueError(f"start: {path} needs finite numbers of {p.data.dtype}, not {values!r:.50}")
            p.data = np.broadcast_to(values, p.data.shape).astype(p.data.dtype, "C")  # anew: the base keeps its own


@contextmanager
def undone_on_error(model):
    """If the block fails, the model is as it was: its layers, its arrays, what is trained, and its records."""
    records = list(getattr(model, "peft", None) or [])
    layers = [(path, node) for path, node in model.walk() if isinstance(node, Module)]
    arrays = [(p, array_of(p), p.grad) for _, p in model.named_parameters()]
    try:
        yield
    except BaseException:
        put_back(model, layers)
        for p, data, grad in arrays:
            vars(p)["data"], p.grad = data, grad
        model.peft = records
        raise


def base_parameters(model):
    """(path, parameter) of the base's own: all that no wrapper brought."""
    brought = {id(p) for _, wrapper in wrappers_of(model) for _, p in wrapper.own_parameters()}
    return [(path, p) for path, p in model.named_parameters() if id(p) not in brought]


def put_back(model, layers):
    """Put each (path, layer) in its place, in order; return (path, layer) of what stood there, to undo it in turn."""
    done = []
    for path, layer in layers:
        now = model.get_submodule(path)
        if now is not layer:
            model.set_submodule(path, layer)
            done.append((path, now))
    return done[::-1]


def replaced_since(model, layers):
    """Those of the (path, layer) that no longer stand at their path, in order; the model is afterwards as it was."""
    # Found by putting all of them back and undoing that: while a wrapper stands around attn, h.0.attn.q_proj is no path,
    # and what became of that layer can be seen only once attn is back in its place.
    before, stood_there = dict(layers), put_back(model, layers)
    put_back(model, stood_there)
    return [(path, before[path]) for path, _ in reversed(stood_there)]


def swap(kept):
    """Exchange what base parameters hold now with what they held before."""
    for one in kept:
        vars(one.parameter)["data"], one.data = one.data, array_of(one.parameter)


def array_of(parameter):
    """The array itself that a parameter holds; parameter.data is a view of it while products are counted."""
    return vars(parameter)["data"]


def take_off(model):
    """Make the model its base, bit for bit; return how to undo it: (layers for put_back, what to swap)."""
    records = getattr(model, "peft", None) or []
    undo = take_off_wrappers(model, records[-1].wrappers if records else ())  # what model.wrap put on since
    for record in reversed(records):
        undo = put_back(model, record.replaced) + undo
    undo = take_off_wrappers(model) + undo  # what stood there before the first method, by model.wrap
    kept = [one for record in records for one in record.kept]
    swap(reversed(kept))
    return undo, kept


def take_off_wrappers(model, but=()):
    """Put every other wrapper's base in its place, outermost first; return how to undo it."""
    undo, stay = [], {id(wrapper) for wrapper in but}
    while found := [(path, wrapper.base) for path, wrapper in wrappers_of(model) if id(wrapper) not in stay][:1]:
        undo = put_back(model, found) + undo
    return undo


@contextmanager
def taken_off(model):
    """Inside, the model is its base; afterwards everything is back in its place."""
    layers, kept = take_off(model)
    try:
        yield model
    finally:
        take_off_wrappers(model)  # of what was wrapped inside, nothing stays
        swap(kept)
        put_back(model, layers)


def parent(path):
    """The path of the layer that holds what stands at this path."""
    return path.rpartition(".")[0]


def is_inside(path, model):
    """True if the layer at this path is what another wrapper stands around."""
    return path.endswith(".base") and isinstance(model.get_submodule(parent(path)), Wrapper)


def fingerprint(model):
    """A digest of the base: its shape and its weights, whatever methods have done to it since.

    Taken in float32, so that a base loaded in float64 is the same base.
    """
    shape = {name: value for name, value in vars(model.config).items() if name != "dtype"}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    with taken_off(model):
        for path, array in base_arrays(model):
            digest.update(path.encode())
            digest.update(array)
    return digest.hexdigest()


def base_arrays(model):
    """(path, array) of all numbers of a base: parameters in float32, then what layers store outside them, as it is."""
    for path, parameter in model.named_parameters():
        yield path, np.ascontiguousarray(parameter.data, "<f4")
    for path, layer in model.walk():
        if isinstance(layer, Module):
            yield from ((f"{path}.{name}", little_endian(array)) for name, array in layer.stored_arrays().items())


def little_endian(array):
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
