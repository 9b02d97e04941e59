"""Boxes, wires and what they are put together to: drawing in points, so that text fits by measure and not by eye.

A Piece is drawn around a wire that goes up.  Pieces are put above each other, beside each other and around a detour, and
each knows its size before anything is drawn, as TeX does it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import text_to_path

from ..picture import COLORS, FAINT, FROZEN, LINE, TRAINED, canvas

FAMILY = "DejaVu Sans"  # comes with matplotlib, so that a measure taken is the measure drawn
INK, QUIET, BACK = "#222222", "#6a6a6a", COLORS[1]  # BACK: what comes back
PALE = "#d3e6f3"  # computed from what is trained; or trained, and hardly changed
GAP, LEAD, KNOT = 9, 7, 5.5  # between two pieces; of a wire before it forks; radius of a plus


@lru_cache(maxsize=4096)
def width(text, size, weight="normal"):
    """How wide the text is, in points; of several lines the widest."""
    font = FontProperties(family=FAMILY, size=size, weight=weight)
    lines = [(line, "$" in line) for line in text.split("\n")]  # between dollars: set as mathematics
    return max(text_to_path.get_text_width_height_descent(line, font, math)[0] for line, math in lines)


def typeset(name):
    """A name as it is written in a picture: d_in with its index below, a number as it is."""
    letter, _, index = str(name).partition("_")
    return rf"${letter}_\mathrm{{{index}}}$" if index else letter


def untypeset(text):
    """The text with the names that `typeset` wrote as they are said: P_k."""
    return re.sub(r"\$(\w+)_\\mathrm\{([^}]*)\}\$", r"\1_\2", text)


def numeral(value, digits=3):
    """At most so many digits, and a true minus sign."""
    return f"{float(value) + 0.0:.{digits}g}".replace("-", "−")  # + 0.0: a zero has no sign


def mixed(share, light=PALE, dark=TRAINED):
    """A colour between light (share 0) and dark (share 1)."""
    pair = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (light, dark)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*pair, strict=True))


def ink_on(color):
    """White on dark colours, black on light ones."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.3 * r + 0.59 * g + 0.11 * b < 140 else INK


def arrow(axes, *points, color=LINE, head=True, lw=1.5):
    """On any axes, a line through the points, at any slant; with a head, an arrow.  The head grows with the line."""
    line = points[:-1] if head else points
    axes.add_artist(Line2D(*zip(*line, strict=True), ls="-", color=color, lw=lw, solid_joinstyle="round", zorder=1.5))
    if head:
        axes.add_artist(FancyArrowPatch(*points[-2:], arrowstyle="-|>", mutation_scale=4.5 + 5 * lw, color=color, lw=lw,
                                        shrinkA=0, shrinkB=0, zorder=1.5))  # fmt: skip


def plus(axes, x, y, r, color=LINE, lw=1.4):
    """On any axes, a small circle with a plus in it, which is drawn and no letter, so that it stands in the middle."""
    axes.add_artist(Circle((x, y), r, fc="white", ec=color, lw=lw, zorder=3))
    for dx, dy in ((0.55 * r, 0), (0, 0.55 * r)):
        axes.add_artist(Line2D((x - dx, x + dx), (y - dy, y + dy), ls="-", color=color, lw=1.1 * lw, zorder=4))


class Pen:
    """Draws on one page, width × height points.  What stands for trained parameters has their paths as its gid."""

    def __init__(self, width, height):
        self.figure, self.axes = canvas(width / 72, height / 72)
        self.figure.set_layout_engine("none")
        self.axes.set(position=(0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def patch(self, patch, paths=()):
        if paths:
            patch.set_gid("trained " + " ".join(paths))
        return self.axes.add_artist(patch)  # add_patch would fit the limits to it, which are those of the page

    def text(self, x, y, text, size=9, color=INK, ha="center", va="center", weight="normal", pad=None, **more):
        """pad: a background of this colour, where the text stands on a wire or on hatching."""
        if pad:
            more["bbox"] = {"facecolor": pad, "edgecolor": "none", "pad": 1}
        self.axes.text(x, y, text, fontsize=size, color=color, ha=ha, va=va, fontweight=weight, family=FAMILY,
                       zorder=5, linespacing=1.2, **more)  # fmt: skip

    def box(self, x, y, w, h, face=FROZEN, edge=None, paths=(), hatch=None, dashed=False, round=2.5, lw=0.8, z=2):
        style = f"round,pad=0,rounding_size={round}" if round else "square,pad=0"
        self.patch(FancyBboxPatch((x, y), w, h, boxstyle=style, fc=face, ec=edge or edge_of(face), lw=lw, zorder=z,
                                  hatch=hatch, linestyle=(0, (3, 2)) if dashed else "-"), paths)  # fmt: skip

    def tile(self, x, y, w, h, face=FROZEN, edge=None, paths=(), **more):
        self.patch(Rectangle((x, y), w, h, fc=face, ec=edge or edge_of(face), zorder=2, **{"lw": 0.8} | more), paths)

    def polygon(self, points, face, paths=(), hatch=None, edge=None):
        shape = Polygon(points, fc=face, ec=edge or edge_of(face), lw=0.8, zorder=2, hatch=hatch, joinstyle="round")
        self.patch(shape, paths)

    def line(self, xs, ys, **look):
        self.axes.add_artist(Line2D(xs, ys, ls="-", **look))

    def wire(self, *points, color=LINE, head=True, lw=1.1):
        """A line through the points; with a head, an arrow."""
        points = [point for i, point in enumerate(points) if not i or point != points[i - 1]]
        if len(points) < 2:
            return
        (x0, y0), (x1, y1) = points[-2:]
        if head:  # a triangle, and the line ends inside it
            length = max(abs(x1 - x0), abs(y1 - y0)) or 1
            dx, dy, long, half = (x1 - x0) / length, (y1 - y0) / length, 3 + 1.5 * lw, 1.2 + 0.9 * lw
            sides = [(x1 - long * dx + sign * half * dy, y1 - long * dy + sign * half * dx) for sign in (-1, 1)]
            self.patch(Polygon([(x1, y1), *sides], fc=color, ec="none", zorder=3))
            points = [*points[:-1], (x1 - 2 * dx, y1 - 2 * dy)]
        xs, ys = zip(*points, strict=True)
        self.line(xs, ys, color=color, lw=lw, solid_joinstyle="round", solid_capstyle="butt", zorder=1.5)

    def slanted(self, start, end, color=LINE, lw=1.1):
        """An arrow at any slant; those of a wire run along the sides of the page."""
        arrow(self.axes, start, end, color=color, lw=lw)

    def knot(self, x, y, sign="+", color=LINE, r=KNOT):
        """A small circle with a sign in it."""
        if sign == "+":
            plus(self.axes, x, y, r, color, lw=1)
        else:
            self.patch(Circle((x, y), r, fc="white", ec=color, lw=1, zorder=3))
            self.text(x, y, sign, 9, color, va="center_baseline")


def edge_of(face):
    return FAINT if face in (FROZEN, "white", "#f4f4f4") else "#004a75"


@dataclass
class Piece:
    """w, h: its size.  port: where the wire enters below and leaves above, from the left edge.  paint(pen, x, y): draw it
    with its lower left corner there.  bare: what enters is a wire still, so that no arrow head points at it.  level: the
    height of the layer that all else is drawn around, for those that stand side by side; the middle, if not given."""

    w: float
    h: float
    port: float
    paint: Callable
    bare: bool = False
    level: float | None = None

    def __post_init__(self):
        self.level = self.h / 2 if self.level is None else self.level


def enter(pen, x, y, top, piece):
    """The wire up to a piece whose lower edge is at `top`."""
    pen.wire((x, y), (x, top), head=not piece.bare)


def column(*pieces, gap=GAP, layer=0):
    """Above each other, the first lowest, all on one wire.  layer: which of them the others belong to."""
    port = max(piece.port for piece in pieces)
    w = port + max(piece.w - piece.port for piece in pieces)
    h = sum(piece.h for piece in pieces) + gap * (len(pieces) - 1)

    def paint(pen, x, y):
        for i, piece in enumerate(pieces):
            if i:
                enter(pen, x + port, y - gap, y, piece)
            piece.paint(pen, x + port - piece.port, y)
            y += piece.h + gap

    level = sum(piece.h + gap for piece in pieces[:layer]) + pieces[layer].level
    return Piece(w, h, port, paint, pieces[0].bare, level)


def beside(base, path, gap=GAP):
    """y = base(x) + path(x)"""
    inner = max(base.h, path.h)
    h = 4 + LEAD + inner + LEAD + 2 * KNOT
    w, far = base.w + gap + path.w, base.w + gap + path.port

    def paint(pen, x, y):
        port, top = x + base.port, y + h - KNOT
        fork, low = y + 4, [y + 4 + LEAD + (inner - piece.h) / 2 for piece in (base, path)]
        pen.wire((port, y), (port, fork), head=False)
        enter(pen, port, fork, low[0], base)
        pen.wire((port, fork), (x + far, fork), (x + far, low[1]), head=not path.bare)
        base.paint(pen, x, low[0])
        path.paint(pen, x + base.w + gap, low[1])
        pen.wire((port, low[0] + base.h), (port, top - KNOT))
        pen.wire((x + far, low[1] + path.h), (x + far, top), (port + KNOT, top))
        pen.knot(port, top)

    return Piece(w, h, base.port, paint, bare=True, level=4 + LEAD + (inner - base.h) / 2 + base.level)


def after(base, path, gap=GAP):
    """y = u + path(u), u = base(x): u passes by on the left."""
    port = max(base.port, path.port + gap)
    w = port + max(base.w - base.port, path.w - path.port)
    h = base.h + 4 + LEAD + path.h + LEAD + 2 * KNOT

    def paint(pen, x, y):
        wire, by, fork, top = x + port, x + port - path.port - gap, y + base.h + 4, y + h - KNOT
        base.paint(pen, wire - base.port, y)
        pen.wire((wire, y + base.h), (wire, fork), head=False)
        enter(pen, wire, fork, fork + LEAD, path)
        path.paint(pen, wire - path.port, fork + LEAD)
        pen.wire((wire, fork + LEAD + path.h), (wire, top - KNOT))
        pen.wire((wire, fork), (by, fork), (by, top), (wire - KNOT, top))
        pen.knot(wire, top)

    return Piece(w, h, port, paint, base.bare, base.level)


def framed(base, note, color, gap=GAP):
    """Something around a layer of which nothing is known but that it is there: an outline, with a note in it."""
    inner = max(base.h, note.h)
    w, h, port = base.w + 3 * gap + note.w, inner + 2 * gap, base.port + gap

    def paint(pen, x, y):
        low = y + gap + (inner - base.h) / 2
        pen.box(x, y, w, h, "none", color, dashed=True, round=4, z=1)
        enter(pen, x + port, y, low, base)
        base.paint(pen, x + gap, low)
        pen.wire((x + port, low + base.h), (x + port, y + h), head=False)
        note.paint(pen, x + base.w + 2 * gap, y + gap + (inner - note.h) / 2)

    return Piece(w, h, port, paint, bare=True, level=gap + (inner - base.h) / 2 + base.level)


def stream(*branches, gap=GAP, run=16):
    """y = x + branch(x), once for each: the stream goes up on the left."""
    port = run + max(branch.port for branch in branches)
    w = 2 + port + max(branch.w - branch.port for branch in branches)
    heights = [8 + LEAD + branch.h + LEAD + 2 * KNOT for branch in branches]
    left = KNOT

    def paint(pen, x, y):
        for branch, h in zip(branches, heights, strict=True):
            fork, low, top = y + 8, y + 8 + LEAD, y + h - KNOT
            wire = x + left + port
            pen.wire((x + left, y), (x + left, top - KNOT))
            pen.wire((x + left, fork), (wire, fork), (wire, low), head=not branch.bare)
            branch.paint(pen, wire - branch.port, low)
            pen.wire((wire, low + branch.h), (wire, top), (x + left + KNOT, top))
            pen.knot(x + left, top)
            y += h

    return Piece(left + w, sum(heights), left, paint, bare=True)


def blank(pen, x, y, text, solved, ha="center"):
    """A place for a result: dashed while it is open, filled when it is known.  Returns its width."""
    lines = text.split("\n")
    w, h = width(text, 11) + 14, 7 + 14.5 * len(lines)
    left = x - {"center": w / 2, "left": 0, "right": w}[ha]
    pen.box(left, y - h / 2, w, h, "#fdebe0" if solved else "white", BACK, dashed=not solved, round=4, lw=1.3, z=3)
    for i, line in enumerate(lines):
        pen.text(left + w / 2, y + 7.25 * (len(lines) - 1) - 14.5 * i, line, 11, va="center_baseline")
    return w


def heading(pen, x, y, text):
    pen.text(x, y, text, 11.5, ha="left", weight="bold")
