"""Write vera_arrays.npz: what peft computes with VeRA on every matrix, for test_vera.py.

python tests/tools/make_vera_arrays.py        needs torch, transformers and peft
"""

from pathlib import Path

import numpy as np
import peft
from peft_runs import Run, cut, paths, together

MATRICES = ["c_attn", "c_proj", "c_fc"]


def vera_run(seed=0, **settings):
    settings = {"r": 5, "target_modules": MATRICES} | settings
    return Run(peft.VeraConfig(fan_in_fan_out=True, task_type="CAUSAL_LM", **settings), seed)


def vera_arrays(seed=0, **settings):
    run = vera_run(seed, **settings)
    shared = run.model.base_model
    run.saved |= {f"projection/{name}": getattr(shared, f"vera_{name}")["default"].float() for name in "AB"}

    def translate(kind):
        """q, k and v of one c_attn have one d, which is theirs in each; its gradient is the sum of their three."""
        own = {}
        for matrix, layer in run.layers("vera_lambda_d"):
            d, b = (getattr(getattr(layer, f"vera_lambda_{name}")["default"], kind) for name in "db")
            own |= {f"{path}.d": d for path in ([together(matrix)] if kind == "grad" else paths(matrix))}
            own |= {f"{path}.b": part for path, part in cut(b, matrix).items()}
        return own

    return run.arrays(translate)


def projections(r, d_in, d_out, seed):
    """peft's own, whatever the model."""
    from peft.tuners.vera.model import _kaiming_init
    from torch import Generator

    generator = Generator().manual_seed(seed)
    return {name: _kaiming_init(shape, generator).numpy() for name, shape in (("A", (r, d_in)), ("B", (d_out, r)))}


if __name__ == "__main__":
    found = vera_arrays()
    for seed, shape in ((0, (3, 7, 11)), (7, (5, 96, 288)), (2**32 - 1, (2, 33, 10))):
        found |= {f"drawn/{seed}/{name}": array for name, array in projections(*shape, seed).items()}
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "vera_arrays.npz", **found)
