"""LoRA: learn the change of a weight as a product of two thin matrices (Hu et al., 2021).

get_peft_model freezes the model; here is what is put beside a frozen Linear.  As everywhere, y, backward = layer(x), and
dx = backward(dy), which also adds to the gradients of what is trained.

Lesson 06 writes this layer by hand; lessons 07, 08 and 10 choose its rank, its alpha and its dropout.
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
    """A frozen Linear with a low-rank path beside it (Hu et al., 2021, eq. 3; what they call h is y here).

    The paper writes columns, W₀ x + B A x; rows are written here, so A and B are the transposes of theirs (and of torch's
    lora_A.weight and lora_B.weight).

        y = base(x) + s h B,   h = x A,   s = α / r   (rsLoRA: s = α / √r; Kalajdzievski, 2023)
        dh = s dy Bᵀ,   dA = xᵀ dh,   dB = (s h)ᵀ dy
        dx = base's dx + dh Aᵀ

    Training forms neither ΔW = s A B nor dW; delta() forms ΔW, to look at it or to merge.  With dropout, the x of the path
    is dropout(x); the base sees all of x.

    Shapes:   x (..., d_in), A (d_in, r), B (r, d_out), y (..., d_out)
    Trains:   r (d_in + d_out) numbers, A and B; or only one of them
    At init:  B = 0, so y = base(x), and dh = 0: in the first step only B moves.  A is uniform in ±1/√d_in, as in the
              paper's code (the paper says Gaussian).  With train="A" it is A that is zero and B uniform in ±1/√r: A could
              never move away from a B that is frozen at zero
    Raises:   ValueError for r outside 1 ... min(d_in, d_out), α ≤ 0, a dropout outside [0, 1), or a second LoRA
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
        self.dropout = Dropout(dropout, rng).train(base.training)  # Beside.forward sends x through it, then to path
        self.scaling = scale(r, alpha, rslora)

    def path(self, x):
        A, B, s = self.A, self.B, self.scaling
        h = matmul(x, A.data)  # (N, T, r)
        sh = s * h
        p = matmul(sh, B.data)  # (N, T, d_out), to which Beside adds base(x)
        x_kept, sh_kept = A.keep(x), B.keep(sh)  # a frozen factor needs nothing for its gradient

        def backward(dy):  # dp = dy, since y = base(x) + p
            dh = s * matmul(dy, B.data.T)  # (N, T, r)
            A.add_grad(outer, x_kept, dh)  # dA = xᵀ dh
            B.add_grad(outer, sh_kept, dy)  # dB = (s h)ᵀ dy
            return matmul(dh, A.data.T)  # dx = dh Aᵀ

        return p, backward

    def delta(self):
        """ΔW = s A B, (d_in, d_out)."""
        return self.scaling * self.A.data @ self.B.data


def scale(r, alpha, rslora):
    """s = α / r; with rslora, s = α / √r."""
    return float(alpha) / (float(r) ** 0.5 if rslora else float(r))


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
    train: AB trains both factors (the paper), A only the first, B only the second (LoRA-FA; Zhang et al., 2023)
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
