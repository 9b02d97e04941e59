"""Selective fine-tuning: train some of the base's own parameters, and put nothing in.

Three choices of which: all biases, all LayerNorms, the last blocks.  Each is one line, a thaw by globs over the base's
own paths; get_peft_model keeps what the parameters were, as it does for full fine-tuning.
"""

from dataclasses import dataclass

import numpy as np

from ..files import FileError
from ..model.layers import LayerNorm
from ..validation import is_whole
from .method import Method, parent, thaw
from .saving import trained_in_base


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
    peft_type, peft_variant = "LORA", {"bias": "all"}

    def inject(self, model, rng):
        thaw(model, self.targets, "bias")

    @staticmethod
    def to_peft(model, folder):
        """A LoRA on c_attn that trains all biases there, with A = B = 0: neither has a gradient, and it stays BitFit."""
        names = [name for name in folder.matrices() if name.endswith("c_attn")]
        arrays = {key: np.zeros(shape, model.config.dtype) for key, shape in pair_shapes(folder, names, 1).items()}
        arrays |= {key: folder.join(bias) for key, bias in bias_names(folder, names).items()}
        return {"r": 1, "lora_alpha": 1, "target_modules": folder.short(names), "fan_in_fan_out": True}, arrays

    @classmethod
    def from_peft(cls, model, folder):
        """The biases that are not the base's, or all if none was moved; beside them a LoRA that does nothing."""
        names = folder.targeted(folder.matrices(), ("c_attn",))
        pairs, biases = pair_shapes(folder, names, folder.whole("r")), bias_names(folder, names)
        found = folder.read(pairs | {key: folder.base()[bias][0] for key, bias in biases.items()})
        for name in names:
            if (found[f"{name}.lora_B.weight"] @ found[f"{name}.lora_A.weight"]).any():
                raise FileError(
                    f"adapter_config.json: bias is 'all' beside a LoRA on {name} that is not zero, and no method here is "
                    "both: merge it in peft (merge_and_unload), and load_gpt2 reads the whole model"
                )
        arrays, before = {}, dict(model.named_parameters())
        for key, bias in biases.items():
            arrays |= folder.cut(bias, found[key])
        own = {path: b for path, b in arrays.items() if (b != before[path].data).any()}
        if len(own) in (0, len(arrays)):
            return cls(), arrays
        return cls(folder.globs([parent(path) for path in own])), own


def pair_shapes(folder, names, r):
    """{key: shape} of A and B of a LoRA on these matrices, in peft's names."""
    shapes = {name: folder.matrices()[name].shape for name in names}
    A, B = ({f"{name}.lora_{P}.weight": shape for name, shape in shapes.items()} for P in "AB")
    return {key: (r, d_in) for key, (d_in, _) in A.items()} | {key: (d_out, r) for key, (_, d_out) in B.items()}


def bias_names(folder, names):
    """{key in peft's file: its name in the base} of all biases, where a LoRA is put on these matrices."""
    biases = [name for name in folder.base() if name.endswith(".bias")]
    return {f"{parent(b)}.base_layer.bias" if parent(b) in names else b: b for b in biases}


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
    peft_type, peft_fields = "LN_TUNING", ("target_modules", "exclude_modules")

    def inject(self, model, rng):
        thaw(model, self.targets, kind=LayerNorm)

    @staticmethod
    def to_peft(model, folder):
        own = trained_in_base(model)
        layers = dict.fromkeys(parent(path) for path in own)
        return {"target_modules": folder.short(layers)}, {in_peft(path): array for path, array in own.items()}

    @classmethod
    def from_peft(cls, model, folder):
        norms = [path for path, node in model.walk() if isinstance(node, LayerNorm)]
        layers = folder.targeted(norms, ("ln_1", "ln_2", "ln_f"))
        paths = [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]
        found = folder.read({in_peft(path): folder.base()[path][0] for path in paths})
        return cls(folder.globs(layers)), {path: found[in_peft(path)] for path in paths}


def in_peft(path):
    """What peft calls an array of a LayerNorm."""
    return f"{parent(path)}.ln_tuning_layers.{path.rpartition('.')[2]}"


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
