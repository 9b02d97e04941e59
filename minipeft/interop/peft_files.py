"""Adapters in the folders of Hugging Face peft: adapter_config.json and adapter_model.safetensors, both ways.

    here                          there                                 file
    LoRALinear  A (d_in, r)       lora_A.weight = Aᵀ                    <prefix>h.{i}.mlp.c_fc.lora_A.weight (r, d_in)
                B (r, d_out)      lora_B.weight = Bᵀ                    <prefix>h.{i}.mlp.c_fc.lora_B.weight (d_out, r)
    prefix      P_k, P_v (m, D)   row p as (n_layer, 2, H, K), k first  prompt_embeddings (m, 2 n_layer D)
    prompt      P (m, D)          P                                     prompt_embeddings (m, D)

<prefix> is base_model.model.transformer. and peft ignores a tensor without it in silence; here it is an error.

**A method brings its own translation.**  Its class may say, without importing anything from here:

    peft_type      what adapter_config.json calls it, such as "IA3"; a tuple if several kinds are read, the first written
    peft_variant   {field: value} that tell its files from others of this type: {"use_dora": True}; default {}
    peft_fields    the fields of the config that it understands; any other that is on is an error; default ()
    peft_wrappers  the classes that it puts around layers; a model with others in it is not exported; default ()
    to_peft(model, folder) -> (config, {name: array})             a static or class method; folder: a PeftFolder
    from_peft(model, folder) -> (method, {path: array})           arrays from folder.read({name: shape}), which is strict

Names there are transformers' without a prefix ("h.0.attn.c_attn.ia3_l"); paths here are those of named_parameters() once
the method is in the model ("h.0.attn.k_proj.l"), the base's own where it trains those.  One array under several paths
becomes one Parameter under them.  interop does the rest: files, prefixes, fields, shapes, finite numbers, the base.

A relative of LoRA has peft_type "LORA" and needs no functions: its wrapper has .A .B .scaling .dropout as LoRALinear has,
and may name Parameters (d_out,) that stand beside them in peft_columns, {peft's name: (attribute, what it is on a Linear
without the method, a function)}: {"lora_magnitude_vector": ("m", column_norms)}.  The method takes r, alpha, dropout and
targets; peft_settings, {name: value}, are further ones that say what peft computes.
"""

from os.path import lexists  # true of a link to nothing, too: then it is named
from pathlib import Path

from ..files import FileError, read_json
from ..methods import METHODS, Wrapper, get_peft_model
from ..methods.method import is_merged, one_by_one
from ..methods.records import base_parameters, fingerprint, records_of, undone_on_error
from ..methods.saving import own_arrays, trained_in_base
from ..model.module import plain_path
from .peft_folder import PeftFolder, key
from .peft_lora import peft_deltas
from .peft_methods import translation
from .peft_strict import CONFIG, accept
from .tensors import read_tensors, write_folder

TENSORS = "adapter_model.safetensors"
KEEP = "save_adapter(model, path) keeps it in minipeft's own format"
WHOLE = "merge(model) and save_gpt2(model, path) write the whole model"


def export_peft(model, path, base_name=None):
    """Write a folder that PeftModel.from_pretrained(base, path) loads, with the same logits.

    Exported is one method whose class has a translation (see above), such as LoRA on any projections, prefix tuning
    (reparametrised or not: what counts is the prefix) and prompt tuning.  base_name: what peft shall call the base, a Hub
    name or a folder; for its own bookkeeping.

    Raises: ValueError for what peft has no counterpart for, if the base is no longer what the adapter was put into, or if
    the folder holds a model; ImportError without safetensors
    """
    ours = exporter(model)
    if (Path(path) / "config.json").exists():
        raise FileError(
            f"{path} holds a model, which transformers would load with the adapter on: choose another folder"
        )
    folder = PeftFolder(model, ours.method, ours.wrappers, methods_in(model))
    config, arrays = ours.to_peft(model, folder)
    if fingerprint(model) != records_of(model)[0].base:
        raise ValueError(
            "the base was changed after the first method was put in: on the base as it was, which is what peft will have, "
            f"the adapter gives other logits.  {WHOLE}"
        )
    config |= {"peft_type": ours.types[0]} | ours.variant
    config |= {"base_model_name_or_path": base_name, "task_type": "CAUSAL_LM", "inference_mode": True}
    write_folder(path, CONFIG, config, TENSORS, {key(name): array for name, array in arrays.items()}, folder.notes)


def exporter(model):
    """The Translation of what the model carries.  Raises: ValueError that says why there is none."""
    methods, kinds = methods_in(model), {type(node) for _, node in model.walk() if isinstance(node, Wrapper)}
    if is_merged(model):
        raise ValueError("the adapter is merged into the weights: export it before merge(model), or use save_gpt2")
    if not methods:
        raise ValueError("this model carries no PEFT method: there is nothing to export")
    found = {type(method): translation(type(method)) for method in methods}
    for method, ours in found.items():
        if ours is None or ours.to_peft is None:
            rest = f", which changed the base itself: {WHOLE}" if trained_in_base(model) else f": {KEEP}"
            raise ValueError(f"peft has no counterpart for {method.__name__}{rest}")
    if len({(ours.types, repr(ours.variant), ours.to_peft) for ours in found.values()}) > 1:
        names = ", ".join(sorted(method.__name__ for method in found))
        raise ValueError(f"one peft folder holds one method; this model carries several ({names}): {KEEP}")
    ours = next(iter(found.values()))
    if foreign := kinds - {kind for one in found.values() for kind in one.wrappers}:
        names = ", ".join(sorted(kind.__name__ for kind in foreign))
        raise ValueError(f"peft's file of {ours.method.__name__} has no place for this model's {names}: {KEEP}")
    if ours.wrappers and not kinds:
        raise ValueError("nothing is wrapped around this model's layers, so there is no adapter to export")
    if stray := [path for path, p in base_parameters(model) if p.requires_grad and path not in trained_in_base(model)]:
        raise ValueError(
            f"weights of the base are trained, {stray[0]} first, and an adapter does not hold them: {WHOLE}"
        )
    return ours


def methods_in(model):
    """The methods in a model one by one, those of a Stack too."""
    return one_by_one(record.method for record in records_of(model))


def import_peft(model, path):
    """Put an adapter that peft saved into the model; return the model, ready to use or to train further.

    LoRA on c_attn becomes a LoRA on q, k and v that share their A.  Strict where peft is silent: a tensor that is
    missing or unknown, a name without its prefix, a field that changes the mathematics, are errors that name it.

    Raises: FileNotFoundError; ValueError that says what does not fit.  The model is then as it was.
    """
    if records_of(model):
        raise ValueError("this model already carries a PEFT method: unwrap(model) first")
    config, tensors, notes = read_peft(path)
    ours = importer(path, config)
    accept(config, ours.fields | ours.variant.keys())
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise FileError(f"{CONFIG}: task_type is {config['task_type']!r}; this model is a 'CAUSAL_LM'")
    folder = PeftFolder(model, ours.method, ours.wrappers, (), config, tensors, notes)
    method, arrays = ours.from_peft(model, folder)
    with undone_on_error(model):
        get_peft_model(model, method)
        fill(model, arrays)
    return model


def importer(path, config):
    """The Translation for a config: of those of its type, the one whose variant says most of what is in it."""
    every = [ours for method in METHODS.values() if (ours := translation(method)) and ours.from_peft]
    kind = config.get("peft_type")
    found = [ours for ours in every if kind in ours.types
             and all(config.get(field) == value for field, value in ours.variant.items())]  # fmt: skip
    if not found:
        known = ", ".join(dict.fromkeys(name for ours in every for name in ours.types))
        raise FileError(f"{path}: peft_type is {kind!r}; only {known} have a counterpart here")
    return max(found, key=lambda ours: len(ours.variant))


def fill(model, arrays):
    """Copy {path: array} into the model; an array under several paths becomes one Parameter under them.

    Raises: ValueError for a path or shape that is not in the model, or one in the model that is left without numbers
    """
    parameters, first = dict(model.named_parameters()), {}
    for path, p in list(parameters.items()):  # what the base has inside a wrapper goes by its own name, too
        parameters.setdefault(plain_path(path), p)
    if missing := own_arrays(model).keys() - arrays.keys():
        raise ValueError(f"{min(missing)} has no counterpart in the file")
    for path, array in arrays.items():
        if path not in parameters or parameters[path].data.shape != array.shape:
            found = parameters[path].data.shape if path in parameters else "not there"
            raise ValueError(f"{path} {array.shape} has no place in this model, where it is {found}")
        parameters[path].data[...] = array
        if (shared := first.setdefault(id(array), parameters[path])) is not parameters[path]:
            model.set_submodule(path, shared)


def read_peft(path):
    """(config, {name: Tensor}, {key: text}) of an adapter's folder: its two files, and the notes in the second.

    Raises: FileNotFoundError; FileError that says what is wrong
    """
    folder = Path(path)
    if folder.is_file():
        hint = (
            "its folder"
            if folder.name in (CONFIG, TENSORS)
            else "load_adapter, or --adapter, takes minipeft's own files"
        )
        raise FileError(f"{folder} is a file; what peft saves is a folder with {CONFIG} and {TENSORS}: {hint}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not lexists(folder / CONFIG):
        named = [file.parent.name for file in sorted(folder.glob(f"*/{CONFIG}"))]
        hint = f"; it holds adapters with names of their own: {', '.join(named)}" if named else ""
        if (folder / "config.json").is_file():
            hint = f"; it holds a model, which is a base: load_gpt2, or --base {folder}"
        raise FileNotFoundError(f"there is no {CONFIG} in {folder}{hint}")
    if not lexists(folder / TENSORS) and (folder / "adapter_model.bin").is_file():
        raise FileError(
            f"{folder} has its weights in adapter_model.bin, a pickle, which is not read here: load the adapter in peft "
            f"and save it again with save_pretrained, which writes {TENSORS}"
        )
    return read_json(folder / CONFIG), *read_tensors(folder / TENSORS)


def peft_contents(path):
    """(settings that are on, {name: array}, {matrix: ΔW}), in float64, of any adapter, to look at; no model is needed."""
    config, tensors, _ = read_peft(path)
    arrays = {name: tensor.read().astype("float64") for name, tensor in tensors.items()}
    settings = {field: value for field, value in config.items() if value not in (None, False, "", [], {})}
    is_lora = config.get("peft_type") == "LORA" and not config.get("use_dora")  # s A B is not what DoRA changes W by
    deltas = peft_deltas(config, arrays) if is_lora else {}
    return settings, arrays, deltas
