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
        u_kept = l.keep(u)

        def backward(dy):
            l.add_grad(total, dy, u_kept)
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
        x_kept = l.keep(x)

        def backward(dy):
            dz = back_base(dy)
            l.add_grad(total, dz, x_kept)
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
    feedforward: str | tuple = "*.c_proj"

    name, lr, merges = "ia3", 1e-1, True

    def inject(self, model, rng):
        places = [(self.targets, ScaledOutput), (self.feedforward, ScaledInput)]
        places = [(globs, scaled) for globs, scaled in places if globs not in ((), [])]
        if not places:
            raise ValueError("(IA)³ without targets and feedforward scales nothing: name at least one of them")
        for globs, scaled in places:
            wrap(model, globs, scaled, kind=Linear)
