"""Make a base model that comes with the package again, from a seed: NAME.npz and its card NAME.md."""

from pathlib import Path

from ..training.bases import base_names, pretrain
from .text import at_least


def add_arguments(parser):
    parser.add_argument("name", choices=base_names(), help="which base")
    parser.add_argument("--to", default=".", metavar="DIR", help="folder to write to (default: this one)")
    parser.add_argument("--steps", type=at_least(1), help="training steps (default: as shipped)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the weights and the batches (default: 0)")


def run(args):
    folder = Path(args.to)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    print(pretrain(args.name, folder, args.steps, args.seed))
    print(f"Written to {folder / args.name}.npz and {folder / args.name}.md.")
