"""QLoRA (Dettmers et al., 2023): LoRA beside weights that are stored in 4 bits."""

from dataclasses import dataclass

from ..model.layers import Linear
from ..model.module import Module
from .lora import LoRA
from .nf4 import NF4Linear
from .records import records_of, undone_on_error
from .wrapper import Wrapper, wrap, wrappers_of


@dataclass
class QLoRA(LoRA):
    """Every Linear of the blocks in 4 bits, and LoRA on those whose path matches `targets`.

        y = x Ŵ + b + s h B,   h = x A                            (Ŵ is W in 4 bits: NF4Linear in nf4.py)
        dh = s dy Bᵀ,   dA = xᵀ dh,   dB = (s h)ᵀ dy,   dx = dy Ŵᵀ + dh Aᵀ

    r: rank
    alpha: the update is scaled by alpha / r, or by alpha / √r with rslora
    dropout: on the input of the path
    targets: a glob over paths of Linears, or several; the paper has LoRA on all of them
    train: AB trains both factors, A only the first, B only the second
    rslora: scale by alpha / √r (Kalajdzievski, 2023)
    double: the scales of the 4 bits are stored in 8 bits each, not 32

    The base in full precision is kept, for unwrap and disabled to give back.  To be rid of it, quantise(model) first.

    Trains:   r (d_in + d_out) numbers for each target; r d_in numbers for each target, if train is A; r d_out numbers
              for each target, if train is B
    At init:  the model computes what the base in 4 bits computes
    """

    targets: str | tuple = ("*_proj", "*.c_fc")
    double: bool = True

    name, identity_at_init = "qlora", False
    # It has no files in peft's form (see interop/peft_files.py): they name a base in full precision, beside which A and B
    # compute something else.
    peft_type = None

    def quantization_config(self):
        """For transformers.BitsAndBytesConfig, to hold a base in the same 4 bits there; peft's LoRA beside it is a QLoRA.

        With double, the scales of q, k and v share one s̄ there, since they are one matrix, and have one each here.
        """
        return {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": self.double}

    def inject(self, model, rng):
        store_in_4_bits(model, "h.*", self.double)
        super().inject(model, rng)


def store_in_4_bits(model, targets, double):
    """Put an NF4Linear in the place of each of the base's own Linears, beneath what is around it."""

    def stored(layer):
        if isinstance(layer, Wrapper):
            layer.base = stored(layer.base)
            return layer
        return layer if isinstance(layer, NF4Linear) else NF4Linear(layer, double)

    wrap(model, targets, stored, kind=Linear)


def quantise(model: Module, targets: str | tuple = "h.*", double: bool = True) -> Module:
    """Store each Linear whose path matches in 4 bits, for good; return the model.

    The weights in full precision are let go, and with them what unwrap would have brought back after merge.  The model is
    now another base: its fingerprint is that of the codes and scales, and adapters of the base before do not fit it.

    Raises: ValueError while a method is around the layers, or for targets that match none; the model is then as it was
    """
    records_of(model)
    if around := wrappers_of(model):
        path, wrapper = around[0]
        raise ValueError(f"{path} carries a {type(wrapper).__name__}: unwrap(model) or merge(model) before quantise")
    with undone_on_error(model):
        store_in_4_bits(model, targets, double)
    model.peft = []
    return model
