"""Write loraplus_arrays.npz: where peft's LoRA+ is after three steps of torch's AdamW, for test_loraplus.py.

python tests/tools/make_loraplus_arrays.py        needs torch, transformers and peft
"""

from pathlib import Path

import numpy as np
import peft
import torch
from peft.optimizers import create_loraplus_optimizer
from peft_runs import Run


def loraplus_arrays(seed=0, lr=1e-2, ratio=8, steps=3):
    """A and B of the matrices that are one here and there (c_attn has one A for q, k and v), before and after."""
    run = Run(peft.LoraConfig(target_modules=["attn.c_proj", "mlp.c_proj", "mlp.c_fc"], r=3, lora_alpha=5), seed)

    def translate(kind):
        pairs = [(path, letter, getattr(layer, f"lora_{letter}")["default"].weight)
                 for path, layer in run.layers("lora_A") for letter in "AB"]  # fmt: skip
        return {f"{path}.{letter}": getattr(p, kind).T.clone() for path, letter, p in pairs}

    arrays = run.arrays(translate)
    optimizer = create_loraplus_optimizer(run.model, torch.optim.AdamW, lr=lr, loraplus_lr_ratio=ratio)
    for _ in range(steps):
        optimizer.zero_grad()
        run.forward()[1].backward()
        optimizer.step()
    return arrays | {f"after/{path}": p.detach().numpy() for path, p in translate("data").items()}


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "loraplus_arrays.npz", **loraplus_arrays())
