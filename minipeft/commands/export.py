"""Write an adapter as a folder that Hugging Face peft loads; with --base-to, its base as one that transformers loads."""

from ..interop import export_peft, save_gpt2
from ..methods import load_adapter
from ..training import base_names
from .text import BASE, open_model


def add_arguments(parser):
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help="an adapter that finetune or save_adapter wrote")
    add("--to", required=True, metavar="DIR", help="the folder to write")
    add("--base", default="english", help=f"what the adapter was trained on: {BASE} (default: english)")
    add("--base-to", metavar="DIR", help="write the base, too, as a folder for transformers")


def run(args):
    model, base_name = open_model(args.base), args.base_to
    if not base_name and args.base not in base_names():
        base_name = args.base
    if args.base_to:
        save_gpt2(model, args.base_to)
        print(f"the base is in {args.base_to}")
    load_adapter(model, args.adapter)
    export_peft(model, args.to, base_name)
    print(f'the adapter is in {args.to}; in peft: PeftModel.from_pretrained(base, "{args.to}")')
