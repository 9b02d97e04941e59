"""Adapters: a small bottleneck network after or beside a frozen part (Houlsby et al., 2019; He et al., 2022)."""

from dataclasses import dataclass
from typing import Literal

from ..model.attention import CausalSelfAttention
from ..model.gpt2 import MLP, Block
from ..model.layers import GELU, Linear
from ..model.module import Module, chain
from ..validation import is_whole
from .method import Method
from .wrapper import After, Beside, wrap

BEND = "the gelu between its two matrices keeps them from being one matrix"


class Bottleneck(Module):
    """Down to m numbers, bend, and up again.

        f(x) = gelu(x W_down + b_down) W_up + b_up

    Shapes:   x, f (N, T, D), W_down (D, m), W_up (m, D)
    Trains:   2 D m + m + D numbers
    At init:  f = 0: W_down ~ N(0, 1/D) and W_up, b_down, b_up = 0
    """

    def __init__(self, d, m, rng, dtype="float64"):
        self.down, self.act, self.up = Linear(d, m, rng, d**-0.5, dtype), GELU(), Linear(m, d, rng, 0, dtype)

    def forward(self, x):
        return chain(x, self.down, self.act, self.up)


class SequentialAdapter(After):
    """The adapter reads what the frozen part wrote (Houlsby et al., 2019, fig. 2).

        y = u + f(u),   u = base(x)
        du = dy + back_f(dy),   dx = back_base(du)

    Shapes:   x, u, y (N, T, D)
    """

    cannot_fold = BEND

    def __init__(self, base, adapter):
        super().__init__(base)
        self.adapter = adapter

    def path(self, u):
        return self.adapter(u)


class ParallelAdapter(Beside):
    """The adapter reads what the frozen part read (He et al., 2022, table 1).

        y = base(x) + f(x)
        dx = back_base(dy) + back_f(dy)

    Shapes:   x, y (N, T, D)
    """

    cannot_fold = BEND

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
    MLP: targets="*.mlp" adapts what the MLP adds, targets="h.[0-9]" the stream after it was added.  The parallel
    adapter of He et al. (2022) is kind="parallel", targets="*.mlp"; it reads ln_2(h), what the MLP reads.

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
