"""A table that prints itself: plain text, so that a page, a terminal and `pytest --nbval` all see the same."""

import textwrap


class Table:
    """columns: their names.  rows: a tuple of values each.  As the last line of a cell it prints itself, in columns.

    formats: {column: format such as ".1%", or a function of a value}; numbers without one are written with three digits.
    widths: {column: the most characters a line}; longer text is wrapped, and the lines of a text stay lines.
    title, note: a line above, a line below.  table.column(name) is a list of the values.

    Raises: ValueError for a row that does not have a value for each column
    """

    def __init__(self, columns, rows, title="", note="", formats=None, widths=None):
        self.columns, self.rows = list(columns), [tuple(row) for row in rows]
        self.title, self.note, self.formats, self.widths = title, note, formats or {}, widths or {}
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row needs {len(self.columns)} values, {', '.join(self.columns)}; not {row!r:.80}")

    def column(self, name):
        """The values of one column.  Raises: KeyError that lists the columns"""
        if name not in self.columns:
            raise KeyError(f"there is no column {name!r}; there are: {', '.join(self.columns)}")
        return [row[self.columns.index(name)] for row in self.rows]

    def __len__(self):
        return len(self.rows)

    def __repr__(self):
        cells = [[self.lines(n, v) for n, v in zip(self.columns, row, strict=True)] for row in self.rows]
        heads = [str(name).split("\n") for name in self.columns]
        widths = [max(len(line) for cell in column for line in cell) for column in zip(heads, *cells, strict=True)]
        right = [bool(self.rows) and all(is_number(v) or v is None for v in self.column(n)) for n in self.columns]
        room = any(len(cell) > 1 for row in cells for cell in row)  # rows of several lines need air between them
        body = [print_row(row, widths, right) for row in cells]
        parts = [print_row(heads, widths, right), "  ".join("─" * width for width in widths)]
        parts.append(("\n\n" if room else "\n").join(body))
        note = f"\n{self.note}" if self.note and room else self.note
        return "\n".join(filter(None, [self.title, *parts, note]))

    def lines(self, name, value):
        """A value as the lines of its cell."""
        text = written(value, self.formats.get(name))
        width = self.widths.get(name)
        lines = [piece for line in text.split("\n") for piece in wrapped(line, width)]
        return lines or [""]


def wrapped(line, width):
    return textwrap.wrap(line, width, replace_whitespace=False, break_on_hyphens=False) or [""] if width else [line]


def is_number(value):
    return not isinstance(value, bool) and hasattr(value, "__float__") and not getattr(value, "shape", ())


def written(value, form=None):
    """A value as text: by its format; a number with three digits, None as a dash, anything else as it prints."""
    if value is None:
        return "–"
    if callable(form):
        return form(value)
    if form is not None and is_number(value):
        return "wrecked" if value != value else format(value, form)
    if isinstance(value, bool) or not is_number(value):
        return str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{float(value):.3g}"


def print_row(cells, widths, right):
    """One row, which may be several lines high."""
    height, lines = max(len(cell) for cell in cells), []
    for i in range(height):
        pieces = [cell[i] if i < len(cell) else "" for cell in cells]
        aligned = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(pieces, widths, right, strict=True)]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def below(number, limit=1e-10):
    """A difference that is nothing but rounding, in words, "below 1e-10"; any other with three digits."""
    return f"below {limit:.0e}".replace("e-0", "e-") if number < limit else f"{number:.3g}"
