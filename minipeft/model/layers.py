"""The layers a transformer is made of: Linear, Embedding, LayerNorm, GELU, Dropout and the tied head.

As everywhere, y, backward = layer(x), and dx = backward(dy), which also adds to the gradients of what is trained:
W.add_grad(outer, x, dy) adds outer(x, dy) = xᵀ dy to the gradient of W, unless W is frozen.

Lesson 01 writes Linear, GELU, LayerNorm and their chain by hand; lesson 10 is about Dropout.
"""

from copy import copy

import numpy as np

from ..validation import is_real
from .functional import gelu, matmul, outer, standardise, standardise_backward, total
from .module import Module, Parameter


class Linear(Module):
    """An affine map of the last axis.

        y = x W + b
        dW = xᵀ dy,   db = Σ dy,   dx = dy Wᵀ

    x is kept for backward only while W is trained: dx needs W alone.  A frozen layer keeps nothing.

    Shapes:   x (..., I), weight W (I, O), bias b (O,), y (..., O)
    At init:  W ~ N(0, std²), b = 0
    """

    def __init__(self, d_in, d_out, rng, std=0.02, dtype="float64"):
        self.weight = Parameter(rng.normal(0, std, (d_in, d_out)).astype(dtype))
        self.bias = Parameter(np.zeros(d_out, dtype))

    @classmethod
    def from_arrays(cls, W, b=None, requires_grad=True):
        """A Linear with this weight (I, O) and bias (O,), zero if none is given."""
        layer, W = cls.__new__(cls), np.asarray(W)
        b = np.zeros(W.shape[1:], W.dtype) if b is None else np.asarray(b)
        if W.ndim != 2 or b.shape != W.shape[1:]:
            raise ValueError(f"a Linear needs a weight (I, O) and a bias (O,), not {W.shape} and {b.shape}")
        layer.weight, layer.bias = Parameter(W, requires_grad), Parameter(b, requires_grad)
        return layer

    @property
    def shape(self):
        """Of the weight: (I, O)."""
        return self.weight.data.shape

    @property
    def dtype(self):
        return self.bias.data.dtype

    def matrix(self):
        """W as an array (I, O), however it is stored."""
        return self.weight.data

    def plus(self, delta):
        """A frozen Linear like this one, with the weight W + ΔW."""
        layer = copy(self)
        layer.weight = Parameter(self.matrix() + delta, requires_grad=False)
        return layer

    def forward(self, x):
        check_width(x, self)
        W, b = self.weight, self.bias
        y = matmul(x, W.data)
        y += b.data
        x_kept = W.keep(x)

        def backward(dy):
            W.add_grad(outer, x_kept, dy)
            b.add_grad(total, dy)
            return matmul(dy, W.data.T)

        return y, backward


def check_width(x, linear):
    d_in, d_out = linear.shape
    if x.shape[-1] != d_in:
        raise ValueError(
            f"this Linear maps {d_in} numbers to {d_out}; it was given {x.shape[-1]}: x must be (..., {d_in})"
        )


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
        W, ids = self.weight, check_ids(ids, len(self.weight.data))

        def backward(dy):
            if W.requires_grad:
                np.add.at(W.grad, ids, dy)

        return W.data[ids], backward


def check_ids(ids, V):
    """ids as an array.  Raises: TypeError unless they are integers, ValueError unless they lie in 0 ... V − 1"""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {ids.dtype}")
    if ids.size and not (ids.min() >= 0 and ids.max() < V):
        raise ValueError(f"ids must lie in 0 ... {V - 1}; these go from {ids.min()} to {ids.max()}")
    return ids


class LayerNorm(Module):
    """Centre each vector, scale it to unit variance, then apply a learned gain and shift (Ba et al., 2016).

        x̂ = (x − mean x) / σ,   σ = √(var x + ε),   y = x̂ ⊙ g + b
        dg = Σ dy ⊙ x̂,   db = Σ dy,   dx̂ = dy ⊙ g,   dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / σ

    Shapes:   x, y (..., D), weight g (D,), bias b (D,)
    At init:  g = 1, b = 0
    """

    def __init__(self, d, eps=1e-5, dtype="float64"):
        self.weight, self.bias, self.eps = Parameter(np.ones(d, dtype)), Parameter(np.zeros(d, dtype)), eps

    def forward(self, x):
        g, b = self.weight, self.bias
        xhat, rstd = standardise(x, self.eps)  # x̂ and 1 / σ
        y = xhat * g.data
        y += b.data

        def backward(dy):
            g.add_grad(total, dy, xhat)
            b.add_grad(total, dy)
            return standardise_backward(dy * g.data, xhat, rstd)

        return y, backward


class GELU(Module):
    """The tanh form of the Gaussian error linear unit (Hendrycks & Gimpel, 2016), as GPT-2 has it.

        y = ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))
        dx = dy ⊙ gelu′(x)                                       (functional.gelu says what that is)

    Shapes:   x, y (...)
    """

    def forward(self, x):
        y, slope = gelu(x)

        def backward(dy):
            return dy * slope

        return y, backward


class Dropout(Module):
    """Zero each number with probability p while training, and scale the rest so that the mean stays.

    (Inverted dropout: Srivastava et al., 2014, scale at test time instead.)

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
            return x, lambda dy: dy
        M = (self.rng.random(x.shape, dtype="float32") >= self.p).astype(x.dtype)
        M /= 1 - self.p

        def backward(dy):
            return M * dy

        return M * x, backward


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
        logits = matmul(x, E.data.T)
        x_kept = E.keep(x)

        def backward(dlogits):
            E.add_grad(outer, dlogits, x_kept)
            return matmul(dlogits, E.data)

        return logits, backward
