"""(IA)³ to and from peft: one vector for each of its matrices, where here q, k and v have each their own.

here                           there                                   file
ScaledOutput  l (d_out,)       [l_q l_k l_v] (3 D, 1), 1 for none      <prefix>h.{i}.attn.c_attn.ia3_l
ScaledInput   l (d_in,)        l (1, d_in), a feedforward module       <prefix>h.{i}.mlp.c_proj.ia3_l
"""

import numpy as np

from ..methods import IA3
from ..methods.ia3 import ScaledInput, ScaledOutput
from ..methods.wrapper import Wrapper

KNOWN = {"target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "init_ia3_weights"}


def ia3_to_peft(model, folder):
    """One vector for each matrix of peft's: (d_out, 1) at its output, with ones for parts that are not scaled here, or
    (1, d_in) at its input."""
    arrays, inputs = {}, []
    for name, matrix in folder.matrices().items():
        found = [node for node in matrix.nodes if isinstance(node, Wrapper)]
        if found and all(type(node) is ScaledOutput and not isinstance(node.base, Wrapper) for node in found):
            ones = np.ones(matrix.shape[1] // len(matrix.nodes))
            parts = [node.l.data if node in found else ones for node in matrix.nodes]
            arrays[f"{name}.ia3_l"] = np.concatenate(parts)[:, None]
        elif found:
            inputs.append(name)
            arrays[f"{name}.ia3_l"] = same_input(name, matrix.nodes)[None]
    names = [key.removesuffix(".ia3_l") for key in arrays]
    return {"target_modules": folder.short(names), "feedforward_modules": folder.short(inputs)}, arrays


def ia3_from_peft(model, folder):
    """A part whose numbers are all 1, beside parts whose numbers are not, is one that is not scaled."""
    matrices, arrays, output, inputs = folder.matrices(), {}, [], []
    if folder.config.get("feedforward_modules") is None:
        folder.config["feedforward_modules"] = ["mlp.c_proj"]  # peft's own, for GPT-2
    names = folder.targeted(matrices, ("c_attn", "mlp.c_proj"))
    reads = {name: folder.selects("feedforward_modules", name) for name in names}
    shapes = {name: (1, matrices[name].shape[0]) if reads[name] else (matrices[name].shape[1], 1) for name in names}
    found = folder.read({f"{name}.ia3_l": shape for name, shape in shapes.items()})
    for name in names:
        l, paths = found[f"{name}.ia3_l"].ravel(), matrices[name].paths
        parts = [l] * len(paths) if reads[name] else np.split(l, len(paths))
        own = {path: part for path, part in zip(paths, parts, strict=True) if (part != 1).any() or (l == 1).all()}
        arrays |= {f"{path}.l": part for path, part in own.items()}
        (inputs if reads[name] else output).extend(own)
    return IA3(folder.globs(output), folder.globs(inputs)), arrays


def same_input(name, nodes):
    """The vector that scales the input of all parts of a matrix alike, and nothing else does.  Raises: ValueError"""
    alike = all(type(node) is ScaledInput and not isinstance(node.base, Wrapper) for node in nodes)
    if not alike or any((node.l.data != nodes[0].l.data).any() for node in nodes):
        raise ValueError(
            f"in peft one vector scales {name}, its whole input or its output; here there are several: merge(model), and "
            "save the whole model, or keep the adapter with save_adapter"
        )
    return nodes[0].l.data
