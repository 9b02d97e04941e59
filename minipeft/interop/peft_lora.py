"""LoRA to and from peft: pairs on q, k and v become one pair on the fused c_attn, and one becomes three again."""

import re
from collections import Counter

import numpy as np

from ..files import FileError
from ..methods import LoRA, Stack
from ..methods.lora import LoRALinear
from .gpt2_files import MATRICES, matrix_shapes
from .peft_strict import CONFIG, PREFIX, accept, check_tensors, of_kind, positive, whole_number

KNOWN = {"r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules",
         "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "bias", "init_lora_weights",
         "eva_config", "ensure_weight_tying", "megatron_core", "qalora_group_size"}  # fmt: skip
# eva_config says how A was begun; the last three act only with fields that must be off
INITS = (True, False, None, "gaussian", "eva", "mica", "orthogonal")  # others (pissa, olora, ...) change the base too


def lora_key(matrix, letter):
    return f"{PREFIX}transformer.{matrix}.lora_{letter}.weight"


def lora_to_peft(model):
    """(config, arrays) of peft for the LoRA pairs in the model; ranks and scales may differ from matrix to matrix."""
    found, arrays, dropouts = {}, {}, set()
    for i in range(model.config.n_layer):
        for matrix, paths in MATRICES.items():
            parts = [model.get_submodule(f"h.{i}.{path}") for path in paths]
            if pairs := [(j, part) for j, part in enumerate(parts) if isinstance(part, LoRALinear)]:
                A, B, s = fuse(pairs, len(parts))
                name, r = f"h.{i}.{matrix}", A.shape[1]
                found[name] = (r, tidy(s, r))
                arrays |= {lora_key(name, "A"): A.T, lora_key(name, "B"): B.T}
                dropouts |= {pair.dropout.p for _, pair in pairs}
    if len(dropouts) > 1:
        raise ValueError(
            f"peft has one lora_dropout for all layers, these have {sorted(dropouts)}: set .dropout.p alike"
        )
    (r, alpha), _ = Counter(found.values()).most_common(1)[0]
    config = {
        "peft_type": "LORA", "r": r, "lora_alpha": alpha, "lora_dropout": dropouts.pop(), "bias": "none",
        "target_modules": shorten(found, model.config.n_layer, "{}"), "fan_in_fan_out": True,
        "rank_pattern": {name: pair[0] for name, pair in found.items() if pair[0] != r},
        "alpha_pattern": {name: pair[1] for name, pair in found.items() if pair[1] != alpha},
        "use_rslora": False, "use_dora": False, "init_lora_weights": True, "modules_to_save": None,
    }  # fmt: skip
    return config, arrays


def fuse(pairs, n):
    """Pairs on some of the n parts of a fused matrix as one pair on all of it, exactly: (A, B, s).

        [ΔW_q | 0 | ΔW_v] = s [A_q | A_v] [B_q  0   0 ]
                                          [ 0   0  B_v]

    The rank is the sum of the ranks; with α' = s r', which is n α for n pairs of one α, the scale stays.  Pairs whose A
    is the same already are one pair: [B_q | B_k | B_v].  A scale that differs goes into its B.

    Shapes:   A_j (d, r_j), B_j (r_j, d_out);  A (d, r'), B (r', n d_out)
    """
    s, first = pairs[0][1].scaling, pairs[0][1].A.data
    shared = all(pair.A.data.shape == first.shape and (pair.A.data == first).all() for _, pair in pairs)
    A = first if shared else np.concatenate([pair.A.data for _, pair in pairs], axis=1)
    width = pairs[0][1].B.data.shape[1]
    B, row = np.zeros((A.shape[1], n * width), A.dtype), 0
    for j, pair in pairs:
        r = len(pair.B.data)
        B[row : row + r, j * width : (j + 1) * width] = pair.B.data * (pair.scaling / s)
        row += 0 if shared else r
    return A, B, s


def tidy(s, r):
    """α = s r, as a whole number where one gives exactly this scale."""
    alpha = float(s * r)
    return round(alpha) if round(alpha) / r == s else alpha


def shorten(names, n_layer, pattern):
    """The names "h.0.x", "h.1.x", ... as one, pattern.format("x"), where all layers have an x; others as they are."""
    leaves = Counter(name.split(".", 2)[2] for name in names)
    whole = [pattern.format(leaf) for leaf, count in leaves.items() if count == n_layer]
    return whole + [name for name in names if leaves[name.split(".", 2)[2]] < n_layer]


def lora_from_peft(config, tensors, model):
    """(method, {path: array}) for a LoRA adapter of peft.  Raises: FileError that names the field or tensor."""
    check_config(config)
    L, shapes = model.config.n_layer, matrix_shapes(model.config)
    names = targeted(config, L)
    scales = {name: rank_and_alpha(config, name) for name in names}
    expected = {}
    for name, (r, _) in scales.items():
        d_in, d_out = shapes[name.split(".", 2)[2]]
        expected |= {lora_key(name, "A"): (r, d_in), lora_key(name, "B"): (d_out, r)}
    check_tensors(tensors, expected)
    arrays, groups = {}, {}
    for name, (r, alpha) in scales.items():
        A, B = (tensors[lora_key(name, letter)].read(model.config.dtype).T for letter in "AB")
        layer, matrix = name.rsplit(".", 2)[0], name.split(".", 2)[2]
        for path, A_j, B_j in split(A, B, MATRICES[matrix]):
            arrays |= {f"{layer}.{path}.A": A_j, f"{layer}.{path}.B": B_j}
            groups.setdefault((len(B_j), tidy(alpha / r, len(B_j))), []).append(f"{layer}.{path}")
    dropout = config.get("lora_dropout") or 0.0
    loras = [LoRA(r, alpha, dropout, tuple(shorten(paths, L, "*.{}"))) for (r, alpha), paths in groups.items()]
    return (loras[0] if len(loras) == 1 else Stack(tuple(loras))), arrays


def split(A, B, paths):
    """One pair on a fused matrix as (path, A_j, B_j) for its parts: the same A, and B cut by columns.

    A pair that export_peft fused comes apart into what it was: where each row of B writes into one part only, a row and
    its column of A belong to that part alone, and a part that no row writes into has no pair.
    """
    blocks = np.split(B, len(paths), axis=1)
    writes = np.array([block.any(axis=1) for block in blocks])  # (parts, r)
    if len(paths) > 1 and (writes.sum(0) == 1).all():
        return [
            (path, A[:, rows], block[rows])
            for path, block, rows in zip(paths, blocks, writes, strict=True)
            if rows.any()
        ]
    return [(path, A, block) for path, block in zip(paths, blocks, strict=True)]


def check_config(config):
    """Refuse what LoRA here does not compute.  Raises: FileError that names the field."""
    if config.get("use_dora"):
        raise FileError(
            f"{CONFIG}: use_dora is true. DoRA divides each column of W + ΔW by its norm and learns it anew, which no A "
            "and B of LoRA can express: merge the adapter in peft and load the whole model with load_gpt2"
        )
    accept(config, KNOWN)
    if config.get("init_lora_weights", True) not in INITS:
        raise FileError(
            f"{CONFIG}: init_lora_weights is {config['init_lora_weights']!r}, which may change the base's own weights: in "
            "peft, convert it to a plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if config.get("bias", "none") != "none":
        raise FileError(f"{CONFIG}: bias is {config['bias']!r}; LoRA here trains no biases")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise FileError(f"{CONFIG}: task_type is {config['task_type']!r}; this model is a CAUSAL_LM")
    dropout = config.get("lora_dropout") or 0.0
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise FileError(f"{CONFIG}: lora_dropout must lie in [0, 1), not {dropout!r}")


def targeted(config, n_layer):
    """The matrices that peft would adapt, ["h.0.attn.c_attn", ...], by its own rules for target_modules and the rest."""
    targets = of_kind(config, "target_modules", (str, list)) or ["c_attn"]
    layers = of_kind(config, "layers_to_transform", (int, list))
    candidates = [f"transformer.h.{i}.{matrix}" for i in range(n_layer) for matrix in MATRICES]
    others = ["transformer.wte", "transformer.wpe", "lm_head"]
    if targets == "all-linear":
        targets = list(MATRICES)
    if odd := [name for name in others if matches(targets, name)]:
        raise FileError(f"{CONFIG}: target_modules includes {odd[0]}; LoRA here goes on {', '.join(MATRICES)} only")
    names = [name.removeprefix("transformer.") for name in candidates if matches(targets, name)]
    if excluded := of_kind(config, "exclude_modules", (str, list)):
        names = [name for name in names if not matches(excluded, f"transformer.{name}")]
    if layers not in (None, []) and not isinstance(targets, str):
        layers, pattern = layers if isinstance(layers, list) else [layers], config.get("layers_pattern")
        if pattern not in (None, "", [], "h", ["h"]):
            raise FileError(f"{CONFIG}: layers_pattern is {pattern!r}; the layers of GPT-2 are named 'h'")
        if odd := [i for i in layers if i not in range(n_layer)]:
            raise FileError(f"{CONFIG}: layers_to_transform names layer {odd[0]!r}; there are 0 ... {n_layer - 1}")
        names = [name for name in names if int(name.split(".")[1]) in layers or f"transformer.{name}" in targets]
    if not names:
        raise FileError(f"{CONFIG}: target_modules {targets!r} matches none of {', '.join(MATRICES)}")
    for field in ("rank_pattern", "alpha_pattern"):
        for key in of_kind(config, field, dict) or {}:
            if not any(pattern_matches(key, name) for name in names):
                raise FileError(f"{CONFIG}: {field} names {key!r}, which is none of the targeted matrices")
    return names


def matches(targets, name):
    """A string is a regular expression for the whole name; a list holds names, or the ends of names after a dot."""
    if isinstance(targets, str):
        return regex(targets, name)
    return any(name == target or name.endswith(f".{target}") for target in targets)


def pattern_matches(key, name):
    return regex(rf"(.*\.)?({key})", f"transformer.{name}")


def regex(pattern, name):
    try:
        return bool(re.fullmatch(pattern, name))
    except re.error as error:
        raise FileError(f"{CONFIG}: {pattern!r} is not a regular expression ({error})") from error


def rank_and_alpha(config, name):
    """(r, α) of one matrix, α such that the scale is α / r."""

    def local(field, default):
        patterns = of_kind(config, field, dict) or {}
        return next((value for key, value in patterns.items() if pattern_matches(key, name)), default)

    r = whole_number({"r": local("rank_pattern", config.get("r"))}, "r")
    alpha = positive("lora_alpha", local("alpha_pattern", config.get("lora_alpha")))
    return r, alpha * r**0.5 if config.get("use_rslora") else alpha


def lora_deltas(config, arrays):
    """{matrix: ΔW = s A B} of every pair in a file, each (d_in, d_out)."""
    deltas, start, end = {}, f"{PREFIX}transformer.", ".lora_A.weight"
    for key, A in arrays.items():
        name = key.removeprefix(start).removesuffix(end)
        B = arrays.get(lora_key(name, "B"))
        if key == lora_key(name, "A") and B is not None:
            r, alpha = rank_and_alpha(config, name)
            deltas[name] = alpha / r * (B @ A).T
    return deltas
