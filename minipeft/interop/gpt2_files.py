"""GPT-2 in the folders of Hugging Face transformers: config.json and model.safetensors, to and from our GPT2.

There the projections of q, k and v are one matrix c_attn (D, 3 D), its columns in this order, and all weights are
(in, out) as here: nothing is transposed, one matrix is cut in three.
"""

import re
from dataclasses import replace
from os.path import lexists  # true of a link to nothing, too: then it is named
from pathlib import Path

import numpy as np

from ..files import FileError, read_json
from ..methods import Wrapper
from ..model import GPT2, GPT2Config
from .tensors import need, read_tensors, write_folder

MATRICES = {  # theirs: ours, whose columns stand side by side in it
    "attn.c_attn": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "attn.c_proj": ("attn.o_proj",),
    "mlp.c_fc": ("mlp.c_fc",),
    "mlp.c_proj": ("mlp.c_proj",),
}
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
ALIASES = {  # other names of the sizes, which transformers follows where a config has both
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}  # fmt: skip
ONLY = {  # what this library computes; a config that lacks the field means the first value
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one formula
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
}
FILES = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "tokenizer.json"]
MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # the causal mask, which older files carry: no weight


def matrix_shapes(config):
    """{their matrix: (in, out)} of one block."""
    D = config.n_embd
    return {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}


def layout(config):
    """Every tensor of the file: {their name: (shape, our names)}, their names without "transformer."."""
    V, P, D = config.vocab_size, config.n_positions, config.n_embd
    table = {"wte.weight": ((V, D), ["wte.weight"]), "wpe.weight": ((P, D), ["wpe.weight"])}
    norms = [f"h.{i}.ln_{n}" for i in range(config.n_layer) for n in (1, 2)]
    table |= {f"{norm}.{kind}": ((D,), [f"{norm}.{kind}"]) for norm in [*norms, "ln_f"] for kind in ("weight", "bias")}
    for i in range(config.n_layer):
        for matrix, shape in matrix_shapes(config).items():
            for kind in ("weight", "bias"):
                ours = [f"h.{i}.{path}.{kind}" for path in MATRICES[matrix]]
                table[f"h.{i}.{matrix}.{kind}"] = (shape if kind == "weight" else shape[1:], ours)
    return table


def load_gpt2(path_or_name, dtype="float32"):
    """A GPT2 from a folder of transformers, or from the Hugging Face Hub by its name ("gpt2").

    All weights are frozen, since a gradient for each would double the memory: get_peft_model trains what it adds, and
    requires_grad_(True) trains everything.  A few rows are read at a time: the peak is the weights and little more.

    Raises: FileNotFoundError; FileError that names the file and the field or tensor that is damaged, missing, unknown,
    or not what this library computes
    """
    folder = find_folder(path_or_name)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists():
        raise FileError(
            f"{folder} holds an adapter of Hugging Face peft, and no model: load its base, then import the adapter "
            f"(import_peft, or `minipeft import {folder}`)"
        )
    config = read_gpt2_config(folder / "config.json", dtype)
    tensors, table = gpt2_tensors(folder), layout(config)
    check_names(folder, tensors, table)
    model = without_weights(config)
    parameters = dict(model.named_parameters())
    for name, (shape, paths) in table.items():
        if tensors[name].shape != shape:
            raise FileError(f"{folder}: {name} has shape {tensors[name].shape}; config.json asks for {shape}")
        parts = [np.empty((*shape[:-1], shape[-1] // len(paths)), dtype) for _ in paths]
        tensors[name].copy_to(*parts)
        for path, part in zip(paths, parts, strict=True):
            parameters[path].data = part
    if "lm_head.weight" in tensors:
        check_tied(folder, tensors["lm_head.weight"], model.wte.weight.data)
    return model


def save_gpt2(model, path):
    """Write a folder that transformers loads: GPT2LMHeadModel.from_pretrained(path) gives the same logits.

    Raises: ValueError if something is wrapped around a layer (merge or unwrap first), or the folder holds a sharded
    model or an adapter; ImportError without safetensors
    """
    if wrapped := {type(node).__name__ for _, node in model.walk() if isinstance(node, Wrapper)}:
        raise ValueError(
            f"the model carries {', '.join(sorted(wrapped))}, which a GPT-2 folder cannot hold: merge(model) folds LoRA "
            "into the weights, unwrap(model) gives the base back, export_peft(model, path) writes the adapter"
        )
    if (Path(path) / "model.safetensors.index.json").exists():
        raise FileError(f"{path} holds a model in several files already: choose another folder")
    if (Path(path) / "adapter_config.json").exists():
        raise FileError(f"{path} holds an adapter, which transformers would load with the model: choose another folder")
    parameters = dict(model.named_parameters())

    def numbers(path):
        """A parameter, or the weight of a Linear that stores it in another form, such as 4 bits."""
        linear = model.get_submodule(path.rpartition(".")[0])
        return parameters[path].data if path in parameters else linear.matrix()

    arrays = {}
    for name, (_, paths) in layout(model.config).items():
        parts = [numbers(path) for path in paths]
        arrays[f"transformer.{name}"] = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_inner": None, "dtype": model.config.dtype}
    config |= {name: getattr(model.config, name) for name in SIZES}
    config |= {field: values[0] for field, values in ONLY.items() if values[0] is not None}
    config |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)  # else transformers assumes 0.1
    if model.config.vocab_size <= 50256:  # else the end of a text is token 50256, as in every GPT-2
        config |= {"bos_token_id": None, "eos_token_id": None}
    write_folder(path, "config.json", config, "model.safetensors", arrays)


def find_folder(path_or_name):
    """A folder on this machine, or else the Hub's folder of this name, downloaded once and kept in its cache."""
    folder = Path(path_or_name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        hint = ", and an adapter goes on a base: load_adapter, or --adapter" if folder.suffix == ".npz" else ""
        raise FileError(f"{folder} is a file; a folder with config.json and model.safetensors is needed{hint}")
    name = str(path_or_name)
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise FileNotFoundError(f"there is no folder {folder}")
    hub = need("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # a dozen classes, from the network's to the Hub's own
        raise FileNotFoundError(
            f"there is no folder {name!r}, and the Hugging Face Hub did not give a model of that name "
            f"({type(error).__name__}): check the name and the network, or give the path of a downloaded GPT-2 folder"
        ) from error


def read_gpt2_config(path, dtype):
    """config.json as a GPT2Config.  Raises: FileError that names the field which this library cannot represent."""
    found = read_json(path)
    if found.get("model_type") != "gpt2":
        raise FileError(f"{path}: model_type is {found.get('model_type')!r}; only 'gpt2' can be loaded")
    for field, values in ONLY.items():
        if found.get(field, values[0]) not in values:
            raise FileError(f"{path}: {field} is {found[field]!r}; this library computes {values[0]!r} only")
    if missing := [size for size in SIZES if size not in found]:
        raise FileError(f"{path} lacks {', '.join(missing)}")
    for alias, size in ALIASES.items():
        if found.get(alias, found[size]) != found[size]:
            raise FileError(f"{path}: {alias} is {found[alias]!r} and {size} {found[size]!r}, two names of one number")
    try:
        config = GPT2Config(*(found[size] for size in SIZES))
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    if found.get("n_inner") not in (None, 4 * config.n_embd):
        raise FileError(f"{path}: n_inner is {found['n_inner']}; this library's MLP is {4 * config.n_embd} wide")
    return replace(config, dtype=dtype)


def gpt2_tensors(folder):
    """{name: Tensor} of model.safetensors or its shards, names without "transformer."."""
    index = folder / "model.safetensors.index.json"
    if lexists(folder / "model.safetensors"):
        found, _ = read_tensors(folder / "model.safetensors")
    elif lexists(index):
        found = sharded_tensors(folder, index)
    elif (folder / "pytorch_model.bin").exists():
        raise FileError(
            f"{folder} has its weights in pytorch_model.bin, a pickle, which is not read here: load it in transformers "
            "and save it again with save_pretrained, which writes model.safetensors"
        )
    else:
        raise FileNotFoundError(f"there is no model.safetensors in {folder}")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in found.items()}
    if len(tensors) < len(found):
        raise FileError(f"{folder}: a tensor stands twice, with the prefix transformer. and without")
    return tensors


def sharded_tensors(folder, index):
    """{name: Tensor} of all shards; index and shards must say the same."""
    places, tensors = read_json(index).get("weight_map"), {}
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise FileError(f"{index} has no weight_map that says in which file each tensor is")
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise FileError(f"{index} names {shard!r}, which is not a file of this folder")
        found, _ = read_tensors(folder / shard)
        differ = found.keys() ^ {name for name, place in places.items() if place == shard}
        if differ:
            raise FileError(f"{index} and {shard} disagree about {', '.join(sorted(differ)[:5])}")
        tensors |= found
    return tensors


def check_names(folder, tensors, table):
    names = {name for name in tensors if not MASK.fullmatch(name)} - {"lm_head.weight"}
    if missing := [name for name in table if name not in names]:
        raise FileError(f"{folder} lacks {len(missing)} of {len(table)} tensors: {', '.join(missing[:5])} ...")
    if unknown := sorted(names - table.keys()):
        raise FileError(f"{folder} holds tensors that a GPT-2 of this config does not have: {', '.join(unknown[:5])}")


def without_weights(config):
    """A frozen GPT2 whose arrays are still to come: nothing of full size is drawn or allocated.

    Layers hold no sizes besides their arrays, so the smallest model of the same layers will do.
    """
    model = GPT2(replace(config, vocab_size=1, n_positions=1, n_embd=config.n_head))
    model.config = config
    return model.requires_grad_(False)


def check_tied(folder, head, E):
    same = head.shape == E.shape and all((block.astype(E.dtype) == E[rows]).all() for rows, block in head.blocks())
    if not same:
        raise FileError(f"{folder}: lm_head.weight differs from wte.weight; this library's head is tied to wte")
