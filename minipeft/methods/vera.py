"""VeRA: one pair of random matrices for all layers, and two vectors in each that scale it (Kopiczko et al., 2024)."""

from dataclasses import dataclass

import numpy as np

from ..model.functional import matmul, total
from ..model.layers import Dropout, Linear
from ..model.module import Parameter
from ..validation import is_real, is_whole
from .method import Method
from .wrapper import Beside

THIRDS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}  # their places in c_attn, the one matrix of all three in GPT-2's files


class VeRALinear(Beside):
    """A frozen Linear, and beside it a random path of which two vectors are trained (Kopiczko et al., 2024, eq. 2).

        y = base(x) + u ⊙ b,   u = z B,   z = h ⊙ d,   h = x A
        db = Σ dy ⊙ u,   dz = (dy ⊙ b) Bᵀ,   dd = Σ dz ⊙ h
        dx = base's dx + (dz ⊙ d) Aᵀ

    A and B are drawn once, for all layers, and frozen: neither dA nor dB is formed.

    Dropout, when there is any, acts on the x of this path only.

    Shapes:   x (..., d_in), A (d_in, r), d (r,), h, z (..., r), B (r, d_out), b (d_out,), u, y (..., d_out)
    Trains:   r + d_out numbers, d and b
    At init:  y = base(x): d is d_initial in all places, and b = 0
    """

    def __init__(self, base, A, B, d_initial, dropout, rng):
        super().__init__(base)
        self.A, self.B, (r, d_out) = A, B, B.data.shape
        self.d, self.b = Parameter(np.full(r, d_initial, base.dtype)), Parameter(np.zeros(d_out, base.dtype))
        self.dropout = Dropout(dropout, rng).train(base.training)

    def path(self, x):
        A, B, d, b = self.A, self.B, self.d, self.b
        h = matmul(x, A.data)  # (N, T, r)
        u = matmul(h * d.data, B.data)  # (N, T, d_out)
        p = u * b.data  # to which Beside adds base(x)
        h_kept, u_kept = d.keep(h), b.keep(u)  # what a frozen vector does not need is let go

        def backward(dy):  # dp = dy, since y = base(x) + p
            dz = matmul(dy * b.data, B.data.T)  # (N, T, r)
            d.add_grad(total, dz, h_kept)
            b.add_grad(total, dy, u_kept)
            return matmul(dz * d.data, A.data.T)

        return p, backward

    def own_arrays(self):
        """d and b: A and B come again from their seed."""
        return {"d": self.d.data, "b": self.b.data}

    def delta(self):
        """ΔW = (A ⊙ d) (B ⊙ b), (d_in, d_out): that of a LoRA of scale 1, whose factors all layers share but for d and b."""
        return self.A.data * self.d.data @ (self.B.data * self.b.data)


def projections(d_in, d_out, r, seed, dtype="float32"):
    """A (d_in, r), uniform in ±√(6/d_in), and B (r, d_out), uniform in ±√(6/r): the numbers that torch draws from a seed.

    So A and B are those of Hugging Face peft, and need not be in a file.  torch and NumPy's RandomState have the same
    Mersenne Twister; torch makes a float32 of 24 of its bits, multiplies and adds, and rounds once.
    """
    bits = np.random.RandomState(seed).randint(0, 1 << 32, r * (d_in + d_out), dtype=np.uint32)
    u = (bits & 0xFFFFFF) / (1 << 23) - 1  # in [−1, 1)
    A, B = u[: r * d_in] * np.float32((6 / d_in) ** 0.5), u[r * d_in :] * np.float32((6 / r) ** 0.5)
    return tuple(P.astype("float32").reshape(-1, n).T.astype(dtype, "C") for P, n in ((A, d_in), (B, r)))


@dataclass
class VeRA(Method):
    """VeRA on every Linear whose path matches `targets`.

    r: rank; far above LoRA's, since it costs r numbers a layer (256 in peft, which is wider than the models shipped here)
    d_initial: where d starts; b starts at 0
    dropout: on the input of the path
    targets: a glob over paths of Linears, or several
    projection_seed: of A and B; apart from the seed of get_peft_model, so that all adapters of a model can share them

    Trains:   r + d_out numbers for each target
    Raises:   ValueError for r < 1, d_initial = 0 (no gradient would ever leave zero), a dropout outside [0, 1), or a
              projection_seed outside 0 ... 2³² − 1
    """

    r: int = 64
    d_initial: float = 0.1
    dropout: float = 0.0
    targets: str | tuple = "*.[qv]_proj"
    projection_seed: int = 0

    name, lr, merges = "vera", 1e-1, True

    def inject(self, model, rng):
        check_vera(self)
        layers = {path: model.get_submodule(path) for path in model.matching(self.targets, kind=Linear)}
        for path, (A, B) in self.shared(layers).items():
            model.set_submodule(path, VeRALinear(layers[path], A, B, self.d_initial, self.dropout, rng))

    def shared(self, layers):
        """{path: (A, B)} for {path: Linear}: of one A and one B, as wide as the widest layer, the part that fits each.

        That is the first d_in rows of A, and the first d_out columns of B; for k and v the second and the third d_out
        columns, as in peft, where q, k and v are one matrix.  Layers that take the same part share its Parameter.
        """
        widths = {path: (layer.shape[0], columns(path, layer.shape[1])) for path, layer in layers.items()}
        widest, last = max(widths.values())[0], max(end for _, (_, end) in widths.values())
        A, B = projections(widest, last, self.r, self.projection_seed, next(iter(layers.values())).dtype)
        parts_A = {d_in: Parameter(A[:d_in], False) for d_in, _ in widths.values()}
        parts_B = {place: Parameter(B[:, slice(*place)], False) for _, place in widths.values()}
        return {path: (parts_A[d_in], parts_B[place]) for path, (d_in, place) in widths.items()}


def columns(path, d_out):
    """(first, end) of the columns of B for the layer at this path."""
    start = THIRDS.get(path.rpartition(".")[2], 0) * d_out
    return start, start + d_out


def check_vera(settings):
    if not is_whole(settings.r, 1):
        raise ValueError(f"r must be a whole number of at least 1, not {settings.r!r}")
    if not is_real(settings.d_initial) or settings.d_initial == 0:
        raise ValueError(
            f"d_initial must be a number other than 0, not {settings.d_initial!r}: b starts at 0, and with d at 0, too, "
            "neither would ever have a gradient"
        )
    if not is_whole(settings.projection_seed, 0, 2**32 - 1):
        raise ValueError(f"projection_seed must be a whole number in 0 ... 2**32 - 1, not {settings.projection_seed!r}")
