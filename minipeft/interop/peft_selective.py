"""BitFit and LayerNorm tuning to and from peft: what is trained in the base itself.

here                           there                                   file
BitFit  all biases             a LoRA of zeros with bias "all"         <prefix>h.{i}.attn.c_attn.base_layer.bias, ...
LayerNormTuning  g, b          a copy of the LayerNorm                 <prefix>h.{i}.ln_1.ln_tuning_layers.weight, .bias
"""

import numpy as np

from ..files import FileError
from ..methods import BitFit, LayerNormTuning
from ..methods.records import parent
from ..methods.saving import trained_in_base
from ..model.layers import LayerNorm


def bitfit_to_peft(model, folder):
    """A LoRA on c_attn that trains all biases there, with A = B = 0: neither has a gradient, and it stays BitFit."""
    names = [name for name in folder.matrices() if name.endswith("c_attn")]
    arrays = {key: np.zeros(shape, model.config.dtype) for key, shape in pair_shapes(folder, names, 1).items()}
    arrays |= {key: folder.join(bias) for key, bias in bias_names(folder, names).items()}
    return {"r": 1, "lora_alpha": 1, "target_modules": folder.short(names), "fan_in_fan_out": True}, arrays


def bitfit_from_peft(model, folder):
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
        return BitFit(), arrays
    return BitFit(folder.globs([parent(path) for path in own])), own


def pair_shapes(folder, names, r):
    """{key: shape} of A and B of a LoRA on these matrices, in peft's names."""
    shapes = {name: folder.matrices()[name].shape for name in names}
    A, B = ({f"{name}.lora_{P}.weight": shape for name, shape in shapes.items()} for P in "AB")
    return {key: (r, d_in) for key, (d_in, _) in A.items()} | {key: (d_out, r) for key, (_, d_out) in B.items()}


def bias_names(folder, names):
    """{key in peft's file: its name in the base} of all biases, where a LoRA is put on these matrices."""
    biases = [name for name in folder.base() if name.endswith(".bias")]
    return {f"{parent(b)}.base_layer.bias" if parent(b) in names else b: b for b in biases}


def layernorm_to_peft(model, folder):
    own = trained_in_base(model)
    layers = dict.fromkeys(parent(path) for path in own)
    return {"target_modules": folder.short(layers)}, {in_peft(path): array for path, array in own.items()}


def layernorm_from_peft(model, folder):
    norms = [path for path, node in model.walk() if isinstance(node, LayerNorm)]
    layers = folder.targeted(norms, ("ln_1", "ln_2", "ln_f"))
    paths = [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]
    found = folder.read({in_peft(path): folder.base()[path][0] for path in paths})
    return LayerNormTuning(folder.globs(layers)), {path: found[in_peft(path)] for path in paths}


def in_peft(path):
    """What peft calls an array of a LayerNorm."""
    return f"{parent(path)}.ln_tuning_layers.{path.rpartition('.')[2]}"
