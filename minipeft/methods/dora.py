"""DoRA: learn the length of each column of a weight apart from its direction (Liu et al., 2024)."""

from dataclasses import dataclass

import numpy as np

from ..model.functional import matmul, outer, total
from ..model.layers import Linear, check_width
from ..model.module import Parameter
from .lora import LoRALinear
from .method import Method
from .wrapper import Wrapper, wrap


class DoRALinear(LoRALinear):
    """A Linear whose columns have a learned length m, in the direction of W + s A B (Liu et al., 2024, eq. 5).

        y = g ⊙ u + b,   u = x W + s h B,   h = x A,   g = m / n,   n = ‖V‖ of each column,   V = W + s A B
        du = g ⊙ dy,   dh = s du Bᵀ,   dA = xᵀ dh,   dB = (s h)ᵀ du,   dx = du Wᵀ + dh Aᵀ
        dg = Σ dy ⊙ u,   dm = dg / n
        with `detach_norm=False`:   dn = −dg ⊙ g / n,   dV = V ⊙ dn / n,   dA += s dV Bᵀ,   dB += s Aᵀ dV

    V is formed for its norm; the gradient of a whole weight, xᵀ dy, never is.

    The norm depends on A and B.  The paper (§ 4.3) and peft take it as a constant on the way back, which saves dn and
    what follows from it; their gradient is then not the derivative of the loss but of a surrogate, the loss with n held
    as it is, and this is what gradcheck compares it with.  With detach_norm=False it is the derivative of the loss itself.

    Dropout as in peft: x̃ = dropout(x) goes the way above, and what it took, x − x̃, through the plain W.

    Shapes:   x (..., d_in), A (d_in, r), B (r, d_out), m, n, g, b (d_out,), u, y (..., d_out)
    Trains:   r (d_in + d_out) + d_out numbers, A, B and m
    At init:  y = base(x): A and B as in LoRA, m = ‖W‖ of each column, so that g = 1
    Raises:   as LoRA; ValueError for a base that is wrapped, has a column of zeros, or is trained in its weight

    One length for each output.  The paper's norm is of columns, too: it reads W as (in, out), as here, although LoRA's
    papers write (out, in).  In torch's weight (out, in), and so in peft, it is the norm of a row.
    """

    # For files of peft (see interop/peft_files.py): its name for m, and what m is where a part of a fused matrix has no DoRA
    peft_columns = {"lora_magnitude_vector": ("m", lambda linear: np.linalg.norm(linear.matrix(), axis=0))}

    def __init__(self, base, r, alpha, dropout, rng, rslora=False, detach_norm=True):
        super().__init__(base, r, alpha, dropout, rng, rslora=rslora)
        check_base(base)
        self.m, self.detach_norm = Parameter(self.norms()), detach_norm

    def forward(self, x):
        x_dropped, back_dropout = self.dropout(x)
        y, back_whole = self.whole(x_dropped)
        if x_dropped is x:  # nothing was dropped
            return y, back_whole

        def backward(dy):
            dx = matmul(dy, self.base.matrix().T)  # of (x − x̃) W
            return dx + back_dropout(back_whole(dy) - dx)

        return y + matmul(x - x_dropped, self.base.matrix()), backward

    def whole(self, x):
        """(y, its backward): all of the layer, since a column that changes its length is no path beside W."""
        check_base_now(x, self.base)
        A, B, s, base, b = self.A, self.B, self.scaling, self.base, self.base.bias
        g, back_g = self.gain()
        sh = s * matmul(x, A.data)  # (N, T, r)
        u = matmul(x, base.matrix()) + matmul(sh, B.data)  # (N, T, d_out)
        y = g * u + b.data
        x_kept, sh_kept, u_kept = A.keep(x), B.keep(sh), u if self.trains() else None

        def backward(dy):
            du = g * dy
            dh = s * matmul(du, B.data.T)  # (N, T, r)
            A.add_grad(outer, x_kept, dh)
            B.add_grad(outer, sh_kept, du)
            b.add_grad(total, dy)
            if u_kept is not None:
                back_g(total(dy, u_kept))
            return matmul(du, base.matrix().T) + matmul(dh, A.data.T)

        return y, backward

    def gain(self):
        """g = m / n, and its backward."""
        A, B, m, s = self.A, self.B, self.m, self.scaling
        n = self.norms() if self.held is None else self.held
        g = m.data / n

        def backward(dg):
            m.add_grad(dg / n)
            if not self.detach_norm:
                dn = -dg * g / n
                dV = self.direction() * (dn / n)
                A.add_grad(matmul, s * dV, B.data.T)
                B.add_grad(matmul, s * A.data.T, dV)

        return g, backward

    def direction(self):
        """V = W + s A B, (d_in, d_out)."""
        return self.base.matrix() + self.scaling * self.A.data @ self.B.data

    def norms(self):
        return np.linalg.norm(self.direction(), axis=0)

    def constants(self):
        return self.norms() if self.detach_norm else None

    def fold(self):
        W = self.gain()[0] * self.direction()  # (m / ‖V‖) ⊙ V
        return Linear.from_arrays(W, self.base.bias.data.copy(), requires_grad=False)

    def delta(self):
        """What W changes by, (d_in, d_out): not of rank r, since the lengths change too."""
        return self.fold().matrix() - self.base.matrix()


def check_base(base):
    if isinstance(base, Wrapper):
        raise ValueError(
            f"DoRA changes a weight itself, and a {type(base).__name__} stands around this one: put DoRA in first"
        )
    if zero := [j for j, column in enumerate(base.matrix().T) if not column.any()]:
        raise ValueError(
            f"column {zero[0]} of this weight is zero: it has no direction that DoRA could give a length; leave this layer "
            "out of `targets`"
        )


def check_base_now(x, base):
    check_width(x, base)
    if any(p.requires_grad for name, p in base.named_parameters() if name != "bias"):
        raise ValueError("the weight under DoRA is trained, but DoRA has gradients for A, B and m only: freeze it")


@dataclass
class DoRA(Method):
    """DoRA on every Linear whose path matches `targets`.

    r: rank of the change of direction
    alpha: that change is scaled by alpha / r, or by alpha / √r with rslora
    dropout: on the input of the path
    targets: a glob over paths of Linears, or several
    rslora: scale by alpha / √r (Kalajdzievski, 2023)
    detach_norm: take the norm as a constant on the way back, as the paper proposes and peft does, or follow it, too

    Trains:   r (d_in + d_out) + d_out numbers for each target
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: str | tuple = "*.[qv]_proj"
    rslora: bool = False
    detach_norm: bool = True

    name, lr, merges = "dora", 1e-2, True
    # For files of peft: see interop/peft_files.py.
    peft_type, peft_variant, peft_wrappers = "LORA", {"use_dora": True}, (DoRALinear,)

    def inject(self, model, rng):
        def around(linear):
            return DoRALinear(linear, self.r, self.alpha, self.dropout, rng, self.rslora, self.detach_norm)

        wrap(model, self.targets, around, kind=Linear)
