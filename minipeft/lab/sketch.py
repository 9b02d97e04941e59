"""A part of a model as it is drawn: every layer its shape, every wrapper its place, what is trained in colour.

Nothing here asks for a method's name.  The tree is walked, so a wrapper that a reader wrote an hour ago is drawn as well.
"""

import numpy as np

from ..methods.adapter import Bottleneck
from ..methods.dora import DoRALinear
from ..methods.ia3 import ScaledInput, ScaledOutput
from ..methods.lora import LoRALinear
from ..methods.nf4 import NF4Linear
from ..methods.prefix import PrefixAttention, ShiftedPositions
from ..methods.prompt import DropPrompt, SoftPrompt
from ..methods.vera import VeRALinear
from ..methods.wrapper import After, Beside, Wrapper
from ..model import GELU, MLP, Attention, Block, CausalSelfAttention, LayerNorm, Linear
from ..model.module import Module, Parameter, innermost
from .shapes import (
    FAINT,
    FROZEN,
    GAP,
    INK,
    KNOT,
    LEAD,
    PALE,
    TRAINED,
    Piece,
    after,
    beside,
    column,
    enter,
    framed,
    ink_on,
    mixed,
    stream,
    width,
)

HATCH, SHADE = "/////", "#bdbdbd"  # of what is stored otherwise, or shared


def dims(parameter):
    """96 × 8"""
    return " × ".join(f"{n}" for n in parameter.data.shape)


class Sketch:
    """Pieces for the parts of one model.  small: names alone, no sizes.  amounts: {id(parameter): (share, text)}."""

    def __init__(self, model, small=False, amounts=None):
        self.paths = {id(p): path for path, p in model.named_parameters()}
        self.small, self.amounts = small, amounts or {}

    # ---- single things

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
        wide = max(22 if self.small else 42, width(size, 7) + (22 if hatched else 14) if not self.small else 0, least)
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
        r, face = 7.5 if self.small else 9, self.face([parameter])
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
        return Piece(w, 9, w / 2, lambda pen, x, y: pen.text(x + w / 2, y + 4.5, text, 7, TRAINED,
                                                             va="center_baseline"), bare=True)  # fmt: skip

    # ---- what stands around a layer

    def piece(self, node, name):
        """The piece for any layer, whatever stands around it."""
        if isinstance(node, Wrapper):
            return self.wrapper(node, name)
        if isinstance(node, NF4Linear):
            return self.part(name, {"b": node.bias}, hatched="4 bits", shape=node.shape)
        if isinstance(node, (Linear, LayerNorm)):
            gain, shape = ("g", (1, 1)) if isinstance(node, LayerNorm) else ("W", node.shape)
            return self.part(name, {gain: node.weight, "b": node.bias}, shape=shape)
        if isinstance(node, GELU):
            return self.part("gelu", {})
        if isinstance(node, MLP):
            return column(*(self.piece(getattr(node, part), part) for part in ("c_fc", "act", "c_proj")), gap=self.gap())
        if isinstance(node, CausalSelfAttention):
            return self.attention(node)
        if isinstance(node, Block):
            halves = ((node.ln_1, "ln_1", node.attn, "attn"), (node.ln_2, "ln_2", node.mlp, "mlp"))
            return stream(*(column(self.piece(norm, a), self.piece(part, b), gap=self.gap()) for norm, a, part, b in halves))
        if isinstance(node, Bottleneck):
            return self.bottleneck(node)
        return self.note(node, node.named_parameters())

    def gap(self):
        return 7 if self.small else GAP

    def wrapper(self, node, name):
        own, base = dict(node.own_parameters()), self.piece(node.base, name)
        if isinstance(node, ScaledOutput):
            return self.with_rest(node, own, ["l"], column(base, self.scale("l", node.l), gap=self.gap()))
        if isinstance(node, ScaledInput):
            return self.with_rest(node, own, ["l"], column(self.scale("l", node.l), base, gap=self.gap()))
        if isinstance(node, DoRALinear):
            lengths = self.scale("m", node.m, None if self.amounts else ", ÷ ‖V‖")
            return column(beside(base, self.path(node, own, ["m"])), lengths, gap=self.gap())
        if isinstance(node, Beside):
            return beside(base, self.path(node, own))
        if isinstance(node, After):
            return after(base, self.path(node, own))
        note = self.note(node, own.items())
        return framed(base, note, TRAINED if self.trained(own.values()) else FAINT)

    def path(self, node, own, drawn=()):
        """What a Beside or an After adds."""
        if isinstance(node, LoRALinear):
            word = [self.said(self.size(p)) for p in self.trained([node.A, node.B])[:1] if self.amounts]
            found = [self.taper("A", [node.A], True), *word, self.taper("B", [node.B], False)]
            return self.with_rest(node, own, ["A", "B", *drawn], column(*found, gap=3 if word else 5))
        if isinstance(node, VeRALinear):
            found = [self.taper("A", [node.A], True, True), self.scale("d", node.d, None if self.amounts else ""),
                     self.taper("B", [node.B], False, True), self.scale("b", node.b)]  # fmt: skip
            return self.with_rest(node, own, ["A", "B", "d", "b"], column(*found, gap=4))
        if isinstance(getattr(node, "adapter", None), Bottleneck):
            inside = [name for name in own if name.startswith("adapter.")]
            return self.with_rest(node, own, inside, self.bottleneck(node.adapter))
        return self.note(node, own.items())

    def with_rest(self, node, own, drawn, piece):
        """A subclass may bring more than what its class is known for: that is drawn, too."""
        rest = [(name, p) for name, p in own.items() if name not in drawn and p.requires_grad]
        return column(piece, self.note(node, rest), gap=self.gap()) if rest else piece

    def bottleneck(self, node):
        def matrix(layer, name, wide_below):
            plain = type(layer) is Linear and layer.weight.requires_grad == layer.bias.requires_grad
            return self.taper(name, [layer.weight, layer.bias], wide_below, least=least) if plain else self.piece(layer, name)

        least = 40 if self.small else 58
        parts = [matrix(node.down, "down", True), self.piece(node.act, "gelu"), matrix(node.up, "up", False)]
        if self.amounts and type(node.up) is Linear and self.trained([node.up.weight]):
            parts.append(self.said(self.size(node.up.weight)))
        return column(*parts, gap=5)

    # ---- attention, and the prefix in it

    def attention(self, node):
        """Three projections from one wire, the keys and values of a prefix before those of the tokens, and the output."""
        core, around = node.core, []
        while isinstance(core, Wrapper):
            around, core = [core, *around], core.base
        prefixes = [one for one in around if isinstance(one, PrefixAttention)]
        others = [one for one in around if one not in prefixes]
        names = "qkvo" if self.small else [f"{letter}_proj" for letter in "qkvo"]
        q, k, v, o = (self.piece(getattr(node, f"{x}_proj"), name) for x, name in zip("qkvo", names, strict=True))
        rows = [None, *(self.joined(prefixes, name) if prefixes else None for name in ("P_k", "P_v"))]
        ports, right, apart = [], 0, 8 if self.small else 12
        for piece, row in zip((q, k, v), rows, strict=True):
            both = [piece, row] if row else [piece]
            ports.append(right + (apart if ports else 0) + max(one.port for one in both))
            right = ports[-1] + max(one.w - one.port for one in both)
        text, size = ("attention", 8) if self.small else ("softmax(q kᵀ / √K) v", 9)
        core_w = max(ports[2] - ports[0] + 24, width(text, size) + 14)
        middle, core_h = (ports[0] + ports[2]) / 2, 13 if self.small else 17
        nets = [self.note(one, one.own_parameters(), "writes P_k and P_v") for one in prefixes if hasattr(one, "encoder")]
        above = column(Piece(core_w, core_h, core_w / 2, lambda *_: None),
                       *(self.note(one, one.own_parameters()) for one in others), o, gap=self.gap())  # fmt: skip
        left = min(0, middle - above.port)
        row_h, joint_h = max(p.h for p in (q, k, v)), max((row.h for row in rows if row), default=0)
        joint = joint_h + self.gap() if prefixes else 0
        net_w = max((net.w + 16 for net in nets), default=0)
        low = 2 + LEAD  # of the projections
        w = max(right + net_w, middle - above.port + above.w) - left
        port = middle - left

        def paint(pen, x, y):
            start, fork, row_y = x - left, y + 2, y + low
            core_y = row_y + row_h + joint + self.gap()
            pen.wire((x + port, y), (x + port, fork), head=False)
            pen.wire((start + ports[0], fork), (start + ports[2], fork), head=False)
            for piece, row, at in zip((q, k, v), rows, ports, strict=True):
                at, foot = start + at, row_y + (row_h - piece.h) / 2
                enter(pen, at, fork, foot, piece)
                piece.paint(pen, at - piece.port, foot)
                if row:
                    joint_y = row_y + row_h + self.gap()
                    pen.wire((at, foot + piece.h), (at, joint_y))
                    row.paint(pen, at - row.port, joint_y)
                    pen.wire((at, joint_y + joint_h), (at, core_y))
                else:
                    pen.wire((at, foot + piece.h), (at, core_y))
            for i, net in enumerate(nets):
                net_y = row_y + row_h + self.gap() + joint_h / 2 - net.h / 2 - i * (net.h + 4)
                net.paint(pen, start + right + 14, net_y)
            pen.box(start + middle - core_w / 2, core_y, core_w, core_h)
            pen.text(start + middle, core_y + core_h / 2, text, size, va="center_baseline")
            above.paint(pen, start + middle - above.port, core_y)

        return Piece(w, low + row_h + joint + self.gap() + above.h, port, paint, bare=True)

    def joined(self, prefixes, name):
        """[P_k; k]: what is learned stands before what the tokens bring."""
        cells = []
        for one in prefixes:
            P, written = getattr(one, name, None), hasattr(one, "encoder")
            m = len(one.encoder.E.data) if written else len(P.data)
            size = f"{m} × {one.up.shape[1] // 2}" if written else self.size(P)
            cells.append((name, size, [] if written else [P], written))
        return self.cells(cells, name[-1])

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

    # ---- below the blocks, and above them

    def embeddings(self, model):
        """x = wte[ids] + wpe[0 ... T−1], with the rows of a prompt."""
        prompts, positions, shift = [], model.wpe, 0
        node = model.wte
        while isinstance(node, SoftPrompt):
            prompts, node = [*prompts, node], node.base
        words = self.table(node, "wte")
        if prompts:
            cells = [("P", self.size(one.P), [one.P], False) for one in prompts]
            words = column(words, self.cells(cells, "tokens"), gap=self.gap())
        while isinstance(positions, ShiftedPositions):
            shift, positions = shift + positions.offset, positions.base
        places = self.table(positions, "wpe" + (f", from row {shift} on" if shift and not self.small else ""))
        return summed(words, places)

    def table(self, node, name):
        if isinstance(node, Wrapper):
            own = node.own_parameters()
            return framed(self.table(node.base, name), self.note(node, own), TRAINED if self.trained(dict(own).values()) else FAINT)
        return self.part(name, {"W": node.weight}) if hasattr(node, "weight") else self.note(node, node.named_parameters())

    def head(self, model):
        """The last LayerNorm and the tied head; a prompt's rows are dropped before them."""
        dropped, node = 0, model.ln_f
        while isinstance(node, DropPrompt):
            dropped, node = dropped + node.m, node.base
        words = "drop P" if self.small else f"drop the first {dropped} rows"
        parts = [self.part(words, {})] if dropped else []
        parts += [self.piece(node, "ln_f"), self.table(model.lm_head, "lm_head" if self.small else "lm_head (wte)")]
        return column(*parts, gap=self.gap())


def summed(words, places, gap=14):
    """Two tables whose rows are added, number by number."""
    h = max(words.h, places.h) + 6 + 2 * KNOT
    at = words.w + gap

    def paint(pen, x, y):
        port, top = x + words.port, y + h - KNOT
        words.paint(pen, x, y)
        places.paint(pen, x + at, y)
        pen.wire((port, y + words.h), (port, top - KNOT))
        pen.wire((x + at + places.port, y + places.h), (x + at + places.port, top), (port + KNOT, top))
        pen.knot(port, top)

    return Piece(at + places.w, h, words.port, paint)


def two_lines(pen, x, y, lines, size, ink, pad=None):
    """A name, and what belongs to it in small letters below."""
    if len(lines) == 1:
        return pen.text(x, y, lines[0], size, ink, va="center_baseline", pad=pad)
    pen.text(x, y + 5, lines[0], size, ink, va="center_baseline", pad=pad)
    pen.text(x, y - 6, lines[1], 7, ink, va="center_baseline", pad=pad)


def changes(model):
    """{id(parameter): (share, text)} of all that is trained: how much it changed, and that as a share of the largest.

    ‖ΔW‖ / ‖W‖ where a weight is changed or added to.  The norm itself of what stands for no weight: of a prefix, of the
    change of a bias (which may have been zero), of an adapter's two matrices, multiplied.
    """
    found = {id(p): ("‖·‖", np.linalg.norm(p.data)) for _, p in model.named_parameters() if p.requires_grad}
    for record in getattr(model, "peft", None) or []:
        for one in record.kept:
            moved, before = np.linalg.norm(one.parameter.data - one.data), np.linalg.norm(one.data)
            relative = before and not one.path.endswith("bias")
            found[id(one.parameter)] = ("Δ", moved / before) if relative else ("‖Δ‖", moved)
    for _, node in model.walk():
        if isinstance(node, Wrapper) and (change := amount_of(node)):
            found |= {id(p): change for _, p in node.own_parameters() if p.requires_grad}
    most = {True: 0.0, False: 0.0}
    for sign, value in found.values():
        most[sign in RELATIVE] = max(most[sign in RELATIVE], value)
    return {key: (value / (most[sign in RELATIVE] or 1), f"{sign} {value:{'.1%' if sign in RELATIVE else '.2g'}}")
            for key, (sign, value) in found.items()}  # fmt: skip


RELATIVE = ("Δ", "ΔW")


def amount_of(node):
    """(what, how much) of a wrapper whose parameters mean something together only; otherwise None."""
    if isinstance(getattr(node, "adapter", None), Bottleneck):
        down, up = (innermost(layer).matrix() for layer in (node.adapter.down, node.adapter.up))
        return "‖down up‖", np.linalg.norm(down @ up)
    if isinstance(node, PrefixAttention) and hasattr(node, "encoder"):
        return "‖[P_k P_v]‖", np.linalg.norm(np.hstack(node.prefix()[:2]))
    if not isinstance(innermost(node), Linear):
        return None
    W = innermost(node).matrix()
    if hasattr(node, "delta"):
        change = node.delta()
    elif isinstance(node, (ScaledOutput, ScaledInput)):
        change = W * ((node.l.data if isinstance(node, ScaledOutput) else node.l.data[:, None]) - 1)
    else:
        return None
    return "ΔW", np.linalg.norm(change) / np.linalg.norm(W)
