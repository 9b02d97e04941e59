"""LoRA+: LoRA whose B learns faster than its A (Hayou et al., 2024).  Lesson 09 says at which α plain LoRA does the same."""

from dataclasses import dataclass

from ..validation import is_real
from .lora import LoRA
from .wrapper import wrappers_of


@dataclass
class LoRAPlus(LoRA):
    """LoRA, trained at two rates: its equation and gradients are LoRA's, and so is what it starts from.

        lr_A = lr,   lr_B = ratio lr

    Scaling arguments for wide models say that at one rate for both, A and B cannot both learn well (Hayou et al., 2024,
    abstract).  The ratio acts where the optimizer is made of the model, AdamW(model, lr), through parameter_groups; lr is
    A's, and smaller than LoRA's would be.

    r: rank
    alpha: the update is scaled by alpha / r, or by alpha / √r with rslora
    dropout: on the input of the path
    targets: a glob over paths of Linears, or several
    train: AB trains both factors, A only the first, B only the second
    rslora: scale by alpha / √r (Kalajdzievski, 2023)
    ratio: how many times faster B learns than A

    Trains:   r (d_in + d_out) numbers for each target; r d_in numbers for each target, if train is A; r d_out numbers
              for each target, if train is B
    Raises:   ValueError for a ratio that is not positive
    """

    ratio: float = 16

    name, lr = "loraplus", 3e-3

    def inject(self, model, rng):
        check_ratio(self.ratio)
        paths = super().inject(model, rng)
        for path in paths:
            model.get_submodule(path).ratio = self.ratio  # so that another LoRA of the model is left alone
        return paths

    def parameter_groups(self, model, lr):
        mine = [lora for _, lora in wrappers_of(model) if getattr(lora, "ratio", None) == self.ratio]
        return [{"params": [lora.B for lora in mine], "lr": self.ratio * lr}]


def check_ratio(ratio):
    if not is_real(ratio) or ratio <= 0:
        raise ValueError(f"ratio, how many times faster B learns than A, must be a positive number, not {ratio!r}")
