"""Files that are written whole or not at all; arrays in them: npz without pickle, a JSON header inside; and JSON files."""

import json
import os
import shutil
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import numpy as np

from .parts import PART, part_of, remove_stale_parts

DAMAGE = (  # what zipfile, NumPy and json raise on a file that something happened to
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError,
    RuntimeError, OverflowError, MemoryError, SyntaxError, TokenError,
)  # fmt: skip
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OF_PEFT = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


class FileError(ValueError):
    """A file that cannot be used, and why."""

    path = again = None  # see NotWritten: where there was something to write, it is not lost with this error either


class NotWritten(OSError):
    """A file that could not be written: no space, no right; in the words of the system.

    path: the file.  again: a function that writes the same to another path, once somebody who knows one has set it.
    """

    again = None

    def __init__(self, path, error):
        super().__init__(f"{path} could not be written: {error.strerror or error}")
        self.path, self.errno = Path(path), error.errno


def check_readable(path):
    """The Path of a file that can be opened and holds what its name says.

    Raises: FileNotFoundError; FileError that says why not: it is a folder (and of which kind), the system does not let it
    be read (and in which words), or Git LFS has left a pointer in its place
    """
    path = Path(path)
    with reading(path):
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which is not there")
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        if not path.is_file():
            raise FileError(f"{path} is not a file{' but a folder' if path.is_dir() else ''}{foreign(path)}")
        with open(path, "rb") as file:
            start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise FileError(
            f"{path} is a Git LFS pointer, not the file itself: `git lfs pull` in its repository gets the file"
        )
    return path


@contextmanager
def reading(path):
    """What the system says while the block reads the file becomes a FileError with its words; the rest passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def foreign(path):
    """What to do with a file or folder that other libraries read, as the end of a sentence; or nothing."""
    folder = path if path.is_dir() else path.parent
    if (folder / "adapter_config.json").is_file() and (path == folder or path.name in OF_PEFT):
        return f", saved by Hugging Face peft: `minipeft import {folder}` makes an adapter file of it"
    if (folder / "config.json").is_file() and (path == folder or path.suffix == ".safetensors"):
        return f", a model of Hugging Face transformers: it is a base, `--base {folder}`"
    return ""


def check_place(path, kind=None, mark=None):
    """The Path of a file that can be written; ask before the work begins that would be lost.

    A file that exists is written over only if it is of the same kind: an npz of minipeft whose header says `kind`, or,
    with `mark`, a file that has these bytes near its beginning or end.  An empty file is no loss.  Without kind and mark any
    file may be written over.  A link stands for the file that it leads to.

    Raises: FileError if it is a folder or a device, or exists and is something else; if there is no folder to hold it,
    or none that may be written to
    """
    path = Path(path)
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise FileError(f"{path} is a folder; a file is to be written")
    if path.exists() and not path.is_file():
        raise FileError(f"{path} is a device or a pipe; a file is to be written")
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder} to write {path.name} to")
    try_to_write(folder, path.name)
    if not path.exists():
        return path
    if not os.access(path, os.W_OK):
        raise FileError(f"{path} may not be written to: it is write-protected; choose another name")
    if (kind or mark) and path.stat().st_size and not is_kind(path, kind, mark):
        raise FileError(
            f"{path} exists and is not a minipeft {kind}, so nothing is written over it: choose another name, or move "
            "that file away"
        )
    return path


def check_folder(path, name, mark):
    """The Path of a folder that can be written to: a new one, an empty one, or one that was written here before.

    That it was is seen by its file `name`, which then has the bytes `mark` near its beginning.

    Raises: FileError if it is a file, holds anything else, or may not be written to
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; a folder is written here")
    if folder.is_dir():
        others = [other for other in os.listdir(folder) if not PART.fullmatch(other)]
        if others and not ((folder / name).is_file() and is_kind(folder / name, None, mark)):
            raise FileError(
                f"the folder {folder} is not empty, and was not written by this command, so nothing is written to it: "
                "choose another name, or move that folder away"
            )
    while not folder.exists():
        folder = folder.absolute().parent
    if not folder.is_dir():
        raise FileError(f"{folder} is a file; no folder {path} can be made in it")
    try_to_write(folder, Path(path).name)
    return Path(path)


END = 1 << 16  # bytes at the beginning and at the end of a file, where a mark is looked for


def is_kind(path, kind, mark):
    """Whether a file is a minipeft `kind`; or, with mark, has these bytes near its beginning or its end."""
    try:
        if mark:
            with open(path, "rb") as file:
                beginning = file.read(END)
                file.seek(max(0, os.path.getsize(path) - END))
                return mark in beginning or mark in file.read(END)
        with zipfile.ZipFile(path) as npz, npz.open("header.npy") as file:
            return json.loads(np.lib.format.read_array(file, allow_pickle=False).tobytes())["kind"] == kind
    except DAMAGE:
        return False


def try_to_write(folder, name):
    """Make a file in the folder and take it away again: what the system allows is known only by trying.

    Raises: FileError
    """
    if not os.access(folder, os.W_OK):
        raise FileError(f"{folder} may not be written to: choose another folder for {name}")
    part = part_of(folder / name)
    try:
        with open(part, "xb"):
            pass
        part.unlink()
    except OSError as error:
        raise FileError(
            f"{folder} may not be written to ({error.strerror}): choose another folder for {name}"
        ) from error


@contextmanager
def replacing(path, kind=None, mark=None):
    """A file to write bytes to; it takes the place of `path` when all of it is safely on the disk, or never.

    Raises: what check_place raises; NotWritten
    """
    path = check_place(path, kind, mark)
    place = Path(os.path.realpath(path))
    part = part_of(place)
    remove_stale_parts(place)
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            shutil.copymode(place, part)
        os.replace(part, place)
    except OSError as error:
        raise NotWritten(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_npz(path, header, arrays):
    """Write {name: array} and a JSON-able header; the old file stays until the new one is safely on the disk.

    Raises: what check_place raises, and NotWritten: both still hold what was to be written
    """
    text = np.frombuffer(json.dumps(header, default=np.generic.item).encode(), np.uint8)
    try:
        with replacing(path, header.get("kind")) as file:
            savez(file, header=text, **arrays)
    except (FileError, NotWritten) as error:
        error.path, error.again = Path(path), lambda other: write_npz(other, header, arrays)
        raise


def savez(file, **arrays):
    """As np.savez, which before NumPy 2 leaves the archive open where writing fails: its end is then tried once more."""
    with zipfile.ZipFile(file, "w") as npz:
        for name, array in arrays.items():
            with npz.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def read_npz(path, kind):
    """(header, {name: array}) of a file that write_npz wrote with header["kind"] == kind.

    Raises: FileNotFoundError; FileError if the file cannot be read, is not such an npz, is damaged, or holds another kind
    of thing.
    """
    path = check_readable(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as npz:  # np.load leaves a damaged one open
            arrays = {name: npz[name] for name in npz.files}
        header = json.loads(arrays.pop("header").tobytes())
        found = header["kind"]
    except DAMAGE as error:
        with reading(path), open(path, "rb") as file:  # zipfile hides what the system says: is it the disk?
            while file.read(1 << 20):
                pass
        what = foreign(path) or ": it is damaged, cut short, or something else"
        if isinstance(error, MemoryError):
            what = f": there is not the memory that it asks for, or it is damaged ({error})"
        raise FileError(f"{path} is not a readable minipeft {kind}{what}") from error
    if found != kind:
        raise FileError(f"{path} holds a minipeft {found}; what is needed is a minipeft {kind}")
    return header, arrays


def read_json(path):
    """The object in a JSON file.  Raises: FileNotFoundError; FileError if it cannot be read, is no JSON, or no object."""
    path = check_readable(path)
    with reading(path):
        return parse_json(path, path.read_bytes())


def parse_json(what, text):
    """The object in a text.  Raises: FileError, also where a name stands twice: Python would take the last in silence."""

    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise FileError(f"{what}: the name {next(n for n in found if names.count(n) > 1)!r} stands twice")
        return found

    try:
        found = json.loads(text.decode(), object_pairs_hook=unique)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{what} is not JSON: it is damaged, cut short, or something else ({error})") from error
    if not isinstance(found, dict):
        raise FileError(f"{what} is a {type(found).__name__}, where an object of names and values is needed")
    return found
