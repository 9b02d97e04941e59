"""Causal self-attention: a core without parameters, and the four projections around it.

As everywhere, y, backward = layer(x), and dx = backward(dy), which also adds to the gradients of what is trained.  Lesson 02
derives both passes and looks at the maps.
"""

from .functional import attend, attend_backward
from .layers import Linear
from .module import Module


class Attention(Module):
    """Scaled dot-product attention, H heads side by side, with nothing to learn (Vaswani et al., 2017, eq. 1).

        z = q kᵀ / √K + mask,   p = softmax(z),   o = p v                per head; K is the paper's d_k = D / H
        dv = pᵀ do,   dp = do vᵀ,   dz = p ⊙ (dp − Σ_s (dp ⊙ p)),   dq = dz k / √K,   dk = dzᵀ q / √K

    The mask needs no backward: where it is −∞, p = 0, and so dz = 0.

    Keys may outnumber queries, when earlier ones come from elsewhere (a cache): the last query stands at the last key, so
    query t sees keys 0 ... t + S − T.

    Shapes:   q, o (N, T, D), k, v (N, S, D); per head (N, H, T, K), and p (N, H, T, S), which attend keeps in blocks
    """

    def __init__(self, n_head):
        self.n_head = n_head

    def split(self, x):
        N, T, D = x.shape
        return x.reshape(N, T, self.n_head, D // self.n_head).swapaxes(1, 2)  # (N, H, T, K), a view

    def join(self, x):
        N, H, T, K = x.shape
        return x.swapaxes(1, 2).reshape(N, T, H * K)

    def forward(self, q, k, v):
        scale = (q.shape[-1] // self.n_head) ** -0.5  # 1 / √K
        qs, k, v = self.split(scale * q), self.split(k), self.split(v)
        o, p = attend(qs, k, v)

        def backward(do):
            dqs, dk, dv = attend_backward(self.split(do), qs, k, v, p)
            return scale * self.join(dqs), self.join(dk), self.join(dv)  # dk = dzᵀ qs: the scale is in qs

        return self.join(o), backward


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

        def backward(dy):
            dq, dk, dv = back_core(back_o(dy))
            return back_q(dq) + back_k(dk) + back_v(dv)

        return y, backward
