"""The last resort for work that could not be saved where it was to be: another folder."""

import itertools
import os
import tempfile
from pathlib import Path

from ..files import FileError, NotWritten


def rescue(error):
    """Write elsewhere what could not be written, and say where, as the end of a sentence."""
    if error.again is None:
        return ""
    other = save_elsewhere(error.path, error.again)
    return f"; it is in {other} instead" if other else f", nor in any of {', '.join(map(str, folders(error.path)))}"


def save_elsewhere(path, write):
    """Where `write` could write what was to be in `path`; None if nowhere."""
    for folder in folders(path):
        place = free(folder / path.name)
        try:
            write(place)
        except (NotWritten, FileError):
            continue
        return place
    return None


def folders(path):
    """The working folder, that for temporary files, and the user's own; not the one that has just failed."""
    found = [os.getcwd, tempfile.gettempdir, Path.home]
    places = []
    for find in found:
        try:
            places.append(Path(find()).resolve())
        except (OSError, RuntimeError):  # a working folder that was deleted, a user without a home
            continue
    return [place for place in dict.fromkeys(places) if place != path.resolve().parent]


def free(path):
    """The path; where that is taken NAME-2, NAME-3 and so on, what nothing has yet."""
    path = Path(path)
    others = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(2))
    return next(place for place in itertools.chain([path], others) if not os.path.lexists(place))
