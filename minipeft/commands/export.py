"""Write an adapter as a folder that Hugging Face peft loads; with --base-to, its base as one that transformers loads.

A folder is written to only if it is new, empty, or was written by this command: a model of yours is never written over.
"""

import os

from ..files import FileError, check_folder, check_place
from ..interop import export_peft, save_gpt2
from ..interop.peft_files import CONFIG, TENSORS, exporter
from ..interop.tensors import MARK, need
from ..methods import load_adapter, unwrap
from ..training import base_names, load_tokens
from ..training.bases import LICENCES, NOTICES, write_licences
from .output import saved
from .text import BASE, open_model


def add_arguments(parser):
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help="an adapter that finetune or save_adapter wrote")
    add("--to", required=True, metavar="DIR", help="the folder to write")
    add("--base", default="english", help=f"what the adapter was trained on: {BASE} (default: english)")
    add("--base-to", metavar="DIR", help="write the base, too, as a folder for transformers")


def run(args):
    check_places(args)
    model, base_name = open_model(args.base), args.base_to
    if not base_name and args.base not in base_names():
        base_name = args.base
    load_adapter(model, args.adapter)
    exporter(model)
    export_peft(model, args.to, base_name)
    saved(args.to)
    print(f'the adapter is in {args.to}; in peft: PeftModel.from_pretrained(base, "{args.to}")')
    if args.base_to:
        save_gpt2(unwrap(model), args.base_to)
        if args.base in base_names() and args.base != "symbols":  # a folder of the Hub brings its own
            load_tokens(args.base).save_folder(args.base_to, model.config.n_positions)
            write_licences(args.base_to)
        saved(args.base_to)
        print(f"the base is in {args.base_to}")


def check_places(args):
    """All that can be said of the folders before one is written."""
    need("safetensors.numpy")
    check_folder(args.to, TENSORS, MARK)
    if os.path.lexists(os.path.join(args.to, "config.json")):
        raise FileError(
            f"{args.to} holds a model, too, which transformers would load with the adapter on: choose another"
        )
    if args.base_to is None:
        return
    check_folder(args.base_to, "model.safetensors", MARK)
    if os.path.lexists(os.path.join(args.base_to, CONFIG)):
        raise FileError(
            f"{args.base_to} holds an adapter, which transformers would load with the model: choose another"
        )
    if os.path.isdir(args.base_to):
        check_place(os.path.join(args.base_to, LICENCES), "list of licences", NOTICES)
    if os.path.realpath(args.to) == os.path.realpath(args.base_to):
        raise FileError(
            "--to and --base-to must be different folders: transformers would load the base with the adapter on"
        )
