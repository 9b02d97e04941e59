"""Boxes for single things: a layer, a thin matrix, a vector that scales, rows that stand before others."""

from .shapes import FROZEN, PALE, TRAINED, Piece, ink_on, mixed, width

HATCH, SHADE = "/////", "#bdbdbd"  # of what is stored otherwise, or shared


def dims(parameter):
    """96 × 8"""
    return " × ".join(f"{n}" for n in parameter.data.shape)


class Boxes:
    """The boxes of one model.  small: names alone, no sizes.  amounts: {id(parameter): (share, text)}."""

    def __init__(self, model, small=False, amounts=None):
        self.paths = {id(p): path for path, p in model.named_parameters()}
        self.small, self.amounts = small, amounts or {}

    def trained(self, parameters):
        return [p for p in parameters if p.requires_grad]

    def face(self, parameters):
        """Grey if nothing is trained; otherwise blue, or as dark as the change is large."""
        hot = self.trained(parameters)
        if not hot or not self.amounts:
            return TRAINED if hot else FROZEN
        return mixed(self.amounts[id(hot[0])][0])

    def gid(self, parameters):
        return [self.paths[id(p)] for p in self.trained(parameters)]

    def size(self, *parameters):
        """What stands under the name of something trained: its shapes, or by how much it changed."""
        known = [self.amounts[id(p)][1] for p in parameters if id(p) in self.amounts]
        return known[0] if known else " + ".join(dims(p) for p in parameters)

    def part(self, name, parameters, hatched=None, shape=(1, 1)):
        """A box for a layer; a few trained numbers of a frozen layer, its bias, say, are tiles at its side.

        shape: (d_in, d_out); the lower and the upper edge are drawn of different lengths where these differ.
        """
        hot = self.trained(parameters.values())
        whole = bool(hot) and len(hot) == len(parameters) and not hatched
        second = (hatched or (whole and self.size(*hot))) and not self.small
        chips = [] if whole else [(letter, p) for letter, p in parameters.items() if p.requires_grad]
        texts = [letter if self.small else f"{letter}  {self.size(p)}" for letter, p in chips]
        lines, body = [name, hatched or self.size(*hot)] if second else [name], 8 if self.small else 9
        chip_w = max((width(text, 7) for text in texts), default=-8) + 8
        name_w = max(width(line, 7 if i else body) for i, line in enumerate(lines)) + (20 if hatched else 12)
        slope = 0 if shape[0] == shape[1] else 8 if self.small else 11
        w = name_w + chip_w + 2 * slope
        h = max(13 if self.small else 17, 25 if second else 0, 11 * len(chips) + 4)
        face, middle = self.face(hot) if whole else FROZEN, slope + name_w / 2 if chips else w / 2

        def paint(pen, x, y):
            look = {"paths": self.gid(hot) if whole else (), "hatch": HATCH if hatched else None}
            if slope:
                low, high = (slope, 0) if shape[0] < shape[1] else (0, slope)
                corners = [(x + low, y), (x + w - low, y), (x + w - high, y + h), (x + high, y + h)]
                pen.polygon(corners, face, edge=SHADE if hatched else None, **look)
            else:
                pen.box(x, y, w, h, face, edge=SHADE if hatched else None, **look)
            two_lines(pen, x + middle, y + h / 2, lines, body, ink_on(face), FROZEN if hatched else None)
            for i, ((_, p), text) in enumerate(zip(chips, texts, strict=True)):
                step = (h - 4) / len(chips)
                low, color = y + h - 2 - (i + 1) * step, self.face([p])
                pen.tile(x + w - slope - chip_w - 1, low + 0.5, chip_w, step - 1, color, paths=self.gid([p]))
                pen.text(x + w - slope - chip_w / 2 - 1, low + step / 2, text, 7, ink_on(color), va="center_baseline")

        return Piece(w, h, w / 2, paint)

    def taper(self, name, parameters, wide_below, hatched=False, least=0):
        """A matrix that makes its input narrow (wide_below) or wide again: its edges are the widths of the two."""
        size, body = " + ".join(dims(p) for p in parameters), 8 if self.small else 9
        room = 0 if self.small else width(size, 7) + (16 if hatched else 8)
        fits = room / 0.78  # the size stands near the wide edge, where a taper is at least 0.78 as wide
        wide = max(22 if self.small else 42, fits, least)
        narrow, h = max(width(name, body) + 7, 0.42 * wide), 14 if self.small else 25
        wide, face = max(wide, narrow + 12), self.face(parameters)
        below, above = (wide, narrow) if wide_below else (narrow, wide)

        def paint(pen, x, y):
            mid = x + wide / 2
            corners = [(mid - below / 2, y), (mid + below / 2, y), (mid + above / 2, y + h), (mid - above / 2, y + h)]
            pen.polygon(corners, face, self.gid(parameters), *((HATCH, SHADE) if hatched else ()))
            ink, pad = ink_on(face), FROZEN if hatched else None
            if self.small:
                pen.text(mid, y + h / 2, name, body, ink, va="center_baseline", pad=pad)
            else:
                name_y, size_y = (0.68, 0.24) if wide_below else (0.30, 0.75)
                pen.text(mid, y + name_y * h, name, body, ink, va="center_baseline", pad=pad)
                pen.text(mid, y + size_y * h, size, 7, ink, va="center_baseline", pad=pad)

        return Piece(wide, h, wide / 2, paint)

    def scale(self, name, parameter, note=""):
        """A vector that multiplies what comes by, number by number: a diamond on the wire."""
        text = "" if self.small or note is None else f"{self.size(parameter)}{note}"
        r, face = 8.5 if self.small else 10, self.face([parameter])
        aside = width(text, 7) + 4 if text else 0

        def paint(pen, x, y):
            mid, level = x + r, y + r
            pen.polygon([(mid, y), (mid + r, level), (mid, y + 2 * r), (mid - r, level)], face, self.gid([parameter]))
            pen.text(mid, level, name, 7 if self.small else 8, ink_on(face), va="center_baseline")
            if text:
                pen.text(mid + r + 3, level, text, 7, TRAINED, ha="left", va="center_baseline")

        return Piece(2 * r + aside, 2 * r, r, paint)

    def note(self, node, named, does=""):
        """A box with a class's name and what it trains, for layers that are not the library's own."""
        hot = [(name, p) for name, p in named if p.requires_grad]
        lines = [type(node).__name__, does] if does else [type(node).__name__]
        texts = [self.size(p) for _, p in hot]
        if len(texts) > 1 and self.amounts and len(set(texts)) == 1:  # they change something together
            lines += texts[:1]
        elif not self.small:
            lines += [f"{name}  {text}" for (name, _), text in zip(hot, texts, strict=True)]
        face, body = self.face([p for _, p in hot]), 8 if self.small else 9
        w = max(width(line, 7 if i else body) for i, line in enumerate(lines)) + 12
        h = (13 if self.small else 17) + 10 * (len(lines) - 1)

        def paint(pen, x, y):
            pen.box(x, y, w, h, face, paths=self.gid([p for _, p in hot]))
            top = y + h - (6.5 if self.small else 8.5)
            for i, line in enumerate(lines):
                pen.text(x + w / 2, top - 10 * i, line, 7 if i else body, ink_on(face), va="center_baseline")

        return Piece(w, h, w / 2, paint)

    def said(self, text):
        """A word on the wire."""
        w = width(text, 7) + 4
        return Piece(w, 11, w / 2, lambda pen, x, y: pen.text(x + w / 2, y + 5.5, text, 7, TRAINED), bare=True)

    def cells(self, cells, tokens):
        """Rows one after the other, drawn side by side: (name, size, parameters, is it computed), then the tokens'."""
        h = 13 if self.small else 25
        widths = [max(width(name, 8), 0 if self.small else width(size, 7)) + 9 for name, size, *_ in cells]
        last = width(tokens, 9) + 12

        def paint(pen, x, y):
            for (name, size, parameters, computed), w in zip(cells, widths, strict=True):
                face = PALE if computed else self.face(parameters)
                pen.tile(x, y, w, h, face, TRAINED if computed else None, self.gid(parameters),
                         linestyle=(0, (3, 2)) if computed else "-")  # fmt: skip
                two_lines(pen, x + w / 2, y + h / 2, [name] if self.small else [name, size], 8, ink_on(face))
                x += w
            pen.tile(x, y, last, h)
            pen.text(x + last / 2, y + h / 2, tokens, 8 if self.small else 9, va="center_baseline")

        return Piece(sum(widths) + last, h, sum(widths) + last / 2, paint)


def two_lines(pen, x, y, lines, size, ink, pad=None):
    """A name, and what belongs to it in small letters below."""
    if len(lines) == 1:
        pen.text(x, y, lines[0], size, ink, va="center_baseline", pad=pad)
        return
    pen.text(x, y + 5, lines[0], size, ink, va="center_baseline", pad=pad)
    pen.text(x, y - 6, lines[1], 7, ink, va="center_baseline", pad=pad)
