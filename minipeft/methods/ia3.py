"""(IA)³: learned vectors that scale keys, values and the inside of the MLP (Liu et al., 2022)."""

from dataclasses import dataclass

import numpy as np

from ..model.functional import total
from ..model.layers import Linear
from ..model.module import Parameter
from .method import Method
from .wrapper import Wrapper, wrap


class ScaledOutput(Wrapper):
    """What a Linear writes, bias and all, times a learned vector: keys and values (Liu et al., 2022, § 3.3).

        y = u ⊙ l,   u = base(x)
        dl = Σ dy ⊙ u,   du = dy ⊙ l,   dx = base's dx of du

    Shapes:   x (..., d_in), u, y (..., d_out), l (d_out,)
    Trains:   d_out numbers
    At init:  y = base(x), since l = 1
    """

    def __init__(self, base):
        super().__init__(base)
        self.l = Parameter(np.ones(base.shape[1], base.dtype))

    def forward(self, x):
        l = self.l
        u, back_base = self.base(x)
        y = u * l.data
        u = l.keep(u)

        def backward(dy):
            l.add_grad(total, dy, u)
            return back_base(dy * l.data)

        return y, backward

    def fold(self):
        W, b = parts_of(self.base)
        return Linear.from_arrays(W * self.l.data, b * self.l.data, requires_grad=False)


class ScaledInput(Wrapper):
    """What a Linear reads, times a learned vector: the inside of the MLP, which c_proj reads (Liu et al., 2022, § 3.3).

        y = base(z),   z = x ⊙ l
        dz = base's dx of dy,   dl = Σ dz ⊙ x,   dx = dz ⊙ l

    The paper scales what the activation writes; that is what c_proj reads, and only c_proj has rows to fold l into.

    Shapes:   x, z (..., d_in), y (..., d_out), l (d_in,)
    Trains:   d_in numbers
    At init:  y = base(x), since l = 1
    """

    def __init__(self, base):
        super().__init__(base)
        self.l = Parameter(np.ones(base.shape[0], base.dtype))

    def forward(self, x):
        l = self.l
        y, back_base = self.base(x * l.data)
        x = l.keep(x)

        def backward(dy):
            dz = back_base(dy)
            l.add_grad(total, dz, x)
            return dz * l.data

        return y, backward

    def fold(self):
        W, b = parts_of(self.base)
        return Linear.from_arrays(W * self.l.data[:, None], b.copy(), requires_grad=False)


def parts_of(base):
    """(W, b) of a Linear, and of all that stands around it."""
    linear = base.fold() if isinstance(base, Wrapper) else base
    return linear.matrix(), linear.bias.data


@dataclass
class IA3(Method):
    """(IA)³ on every Linear whose path matches `targets`, at its output, or `feedforward`, at its input.

    targets: a glob over paths of Linears whose output is scaled, or several; keys and values in the paper
    feedforward: a glob over paths of Linears whose input is scaled, or several; the inside of the MLP in the paper

    Trains:   d_out numbers for each target and d_in numbers for each of feedforward
    Raises:   ValueError if there is nothing to scale; () for either of the two leaves it out
    """

    targets: str | tuple = "*.[kv]_proj"
    feedforward: str | tuple = "*.mlp.c_proj"

    name, lr, merges = "ia3", 1e-1, True
    peft_type, peft_wrappers = "IA3", (ScaledOutput, ScaledInput)
    peft_fields = ("target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "init_ia3_weights")

    def inject(self, model, rng):
        places = [(self.targets, ScaledOutput), (self.feedforward, ScaledInput)]
        places = [(globs, scaled) for globs, scaled in places if globs not in ((), [])]
        if not places:
            raise ValueError("(IA)³ without targets and feedforward scales nothing: name at least one of them")
        for globs, scaled in places:
            wrap(model, globs, scaled, kind=Linear)

    @staticmethod
    def to_peft(model, folder):
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

    @classmethod
    def from_peft(cls, model, folder):
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
        return cls(folder.globs(output), folder.globs(inputs)), arrays


def same_input(name, nodes):
    """The vector that scales the input of all parts of a matrix alike, and nothing else does.  Raises: ValueError"""
    alike = all(type(node) is ScaledInput and not isinstance(node.base, Wrapper) for node in nodes)
    if not alike or any((node.l.data != nodes[0].l.data).any() for node in nodes):
        raise ValueError(
            f"in peft one vector scales {name}, its whole input or its output; here there are several: merge(model), and "
            "save the whole model, or keep the adapter with save_adapter"
        )
    return nodes[0].l.data
