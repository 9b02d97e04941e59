"""Adapters in files: only what was trained, the settings, and a fingerprint of the base."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..files import FileError, read_npz, write_npz
from ..model.module import Module, Parameter
from ..validation import is_seed
from .method import Stack, get_peft_model
from .records import base_parameters, fingerprint, records_of, undone_on_error
from .wrapper import wrappers_of

VERSION = 1  # of adapter files


def own_arrays(model):
    """{path: array} of what the methods put into the model."""
    return {
        f"{path}.{name}": array for path, wrapper in wrappers_of(model) for name, array in wrapper.own_arrays().items()
    }


def trained_in_base(model):
    """{path: array} of the base's own parameters that methods train, or have changed."""
    kept = {id(one.parameter) for record in records_of(model) for one in record.kept}
    return {path: p.data for path, p in base_parameters(model) if id(p) in kept}


def lost_in_base(model):
    """The paths of parameters that a method changed in a layer which another method has replaced since."""
    there = {id(p) for _, p in model.named_parameters()}
    kept = [one for record in records_of(model) for one in record.kept if id(one.parameter) not in there]
    return [one.path for one in kept if not np.array_equal(one.parameter.data, one.data)]


def trained_but_not_in(arrays, model):
    """The paths of what is trained, by hand, and would be missing from a file of these arrays."""
    scaffolded = any(record.method.as_saved() != record.method for record in records_of(model))
    named = base_parameters(model) if scaffolded else model.named_parameters()  # a scaffold is trained, and dropped
    return [path for path, p in named if p.requires_grad and path not in arrays]


def to_json(method):
    """A method as plain numbers and strings."""
    if isinstance(method, Stack):
        return {"name": "stack", "methods": [to_json(one) for one in method.methods]}
    return {"name": method.name, "settings": asdict(method)}


def from_json(saved):
    """The method that to_json wrote.  Raises: FileError if there is no such method, or it has no such settings"""
    from . import METHODS

    name = saved.get("name") if isinstance(saved, dict) else None
    if name == "stack" and isinstance(saved.get("methods"), list) and saved["methods"]:
        return Stack(tuple(from_json(one) for one in saved["methods"]))
    if not isinstance(name, str) or name not in METHODS:
        raise FileError(f"this minipeft has no method {name!r}; it has: {', '.join(METHODS)}")
    try:
        return METHODS[name](**saved.get("settings"))
    except TypeError as error:
        raise FileError(f"the settings {saved.get('settings')} are not those of the method {name}") from error


def save_adapter(model: Module, path: str | Path) -> None:
    """Write what was trained, the method's settings, and the fingerprint of the base, to one npz file.

    The file is written whole or not at all, and holds no pickle.  For LoRA on q and v of GPT-2 it is 0.2% of the model.

    Raises: ValueError if the model carries no method, or one that is merged into the weights or disabled; if the base
    was changed by anything but a method that is saved with it; if what was trained is no longer finite
    """
    records = records_of(model)
    if not records:
        raise ValueError("this model carries no PEFT method: there is nothing to save")
    if merged := [record.method for record in records if record.merged]:
        raise ValueError(f"{merged[0]} was merged into the weights and cannot be saved apart: save it before merge")
    arrays, base = own_arrays(model) | trained_in_base(model), records[0].base
    if stray := trained_but_not_in(arrays, model):
        more = f" and {len(stray) - 2} more" if stray[2:] else ""
        raise ValueError(
            f"no method trains {', '.join(stray[:2])}{more}, and loading would not restore them: freeze them"
        )
    if lost := lost_in_base(model):
        raise ValueError(
            f"{lost[0]} of the base was trained, and then its layer gave way to one that holds no such parameter: no file "
            "would hold what it learned; before the second method, write the trained model with save_gpt2 and load that "
            "as the base"
        )
    known = {id(wrapper) for wrapper in records[-1].wrappers}
    if by_hand := [path for path, wrapper in wrappers_of(model) if id(wrapper) not in known and wrapper.own_arrays()]:
        raise ValueError(
            f"{by_hand[0]} was wrapped by hand, and loading would not bring that back: take it off to save"
        )
    if fingerprint(model) != base:
        raise ValueError(
            "the base was changed after the first method was put in, and no adapter holds that change: change it before "
            "get_peft_model; as it is now, merge(model) and save_gpt2(model, path) write the whole model"
        )
    if spoilt := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise ValueError(f"{spoilt[0]} holds numbers that are not finite, and no file with them could be loaded")
    header = {
        "kind": "adapter",
        "version": VERSION,
        "methods": [to_json(record.method.as_saved()) | {"seed": record.seed} for record in records],
        "base": base,
        "config": vars(model.config),
    }
    write_npz(path, header, arrays)


def load_adapter(model: Module, path: str | Path) -> Module:
    """Put a saved adapter into the base that it was trained on; return the model, ready to use or to train further.

    Raises: FileNotFoundError; ValueError if the file is damaged or not an adapter, belongs to another base, or lacks
    or adds arrays.  The model is then as it was.
    """
    config, base, methods, arrays = read_adapter(path)
    if records_of(model):
        raise ValueError("this model already carries a PEFT method: unwrap(model) first")
    for name, ours in vars(model.config).items():
        if name != "dtype" and config.get(name) != ours:
            raise FileError(f"{path} belongs to another base: there {name} is {config.get(name)}, here it is {ours}")
    if base != fingerprint(model):
        raise FileError(f"{path} belongs to another base: the shapes agree, the weights do not")
    with undone_on_error(model):
        for method, seed in methods:
            get_peft_model(model, method, seed)
        fill(model, arrays, path)
    return model


def read_adapter(path):
    """(sizes of the base, its fingerprint, [(method, seed), ...], {name: array}) of a file; no model is needed.

    Raises: FileNotFoundError; FileError if the file is damaged, or not an adapter
    """
    header, arrays = read_npz(path, "adapter")
    config, base, saved = (header.get(name) for name in ("config", "base", "methods"))
    if header.get("version") != VERSION:
        raise FileError(
            f"{path} is an adapter of version {header.get('version')!r}; this minipeft reads version {VERSION}: install the "
            "one that wrote it"
        )
    if not isinstance(saved, list) or not saved or not isinstance(config, dict) or not isinstance(base, str):
        raise FileError(f"{path} is damaged: it does not say which method it holds, or for which base")
    methods = [(from_json(one), one.get("seed")) for one in saved]
    if odd := [seed for _, seed in methods if not is_seed(seed)]:
        raise FileError(f"{path} is damaged: {odd[0]!r} is not a seed")
    return config, base, methods, arrays


def fill(model, arrays, path):
    """Copy the arrays of a file over the parameters of the same names, once all of them are seen to fit."""
    ours = own_arrays(model) | trained_in_base(model)
    if arrays.keys() != ours.keys():
        missing, extra = sorted(ours.keys() - arrays.keys()), sorted(arrays.keys() - ours.keys())
        raise FileError(
            f"{path} does not hold what its method needs: missing {missing or 'nothing'}, unknown {extra or 'nothing'}"
        )
    for name, array in arrays.items():
        if array.shape != ours[name].shape:
            raise FileError(f"{path}: {name} has shape {array.shape} where {ours[name].shape} is needed")
        with np.errstate(over="ignore"):
            fits = array.dtype.kind == "f" and np.isfinite(array.astype(ours[name].dtype)).all()
        if not fits:
            raise FileError(f"{path}: {name} holds something other than finite numbers of {ours[name].dtype}")
    parameters = {
        path: node for path, node in model.walk() if isinstance(node, Parameter)
    }  # a shared one by every name
    for name, array in arrays.items():
        parameters[name].data[...] = array
