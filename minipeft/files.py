"""Files that are written whole or not at all; arrays in them: npz without pickle, a JSON header inside."""

import json
import os
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

DAMAGE = (  # what zipfile, NumPy and json raise on a file that something happened to
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError,
    RuntimeError, OverflowError, MemoryError, SyntaxError,
)  # fmt: skip


class FileError(ValueError):
    """A file that cannot be used, and why."""


def check_place(path):
    """The Path of a file that can be written; ask before the work begins that would be lost.

    Raises: FileError if it is a folder, or there is no folder to hold it, or none that may be written to
    """
    path = Path(path)
    folder = path.absolute().parent
    if path.is_dir():
        raise FileError(f"{path} is a folder; a file is to be written")
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder} to write {path.name} to")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{folder} may not be written to: choose another folder for {path.name}")
    return path


@contextmanager
def replacing(path):
    """A file to write bytes to; it takes the place of `path` when all of it is safely on the disk, or never."""
    path = check_place(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_npz(path, header, arrays):
    """Write {name: array} and a JSON-able header; the old file stays until the new one is safely on the disk."""
    text = np.frombuffer(json.dumps(header, default=np.generic.item).encode(), np.uint8)
    with replacing(path) as file:
        np.savez(file, header=text, **arrays)


def read_npz(path, kind):
    """(header, {name: array}) of a file that write_npz wrote with header["kind"] == kind.

    Raises: FileNotFoundError; FileError if the file is not such an npz, is damaged, or holds another kind of thing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileError(f"{path} is not a file")
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
        header = json.loads(arrays.pop("header").tobytes())
        found = header["kind"]
    except DAMAGE as error:
        raise FileError(
            f"{path} is not a readable minipeft {kind}: it is damaged, cut short, or something else"
        ) from error
    if found != kind:
        raise FileError(f"{path} holds a minipeft {found}; what is needed is a minipeft {kind}")
    return header, arrays
