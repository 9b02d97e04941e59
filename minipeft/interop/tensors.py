"""Arrays in safetensors files: a header that is checked line by line, and numbers that are read a few rows at a time.

    8 bytes: the length n of the header, little-endian
    n bytes: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}, JSON
    the numbers, each array from begin to end after the header, side by side without a gap

The safetensors library writes them.  They are read by hand: its NumPy side knows no bfloat16 without yet another library
(ml_dtypes), takes one of two arrays of the same name in silence, and does not name an array of the wrong length; and so
models and adapters can be read, looked at and imported with NumPy alone.
"""

import json
import math
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from ..files import FileError, NotWritten, check_place, check_readable, parse_json, reading
from ..parts import part_of, remove_stale_parts

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # others may stand in a file, and are not read
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
    end: int

    def blocks(self):
        """(rows, numbers) from the first row to the last, about BLOCK numbers at a time.

        Raises: FileError for integers, an array without numbers, or a file that cannot be read to the end
        """
        if self.dtype not in FLOATS or 0 in self.shape:
            raise FileError(
                f"{self.path}: {self.name} {self.shape} of {self.dtype} is not read: what is needed are "
                f"numbers of {', '.join(FLOATS)}"
            )
        dtype, n = np.dtype(FLOATS[self.dtype]), self.shape[0] if len(self.shape) > 1 else 1
        width = math.prod(self.shape) // n
        step = max(1, BLOCK // width)
        with open(self.path, "rb") as file:  # not mapped: pages of a map would count beside what is copied from them
            file.seek(self.offset)
            for start in range(0, n, step):
                count = min(step, n - start)
                block = np.empty(count * width, dtype)
                with reading(f"{self.path}: {self.name}"):
                    got = file.readinto(block)
                if got < block.nbytes:
                    raise FileError(f"{self.path} ends in {self.name}: it became shorter while it was read")
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


def read_tensors(path):
    """({name: Tensor}, {key: text}) of a safetensors file: its arrays and its metadata.  Only the header is read.

    Raises: FileNotFoundError; FileError that says what is wrong with the file or its header
    """
    path = check_readable(path)
    with reading(path), open(path, "rb") as file:
        size, n = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if n > size - 8 or size < 8:
            raise FileError(
                f"{path} is cut short, or no safetensors file: it has {size} bytes, where 8 and a header "
                f"of {n} are announced"
            )
        header = parse_json(f"{path}: the header", file.read(n))
    metadata, at = header.pop("__metadata__", None), 8 + n
    tensors = [check_entry(path, name, entry, at) for name, entry in header.items()]
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.end)):
        if tensor.offset != at:
            what = "overlaps what stands before it" if tensor.offset < at else "leaves a gap before it"
            raise FileError(f"{path}: {tensor.name} {what}: the data_offsets are damaged")
        at = tensor.end
    if at > size:
        raise FileError(f"{path} is cut short: its arrays end at byte {at}, the file at byte {size}")
    if at < size:
        raise FileError(f"{path} has {size - at} bytes after its last array, which belong to nothing")
    return {tensor.name: tensor for tensor in tensors}, metadata if isinstance(metadata, dict) else {}


def check_entry(path, name, entry, start):
    """A line of the header as a Tensor; `start` is where the numbers begin."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = isinstance(dtype, str) and isinstance(shape, list)
        sound = sound and all(type(n) is int and n >= 0 for n in [*shape, begin, end, end - begin])
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise FileError(f"{path}: the header's entry for {name} has no sound dtype, shape and data_offsets: {entry}")
    nbytes = math.prod(shape) * np.dtype(FLOATS[dtype]).itemsize if dtype in FLOATS else end - begin
    if end - begin != nbytes:
        raise FileError(
            f"{path}: {name} {tuple(shape)} of {dtype} takes {nbytes} bytes, but its data_offsets are [{begin}, {end}]"
        )
    return Tensor(path, name, dtype, tuple(shape), start + begin, start + end)


def write_folder(folder, config_name, config, tensors_name, arrays, metadata=None):
    """Write a JSON file and a safetensors file side by side, whole or not at all.

    Both are on the disk under other names before either appears, and an old config goes first: a folder that was left
    half-way has no config, and nothing loads it by mistake.

    Raises: FileError if the path is a file, or nothing may be written there; OSError with what the system says, such as a
    full disk; ImportError without safetensors
    """
    library, folder = need("safetensors.numpy"), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; a folder is written here")
    folder.mkdir(parents=True, exist_ok=True)
    check_place(folder / config_name)
    parts = [part_of(folder / name) for name in (config_name, tensors_name)]
    remove_stale_parts(folder / tensors_name)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        parts[0].write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        library.save_file(arrays, parts[1], metadata=METADATA | (metadata or {}))
        sort_metadata(parts[1])
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


def sort_metadata(path):
    """The library writes the metadata in an order of chance; sorted, the same arrays are the same file."""
    with open(path, "rb+") as file:
        n = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(n))
