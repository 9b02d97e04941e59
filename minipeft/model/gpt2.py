"""GPT-2 (Radford et al., 2019): embeddings, a stack of blocks, a tied head.  Lesson 03 builds it."""

from dataclasses import dataclass

import numpy as np

from ..validation import is_whole
from .attention import CausalSelfAttention
from .layers import GELU, Embedding, LayerNorm, Linear, TiedHead
from .module import Module, chain, lowest_trained


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2.  vocab_size V, n_positions (the longest context), n_embd D, n_layer, n_head H.

    Raises: ValueError for sizes below 1, n_embd not divisible by n_head, or a dtype other than float64 and float32.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    dtype: str = "float64"

    def __post_init__(self):
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            size = getattr(self, name)
            if not is_whole(size, 1):
                raise ValueError(f"{name} must be a whole number of at least 1, not {size!r}")
            object.__setattr__(self, name, int(size))
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd = {self.n_embd} cannot be shared evenly by n_head = {self.n_head} heads")
        if self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be 'float64' or 'float32', not {self.dtype!r}")


class MLP(Module):
    """Two layers with gelu between them, each token by itself.

        y = gelu(x W_fc + b_fc) W_proj + b_proj

    Shapes:   x, y (N, T, D); between the two layers (N, T, F), F = 4 D
    """

    def __init__(self, d, rng, std_out=0.02, dtype="float64"):
        self.c_fc, self.act = Linear(d, 4 * d, rng, dtype=dtype), GELU()
        self.c_proj = Linear(4 * d, d, rng, std=std_out, dtype=dtype)

    def forward(self, x):
        return chain(x, self.c_fc, self.act, self.c_proj)


class Block(Module):
    """Attention, then MLP, each behind its own LayerNorm (pre-norm), each added to the residual stream.

        h = x + attn(ln_1(x)),   y = h + mlp(ln_2(h))
        dh = dy + back_mlp(dy),   dx = dh + back_attn(dh):  where a value went two ways, two gradients add

    Shapes:   x, h, y (N, T, D)
    """

    def __init__(self, d, n_head, rng, std_out=0.02, dtype="float64"):
        self.ln_1, self.attn = LayerNorm(d, dtype=dtype), CausalSelfAttention(d, n_head, rng, std_out, dtype)
        self.ln_2, self.mlp = LayerNorm(d, dtype=dtype), MLP(d, rng, std_out, dtype)

    def forward(self, x):
        a, back_attn = chain(x, self.ln_1, self.attn)
        h = x + a
        m, back_mlp = chain(h, self.ln_2, self.mlp)
        y = h + m

        def backward(dy):
            dh = dy + back_mlp(dy)
            return dh + back_attn(dh)

        return y, backward


class GPT2(Module):
    """The whole model: (logits, backward) = model(ids).

        logits = lm_head(ln_f(h_L(... h_1(wte[ids] + wpe[0 ... T−1]))))

    backward(dlogits) adds to .grad of every trained parameter and returns nothing: ids have no gradient.  It stops
    below the lowest layer that trains anything, and what lies there keeps no activations.

    Shapes:   ids (N, T) of integers in 0 ... V − 1, logits (N, T, V)
    Trains:   V D + n_positions D + n_layer (12 D² + 13 D) + 2 D numbers, if all of it is trained
    At init:  weights ~ N(0, 0.02²), those that write into the residual stream N(0, 0.02² / (2 n_layer)), biases 0
    Raises:   ValueError for ids of another shape or range, or more tokens than positions; TypeError unless integers
    """

    def __init__(self, config, seed=0):
        self.config = config
        rng, D, dtype = np.random.default_rng(seed), config.n_embd, config.dtype
        std_out = 0.02 / (2 * config.n_layer) ** 0.5
        self.wte = Embedding(config.vocab_size, D, rng, dtype=dtype)
        self.wpe = Embedding(config.n_positions, D, rng, dtype=dtype)
        self.h = [Block(D, config.n_head, rng, std_out, dtype) for _ in range(config.n_layer)]
        self.ln_f = LayerNorm(D, dtype=dtype)
        self.lm_head = TiedHead(self.wte.weight)

    def forward(self, ids):
        layers = [self.embed, *self.h, self.ln_f, self.lm_head]
        logits, back_layers = chain(check_batch(ids), *layers, first=self.first_trained())

        def backward(dlogits):
            back_layers(dlogits)  # ids have no gradient

        return logits, backward

    def embed(self, ids):
        """Tokens and positions.

            x = wte[ids] + wpe[0 ... T−1]

        dx goes to both, and a position gets that of all N sequences.
        """
        tok, back_tok = self.wte(ids)  # (N, T, D)
        T = tok.shape[1]  # there may be more rows than ids: something may stand before the tokens
        check_length(T, ids.shape[1], self.config.n_positions)
        pos, back_pos = self.wpe(np.arange(T))  # (T, D)

        def backward(dx):
            back_pos(dx.sum(0))
            back_tok(dx)

        return tok + pos, backward

    def first_trained(self):
        """The number of the lowest of [embed, *h, ln_f, lm_head] that trains anything, where backward ends."""
        embeddings_train = self.wte.trains() or self.wpe.trains()
        return 0 if embeddings_train else 1 + lowest_trained([*self.h, self.ln_f, self.lm_head])


def check_batch(ids):
    ids = np.asarray(ids)
    if ids.ndim != 2 or not ids.size:
        raise ValueError(f"ids must have shape (N, T), N sequences of T tokens, not {ids.shape}")
    return ids


def check_length(rows, tokens, n_positions):
    """Every row of a sequence must have a position.  Raises: ValueError"""
    if rows > n_positions:
        what = f"{tokens} tokens" + (f", and {rows - tokens} rows before them," if rows > tokens else "")
        raise ValueError(f"{what} do not fit into n_positions = {n_positions}")
