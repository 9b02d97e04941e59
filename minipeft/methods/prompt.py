"""Prompt tuning: learned vectors where the first tokens' embeddings would be (Lester et al., 2021).  Lesson 13."""

from dataclasses import dataclass

import numpy as np

from ..model.module import Parameter
from .method import Method
from .prefix import check_m
from .wrapper import Wrapper, wrap


class SoftPrompt(Wrapper):
    """m learned rows before the token embeddings.

        y = [P; base(ids)]
        dP = Σ_n (first m rows of dy)

    Shapes:   ids (N, T), P (m, D), y (N, m + T, D)
    Trains:   m D numbers
    At init:  P is m rows of the embedding, drawn at random (what Lester et al. call sampled vocabulary; theirs
              come from the 5,000 commonest tokens)
    """

    only_at_start = True
    cannot_fold = "m extra tokens are not a change of any weight"

    def __init__(self, base, P):
        super().__init__(base)
        self.P, self.virtual_tokens = Parameter(P), len(P)

    def forward(self, ids):
        P, m = self.P, len(self.P.data)
        x, back_base = self.base(ids)  # (N, T, D)
        y = np.concatenate([np.broadcast_to(P.data, (len(x), *P.data.shape)), x], axis=1)  # (N, m + T, D)

        def backward(dy):
            P.add_grad(dy[:, :m].sum(0))
            back_base(dy[:, m:])

        return y, backward


class DropPrompt(Wrapper):
    """No loss is asked of the prompt: its m rows are dropped before the head.

        y = base(x[:, m:])
        dx[:, m:] = base's dx,   dx[:, :m] = 0

    Shapes:   x (N, m + T, D), y (N, T, D)
    """

    only_at_start = True
    cannot_fold = SoftPrompt.cannot_fold

    def __init__(self, base, m):
        super().__init__(base)
        self.m = m

    def forward(self, x):
        m, shape = self.m, x.shape
        y, back_base = self.base(x[:, m:])

        def backward(dy):
            dx = np.zeros(shape, dy.dtype)
            dx[:, m:] = back_base(dy)
            return dx

        return y, backward


@dataclass
class PromptTuning(Method):
    """m learned rows before the token embeddings, at positions 0 ... m − 1; they are dropped again before the head.

    m: number of virtual tokens

    Trains:   m D numbers
    Raises:   ValueError for m < 1, or an m that leaves no position for a token
    """

    m: int = 8

    name, lr, identity_at_init = "prompt", 3e-2, False

    def inject(self, model, rng):
        check_m(self.m, model)
        E = model.lm_head.weight.data  # the token embedding, whatever is wrapped around wte
        P = E[rng.integers(0, len(E), self.m)].copy()
        wrap(model, "wte", lambda wte: SoftPrompt(wte, P))
        wrap(model, "ln_f", lambda ln_f: DropPrompt(ln_f, self.m))
