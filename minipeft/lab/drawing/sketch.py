"""A part of a model as it is drawn: every layer its shape, every wrapper its place, what is trained in colour.

Nothing here asks for a method's name.  The tree is walked, so a wrapper that a reader wrote an hour ago is drawn as well.
"""

from ...methods.adapter import Bottleneck
from ...methods.dora import DoRALinear
from ...methods.ia3 import ScaledInput, ScaledOutput
from ...methods.lora import LoRALinear
from ...methods.nf4 import NF4Linear
from ...methods.prefix import PrefixAttention, ShiftedPositions
from ...methods.prompt import DropPrompt, SoftPrompt
from ...methods.vera import VeRALinear
from ...methods.wrapper import After, Beside, Wrapper
from ...model import GELU, MLP, Block, CausalSelfAttention, LayerNorm, Linear
from .boxes import Boxes
from .shapes import (
    FAINT,
    GAP,
    KNOT,
    LEAD,
    TRAINED,
    Piece,
    after,
    beside,
    column,
    enter,
    framed,
    stream,
    typeset,
    width,
)


class Sketch(Boxes):
    """Pieces for the parts of one model, whatever stands around them."""

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
            return column(
                *(self.piece(getattr(node, part), part) for part in ("c_fc", "act", "c_proj")), gap=self.gap()
            )
        if isinstance(node, CausalSelfAttention):
            return self.attention(node)
        if isinstance(node, Block):
            halves = ((node.ln_1, "ln_1", node.attn, "attn"), (node.ln_2, "ln_2", node.mlp, "mlp"))
            return stream(
                *(column(self.piece(norm, a), self.piece(part, b), gap=self.gap()) for norm, a, part, b in halves)
            )
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
            return self.with_rest(node, own, ["l"], column(self.scale("l", node.l), base, gap=self.gap(), layer=1))
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
            return (
                self.taper(name, [layer.weight, layer.bias], wide_below, least=least)
                if plain
                else self.piece(layer, name)
            )

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
        nets = [
            self.note(one, one.own_parameters(), f"writes {typeset('P_k')} and {typeset('P_v')}")
            for one in prefixes
            if hasattr(one, "encoder")
        ]
        above = column(Piece(core_w, core_h, core_w / 2, lambda *_: None),
                       *(self.note(one, one.own_parameters()) for one in others), o, gap=self.gap())  # fmt: skip
        left = min(0, middle - above.port)
        level = max(p.level for p in (q, k, v))  # the three Linears stand at one height, whatever is around them
        row_h = level + max(p.h - p.level for p in (q, k, v))
        joint_h = max((row.h for row in rows if row), default=0)
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
                at, foot = start + at, row_y + level - piece.level
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
            cells.append((typeset(name), size, [] if written else [P], written))
        return self.cells(cells, name[-1])

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
            return framed(
                self.table(node.base, name),
                self.note(node, own),
                TRAINED if self.trained(dict(own).values()) else FAINT,
            )
        return (
            self.part(name, {"W": node.weight}) if hasattr(node, "weight") else self.note(node, node.named_parameters())
        )

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
