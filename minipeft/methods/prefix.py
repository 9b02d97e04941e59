"""Prefix tuning: keys and values that no token wrote, learned for every layer (Li & Liang, 2021).

Lesson 12 writes this layer by hand.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..model.layers import Linear
from ..model.module import Module, Parameter
from ..validation import is_whole
from .method import Method
from .wrapper import Wrapper, virtual_tokens, wrap


class ShiftedPositions(Wrapper):
    """The tokens start further along, after virtual or cached ones.

        y = wpe[positions + offset]

    Shapes:   positions (T,) of integers, y (T, D)
    Raises:   ValueError if they would run over the last position
    """

    cannot_fold = "virtual tokens, and the positions that they take, are not a change of any weight"

    def __init__(self, base, offset):
        super().__init__(base)
        self.virtual_tokens = self.offset = offset

    def forward(self, positions):
        last, n = positions[-1] + self.offset, self.positions()
        if last >= n:
            raise ValueError(
                f"{len(positions)} tokens after {self.offset} virtual or cached ones need {last + 1} positions; "
                f"this model has n_positions = {n}"
            )
        return self.base(positions + self.offset)

    def positions(self):
        return self.base.positions() if isinstance(self.base, ShiftedPositions) else len(self.base.weight.data)


def check_m(m, model):
    """m virtual tokens must be at least one, and leave room for a real one."""
    taken = virtual_tokens(model)
    most = model.config.n_positions - 1 - taken
    if not is_whole(m, 1, most):
        others = f" - {taken} of other methods" if taken else ""
        raise ValueError(
            f"m, the number of virtual tokens, must be in 1 ... n_positions - 1{others} = {most}, not {m!r}"
        )


class PrefixAttention(Wrapper):
    """m learned keys and values before those of the tokens; every query sees them (Li & Liang, 2021, § 4.2).

        o = base(q, [P_k; k], [P_v; v])
        dP_k = Σ_n (first m rows of d[P_k; k]),   dk = the other rows;   the same for v

    Concatenate on the way in, slice on the way back.

    Shapes:   q, o (N, T, D), k, v (N, S, D), P_k, P_v (m, D)
    Trains:   2 m D numbers
    At init:  P_k, P_v ~ N(0, 0.02²), and not the base: keys near zero still take their share of the softmax
    """

    cannot_fold = "m extra keys and values are not a change of any weight"

    def __init__(self, base, m, d, rng, dtype):
        super().__init__(base)
        self.P_k, self.P_v = (Parameter(rng.normal(0, 0.02, (m, d)).astype(dtype)) for _ in range(2))

    def prefix(self):
        """(P_k, P_v) and their backward."""

        def backward(dP_k, dP_v):
            self.P_k.add_grad(dP_k)
            self.P_v.add_grad(dP_v)

        return self.P_k.data, self.P_v.data, backward

    def forward(self, q, k, v):
        P_k, P_v, back_prefix = self.prefix()
        m, before = len(P_k), (len(q), *P_k.shape)
        keys = np.concatenate([np.broadcast_to(P_k, before), k], axis=1)  # (N, m + S, D)
        values = np.concatenate([np.broadcast_to(P_v, before), v], axis=1)
        o, back_base = self.base(q, keys, values)

        def backward(do):
            dq, dkeys, dvalues = back_base(do)
            back_prefix(dkeys[:, :m].sum(0), dvalues[:, :m].sum(0))
            return dq, dkeys[:, m:], dvalues[:, m:]

        return o, backward


class PrefixEncoder(Module):
    """The part of the reparametrisation that all layers share (Li & Liang, 2021, § 4.3).

        z = tanh(E W + b)
        du = dz ⊙ (1 − z²),   dE = du Wᵀ,   dW = Eᵀ du,   db = Σ du

    Shapes:   E (m, D), W (D, D), z (m, D)
    """

    def __init__(self, m, d, rng, dtype):
        self.E = Parameter(rng.normal(0, 1, (m, d)).astype(dtype))
        self.linear = Linear(d, d, rng, d**-0.5, dtype)

    def forward(self):
        u, back_linear = self.linear(self.E.data)
        z = np.tanh(u)

        def backward(dz):
            dE = back_linear(dz * (1 - z * z))
            self.E.add_grad(dE)

        return z, backward


class ReparametrisedPrefix(PrefixAttention):
    """A prefix that a small network writes while training, with z from the shared encoder.

        [P_k P_v] = z W_up + b_up

    Its gradients pass through the network; a step on one entry of z moves a whole row, which steadies training.  Saved
    is the prefix alone: the network has done its work.

    Shapes:   z (m, D), W_up (D, 2 D), P_k, P_v (m, D)
    Trains:   2 D² + 2 D numbers a layer, and m D + D² + D once for the encoder
    """

    def __init__(self, base, encoder, d, rng, dtype):
        Wrapper.__init__(self, base)
        self.encoder, self.up = encoder, Linear(d, 2 * d, rng, 0.02, dtype)

    def prefix(self):
        z, back_encoder = self.encoder()
        P, back_up = self.up(z)  # (m, 2 D)
        P_k, P_v = np.split(P, 2, axis=-1)

        def backward(dP_k, dP_v):
            back_encoder(back_up(np.concatenate([dP_k, dP_v], axis=-1)))

        return P_k, P_v, backward

    def own_arrays(self):
        P_k, P_v, _ = self.prefix()
        return {"P_k": P_k, "P_v": P_v}


@dataclass
class PrefixTuning(Method):
    """m learned keys and values in every layer; the tokens move to positions m ... m + T − 1.

    m: number of virtual tokens
    reparametrise: a small network writes the prefix while training (hidden width D), and is dropped on saving

    Trains:   n_layer 2 m D numbers; n_layer (2 D² + 2 D) + m D + D² + D numbers while training, if reparametrise
    Raises:   ValueError for m < 1, or an m that leaves no position for a token
    """

    m: int = 8
    reparametrise: bool = False

    name, lr, identity_at_init = "prefix", 1e-1, False

    def inject(self, model, rng):
        check_m(self.m, model)
        d, dtype = model.config.n_embd, model.config.dtype
        if self.reparametrise:
            encoder = PrefixEncoder(self.m, d, rng, dtype)
            wrap(model, "*.core", lambda core: ReparametrisedPrefix(core, encoder, d, rng, dtype))
        else:
            wrap(model, "*.core", lambda core: PrefixAttention(core, self.m, d, rng, dtype))
        wrap(model, "wpe", lambda wpe: ShiftedPositions(wpe, self.m))

    def as_saved(self):
        return replace(self, reparametrise=False)
