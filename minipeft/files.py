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
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OF_PEFT = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


class FileError(ValueError):
    """A file that cannot be used, and why."""


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
