"""Read an adapter that Hugging Face peft saved, and write it as an adapter file of minipeft.

The file is written over only if it is an adapter of minipeft.
"""

from pathlib import Path

from ..files import check_place
from ..interop import import_peft
from ..interop.peft_files import read_peft
from ..interop.peft_strict import of_kind
from ..lab.ledger import count_parameters
from ..methods import save_adapter
from .output import saved
from .text import BASE, open_model


def add_arguments(parser):
    add = parser.add_argument
    add("folder", metavar="DIR", help="a folder with adapter_config.json and adapter_model.safetensors")
    add("--base", help=f"what it was trained on: {BASE} (default: the one that the folder names, or else english)")
    add("--to", metavar="FILE", help="the file to write (default: DIR's name with .npz, in this folder)")


def run(args):
    config, _ = read_peft(args.folder)
    base = args.base or of_kind(config, "base_model_name_or_path", str) or "english"
    to = f"{Path(args.folder).resolve().name}.npz" if args.to is None else args.to
    check_place(to, "adapter")
    model = import_peft(open_model(base), args.folder)
    save_adapter(model, to)
    saved(to)
    method = getattr(model.peft[0], "method", None) or model.peft[0][0]
    print(f"{method}\ntrained: {count_parameters(model)[0]:,} numbers; base: {base}")
    print(f"saved to {to}; look at it with: minipeft inspect {to}")
