"""LoRA: learn the change of a weight as a product of two thin matrices (Hu et al., 2021).

Lesson 06 writes this layer by hand; lessons 07, 08 and 09 choose its rank, its alpha and its dropout.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np

from ..checks import is_real, is_whole
from ..model.functional import matmul, outer
from ..model.layers import Dropout, Linear
from ..model.module import Parameter, Wrapper
from .method import Method


class LoRALinear(Wrapper):
    """A frozen Linear with a low-rank path beside it (Hu et al., 2021, eq. 3).

        y = base(x) + s (x A) B,   s = α / r   (rsLoRA: s = α / √r; Kalajdzievski, 2023)
        dB = s (x A)ᵀ dy
        dA = xᵀ dh,   dh = s dy Bᵀ
        dx = base's dx + dh Aᵀ
        ΔW = s A B is never formed, and neither is dW

    Dropout, when there is any, acts on the x of this path only; the base always sees all of x.

    Shapes:   x (..., d_in), A (d_in, r), B (r, d_out), y (..., d_out)
    Trains:   A and B, r (d_in + d_out) numbers; or only one of them
    At init:  y = base(x).  A is uniform in ±1/√d_in and B = 0; with train="A" it is B that is drawn, uniform in ±1/√r,
              and A = 0, since A could never move away from a B that is frozen at zero
    Raises:   ValueError for r outside 1 ... min(d_in, d_out), α ≤ 0, a dropout outside [0, 1), or a second LoRA

    Papers and torch write the transpose: their lora_A.weight is Aᵀ, their lora_B.weight Bᵀ.
    """

    def __init__(self, base, r, alpha, dropout, rng, train="AB", rslora=False):
        super().__init__(base)
        d_in, d_out, dtype = *linear_under(base).weight.data.shape, linear_under(base).weight.data.dtype
        if not is_whole(r, 1, min(d_in, d_out)):
            raise ValueError(f"r must be a whole number in 1 ... min(d_in, d_out) = {min(d_in, d_out)}, not {r!r}")
        if not is_real(alpha) or alpha <= 0:
            raise ValueError(f"alpha must be a positive number, not {alpha!r}")
        if train not in ("AB", "A", "B"):
            raise ValueError(f"train must be 'AB', 'A' or 'B', not {train!r}")
        A, B = np.zeros((d_in, r), dtype), np.zeros((r, d_out), dtype)
        if train == "A":
            B[...] = rng.uniform(-1, 1, B.shape) / r**0.5
        else:
            A[...] = rng.uniform(-1, 1, A.shape) / d_in**0.5
        self.A, self.B = Parameter(A, "A" in train), Parameter(B, "B" in train)
        self.scaling = float(alpha) / float(r) ** (0.5 if rslora else 1)
        self.dropout = Dropout(dropout, rng).train(base.training)

    def forward(self, x):
        A, B, s = self.A, self.B, self.scaling
        y, base_backward = self.base(x)
        x, drop_backward = self.dropout(x)
        h = s * matmul(x, A.data)  # (..., r)
        y += matmul(h, B.data)
        x = x if A.requires_grad else None
        h = h if B.requires_grad else None

        def backward(dy, need_dx=True):
            dh = s * matmul(dy, B.data.T)  # (..., r)
            if A.requires_grad:
                A.grad += outer(x, dh)
            if B.requires_grad:
                B.grad += outer(h, dy)
            dx = base_backward(dy, need_dx)
            if need_dx:
                dx += drop_backward(matmul(dh, A.data.T))
            return dx

        return y, backward

    def delta(self):
        """ΔW = s A B, (d_in, d_out)."""
        return self.scaling * self.A.data @ self.B.data

    def fold(self):
        base = self.base.fold() if isinstance(self.base, Wrapper) else self.base
        folded = copy(base)
        folded.weight = Parameter(base.weight.data + self.delta(), requires_grad=False)
        return folded


def linear_under(node):
    """The Linear under a stack of wrappers, none of which may be a LoRA already."""
    while isinstance(node, Wrapper):
        if isinstance(node, LoRALinear):
            raise ValueError("this layer already has a LoRA: unwrap(model) first, or choose a larger r")
        node = node.base
    return node


@dataclass
class LoRA(Method):
    """LoRA on every Linear whose path matches `targets` (a glob, or several).

    r: rank.  alpha: the scale of the update is alpha / r, or alpha / √r with rslora.  dropout: on the path's input.
    train: "AB" both factors (the paper), "B" only the second (LoRA-FA; Zhang et al., 2023), "A" only the first.
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: str | tuple = "*.[qv]_proj"
    train: str = "AB"
    rslora: bool = False

    name = "lora"

    def inject(self, model, rng):
        def wrapper(linear):
            return LoRALinear(linear, self.r, self.alpha, self.dropout, rng, self.train, self.rslora)

        model.wrap(self.targets, wrapper, kind=Linear)
