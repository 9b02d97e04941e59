"""Prompt tuning: learned vectors where the first tokens' embeddings would be (Lester et al., 2021)."""

from dataclasses import dataclass

import numpy as np

from ..model.module import Parameter, Wrapper
from .method import Method
from .prefix import check_m


class SoftPrompt(Wrapper):
    """m learned rows before the token embeddings.

        y = [P; base(ids)]
        dP = Σ_n (first m rows of dy)

    Shapes:   ids (N, T), P (m, D), y (N, m + T, D)
    Trains:   m D numbers
    At init:  P is m rows of the embedding, drawn at random (what Lester et al. call sampled vocabulary)
    """

    only_at_start = True
    cannot_fold = "m extra tokens are not a change of any weight"

    def __init__(self, base, P):
        super().__init__(base)
        self.P, self.virtual_tokens = Parameter(P), len(P)

    def forward(self, ids):
        P, m = self.P, len(self.P.data)
        x, base_backward = self.base(ids)

        def backward(dy):
            if P.requires_grad:
                P.grad += dy[:, :m].sum(0)
            base_backward(dy[:, m:])

        return np.concatenate([np.broadcast_to(P.data, (len(x), *P.data.shape)), x], axis=1), backward


class DropPrompt(Wrapper):
    """y = base(x without its first m rows): no loss is asked of the prompt.  Its dx is zero there."""

    only_at_start = True
    cannot_fold = SoftPrompt.cannot_fold

    def __init__(self, base, m):
        super().__init__(base)
        self.m = m

    def forward(self, x):
        m, shape = self.m, x.shape
        y, base_backward = self.base(x[:, m:])

        def backward(dy, need_dx=True):
            d = base_backward(dy, need_dx)
            if not need_dx:
                return None
            dx = np.zeros(shape, dy.dtype)
            dx[:, m:] = d
            return dx

        return y, backward


@dataclass
class PromptTuning(Method):
    """m learned rows before the token embeddings, at positions 0 ... m − 1; they are dropped again before the head.

    Trains:   m D numbers
    Raises:   ValueError for m < 1, or an m that leaves no position for a token
    """

    m: int = 8

    name, identity_at_init = "prompt", False

    def inject(self, model, rng):
        check_m(self.m, model)
        E = model.lm_head.weight.data  # the token embedding, whatever is wrapped around wte
        P = E[rng.integers(0, len(E), self.m)].copy()
        model.wrap("wte", lambda wte: SoftPrompt(wte, P))
        model.wrap("ln_f", lambda ln_f: DropPrompt(ln_f, self.m))
