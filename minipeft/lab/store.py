"""The file of a sweep: what is done, run by run, so that a long sweep can be stopped and taken up again."""

import hashlib
import inspect
import json
import re
from pathlib import Path

FILE = "minipeft sweep"


class Store:
    """What is done, in a file: a header that names the function, then a line of JSON for each run.

    A last line that was cut short, since somebody pulled the plug, is cut off and computed again.
    """

    def __init__(self, path, function, names, keys):
        self.path, self.found = Path(path), {}
        if nameless := [key for key in keys if " at 0x" in key]:
            raise ValueError(f"{nameless[0]} has no name that a file can hold: label it, {{name: {{label: value}}}}")
        header = {"kind": FILE, "function": function_name(function), "source": digest(function), "names": names}
        head = json.dumps(header, ensure_ascii=False)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        if "\n" not in text:
            if not head.startswith(text):
                raise ValueError(f"{path} is not a file of a sweep: choose another name")
            self.path.write_text(head + "\n", encoding="utf-8")
            return
        whole, _, torn = text.rpartition("\n")
        if torn:
            self.path.write_text(whole + "\n", encoding="utf-8")
        lines = whole.split("\n")
        check_header(path, parsed(path, 1, lines[0]), header)
        known = set(keys)
        for number, line in enumerate(lines[1:], 2):
            entry = parsed(path, number, line)
            key = entry.get("run") if isinstance(entry, dict) else None
            if key not in known:
                raise ValueError(
                    f"{path}, line {number}: {key} is no point of this grid. The file belongs to another one: "
                    f"name another file, or delete it"
                )
            self.found[key] = entry["values"]

    def write(self, key, values):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": key, "values": values}, ensure_ascii=False) + "\n")


def parsed(path, number, line):
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not a line of a sweep ({error.msg}): delete the file") from error


def check_header(path, found, wanted):
    """Raises: ValueError if the file is of another kind, or of another function"""
    if not isinstance(found, dict) or found.get("kind") != FILE:
        raise ValueError(f"{path} is not a file of a sweep: choose another name")
    for what in ("function", "names"):
        if found.get(what) != wanted[what]:
            raise ValueError(
                f"{path} holds another sweep: its {what} is {found.get(what)}, not {wanted[what]}. "
                f"Name another file, or delete it"
            )
    if found.get("source") != wanted["source"]:
        raise ValueError(
            f"{path} was written by another version of {wanted['function']}: the source has changed since. Its numbers "
            f"may not be those of the function as it is now. Name another file, or delete it"
        )


def function_name(function):
    return getattr(function, "__qualname__", None) or re.sub(r" at 0x\w+", "", repr(function))


def digest(function):
    """A digest of the source of a function (not of what it calls); None where there is no source."""
    try:
        source = inspect.getsource(inspect.unwrap(getattr(function, "func", function)))
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()[:16]
