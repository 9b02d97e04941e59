"""How much each part of a model changed, in the number that suits it."""

import numpy as np

from ...methods.adapter import Bottleneck
from ...methods.ia3 import ScaledInput, ScaledOutput
from ...methods.prefix import PrefixAttention
from ...methods.wrapper import Wrapper
from ...model import Linear
from ...model.module import innermost
from .shapes import typeset

RELATIVE = ("Δ", "ΔW")  # signs of shares of a norm; the others are norms


def changes(model):
    """{id(parameter): (share, text)} of all that is trained: how much it changed, and that as a share of the largest.

    ‖ΔW‖ / ‖W‖ where a weight is changed or added to.  The norm itself of what stands for no weight: of a prefix, of the
    change of a bias (which may have been zero), of an adapter's two matrices, multiplied.
    """
    found = {id(p): ("‖·‖", np.linalg.norm(p.data)) for _, p in model.named_parameters() if p.requires_grad}
    for record in getattr(model, "peft", None) or []:
        for one in record.kept:
            moved, before = np.linalg.norm(one.parameter.data - one.data), np.linalg.norm(one.data)
            relative = before and not one.path.endswith("bias")
            found[id(one.parameter)] = ("Δ", moved / before) if relative else ("‖Δ‖", moved)
    for _, node in model.walk():
        if isinstance(node, Wrapper) and (change := amount_of(node)):
            found |= {id(p): change for _, p in node.own_parameters() if p.requires_grad}
    most = {True: 0.0, False: 0.0}
    for sign, value in found.values():
        most[sign in RELATIVE] = max(most[sign in RELATIVE], value)
    return {key: (value / (most[sign in RELATIVE] or 1), f"{sign} {value:{'.1%' if sign in RELATIVE else '.2g'}}")
            for key, (sign, value) in found.items()}  # fmt: skip


def amount_of(node):
    """(what, how much) of a wrapper whose parameters mean something together only; otherwise None."""
    if isinstance(getattr(node, "adapter", None), Bottleneck):
        down, up = (innermost(layer).matrix() for layer in (node.adapter.down, node.adapter.up))
        return "‖down up‖", np.linalg.norm(down @ up)
    if isinstance(node, PrefixAttention) and hasattr(node, "encoder"):
        return f"‖[{typeset('P_k')} {typeset('P_v')}]‖", np.linalg.norm(np.hstack(node.prefix()[:2]))
    if not isinstance(innermost(node), Linear):
        return None
    W = innermost(node).matrix()
    if hasattr(node, "delta"):
        change = node.delta()
    elif isinstance(node, (ScaledOutput, ScaledInput)):
        change = W * ((node.l.data if isinstance(node, ScaledOutput) else node.l.data[:, None]) - 1)
    else:
        return None
    return "ΔW", np.linalg.norm(change) / np.linalg.norm(W)
