"""Arrays in safetensors files: a header that is checked line by line, and numbers that are read a few rows at a time.

    8 bytes: the length n of the header, little-endian
    n bytes: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}, JSON
    the numbers, each array from begin to end after the header, side by side without a gap

Reading needs NumPy alone; writing goes through the safetensors library.
"""

import json
import math
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from ..files import FileError, NotWritten, check_place
from ..parts import part_of, sweep

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST_HEADER = 100_000_000  # the format's own limit
BLOCK = 1 << 20  # numbers that are read at a time
METADATA = {"format": "pt", "writer": "minipeft"}  # without the first transformers refuses a file
MARK = b'"writer":"minipeft"'  # so it stands in the header, and says that a folder was written here


def need(library):
    """Import a library of the extra `hf`.  Raises: ImportError that says how to install it."""
    try:
        return import_module(library)
    except ImportError as error:
        name = library.split(".")[0]
        raise ImportError(f'this needs {name}, which is not installed: pip install "minipeft[hf]"') from error


@dataclass(frozen=True)
class Tensor:
    """One array of a file: what it is and where it lies.  Its numbers are read when they are asked for."""

    path: Path
    name: str
    dtype: str
    shape: tuple
    offset: int

    def blocks(self):
        """(rows, numbers) from the first row to the last, about BLOCK numbers at a time.

        Each block is mapped into memory by itself and let go again: pages of a map that stays open would count beside
        the weights that they were copied to.

        Raises: FileError for integers, or an array without numbers
        """
        if self.dtype not in FLOATS or 0 in self.shape:
            raise FileError(f"{self.path}: {self.name} {self.shape} of {self.dtype} holds no floating-point numbers")
        dtype, n = np.dtype(DTYPES[self.dtype]), self.shape[0] if len(self.shape) > 1 else 1
        width = math.prod(self.shape) // n
        step = max(1, BLOCK // width)
        for start in range(0, n, step):
            count, at = min(step, n - start), self.offset + start * width * dtype.itemsize
            block = np.memmap(self.path, dtype, "r", at, (count * width,)).view(np.ndarray)
            if self.dtype == "BF16":  # the upper half of a float32
                block = (block.astype("<u4") << 16).view("<f4")
            if len(self.shape) > 1:
                yield slice(start, start + count), block.reshape(count, *self.shape[1:])
            else:
                yield ..., block.reshape(self.shape)

    def copy_to(self, *parts):
        """Write the numbers into arrays, which take the columns side by side.  Raises: FileError for NaN and infinity."""
        for rows, block in self.blocks():
            for part, piece in zip(parts, np.split(block, len(parts), axis=-1) if block.ndim else [block], strict=True):
                with np.errstate(over="ignore"):
                    part[rows] = piece
                if not np.isfinite(part[rows]).all():
                    too_large = f"numbers beyond {part.dtype}" if np.isfinite(piece).all() else "infinity"
                    what = "NaN" if np.isnan(piece).any() else too_large
                    raise FileError(f"{self.path}: {self.name} holds {what}; only finite numbers can be computed with")

    def read(self, dtype="float64"):
        """The whole array, in a dtype of choice."""
        array = np.empty(self.shape, dtype)
        self.copy_to(array)
        return array


def read_json(path):
    """The object in a JSON file.  Raises: FileNotFoundError; FileError if it is no JSON, or no object."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON: it is damaged or cut short ({error})") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} holds a {type(found).__name__}, where an object of names and values is needed")
    return found


def read_tensors(path):
    """{name: Tensor} of a safetensors file; only the header is read.

    Raises: FileNotFoundError; FileError that says what is wrong with the header
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        n = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise FileError(f"{path} is cut short: {size} bytes, where the length of the header alone takes 8")
        if n > LONGEST_HEADER:
            raise FileError(f"{path} claims a header of {n} bytes, more than the format allows: this is no safetensors")
        if n > size - 8:
            raise FileError(f"{path} is cut short inside its header: {n} bytes announced, {size - 8} there")
        header = parse_header(path, file.read(n))
    tensors = [check_entry(path, name, entry, 8 + n) for name, entry in header.items()]
    check_places(path, tensors, 8 + n, size)
    return {tensor.name: tensor for tensor in tensors}


def parse_header(path, text):
    """The header as a dict, without its metadata."""

    def unique(pairs):
        if len(found := dict(pairs)) < len(pairs):
            raise FileError(f"{path}: a name stands twice in the header")
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: the header is not JSON, so it is damaged or no safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise FileError(f"{path}: the header is a {type(header).__name__}, not an object of names")
    header.pop("__metadata__", None)
    return header


def check_entry(path, name, entry, start):
    """A line of the header as a Tensor; `start` is where the numbers begin."""

    def whole(numbers):
        return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)

    try:
        dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = whole(shape) and whole(places) and len(places) == 2
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise FileError(f"{path}: the header's entry for {name} has no sound dtype, shape and data_offsets: {entry}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileError(f"{path}: {name} is of dtype {dtype}, which is unknown here; known: {', '.join(DTYPES)}")
    nbytes = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if places[1] - places[0] != nbytes:
        raise FileError(
            f"{path}: {name} {tuple(shape)} of {dtype} takes {nbytes} bytes, but its data_offsets are {places}"
        )
    return Tensor(path, name, dtype, tuple(shape), start + places[0])


def check_places(path, tensors, start, size):
    """The arrays must lie side by side from the header to the end of the file."""
    at, before = start, "the header"
    for tensor in sorted(tensors, key=lambda t: (t.offset, math.prod(t.shape))):
        if tensor.offset != at:
            what = "overlaps" if tensor.offset < at else "leaves a gap after"
            raise FileError(f"{path}: {tensor.name} {what} {before}: the data_offsets are damaged")
        at += math.prod(tensor.shape) * np.dtype(DTYPES[tensor.dtype]).itemsize
        before = tensor.name
    if at > size:
        raise FileError(f"{path} is cut short: its arrays end at byte {at}, the file at byte {size}")
    if at < size:
        raise FileError(f"{path} has {size - at} bytes after its last array, which belong to nothing")


def write_folder(folder, config_name, config, tensors_name, arrays):
    """Write a JSON file and a safetensors file side by side, whole or not at all.

    Both are on the disk under other names before either appears, and an old config goes first: a folder that was left
    half-way has no config, and nothing loads it by mistake.

    Raises: FileError if the path is a file, or nothing can be written there; ImportError without safetensors
    """
    library, folder = need("safetensors.numpy"), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; a folder is written here")
    folder.mkdir(parents=True, exist_ok=True)
    check_place(folder / config_name)
    parts = [part_of(folder / name) for name in (config_name, tensors_name)]
    sweep(folder / tensors_name)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        parts[0].write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        library.save_file(arrays, parts[1], metadata=METADATA)
        parts[1].chmod(parts[0].stat().st_mode)  # the library lets nobody else read it
        for part in parts:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        (folder / config_name).unlink(missing_ok=True)
        os.replace(parts[1], folder / tensors_name)
        os.replace(parts[0], folder / config_name)
    except OSError as error:
        raise NotWritten(folder, error) from error
    except need("safetensors").SafetensorError as error:  # the library's own class holds the system's words
        raise NotWritten(folder, OSError(str(error))) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
