"""Prefix tuning and prompt tuning to and from peft: one tensor, prompt_embeddings, for both."""

import numpy as np

from ..files import FileError
from ..methods import PrefixTuning, PromptTuning, Wrapper
from ..methods.prefix import PrefixAttention, ShiftedPositions
from .peft_strict import CONFIG

KNOWN = {"num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim", "num_transformer_submodules",
         "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs",
         "encoder_hidden_size", "encoder_num_layers", "encoder_dropout", "encoder_reparameterization_type",
         "prefix_projection", "init_weights"}  # fmt: skip  # from prompt_tuning_init on: how it was begun or trained


def sizes(model, m):
    """The fields that prefix and prompt tuning share."""
    config = model.config
    return {"num_virtual_tokens": m, "num_transformer_submodules": 1, "num_layers": config.n_layer,
            "num_attention_heads": config.n_head, "token_dim": config.n_embd}  # fmt: skip


def prefix_to_peft(model, folder):
    """Row p of prompt_embeddings is P_k[p], P_v[p] of layer 0, then of layer 1, ...: (m, n_layer, 2, D) flattened."""
    cores = [block.attn.core for block in model.h]
    if not all(isinstance(core, PrefixAttention) and not isinstance(core.base, Wrapper) for core in cores):
        raise ValueError("peft's prefix stands once in every layer; here a layer has none, or two")
    if not isinstance(model.wpe, ShiftedPositions):
        raise ValueError("in peft the tokens stand after the prefix, at positions m ...; here wpe does not shift them")
    arrays = [core.own_arrays()[name] for core in cores for name in ("P_k", "P_v")]
    rows = np.stack(arrays, axis=1).reshape(len(arrays[0]), -1)  # (m, 2 n_layer, D) -> (m, 2 n_layer D)
    config = sizes(model, len(rows)) | {"prefix_projection": False, "encoder_hidden_size": model.config.n_embd}
    return config, {"prompt_embeddings": rows}


def prompt_to_peft(model, folder):
    if isinstance(model.wte.base, Wrapper):
        raise ValueError("two soft prompts, one before the other, have no place in one peft folder: train one longer")
    P = model.wte.P.data
    return sizes(model, len(P)), {"prompt_embeddings": P}


def prompt_embeddings(model, folder, width):
    """The one tensor, (m, width), once config and model agree.

    Without a task_type peft takes the adapter for another kind of model, and computes wrong logits in silence.
    """
    config = folder.config
    if config.get("task_type") != "CAUSAL_LM":
        raise FileError(
            f"{CONFIG}: task_type is {config.get('task_type')!r}; it must be 'CAUSAL_LM', or else peft itself computes "
            "other logits, without a word"
        )
    m = folder.whole("num_virtual_tokens")
    for field, ours in sizes(model, m).items():
        if config.get(field) not in (None, ours):
            raise FileError(f"{CONFIG}: {field} is {config[field]!r}; for this model it must be {ours!r}")
    return folder.read({"prompt_embeddings": (m, width)})["prompt_embeddings"]


def prefix_from_peft(model, folder):
    L, D = model.config.n_layer, model.config.n_embd
    rows = prompt_embeddings(model, folder, 2 * L * D)
    P = rows.reshape(len(rows), L, 2, D)
    arrays = {f"h.{i}.attn.core.{name}": P[:, i, kv] for i in range(L) for kv, name in enumerate(("P_k", "P_v"))}
    return PrefixTuning(len(rows)), arrays


def prompt_from_peft(model, folder):
    P = prompt_embeddings(model, folder, model.config.n_embd)
    return PromptTuning(len(P)), {"wte.P": P}
