"""A bar that shows how far a run is, where somebody can see it."""

import sys
from contextlib import contextmanager


@contextmanager
def progress_bar(total, done, label, shown=True):
    """with progress_bar(...) as advance: advance(loss), or advance(), after each step.

    The bar is for the eye alone: where standard error is closed, full, or gone, it stops, and the work goes on.
    """
    bar = open_bar(total, done, label) if shown and sys.stderr is not None else None

    def advance(loss=None):
        nonlocal bar
        if bar is not None:
            try:
                if loss is not None:
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
            except (OSError, ValueError):  # a broken pipe, a full device, a closed file
                bar = give_up(bar)

    try:
        yield advance
    finally:
        if bar is not None:
            try:
                bar.close()
            except (OSError, ValueError):
                give_up(bar)


def open_bar(total, done, label):
    from tqdm import tqdm

    try:
        return tqdm(total=total, initial=done, desc=label, mininterval=0.5)
    except (OSError, ValueError):
        return None


def give_up(bar):
    bar.disable = True  # or it would try once more when it is deleted
