"""A Linear whose weight is stored in 4 bits a number: the base under QLoRA (Dettmers et al., 2023, §3)."""

import numpy as np

from ..model.functional import matmul, total
from ..model.layers import Linear, check_width

# Quantiles of N(0, 1) at 8 probabilities from δ to ½ and at 9 from ½ to 1 − δ, in equal steps, ½ counted once; divided by
# the last of them.  δ = ½ (1/32 + 1/30) keeps the outermost finite.  To the digit as bitsandbytes has them.
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
], "f4")  # fmt: skip


# Numbers of all magnitudes (Dettmers, 2016): 0, 1, and ± 10^(i−6) times the middle of each of 2^i equal parts of 0.1 ... 1.
MAGNITUDES = np.array([10.0 ** (i - 6) * (0.1 + 0.9 * (k + 0.5) / 2**i) for i in range(7) for k in range(2**i)])
DYNAMIC = np.sort(np.concatenate([-MAGNITUDES, [0, 1], MAGNITUDES])).astype("f4")


def quantise_blocks(x, code, size):
    """For each number of x the nearest of a code's, once the largest of its block of `size` numbers is scaled to 1.

        q = argmin_j |x / s − code[j]|,   s = max |x| of the block

    Shapes:   x (n,), code ascending, q (n,) of np.uint8, s (⌈n / size⌉,)
    """
    blocks = np.append(x, np.zeros(-len(x) % size, "f4")).reshape(-1, size)
    s = abs(blocks).max(1)
    scaled = blocks * (1 / np.maximum(s, np.finfo("f4").tiny))[:, None]
    q = np.searchsorted((code[1:] + code[:-1]) / 2, scaled)
    return q.ravel()[: len(x)].astype(np.uint8), s


def dequantise_blocks(q, s, code, size):
    """The numbers that the codes stand for.

        x̂ = s code[q]

    Shapes:   x̂ (n,), q (n,), s (⌈n / size⌉,)
    """
    return np.repeat(s, size)[: len(q)] * code[q]


def pack(q):
    """Two codes of 4 bits to a byte, the first in its high half."""
    q = np.append(q, np.zeros(len(q) % 2, np.uint8))
    return q[::2] << 4 | q[1::2]


def unpack(packed):
    return np.stack([packed >> 4, packed & 15], axis=1).ravel()


class NF4Linear(Linear):
    """A Linear that stores a code of 4 bits for each number of its weight, and a scale for each 64 of them.

        Ŵ = s NF4[q],   q = argmin_j |W / s − NF4[j]|,   s = max |W| over 64 numbers
        y = x Ŵ + b
        db = Σ dy,   dx = dy Ŵᵀ                                    (there is no dW: nothing but b can be trained)
        if `double`, with ŝ in place of s:
        ŝ = s̄ + t DYNAMIC[p],   p = argmin_j |(s − s̄) / t − DYNAMIC[j]|,   t = max |s − s̄| over 256 scales,   s̄ = mean s

    Ŵ is formed in forward and once more in backward; in between, neither Ŵ nor x is kept.

    Bits:     4 + 8/64 + 32/(64 · 256) = 4.127 a number; 4 + 32/64 = 4.5 if not double
    Error:    ‖Ŵ − W‖ / ‖W‖ of normal weights is 9.2%; with 16 numbers in equal steps from −1 to 1 it is 10.0%
    Shapes:   x (..., I), Ŵ (I, O), b (O,), y (..., O)
    Raises:   ValueError for a weight that is not finite in float32

    Blocks run along the rows of Wᵀ (O, I), the weight of torch, so that they are those of bitsandbytes.
    """

    shape = None  # (I, O), of each layer its own: Linear has a property here, which asks the weight

    def __init__(self, linear, double=True):
        self.shape, self.bias, self.training = linear.shape, linear.bias, linear.training
        W = np.asarray(linear.matrix()).T.ravel().astype("f4")
        if not np.isfinite(W).all():
            raise ValueError(
                "this weight holds numbers that are not finite in float32, and no 4 bits stand for them: load a base whose "
                "weights are all finite"
            )
        q, self.scales = quantise_blocks(W, NF4, 64)
        self.codes, self.double = pack(q), double
        if double:
            self.mean = np.array(self.scales.mean())
            self.scales, self.scales_of_scales = quantise_blocks(self.scales - self.mean, DYNAMIC, 256)

    @classmethod
    def from_arrays(cls, W, b=None, requires_grad=True):
        return cls(Linear.from_arrays(W, b, requires_grad))

    def matrix(self):
        """Ŵ as an array (I, O)."""
        (d_in, d_out), s = self.shape, self.scales
        if self.double:
            s = self.mean + dequantise_blocks(s, self.scales_of_scales, DYNAMIC, 256)
        W = dequantise_blocks(unpack(self.codes)[: d_in * d_out], s, NF4, 64)
        return W.reshape(d_out, d_in).T.astype(self.dtype, copy=False)

    def plus(self, delta):
        """A frozen Linear in full precision with the weight Ŵ + ΔW, beside which ΔW was trained.

        NF4Linear(that) stores the sum in 4 bits again, and a small ΔW is rounded away: for normal weights, and a ΔW of
        rank 8 that is 1%, 3%, 10%, 30% of them, the error is 1.09, 1.07, 0.77, 0.32 times ‖ΔW‖.  (With W + ΔW, the weight
        as it was before the 4 bits, it is 9.19, 3.06, 0.92, 0.31.)
        """
        layer = Linear.from_arrays(self.matrix() + delta, self.bias.data, requires_grad=False).train(self.training)
        layer.bias = self.bias
        return layer

    def nbytes(self):
        """Bytes of what stands for the weight; the bias, which is kept as it was, left out."""
        return sum(array.nbytes for array in self.stored_arrays().values())

    def forward(self, x):
        check_width(x, self)
        b = self.bias
        y = matmul(x, self.matrix())
        y += b.data

        def backward(dy):
            b.add_grad(total, dy)
            return matmul(dy, self.matrix().T)

        return y, backward
