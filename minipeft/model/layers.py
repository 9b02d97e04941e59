"""The layers a transformer is made of: Linear, Embedding, LayerNorm, GELU, Dropout and the tied head.

Lesson 01 writes Linear, GELU, LayerNorm and their chain by hand; lesson 09 is about Dropout.
"""

import numpy as np

from ..checks import is_real
from .functional import dot, gelu, matmul, mean, outer, total
from .module import Module, Parameter


class Linear(Module):
    """An affine map of the last axis.

        y = x W + b
        dW = xᵀ dy,   db = Σ dy,   dx = dy Wᵀ

    x is kept for backward only while W is trained: dx needs W alone.  Frozen layers that keep nothing are where PEFT
    saves activation memory.

    Shapes:   x (..., I), weight W (I, O), bias b (O,), y (..., O)
    At init:  W ~ N(0, std²), b = 0
    """

    def __init__(self, d_in, d_out, rng, std=0.02, dtype="float64"):
        self.weight = Parameter(rng.normal(0, std, (d_in, d_out)).astype(dtype))
        self.bias = Parameter(np.zeros(d_out, dtype))

    def forward(self, x):
        W, b = self.weight, self.bias
        if x.shape[-1] != len(W.data):
            raise ValueError(f"this Linear maps {len(W.data)} numbers to {W.data.shape[1]}; it was given {x.shape[-1]}")
        kept = x if W.requires_grad else None
        y = matmul(x, W.data)
        y += b.data

        def backward(dy, need_dx=True):
            if kept is not None:
                W.grad += outer(kept, dy)
            if b.requires_grad:
                b.grad += total(dy)
            return matmul(dy, W.data.T) if need_dx else None

        return y, backward


class Embedding(Module):
    """A table of vectors, looked up by number.

        y = W[ids]
        dW[ids] += dy  (a row that is used twice gets both gradients)

    Shapes:   ids (...) of integers, weight W (V, D), y (..., D)
    At init:  W ~ N(0, std²)
    Raises:   TypeError for ids that are not integers, ValueError for ids outside 0 ... V − 1
    """

    def __init__(self, n, d, rng, std=0.02, dtype="float64"):
        self.weight = Parameter(rng.normal(0, std, (n, d)).astype(dtype))

    def forward(self, ids):
        W, ids = self.weight, np.asarray(ids)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"token ids must be integers, not {ids.dtype}")
        if ids.size and not (ids.min() >= 0 and ids.max() < len(W.data)):
            raise ValueError(f"ids must lie in 0 ... {len(W.data) - 1}; these go from {ids.min()} to {ids.max()}")

        def backward(dy):
            if W.requires_grad:
                np.add.at(W.grad, ids, dy)

        return W.data[ids], backward


class LayerNorm(Module):
    """Centre each vector, scale it to unit variance, then apply a learned gain and shift (Ba et al., 2016).

        x̂ = (x − mean x) / σ,   σ = √(var x + ε),   y = x̂ ⊙ g + b
        dg = Σ dy ⊙ x̂,   db = Σ dy,   dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / σ,   dx̂ = dy ⊙ g

    Shapes:   x, y (..., D), weight g (D,), bias b (D,)
    At init:  g = 1, b = 0
    """

    def __init__(self, d, eps=1e-5, dtype="float64"):
        self.weight, self.bias, self.eps = Parameter(np.ones(d, dtype)), Parameter(np.zeros(d, dtype)), eps

    def forward(self, x):
        g, b, D = self.weight, self.bias, x.shape[-1]
        xhat = x - mean(x)
        rstd = 1 / np.sqrt(dot(xhat, xhat) / D + self.eps)
        xhat *= rstd
        y = xhat * g.data
        y += b.data

        def backward(dy, need_dx=True):
            if g.requires_grad:
                g.grad += total(dy * xhat)
            if b.requires_grad:
                b.grad += total(dy)
            if not need_dx:
                return None
            dx = dy * g.data  # dx̂, centred and scaled in place from here on
            along = dot(dx, xhat) / D
            dx -= mean(dx)
            dx -= xhat * along
            dx *= rstd
            return dx

        return y, backward


class GELU(Module):
    """The tanh form of the Gaussian error linear unit: y = ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""

    def forward(self, x):
        y, slope = gelu(x)

        def backward(dy, need_dx=True):
            return dy * slope if need_dx else None

        return y, backward


class Dropout(Module):
    """Zero each number with probability p while training, and scale the rest so that the mean stays (Srivastava 2014).

        y = M ⊙ x,   M = 1/(1−p) with probability 1−p, else 0
        dx = M ⊙ dy

    Shapes:   x, y, M (...)
    Raises:   ValueError unless 0 ≤ p < 1
    """

    def __init__(self, p, rng):
        if not is_real(p) or not 0 <= p < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {p!r}")
        self.p, self.rng = float(p), rng

    def forward(self, x):
        if not self.training or self.p == 0:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        M = (self.rng.random(x.shape, dtype="float32") >= self.p).astype(x.dtype)
        M /= 1 - self.p

        def backward(dy, need_dx=True):
            return dy * M if need_dx else None

        return x * M, backward


class TiedHead(Module):
    """Logits from the token embedding itself (Press & Wolf, 2017).

        logits = x Eᵀ
        dE = dlogitsᵀ x,   dx = dlogits E

    Shapes:   x (N, T, D), weight E (V, D), logits (N, T, V)
    """

    def __init__(self, weight):
        self.weight = weight  # the embedding's own Parameter, not a copy: both uses add to one gradient

    def forward(self, x):
        E = self.weight
        kept = x if E.requires_grad else None

        def backward(dlogits, need_dx=True):
            if kept is not None:
                E.grad += outer(dlogits, kept)
            return matmul(dlogits, E.data) if need_dx else None

        return matmul(x, E.data.T), backward
