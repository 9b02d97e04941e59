"""Show what is in an adapter file: the method and its settings, every array with its norm, and the spectrum of ΔW."""

import numpy as np

from ..files import read_npz


def add_arguments(parser):
    parser.add_argument("file", help="an adapter that finetune or save_adapter wrote")


def run(args):
    header, arrays = read_npz(args.file, "adapter")
    config = ", ".join(f"{key} {value}" for key, value in header["config"].items())
    print(f"{args.file}: {sum(array.size for array in arrays.values()):,} numbers in {len(arrays)} arrays")
    print(f"base     {config}\n         fingerprint {header['base'][:16]}")
    for method in flat(header["methods"]):
        settings = ", ".join(f"{key} {value}" for key, value in method["settings"].items())
        print(f"method   {method['name']}: {settings}")
    width = max(map(len, arrays))
    print(f"\n{'array':{width}}  {'shape':>12}  {'norm':>9}  {'largest':>9}")
    for name, array in arrays.items():
        shape = " × ".join(map(str, array.shape))
        print(f"{name:{width}}  {shape:>12}  {np.linalg.norm(array):9.4f}  {np.abs(array).max():9.4f}")
    deltas = lora_deltas(header, arrays)
    if deltas:
        print(f"\n{'ΔW = s A B':{width}}  {'norm':>9}  singular values")
        for name, delta in deltas.items():
            values = np.linalg.svd(delta, compute_uv=False)
            shown = "  ".join(f"{value:.3f}" for value in values[values > 1e-6 * values[0]][:8]) or "all zero"
            print(f"{name:{width}}  {np.linalg.norm(delta):9.4f}  {shown}")


def flat(methods):
    """The methods of the header, those of a stack one by one."""
    for method in methods:
        yield from flat(method["methods"]) if method["name"] == "stack" else [method]


def lora_deltas(header, arrays):
    """{layer: ΔW} of every LoRA in the file; s follows from the rank of A and the settings of the LoRA."""
    settings = [method["settings"] for method in flat(header["methods"]) if method["name"] == "lora"]
    deltas = {}
    for name, A in arrays.items():
        layer, _, last = name.rpartition(".")
        if last == "A" and layer + ".B" in arrays:
            mine = next(one for one in settings if one["r"] == A.shape[1])
            s = mine["alpha"] / (mine["r"] ** 0.5 if mine["rslora"] else mine["r"])
            deltas[layer] = s * A @ arrays[layer + ".B"]
    return deltas
