"""Adapters in the folders of Hugging Face peft: adapter_config.json and adapter_model.safetensors, both ways.

    here                          there                                 file
    LoRALinear  A (d_in, r)       lora_A.weight = Aᵀ                    <prefix>h.{i}.mlp.c_fc.lora_A.weight (r, d_in)
                B (r, d_out)      lora_B.weight = Bᵀ                    <prefix>h.{i}.mlp.c_fc.lora_B.weight (d_out, r)
    prefix      P_k, P_v (m, D)   row p as (n_layer, 2, H, K), k first  prompt_embeddings (m, 2 n_layer D)
    prompt      P (m, D)          P                                     prompt_embeddings (m, D)

<prefix> is base_model.model.transformer. and peft ignores a LoRA tensor without it in silence; here it is an error.
"""

from os.path import lexists  # true of a link to nothing, too: then it is named
from pathlib import Path

import numpy as np

from ..files import FileError
from ..methods import PrefixTuning, PromptTuning, get_peft_model
from ..methods.adapter import SequentialAdapter
from ..methods.lora import LoRALinear
from ..methods.method import fingerprint, is_merged, methods_of
from ..methods.prefix import PrefixAttention, ReparametrisedPrefix
from ..methods.prompt import DropPrompt, SoftPrompt
from ..methods.saving import trained_in_base
from ..model.generate import ShiftedPositions
from ..model.module import Wrapper
from .peft_lora import lora_deltas, lora_from_peft, lora_to_peft
from .peft_strict import accept, check_tensors, whole_number
from .tensors import read_json, read_tensors, write_folder

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
IGNORED = {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs",
           "encoder_hidden_size", "encoder_num_layers", "encoder_dropout", "encoder_reparameterization_type",
           "prefix_projection", "init_weights"}  # fmt: skip  # how a prompt was begun or trained, not what it is


def export_peft(model, path, base_name=None):
    """Write a folder that PeftModel.from_pretrained(base, path) loads, with the same logits.

    Exported are LoRA on any projections, prefix tuning (reparametrised or not: what counts is the prefix) and prompt
    tuning, each alone.  base_name: what peft shall call the base, a Hub name or a folder; for its own bookkeeping.

    Raises: ValueError for what peft has no counterpart for, if the base is no longer what the adapter was put into, or if
    the folder holds a model; ImportError without safetensors
    """
    export = exporter(model)
    if (Path(path) / "config.json").exists():
        raise FileError(
            f"{path} holds a model, which transformers would load with the adapter on: choose another folder"
        )
    config, arrays = export(model)
    if fingerprint(model) != methods_of(model)[0][2]:
        raise ValueError(
            "the base was changed after the first method was put in: on the base as it was, which is what peft will have, "
            "the adapter gives other logits.  merge(model) and save_gpt2(model, path) write the whole model"
        )
    config |= {"base_model_name_or_path": base_name, "task_type": "CAUSAL_LM", "inference_mode": True}
    write_folder(path, CONFIG, config, TENSORS, arrays)


def exporter(model):
    """The function that exports what the model carries.  Raises: ValueError that says why there is none."""
    wrappers = [node for _, node in model.walk() if isinstance(node, Wrapper)]
    kinds = {type(node) for node in wrappers}
    keep = "save_adapter(model, path) keeps it in minipeft's own format"
    if is_merged(model):
        raise ValueError("the adapter is merged into the weights: export it before merge(model), or use save_gpt2")
    if not methods_of(model):
        raise ValueError("this model carries no PEFT method: there is nothing to export")
    if trained := trained_in_base(model):
        raise ValueError(
            f"weights of the base are trained, {next(iter(trained))} first: an adapter does not hold them; "
            "after full fine-tuning save_gpt2(model, path) writes the whole model"
        )
    if not kinds:
        raise ValueError(
            "nothing is wrapped around this model's layers, so there is no adapter to export: use save_gpt2"
        )
    if any(issubclass(kind, SequentialAdapter) for kind in kinds):
        raise ValueError(f"peft has no bottleneck adapters, so there is no file for this one: {keep}")
    for classes, export in EXPORTS:
        if kinds <= classes:
            return export
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    if all(any(kind in classes for classes, _ in EXPORTS) for kind in kinds):
        raise ValueError(f"one peft folder holds one method; this model carries several ({names}): {keep}")
    raise ValueError(f"peft has no counterpart for this model's {names}: {keep}")


def prompt_family(model, kind, m):
    """The fields that prefix and prompt tuning share."""
    config = model.config
    sizes = {"num_layers": config.n_layer, "num_attention_heads": config.n_head, "token_dim": config.n_embd}
    return {"peft_type": kind, "num_virtual_tokens": m, "num_transformer_submodules": 1} | sizes


def prefix_to_peft(model):
    """Row p of prompt_embeddings is P_k[p], P_v[p] of layer 0, then of layer 1, ...: (m, n_layer, 2, D) flattened."""
    cores = [block.attn.core for block in model.h]
    if not all(isinstance(core, PrefixAttention) and not isinstance(core.base, Wrapper) for core in cores):
        raise ValueError("peft's prefix stands once in every layer; here a layer has none, or two")
    if not isinstance(model.wpe, ShiftedPositions):
        raise ValueError("in peft the tokens stand after the prefix, at positions m ...; here wpe does not shift them")
    arrays = [core.own_arrays()[name] for core in cores for name in ("P_k", "P_v")]
    rows = np.stack(arrays, axis=1).reshape(len(arrays[0]), -1)  # (m, 2 n_layer, D) -> (m, 2 n_layer D)
    config = prompt_family(model, "PREFIX_TUNING", len(rows)) | {"prefix_projection": False}
    return config | {"encoder_hidden_size": model.config.n_embd}, {"prompt_embeddings": rows}


def prompt_to_peft(model):
    if isinstance(model.wte.base, Wrapper):
        raise ValueError("two soft prompts, one before the other, have no place in one peft folder: train one longer")
    P = model.wte.P.data
    return prompt_family(model, "PROMPT_TUNING", len(P)), {"prompt_embeddings": P}


EXPORTS = [
    ({LoRALinear}, lora_to_peft),
    ({PrefixAttention, ReparametrisedPrefix, ShiftedPositions}, prefix_to_peft),
    ({SoftPrompt, DropPrompt}, prompt_to_peft),
]


def import_peft(model, path):
    """Put an adapter that peft saved into the model; return the model, ready to use or to train further.

    LoRA on c_attn becomes a LoRA on q, k and v that share their A.  Strict where peft is silent: a tensor that is
    missing or unknown, a name without its prefix, a field that changes the mathematics, are errors that name it.

    Raises: FileNotFoundError; ValueError that says what does not fit.  The model is then as it was.
    """
    if methods_of(model):
        raise ValueError("this model already carries a PEFT method: unwrap(model) first")
    config, tensors = read_peft(path)
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in IMPORTS:
        raise FileError(f"{path}: peft_type is {kind!r}; only {', '.join(IMPORTS)} have a counterpart here")
    method, arrays = IMPORTS[kind](config, tensors, model)
    get_peft_model(model, method)
    parameters, first = dict(model.named_parameters()), {}
    for name, array in arrays.items():
        parameters[name].data[...] = array
        shared = first.setdefault(id(array), parameters[name])  # an array under three names: one Parameter in three
        model.set_submodule(name, shared)
    return model


def read_peft(path):
    """(config, {name: Tensor}) of an adapter's folder.  Raises: FileNotFoundError; FileError that says what is wrong."""
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
    return read_json(folder / CONFIG), read_tensors(folder / TENSORS)[0]


def peft_contents(path):
    """(settings that are on, {name: array}, {matrix: ΔW}) of an adapter of any kind, to look at; no model is needed."""
    config, tensors = read_peft(path)
    arrays = {name: tensor.read() for name, tensor in tensors.items()}
    settings = {field: value for field, value in config.items() if value not in (None, False, "", [], {})}
    deltas = lora_deltas(config, arrays) if config.get("peft_type") == "LORA" else {}
    return settings, arrays, deltas


def prompt_embeddings(config, tensors, model, width):
    """The one tensor of the prompt family, (m, width), once config and model agree.

    Without a task_type peft takes the adapter for another kind of model, and computes wrong logits in silence.
    """
    accept(config, IGNORED | {"num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim",
                              "num_transformer_submodules"})  # fmt: skip
    if config.get("task_type") != "CAUSAL_LM":
        raise FileError(
            f"{CONFIG}: task_type is {config.get('task_type')!r}; it must be 'CAUSAL_LM', or else peft itself computes "
            "other logits, without a word"
        )
    m = whole_number(config, "num_virtual_tokens")
    for field, ours in prompt_family(model, config["peft_type"], m).items():
        if config.get(field) not in (None, ours):
            raise FileError(f"{CONFIG}: {field} is {config[field]!r}; for this model it must be {ours!r}")
    check_tensors(tensors, {"prompt_embeddings": (m, width)})
    return tensors["prompt_embeddings"].read(model.config.dtype)


def prefix_from_peft(config, tensors, model):
    L, D = model.config.n_layer, model.config.n_embd
    rows = prompt_embeddings(config, tensors, model, 2 * L * D)
    P = rows.reshape(len(rows), L, 2, D)
    arrays = {f"h.{i}.attn.core.{name}": P[:, i, kv] for i in range(L) for kv, name in enumerate(("P_k", "P_v"))}
    return PrefixTuning(len(rows)), arrays


def prompt_from_peft(config, tensors, model):
    P = prompt_embeddings(config, tensors, model, model.config.n_embd)
    return PromptTuning(len(P)), {"wte.P": P}


IMPORTS = {
    "LORA": lora_from_peft,
    "PREFIX_TUNING": prefix_from_peft,
    "PROMPT_TUNING": prompt_from_peft,
    "P_TUNING": prompt_from_peft,  # its encoder is gone from the file: what is left is a soft prompt
}
