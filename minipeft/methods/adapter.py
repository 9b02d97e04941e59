"""Adapters: a small bottleneck network after or beside a frozen part (Houlsby et al., 2019; He et al., 2022).

Lesson 11 writes this layer by hand.
"""

from dataclasses import dataclass
from typing import Literal

from ..model.attention import CausalSelfAttention
from ..model.gpt2 import MLP, Block
from ..model.layers import GELU, Linear
from ..model.module import Module, chain
from ..validation import is_whole
from .method import Method
from .wrapper import After, Beside, wrap


class Bottleneck(Module):
    """Down to m numbers, bend, and up again.

        f = a W_up + b_up,   a = gelu(z),   z = x W_down + b_down
        da = df W_upᵀ,   dz = da ⊙ gelu′(z),   dx = dz W_downᵀ:  the chain, last one first

    Shapes:   x, f (N, T, D), z, a (N, T, m), W_down (D, m), W_up (m, D)
    Trains:   2 D m + m + D numbers
    At init:  W_up, b_down, b_up = 0 and W_down ~ N(0, 1/D), so f = 0 and da = 0: in the first step only W_up and b_up move.
              (Houlsby et al. draw both matrices with a deviation of 0.01, and train the LayerNorms, too)
    """

    def __init__(self, d, m, rng, dtype="float64"):
        self.down = Linear(d, m, rng, std=d**-0.5, dtype=dtype)
        self.act = GELU()
        self.up = Linear(m, d, rng, std=0, dtype=dtype)

    def forward(self, x):
        return chain(x, self.down, self.act, self.up)


class SequentialAdapter(After):
    """The adapter reads what the frozen part wrote (Houlsby et al., 2019, fig. 2).

        y = u + f(u),   u = base(x)
        du = dy + back_path(dy),   dx = back_base(du)             (After adds them)

    Shapes:   x, u, y (N, T, D)
    """

    cannot_fold = "the gelu between its two matrices keeps them from being one matrix"

    def __init__(self, base, adapter):
        super().__init__(base)
        self.adapter = adapter

    def path(self, u):
        return self.adapter(u)


class ParallelAdapter(Beside):
    """The adapter reads what the frozen part read (He et al., 2022, table 1).

        y = base(x) + f(x)
        dx = back_base(dy) + back_path(dy)                        (Beside adds them)

    Shapes:   x, y (N, T, D)
    """

    cannot_fold = "the gelu between its two matrices keeps them from being one matrix"

    def __init__(self, base, adapter):
        super().__init__(base)
        self.adapter = adapter

    def path(self, x):
        return self.adapter(x)


KINDS = {"sequential": SequentialAdapter, "parallel": ParallelAdapter}


@dataclass
class Adapter(Method):
    """Bottlenecks of width m around every attention, MLP or block whose path matches `targets`.

    m: width of the bottleneck
    targets: a glob over paths of attentions, MLPs and blocks, or several
    kind: after the frozen part, or beside it

    Houlsby et al. (2019) adapt attention and MLP, the default.  Pfeiffer et al. (2021) adapt once a block, after the
    MLP: targets="*.mlp" adapts what the MLP adds; the blocks themselves, "h.*[0-9]", the stream after it was added.
    The parallel adapter of He et al. (2022) is kind="parallel", targets="*.mlp"; it reads ln_2(h), what the MLP reads.
    Theirs has ReLU in the place of gelu, and in their best variant a scale s, as LoRA has.

    Trains:   2 D m + m + D numbers for each target
    """

    m: int = 16
    targets: str | tuple = ("*.attn", "*.mlp")
    kind: Literal["sequential", "parallel"] = "sequential"

    name, lr = "adapter", 1e-2

    def inject(self, model, rng):
        if self.kind not in list(KINDS):
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not is_whole(self.m, 1):
            raise ValueError(f"m, the width of the bottleneck, must be a whole number of at least 1, not {self.m!r}")
        d, dtype = model.config.n_embd, model.config.dtype

        def around(part):
            return KINDS[self.kind](part, Bottleneck(d, self.m, rng, dtype))

        wrap(model, self.targets, around, kind=(CausalSelfAttention, MLP, Block))
