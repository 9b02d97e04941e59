"""Make a base model that comes with the package again, from a seed: NAME.npz, its card NAME.md and, for text, NAME.json,
its tokens, and LICENSES.md, the licences of the text.

They are written over only if they are a base, a card, a tokenizer and a list of licences of this command.  All are
written at the end: stopped before, the command leaves nothing but --checkpoint, from which the same command goes on.  If
the base cannot be written (a full disk), it goes to another folder, and the last line says where.
"""

import signal
from pathlib import Path

from ..files import FileError, NotWritten, check_place
from ..training.bases import base_names, places, pretrain
from .output import saved
from .settings import add_workers, at_least
from .signals import Stopped


def add_arguments(parser):
    add = parser.add_argument
    add("name", choices=base_names(), help="which base")
    add("--to", default=".", metavar="DIR", help="folder to write to (default: this one)")
    add("--steps", type=at_least(1), help="training steps (default: as shipped)")
    add("--seed", type=at_least(0), default=0, help="of the weights and the batches (default: 0)")
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the state of the run here every 500 steps, and go on from it if it is there",
    )
    add_workers(parser, "as the shipped base was made")


def run(args):
    files = places(args.name, args.to)
    for path, kind, mark in files:
        check_place(path, kind, mark)
    base = files[0][0]
    try:
        text = pretrain(args.name, args.to, args.steps, args.seed, workers=args.workers, checkpoint=args.checkpoint)
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        kept = args.checkpoint is not None and Path(args.checkpoint).exists()
        left = (
            f"the same command goes on from {args.checkpoint}"
            if kept
            else "nothing was written, which is done at the end only"
        )
        raise Stopped(signum, left) from error
    except (FileError, NotWritten) as error:
        if error.path not in [
            path for path, _, _ in files[1:]
        ]:  # of the base or the checkpoint, which main saves elsewhere
            raise
        saved(base)
        raise OSError(str(error)) from error
    for path, _, _ in files:
        saved(path)
    print(text)
    print(f"Written to {', '.join(str(path) for path, _, _ in files)}.")
