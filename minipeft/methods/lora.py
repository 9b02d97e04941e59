"""LoRA: learn the change of a weight as a product of two thin matrices (Hu et al., 2021).

Lesson 06 writes this layer by hand; lessons 07, 08 and 09 choose its rank, its alpha and its dropout.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..model.functional import matmul, outer
from ..model.layers import Dropout, Linear
from ..model.module import Parameter
from ..validation import is_real, is_whole
from .method import Method
from .wrapper import Beside, Wrapper, wrap


class LoRALinear(Beside):
    """A frozen Linear with a low-rank path beside it (Hu et al., 2021, eq. 3).

        y = base(x) + s h B,   h = x A,   s = α / r   (rsLoRA: s = α / √r; Kalajdzievski, 2023)
        dh = s dy Bᵀ,   dA = xᵀ dh,   dB = (s h)ᵀ dy
        dx = base's dx + dh Aᵀ
        ΔW = s A B is never formed, and neither is dW

    Dropout, when there is any, acts on the x of this path only; the base always sees all of x.

    Shapes:   x (..., d_in), A (d_in, r), B (r, d_out), y (..., d_out)
    Trains:   r (d_in + d_out) numbers, A and B; or only one of them
    At init:  y = base(x).  A is uniform in ±1/√d_in and B = 0; with train="A" it is B that is drawn, uniform in ±1/√r,
              and A = 0, since A could never move away from a B that is frozen at zero
    Raises:   ValueError for r outside 1 ... min(d_in, d_out), α ≤ 0, a dropout outside [0, 1), or a second LoRA

    Papers and torch write the transpose: their lora_A.weight is Aᵀ, their lora_B.weight Bᵀ.
    """

    def __init__(self, base, r, alpha, dropout, rng, train="AB", rslora=False):
        check_lora(base, r, alpha, train)
        super().__init__(base)
        (d_in, d_out), dtype = base.shape, base.dtype
        A, B = np.zeros((d_in, r), dtype), np.zeros((r, d_out), dtype)
        if train == "A":
            B[...] = rng.uniform(-1, 1, B.shape) / r**0.5
        else:
            A[...] = rng.uniform(-1, 1, A.shape) / d_in**0.5
        self.A, self.B = Parameter(A, "A" in train), Parameter(B, "B" in train)
        self.dropout = Dropout(dropout, rng).train(base.training)
        self.scaling = float(alpha) / float(r) ** (0.5 if rslora else 1)

    def path(self, x):
        A, B, s = self.A, self.B, self.scaling
        h = matmul(x, A.data)  # (N, T, r)
        sh = s * h
        y = matmul(sh, B.data)  # (N, T, d_out)
        x, sh = A.needs(x), B.needs(sh)  # what a frozen factor does not need is let go

        def backward(dy):
            dh = s * matmul(dy, B.data.T)  # (N, T, r)
            A.add(outer, x, dh)
            B.add(outer, sh, dy)
            return matmul(dh, A.data.T)

        return y, backward

    def delta(self):
        """ΔW = s A B, (d_in, d_out)."""
        return self.scaling * self.A.data @ self.B.data

    def fold(self):
        base = self.base.fold() if isinstance(self.base, Wrapper) else self.base
        return base.plus(self.delta())


def check_lora(base, r, alpha, train):
    most = min(base.shape)
    if not is_whole(r, 1, most):
        raise ValueError(f"r must be a whole number in 1 ... min(d_in, d_out) = {most}, not {r!r}")
    if not is_real(alpha) or alpha <= 0:
        raise ValueError(f"alpha must be a positive number, not {alpha!r}")
    if train not in ("AB", "A", "B"):
        raise ValueError(f"train must be 'AB', 'A' or 'B', not {train!r}")
    while isinstance(base, Wrapper):
        if isinstance(base, LoRALinear):
            raise ValueError("this layer already has a LoRA: unwrap(model) first, or choose a larger r")
        base = base.base


@dataclass
class LoRA(Method):
    """LoRA on every Linear whose path matches `targets`.

    r: rank
    alpha: the update is scaled by alpha / r, or by alpha / √r with rslora
    dropout: on the input of the path
    targets: a glob over paths of Linears, or several
    train: both factors (the paper), only the second (LoRA-FA; Zhang et al., 2023), or only the first
    rslora: scale by alpha / √r (Kalajdzievski, 2023)

    Trains:   r (d_in + d_out) numbers for each target; r d_in numbers for each target, if train is A; r d_out numbers
              for each target, if train is B
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: str | tuple = "*.[qv]_proj"
    train: Literal["AB", "A", "B"] = "AB"
    rslora: bool = False

    name, lr, merges = "lora", 1e-2, True

    def inject(self, model, rng):
        def around(linear):
            return LoRALinear(linear, self.r, self.alpha, self.dropout, rng, self.train, self.rslora)

        return wrap(model, self.targets, around, kind=Linear)
