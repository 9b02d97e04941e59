"""The methods in Markdown, from what they say of themselves: README holds them at a glance, docs/design.md their table."""

import inspect
import re

from ..methods import METHODS

END = "<!-- end of the table -->"


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


def methods_at_a_glance():
    """All names on the command line, each a link to its source, by how it starts and whether it merges."""

    def names(start, merges):
        found = [n for n, m in METHODS.items() if (m.identity_at_init, m.merges) == (start, merges)]
        return ", ".join(
            f"[{name}]({inspect.getmodule(METHODS[name]).__name__.replace('.', '/')}.py)" for name in found
        )

    rows = ["| starts | can be folded into W | cannot |", "|---|---|---|"]
    for start, says in ((True, "as the base"), (False, "elsewhere")):
        rows.append(f"| {says} | {names(start, True)} | {names(start, False)} |")
    return "\n".join(rows)


def sentence(method):
    """The first sentence of a class docstring."""
    text = " ".join(inspect.getdoc(method).split("\n\n")[0].split())
    return re.split(r"(?<!\.)[.;](?!\.)(?:\s|$)", text)[0]


def trains(method):
    """The formula of the line `Trains:`, for the default settings."""
    text = re.split(r"\n\s*\n|\n[A-Z][\w ]*:", inspect.getdoc(method).split("Trains:")[1])[0]
    return re.split(r"[;.]", " ".join(text.split()))[0]


MADE = {  # by the line that stands before it
    f"<!-- {what}, made by tests/tools/make_tables.py -->": made
    for what, made in (("the table of METHODS", methods_table), ("METHODS at a glance", methods_at_a_glance))
}


def with_table(page):
    """A page with the table between its marks made anew.  Raises: ValueError where it has no marks"""
    begins = [begin for begin in MADE if begin in page]
    if len(begins) != 1 or page.count(begins[0]) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs one of the lines {' and '.join(MADE)}, and {END}, once each")
    (begin,) = begins
    before, rest = page.split(begin)
    _, after = rest.split(END)
    return f"{before}{begin}\n\n{MADE[begin]()}\n\n{END}{after}"
