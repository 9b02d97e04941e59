"""Selective fine-tuning: train some of the base's own parameters, and put nothing in.

Three choices of which: all biases, all LayerNorms, the last blocks.  Each is one line, a thaw by globs over the base's
own paths; get_peft_model keeps what the parameters were, as it does for full fine-tuning.
"""

from dataclasses import dataclass

import numpy as np

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
    and softmax takes no notice.

    targets: a glob over paths of layers that have a bias, or several

    Trains:   n_layer 11 D + D numbers
    At init:  y = base(x), as all three here
    """

    targets: str | tuple = "*"

    name, lr, merges = "bitfit", 3e-2, True

    def inject(self, model, rng):
        thaw(model, self.targets, "bias")

    @staticmethod
    def to_peft(biases):
        """(config, {key: array}) of peft for the biases of a base, {"h.0.attn.c_attn": b, "h.0.ln_1": b, ...}.

        There it is a LoRA on c_attn that trains all biases, with A and B at 0.  Where both are 0 neither has a gradient:
        it stays BitFit when it is trained further.
        """
        arrays, D = {}, len(biases["ln_f"])
        for path, b in biases.items():
            if path.endswith("c_attn"):
                pair = np.zeros((1, D), b.dtype), np.zeros((3 * D, 1), b.dtype)
                arrays |= {f"{path}.lora_{name}.weight": P for name, P in zip("AB", pair, strict=True)}
                arrays[f"{path}.base_layer.bias"] = b
            else:
                arrays[f"{path}.bias"] = b
        config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "bias": "all", "target_modules": ["attn.c_attn"]}
        return config | {"fan_in_fan_out": True}, arrays

    @staticmethod
    def from_peft(arrays):
        """{"h.0.attn.c_attn": b, ...} of a LoRA with "bias": "all" or "lora_only", whatever its A and B are."""
        biases = {key: b for key, b in arrays.items() if key.endswith(".bias")}
        return {key.removesuffix(".bias").removesuffix(".base_layer"): b for key, b in biases.items()}


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

    @staticmethod
    def to_peft(arrays):
        """(config, {key: array}) of peft for {"h.0.ln_1.weight": g, "h.0.ln_1.bias": b, ...}."""
        layers = [path.removesuffix(".bias") for path in arrays if path.endswith(".bias")]
        named = {".ln_tuning_layers.".join(path.rsplit(".", 1)): array for path, array in arrays.items()}
        return {"peft_type": "LN_TUNING", "target_modules": layers}, named

    @classmethod
    def from_peft(cls, arrays):
        """(method, {"h.0.ln_1.weight": g, ...}) for what peft saved."""
        named = {key.replace(".ln_tuning_layers", ""): array for key, array in arrays.items()}
        return cls(tuple(path.removesuffix(".bias") for path in named if path.endswith(".bias"))), named


@dataclass
class LastBlocks(Method):
    """Train all of the last k blocks, and nothing else: what was done before there was PEFT (Lee et al., 2019).

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
