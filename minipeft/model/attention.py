"""Causal self-attention: a core without parameters, and the four projections around it."""

import numpy as np

from .functional import dot, softmax, transposed
from .layers import Linear
from .module import Module


class Attention(Module):
    """Scaled dot-product attention, H heads side by side, with nothing to learn (Vaswani et al., 2017, eq. 1).

        p = softmax(q kᵀ / √K + mask),   o = p v                         per head
        dv = pᵀ do,   dp = do vᵀ,   dz = p ⊙ (dp − Σ_s dp ⊙ p),   dq = dz k / √K,   dk = dzᵀ q / √K

    Keys may outnumber queries: query t sees keys 0 ... t + S − T, so the first S − T keys are seen by all.  That is
    where a prefix and a cache of past keys go.

    Shapes:   q, o (N, T, D), k, v (N, S, D), p (N, H, T, S)
    """

    def __init__(self, n_head):
        self.n_head = n_head

    def split(self, x):
        return x.reshape(*x.shape[:2], self.n_head, -1).swapaxes(1, 2)  # (N, T, D) -> (N, H, T, K), a view

    def merge(self, x):
        return x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)  # (N, H, T, K) -> (N, T, D)

    def forward(self, q, k, v):
        qh, kh, vh = self.split(q), self.split(k), self.split(v)
        T, S, scale = qh.shape[2], kh.shape[2], qh.shape[3] ** -0.5
        z = (scale * qh) @ transposed(kh)  # (N, H, T, S)
        if T > 1:
            z += np.where(np.tri(T, S, S - T, dtype=bool), 0, -np.inf).astype(z.dtype)
        p = softmax(z)

        def backward(do):
            doh = self.split(do)
            dv = p.swapaxes(-1, -2) @ doh  # (N, H, S, K)
            dz = doh @ transposed(vh)  # (N, H, T, S), dp so far
            dz -= dot(dz, p)
            dz *= p
            dq = (dz @ kh) * scale  # (N, H, T, K)
            dk = dz.swapaxes(-1, -2) @ (scale * qh)
            return self.merge(dq), self.merge(dk), self.merge(dv)

        return self.merge(p @ vh), backward


class CausalSelfAttention(Module):
    """Tokens look at themselves and at what came before.

        y = attention(x W_q + b_q, x W_k + b_k, x W_v + b_v) W_o + b_o
        dx = dq W_qᵀ + dk W_kᵀ + dv W_vᵀ:  x was used three times, so three gradients add

    Shapes:   x, y (N, T, D); each projection (D, D)
    """

    def __init__(self, d, n_head, rng, std_out=0.02, dtype="float64"):
        self.q_proj, self.k_proj, self.v_proj = (Linear(d, d, rng, dtype=dtype) for _ in range(3))
        self.o_proj = Linear(d, d, rng, std=std_out, dtype=dtype)
        self.core = Attention(n_head)

    def forward(self, x):
        q, back_q = self.q_proj(x)
        k, back_k = self.k_proj(x)
        v, back_v = self.v_proj(x)
        o, back_core = self.core(q, k, v)
        y, back_o = self.o_proj(o)

        def backward(dy, need_dx=True):
            if not need_dx and not any(part.trains() for part in (self.q_proj, self.k_proj, self.v_proj, self.core)):
                return back_o(dy, need_dx=False)
            dq, dk, dv = back_core(back_o(dy))
            dx_q, dx_k, dx_v = back_q(dq, need_dx), back_k(dk, need_dx), back_v(dv, need_dx)
            return dx_q + dx_k + dx_v if need_dx else None

        return y, backward
