"""Selective fine-tuning: train some of the base's own parameters, and put nothing in.

Three choices of which: all biases, all LayerNorms, the last blocks.  Each is one line, a thaw by globs over the base's
own paths; get_peft_model keeps what the parameters were, as it does for full fine-tuning.
"""

from dataclasses import dataclass

from ..model.layers import LayerNorm
from ..validation import is_whole
from .method import Method, thaw


@dataclass
class BitFit(Method):
    """Train the biases, those of the LayerNorms too, and nothing else (Ben Zaken et al., 2022, § 3).

        y = x W + b
        db = Σ dy;   dW is not formed, and x is not kept for it

    Half of them, the biases of the queries and of the first matrix of the MLP (there b_q and b_m2), lose little in the
    paper: targets=("*.q_proj", "*.c_fc").  Those of the keys cannot learn: b_k adds the same to all scores of a query,
    and softmax takes no notice (unless a prefix brings keys that b_k does not reach).

    targets: a glob over paths of layers that have a bias, or several

    Trains:   n_layer 11 D + D numbers
    At init:  y = base(x)
    """

    targets: str | tuple = "*"

    name, lr, merges = "bitfit", 3e-2, True

    def inject(self, model, rng):
        thaw(model, self.targets, "bias")


@dataclass
class LayerNormTuning(Method):
    """Train gain and shift of every LayerNorm, and nothing else (Zhao et al., 2024).

        y = x̂ ⊙ g + b
        dg = Σ dy ⊙ x̂,   db = Σ dy

    targets: a glob over paths of LayerNorms, or several

    Trains:   n_layer 4 D + 2 D numbers
    """

    targets: str | tuple = "*"

    name, lr, merges = "layernorm", 3e-2, True

    def inject(self, model, rng):
        thaw(model, self.targets, kind=LayerNorm)


@dataclass
class LastBlocks(Method):
    """Train all of the last k blocks, and nothing else: what was done before there was PEFT (Lee et al., 2019).

        y = x W + b
        dW = xᵀ dy,   db = Σ dy                                   (every Linear of the last k blocks)

    The blocks below run forward only, and keep nothing for backward.  Embeddings, head and ln_f stay as they are.

    k: number of blocks

    Trains:   k (12 D² + 13 D) numbers
    Raises:   ValueError for k outside 1 ... n_layer
    """

    k: int = 1

    name, lr, merges = "lastk", 3e-3, True

    def inject(self, model, rng):
        n = model.config.n_layer
        if not is_whole(self.k, 1, n):
            raise ValueError(f"k, the number of blocks, must be a whole number in 1 ... n_layer = {n}, not {self.k!r}")
        thaw(model, [f"h.{i}.*" for i in range(n - self.k, n)])
