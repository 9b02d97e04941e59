"""Make a base model that comes with the package again, from a seed: NAME.npz and its card NAME.md.

They are written over only if they are a base and a card.  Both are written at the end: stopped before, the command leaves
nothing.  If the base cannot be written (a full disk), it goes to another folder, and the last line says where.
"""

import signal
from pathlib import Path

from ..files import FileError, NotWritten, check_place
from ..training.bases import base_names, pretrain
from .output import saved
from .settings import add_workers, at_least
from .signals import Stopped

CARD = b"# The base model `"  # how every card begins


def add_arguments(parser):
    parser.add_argument("name", choices=base_names(), help="which base")
    parser.add_argument("--to", default=".", metavar="DIR", help="folder to write to (default: this one)")
    parser.add_argument("--steps", type=at_least(1), help="training steps (default: as shipped)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the weights and the batches (default: 0)")
    add_workers(parser)


def run(args):
    base, card = (Path(args.to) / f"{args.name}.{suffix}" for suffix in ("npz", "md"))
    check_place(base, "base")
    check_place(card, "card of a base", CARD)
    try:
        text = pretrain(args.name, Path(args.to), args.steps, args.seed, workers=args.workers)
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        raise Stopped(signum, "nothing was written, which is done at the end only") from error
    except (FileError, NotWritten) as error:
        if error.path != card:  # of the base, which main saves elsewhere
            raise
        saved(base)
        raise OSError(str(error)) from error
    saved(base)
    saved(card)
    print(text)
    print(f"Written to {base} and {card}.")
