"""The table of all methods, in Markdown, from what the methods say of themselves: README and docs hold it between marks."""

import inspect
import re

from ..methods import METHODS

BEGIN, END = "<!-- the table of METHODS, made by tests/tools/make_tables.py -->", "<!-- end of the table -->"


def methods_table():
    """One row a method: its name on the command line, its class, what it is, what it trains, whether it merges."""
    rows = [
        "| `--method` | class | what it is | it trains | at the start | merges |",
        "|---|---|---|---|---|---|",
    ]
    for name, method in METHODS.items():
        start = "the base" if method.identity_at_init else "not the base"
        merges = "yes" if method.merges else "no"
        rows.append(f"| {name} | `{method.__name__}` | {sentence(method)} | {trains(method)} | {start} | {merges} |")
    return "\n".join(rows)


def sentence(method):
    """The first sentence of a class docstring."""
    text = " ".join(inspect.getdoc(method).split("\n\n")[0].split())
    return re.split(r"(?<!\.)[.;](?!\.)(?:\s|$)", text)[0]


def trains(method):
    """The formula of the line `Trains:`, for the default settings."""
    text = re.split(r"\n\s*\n|\n[A-Z][\w ]*:", inspect.getdoc(method).split("Trains:")[1])[0]
    return re.split(r"[;.]", " ".join(text.split()))[0]


def with_table(page):
    """A page with the table between its marks made anew.  Raises: ValueError where it has no marks"""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs the lines {BEGIN} and {END} once each")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{methods_table()}\n\n{END}{after}"
