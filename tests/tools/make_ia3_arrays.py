"""Write ia3_arrays.npz: what peft computes with (IA)³ where it puts it on a GPT-2, for test_ia3.py.

python tests/tools/make_ia3_arrays.py        needs torch, transformers and peft
"""

from pathlib import Path

import numpy as np
import peft
from peft_runs import Run, cut, paths, together


def ia3_run(seed=0, targets=("c_attn", "mlp.c_proj"), feedforward=("mlp.c_proj",)):
    places = {"target_modules": list(targets), "feedforward_modules": list(feedforward)}
    return Run(peft.IA3Config(**places, fan_in_fan_out=True), seed)


def ia3_arrays(**places):
    run = ia3_run(**places)

    def translate(kind):
        """The parts of a fused matrix have one vector at its input, whose gradient is the sum of theirs, or one each."""
        own = {}
        for matrix, layer in run.layers("ia3_l"):
            l = getattr(layer.ia3_l["default"], kind).flatten()
            if layer.is_feedforward:
                own |= {f"{path}.l": l for path in ([together(matrix)] if kind == "grad" else paths(matrix))}
            else:
                own |= {f"{path}.l": part for path, part in cut(l, matrix).items()}
        return own

    return run.arrays(translate)


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "ia3_arrays.npz", **ia3_arrays())
