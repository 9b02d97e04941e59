"""Show what is in an adapter: the method and its settings, every array with its norm, and the spectrum of ΔW."""

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..files import FileError
from ..interop.peft_files import peft_contents
from ..methods import LoRA
from ..methods.lora import scale
from ..methods.method import one_by_one
from ..methods.saving import read_adapter
from ..model.module import plain_path
from .output import spelled

SHOWN = 8  # singular values of a ΔW


def add_arguments(parser):
    parser.add_argument("file", help="an adapter that finetune or save_adapter wrote, or a folder that peft wrote")


def run(args):
    if Path(args.file).is_dir():
        settings, arrays, deltas = peft_contents(args.file)
        lines = [f"peft     {', '.join(f'{field} {value}' for field, value in settings.items())}"]
    else:
        config, base, methods, arrays = read_adapter(args.file)
        methods = one_by_one(method for method, _ in methods)
        arrays = measurable(args.file, arrays)
        deltas = deltas_of(args.file, [method for method in methods if isinstance(method, LoRA)], arrays)
        sizes = ", ".join(f"{key} {value}" for key, value in config.items())
        lines = [
            f"base     {sizes}\n         fingerprint {base[:16]} ...",
            *(f"method   {method}" for method in methods),
        ]
    print(f"{args.file}: {sum(array.size for array in arrays.values()):,} numbers in {len(arrays)} arrays")
    print(*lines, sep="\n")
    width = max(map(len, arrays), default=0)
    print(f"\n{'array':{width}}  {'shape':>12}  {'norm':>9}  {'largest':>9}")
    for name, array in arrays.items():
        shape = spelled(" × ").join(map(str, array.shape))
        print(f"{name:{width}}  {shape:>12}  {number(np.linalg.norm(array))}  {number(np.abs(array).max(initial=0))}")
    if deltas:
        print(f"\n{spelled('ΔW = s A B'):{width}}  {'norm':>9}  rank  singular values (the {SHOWN} largest at most)")
        for name, delta in deltas.items():
            values = np.linalg.svd(delta, compute_uv=False)
            values = values[values > 1e-6 * values.max(initial=0)]
            shown = "  ".join(number(value, 3).strip() for value in values[:SHOWN]) or "all zero"
            more = f"  and {len(values) - SHOWN} smaller" if len(values) > SHOWN else ""
            print(f"{name:{width}}  {number(np.linalg.norm(delta))}  {len(values):4}  {shown}{more}")


def number(value, digits=4):
    """Nine characters, for the norm of a run that went wrong, too."""
    return f"{value:9.{digits}f}" if value < 1e4 else f"{value:9.{digits - 1}e}"


def measurable(path, arrays):
    """The arrays in float64, in which no square overflows.  Raises: FileError for what is no adapter's"""
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise FileError(f"{path}: {name} holds something other than finite numbers")
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def deltas_of(path, loras, arrays):
    """lora_deltas, where the arrays and the settings fit each other.  Raises: FileError"""
    try:
        return lora_deltas(loras, arrays)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise FileError(f"{path} is damaged: its arrays and the settings of its LoRA do not fit ({error})") from error


def lora_deltas(loras, arrays):
    """{layer: ΔW = s A B} of every LoRA in the file; no layer has two, so the targets say which one it is."""
    deltas = {}
    for name, A in arrays.items():
        layer, _, last = name.rpartition(".")
        B = arrays.get(f"{layer}.B")
        mine = [lora for lora in loras if targeted(lora, layer)]
        if last == "A" and B is not None and mine:
            deltas[layer] = scale(mine[0].r, mine[0].alpha, mine[0].rslora) * A @ B
    return deltas


def targeted(lora, layer):
    """Whether the globs of a LoRA hit the layer, by the name it has or had before others were wrapped around it."""
    globs = [lora.targets] if isinstance(lora.targets, str) else lora.targets
    names = layer, plain_path(layer)
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
