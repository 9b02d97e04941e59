"""VeRA to and from peft, which has one d for all of c_attn where here q, k and v have each their own.

here                           there                                   file
A (d_in, r), B (r, d_out)      those of the widest matrix              base_model.vera_A = Aᵀ, base_model.vera_B = Bᵀ
d (r,), the same in q, k, v    d                                       <prefix>h.{i}.attn.c_attn.vera_lambda_d (r,)
d_q, d_k, d_v                  [d_q d_k d_v], and rank 3 r: in_thirds  the same (3 r,)
b_q, b_k, b_v (D,)             [b_q b_k b_v]; 0 for one without VeRA   <prefix>h.{i}.attn.c_attn.vera_lambda_b (3 D,)
"""

import numpy as np

from ..files import FileError
from ..methods.vera import VeRALinear, check_vera, projections
from ..methods.wrapper import Wrapper
from .peft_strict import CONFIG

KNOWN = {"r", "d_initial", "vera_dropout", "projection_prng_key", "save_projection", "target_modules",
         "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "init_weights"}  # fmt: skip
SETTINGS = {"d_initial": "d_initial", "dropout": "vera_dropout", "projection_seed": "projection_prng_key"}
WHOLE = "merge it in peft (merge_and_unload), and load_gpt2 reads the whole model"


def in_thirds(A, B, D):
    """(A′, B′) of rank 3 r, with which one vector d′ = [d_q d_k d_v] does in c_attn what d_q, d_k and d_v do apart.

                                 [ B_q  0   0  ]
        A′ = [A A A],       B′ = [  0  B_k  0  ],       (x A′ ⊙ d′) B′ = [(x A ⊙ d_q) B_q | ... | ...]
                                 [  0   0  B_v ]

    The further columns of a wider matrix fall to the thirds in turn; there d′ = [d d d], and nothing changes.
    """
    third = np.arange(B.shape[1]) // D % 3
    return np.tile(A, 3), np.concatenate([np.where(third == j, B, 0) for j in range(3)])


def vera_to_peft(model, folder):
    """(config, arrays); of rank r where d is the same in all parts of every matrix, else of rank 3 r."""
    method, D = folder.methods[0], model.config.n_embd
    rows = {name: matrix for name, matrix in folder.matrices().items() if veras(matrix)}
    d_in, d_out = widest(rows)
    A, B = projections(d_in, d_out, method.r, method.projection_seed, model.config.dtype)
    check_alike(rows, A, B)
    apart = any((node.d.data != veras(matrix)[0].d.data).any() for matrix in rows.values() for node in veras(matrix))
    arrays, start = {}, np.full(method.r, method.d_initial, A.dtype)
    for name, matrix in rows.items():
        ds = [node.d.data if isinstance(node, VeRALinear) else start for node in matrix.nodes]
        zero = np.zeros(matrix.shape[1] // len(matrix.nodes), A.dtype)
        bs = [node.b.data if isinstance(node, VeRALinear) else zero for node in matrix.nodes]
        d = np.concatenate(ds * (3 // len(ds))) if apart else veras(matrix)[0].d.data
        arrays |= {f"{name}.vera_lambda_d": d, f"{name}.vera_lambda_b": np.concatenate(bs)}
    A, B = in_thirds(A, B, D) if apart else (A, B)
    config = {theirs: getattr(method, ours) for ours, theirs in SETTINGS.items()}
    config |= {"r": A.shape[1], "target_modules": folder.short(rows), "save_projection": True, "fan_in_fan_out": True}
    return config, {"base_model.vera_A": A.T, "base_model.vera_B": B.T} | arrays


def veras(matrix):
    return [node for node in matrix.nodes if isinstance(node, VeRALinear)]


def widest(rows):
    """(d_in, d_out) of A and B."""
    return tuple(max(matrix.shape[side] for matrix in rows.values()) for side in (0, 1))


def check_alike(rows, A, B):
    """In peft all layers share one A, one B and one dropout.  Raises: ValueError where they do not here"""
    rates = {node.dropout.p for matrix in rows.values() for node in veras(matrix)}
    for name, (_, (d_in, d_out), _, nodes) in rows.items():
        for node, B_part in zip(nodes, np.split(B[:, :d_out], len(nodes), axis=1), strict=True):
            if not isinstance(node, VeRALinear):
                continue
            same = np.array_equal(node.A.data, A[:d_in]) and np.array_equal(node.B.data, B_part)
            if not same or isinstance(node.base, Wrapper) or len(rates) > 1:
                raise ValueError(
                    f"in peft all layers share one A, one B and one dropout, those of one VeRA; on {name} it is otherwise: "
                    "merge(model) and save_gpt2(model, path) write the whole model"
                )


def vera_from_peft(model, folder):
    """(method, {path: array}); a part whose b is zero, beside parts whose b is not, is one without VeRA."""
    config, matrices, r = folder.config, folder.matrices(), folder.whole("r")
    rows = {name: matrices[name] for name in folder.targeted(matrices, ("c_attn",))}
    given = {ours: config[theirs] for ours, theirs in SETTINGS.items() if config.get(theirs) is not None}
    check_vera(folder.method(r, **given))
    d_in, d_out = widest(rows)
    saved = config.get("save_projection") is not False  # else peft, too, draws them from the seed
    shapes = {"base_model.vera_A": (r, d_in), "base_model.vera_B": (d_out, r)} if saved else {}
    for name, matrix in rows.items():
        shapes |= {f"{name}.vera_lambda_d": (r,), f"{name}.vera_lambda_b": (matrix.shape[1],)}
    found = folder.read(shapes)
    A, B = (found[f"base_model.vera_{name}"].T if saved else None for name in "AB")
    apart = saved and is_apart(A, B, given.get("projection_seed", 0), model.config.n_embd)
    arrays, targets = {}, []
    for name, (_, _, paths, _) in rows.items():
        d, bs = found[f"{name}.vera_lambda_d"], np.split(found[f"{name}.vera_lambda_b"], len(paths))
        ds = np.split(d, 3) if apart else [d] * 3  # one array under three paths is one Parameter
        if len(paths) == 1 and any((ds[0] != other).any() for other in ds):
            raise FileError(f"{name}.vera_lambda_d has three parts that differ, since it was trained in peft: {WHOLE}")
        for path, d, b in zip(paths, ds, bs, strict=False):
            if b.any() or not any(other.any() for other in bs):
                arrays |= {f"{path}.d": d, f"{path}.b": b}
                targets.append(path)
    return folder.method(r // 3 if apart else r, targets=folder.globs(targets), **given), arrays


def is_apart(A, B, seed, D):
    """Whether A and B are what in_thirds makes of those of the seed; False if they are those.

    Not to the last bit: how torch rounds depends on the processor.  Raises: FileError if they are neither
    """
    (d_in, r), d_out = A.shape, B.shape[1]
    ours = {False: projections(d_in, d_out, r, seed)}
    if r % 3 == 0:
        ours[True] = in_thirds(*projections(d_in, d_out, r // 3, seed), D)
    for apart, pair in ours.items():
        if all(np.allclose(P, Q, rtol=1e-5, atol=1e-6) for P, Q in zip((A, B), pair, strict=True)):
            return apart
    raise FileError(
        f"{CONFIG}: vera_A and vera_B are not what projection_prng_key = {seed} gives, and an adapter here holds the seed "
        f"alone: {WHOLE}"
    )
