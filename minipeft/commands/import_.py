"""Read an adapter that Hugging Face peft saved, and write it as an adapter file of minipeft.

The file is written over only if it is an adapter of minipeft.
"""

from contextlib import contextmanager
from pathlib import Path

from ..files import FileError, check_place
from ..interop import import_peft
from ..interop.peft_files import read_peft
from ..interop.peft_strict import CONFIG, of_kind
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
    config, *_ = read_peft(args.folder)
    named = of_kind(config, "base_model_name_or_path", str)
    base = args.base or named or "english"
    to = f"{Path(args.folder).resolve().name}.npz" if args.to is None else args.to
    check_place(to, "adapter")
    here = Path(args.folder) / CONFIG
    with blamed_on(None if args.base else f"{here} names {base!r} (base_model_name_or_path) as what it was trained on"):
        model = open_model(base)
    with blamed_on(None if args.base or named else f"{here} has no base_model_name_or_path, and english was taken"):
        import_peft(model, args.folder)
    save_adapter(model, to)
    saved(to)
    method = model.peft[0].method
    print(f"{method}\ntrained: {count_parameters(model)[0]:,} numbers; base: {base}")
    print(f"saved to {to}; look at it with: minipeft inspect {to}")


@contextmanager
def blamed_on(choice):
    """An error in the block says who chose the base, if it was not the user, and how to choose another."""
    try:
        yield
    except (ValueError, OSError) as error:
        if choice is None:
            raise
        raise FileError(f"{choice}, but: {error}; --base says what it is, or where it is on this machine") from error
