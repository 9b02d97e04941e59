"""Write dora_arrays.npz: what peft computes with DoRA on every matrix, for test_dora.py.

python tests/tools/make_dora_arrays.py        needs torch, transformers and peft
"""

from pathlib import Path

import numpy as np
import peft
from peft_runs import Run, cut, paths, together


def dora_run(seed=0, dropout=0.0, **settings):
    config = peft.LoraConfig(
        target_modules=["c_attn", "c_proj", "c_fc"], use_dora=True, fan_in_fan_out=True, lora_dropout=dropout,
        **({"r": 3, "lora_alpha": 5} | settings),
    )  # fmt: skip
    return Run(config, seed)


def dora_arrays(dropout=0.0, **settings):
    run = dora_run(dropout=dropout, **settings)
    if dropout:
        run.drop(dropout)

    def translate(kind):
        """q, k and v of one c_attn have one A, which is theirs in each; its gradient is the sum of their three."""
        own = {}
        for matrix, layer in run.layers("lora_A"):
            pair = [getattr(layer, name)["default"].weight for name in ("lora_A", "lora_B", "lora_magnitude_vector")]
            A, B, m = (getattr(p, kind) for p in pair)
            own |= {f"{path}.A": A.T for path in ([together(matrix)] if kind == "grad" else paths(matrix))}
            own |= {f"{path}.B": part for path, part in cut(B.T, matrix).items()}
            own |= {f"{path}.m": part for path, part in cut(m, matrix).items()}
        return own

    return run.arrays(translate)


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "dora_arrays.npz", **dora_arrays())
