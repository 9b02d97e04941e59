"""LoRA to and from peft: pairs on q, k and v become one pair on the fused c_attn, and one becomes three again."""

import json
from collections import Counter

import numpy as np

from ..files import FileError
from ..methods import Stack
from .peft_folder import regex
from .peft_strict import CONFIG, PREFIX, of_kind, positive, whole_number

KNOWN = {"r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules",
         "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "bias", "init_lora_weights",
         "eva_config", "ensure_weight_tying", "megatron_core", "qalora_group_size"}  # fmt: skip
# eva_config says how A was begun; the last three act only with fields that must be off
INITS = (True, False, None, "gaussian", "eva", "mica", "orthogonal")  # others (pissa, olora, ...) change the base too
NOTE = "minipeft"  # {matrix: ranks of q, k and v}: which rows of a fused pair were whose


def lora_to_peft(model, folder):
    """(config, arrays) of peft for the pairs in the model; ranks and scales may differ from matrix to matrix."""
    found, arrays, dropouts, note = {}, {}, set(), {}
    for name, matrix in folder.matrices().items():
        if pairs := [(j, node) for j, node in enumerate(matrix.nodes) if isinstance(node, folder.wrappers)]:
            A, B, s, ranks = fuse(pairs, len(matrix.nodes))
            found[name] = (A.shape[1], tidy(s, A.shape[1]))
            arrays |= {f"{name}.lora_A.weight": A.T, f"{name}.lora_B.weight": B.T}
            for key, (attribute, start) in columns(folder).items():
                parts = [getattr(node, attribute).data if isinstance(node, folder.wrappers) else start(node)
                         for node in matrix.nodes]  # fmt: skip
                arrays[f"{name}.{key}"] = np.concatenate(parts)
            dropouts |= {pair.dropout.p for _, pair in pairs}
            if ranks and len(ranks) > 1:
                note[name] = ranks
    if len(dropouts) > 1:
        raise ValueError(
            f"peft has one lora_dropout for all layers, these have {sorted(dropouts)}: set .dropout.p alike"
        )
    (r, alpha), _ = Counter(found.values()).most_common(1)[0]
    folder.notes |= {NOTE: json.dumps(note)} if note else {}
    return {
        "r": r, "lora_alpha": alpha, "lora_dropout": dropouts.pop(), "bias": "none",
        "target_modules": folder.short(found), "fan_in_fan_out": True,
        "rank_pattern": {name: pair[0] for name, pair in found.items() if pair[0] != r},
        "alpha_pattern": {name: pair[1] for name, pair in found.items() if pair[1] != alpha},
        "use_rslora": False, "use_dora": False, "init_lora_weights": True, "modules_to_save": None,
    }, arrays  # fmt: skip


def columns(folder):
    """{peft's name: (attribute, what it is on a Linear without one)} of the vectors (d_out,) that stand beside A and B."""
    return {key: column for kind in folder.wrappers for key, column in getattr(kind, "peft_columns", {}).items()}


def fuse(pairs, n):
    """Pairs on some of the n parts of a fused matrix as one pair on all of it, exactly: (A, B, s, ranks of the parts).

        [ΔW_q | 0 | ΔW_v] = s [A_q | A_v] [B_q  0   0 ]
                                          [ 0   0  B_v]

    The rank is the sum of the ranks; with α' = s r', which is n α for n pairs of one α, the scale stays.  Pairs whose A
    is the same already are one pair, [B_q | B_k | B_v], and no part has rows of its own: ranks is None.  A scale that
    differs goes into its B.

    Shapes:   A_j (d, r_j), B_j (r_j, d_out);  A (d, r'), B (r', n d_out)
    """
    s, first = pairs[0][1].scaling, pairs[0][1].A.data
    same = [pair.A.data.shape == first.shape and (pair.A.data == first).all() for _, pair in pairs]
    shared = len(pairs) > 1 and all(same) and first.any()  # all zero, they are only at their start (train="A")
    A = first if shared else np.concatenate([pair.A.data for _, pair in pairs], axis=1)
    width = pairs[0][1].B.data.shape[1]
    B, row, ranks = np.zeros((A.shape[1], n * width), A.dtype), 0, [0] * n
    for j, pair in pairs:
        ranks[j] = len(pair.B.data)
        B[row : row + ranks[j], j * width : (j + 1) * width] = pair.B.data * (pair.scaling / s)
        row += 0 if shared else ranks[j]
    return A, B, s, None if shared else ranks


def tidy(s, r):
    """α = s r, as a whole number where one gives exactly this scale."""
    alpha = float(s * r)
    return round(alpha) if round(alpha) / r == s else alpha


def lora_from_peft(model, folder):
    """(method, {path: array}) for an adapter of pairs.  Raises: FileError that names the field or tensor."""
    config, matrices = folder.config, folder.matrices()
    check_config(config)
    names = folder.targeted(matrices, ("c_attn",))
    for field in ("rank_pattern", "alpha_pattern"):
        for key in of_kind(config, field, dict) or {}:
            if not any(pattern_matches(key, name) for name in names):
                raise FileError(f"{CONFIG}: {field} names {key!r}, which is none of the targeted matrices")
    scales = {name: rank_and_alpha(config, name) for name in names}
    expected = {}
    for name, (r, _) in scales.items():
        d_in, d_out = matrices[name].shape
        expected |= {f"{name}.lora_A.weight": (r, d_in), f"{name}.lora_B.weight": (d_out, r)}
        expected |= {f"{name}.{key}": (d_out,) for key in columns(folder)}
    found, arrays, groups = folder.read(expected), {}, {}
    for name, (r, alpha) in scales.items():
        paths, nodes = matrices[name].paths, matrices[name].nodes
        A, B = found[f"{name}.lora_A.weight"].T, found[f"{name}.lora_B.weight"].T
        vectors = [{} for _ in paths]
        for key, (attribute, _) in columns(folder).items():
            for own, part in zip(vectors, np.split(found[f"{name}.{key}"], len(paths)), strict=True):
                own[attribute] = part
        pairs = split(A, B, len(paths), noted(folder, name, r, len(paths)))
        if not all(pair or at_start(folder, *rest) for pair, *rest in zip(pairs, vectors, nodes, strict=True)):
            pairs = shared(A, B, len(paths))
        for path, pair, own in zip(paths, pairs, vectors, strict=True):
            if pair:
                own |= {"A": pair[0], "B": pair[1]}
                arrays |= {f"{path}.{attribute}": array for attribute, array in own.items()}
                groups.setdefault((len(pair[1]), tidy(alpha / r, len(pair[1]))), []).append(path)
    settings = {"dropout": config.get("lora_dropout") or 0.0} | getattr(folder.method, "peft_settings", {})
    methods = [folder.method(r=r, alpha=alpha, targets=folder.globs(paths), **settings)
               for (r, alpha), paths in groups.items()]  # fmt: skip
    return (methods[0] if len(methods) == 1 else Stack(tuple(methods))), arrays


def noted(folder, name, r, n):
    """The ranks of the n parts as export_peft noted them; None where there is no note, or none that makes sense.

    It is a hint: peft drops it when it saves, and another library may keep it and change the arrays.
    """
    try:
        ranks = json.loads(folder.notes[NOTE])[name]
        return ranks if len(ranks) == n and sum(ranks) == r and all(type(k) is int and k >= 0 for k in ranks) else None
    except (KeyError, TypeError, ValueError):
        return None


def at_start(folder, vectors, linear):
    """Whether the vectors of a part are those of a Linear without the method."""
    return all(np.array_equal(vectors[attribute], start(linear)) for attribute, start in columns(folder).values())


def split(A, B, n, ranks=None):
    """One pair on a matrix of n parts as [(A_j, B_j) or None]: what export_peft fused comes apart into what it was.

    That is so where each row of B writes into one part only.  Such a row and its column of A belong to that part alone,
    and a part without rows has no pair.  A row of zeros (of a B that was not trained yet) belongs to whom `ranks`, the
    note of export_peft, says.  Everything else is one pair, whose A is shared.
    """
    blocks = np.split(B, n, axis=1)
    writes = rows = np.array([block.any(axis=1) for block in blocks])  # (n, r)
    if ranks:
        owner = np.repeat(np.arange(n), ranks) == np.arange(n)[:, None]
        rows = writes if (writes & ~owner).any() else owner  # B may have been changed since, and knows better
    if n == 1 or not (rows.sum(0) == 1).all():
        return shared(A, B, n)
    return [thin(A[:, own], block[own]) if own.any() else None for own, block in zip(rows, blocks, strict=True)]


def shared(A, B, n):
    """One pair as n with the same A, and B cut by columns."""
    A, B = thin(A, B)
    return [(A, block) for block in np.split(B, n, axis=1)]


def thin(A, B):
    """The same product with an inner side that is no longer than its outer ones: A B = (A Q) R with B = Q R, or alike.

    peft allows a rank above min(d_in, d_out), where the last columns add nothing but numbers to train.

    Shapes:   A (d_in, r), B (r, d_out);  result (d_in, r'), (r', d_out) with r' = min(r, d_in, d_out)
    """
    dtype, (d_in, r), d_out = A.dtype, A.shape, B.shape[1]
    if r <= min(d_in, d_out):
        return A, B
    if d_in <= d_out:
        Q, R = np.linalg.qr(A.T.astype("float64"))  # (r, d_in), (d_in, d_in)
        return R.T.astype(dtype), (Q.T @ B).astype(dtype)
    Q, R = np.linalg.qr(B.astype("float64"))  # (r, d_out), (d_out, d_out)
    return (A @ Q).astype(dtype), R.astype(dtype)


def check_config(config):
    """Refuse what the pairs here do not compute.  Raises: FileError that names the field."""
    if config.get("init_lora_weights", True) not in INITS:
        raise FileError(
            f"{CONFIG}: init_lora_weights is {config['init_lora_weights']!r}, which may change the base's own weights: in "
            "peft, convert it to a plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if config.get("bias", "none") != "none":
        raise FileError(f"{CONFIG}: bias is {config['bias']!r}; LoRA here trains no biases")
    dropout = config.get("lora_dropout") or 0.0
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise FileError(f"{CONFIG}: lora_dropout must lie in [0, 1), not {dropout!r}")


def pattern_matches(key, name):
    return regex(rf"(.*\.)?({key})", f"transformer.{name}")


def rank_and_alpha(config, name):
    """(r, α) of one matrix, α such that the scale is α / r."""

    def local(field, default):
        found = [
            (key, value) for key, value in (of_kind(config, field, dict) or {}).items() if pattern_matches(key, name)
        ]
        (first, value), *others = found or [(None, default)]
        if odd := [f"{key!r}: {other!r}" for key, other in others if other != value]:
            raise FileError(
                f"{CONFIG}: in {field} both {first!r}: {value!r} and {odd[0]} are meant for {name}.  peft takes the first "
                "and saves them in the order of the alphabet, so which one was first is lost: delete the one that was "
                "not used in training"
            )
        return value

    r = whole_number({"r": local("rank_pattern", config.get("r"))}, "r")
    alpha = positive("lora_alpha", local("alpha_pattern", config.get("lora_alpha")))
    return r, alpha * r**0.5 if config.get("use_rslora") else alpha


def peft_deltas(config, arrays):
    """{matrix: ΔW = s A B} of every pair in a file, each (d_in, d_out)."""
    deltas, start, end = {}, f"{PREFIX}transformer.", ".lora_A.weight"
    for key, A in arrays.items():
        name = key.removeprefix(start).removesuffix(end)
        B = arrays.get(f"{start}{name}.lora_B.weight")
        if key == start + name + end and B is not None:
            r, alpha = rank_and_alpha(config, name)
            deltas[name] = alpha / r * (B @ A).T
    return deltas
