"""Pictures of a model as it is: draw(model).  And of what happens in it: draw_lora, draw_attention, draw_outer.

from minipeft.lab.diagram import draw
draw(get_peft_model(load_base("english"), LoRA(r=8)))
"""

from ..methods.wrapper import Wrapper
from ..model.module import Module, Parameter
from ..validation import is_whole
from .drawing.amounts import changes
from .drawing.lanes import draw_lora
from .drawing.shapes import PALE, Pen, Piece, column, width
from .drawing.sketch import Sketch
from .drawing.spoken import COMMON, blocks_in_words, contents, described
from .drawing.tables import draw_attention, draw_outer
from .ledger import count_parameters
from .picture import FROZEN, TRAINED, Picture

__all__ = ["draw", "draw_attention", "draw_lora", "draw_methods", "draw_outer"]

EDGE, ACROSS = 8, 3  # white space around a picture; how many blocks side by side


def draw(model, block=None, amount=False):
    """A transformer block as this model has it: frozen parts grey, trained ones blue with their sizes.

    If the blocks differ, each kind once, side by side, with its numbers.  Embeddings and head are drawn where something
    is trained or put in there.

    block: only this one, without embeddings and head
    amount: the darker, the more it changed: ‖ΔW‖ / ‖W‖ where a weight changes, the norm of what stands for no weight

    Raises: TypeError for something without blocks, ValueError for a block that there is not
    """
    check_model(model)
    n, amounts = len(model.h), changes(model) if amount else None
    if block is not None and not is_whole(block, 0, n - 1):
        raise ValueError(f"block must be in 0 ... {n - 1}, or None for all, not {block!r}")
    kinds = [[block]] if block is not None else [[i] for i in range(n)] if amounts else kinds_of(model)
    sketch = Sketch(model, amounts=amounts)
    return page(
        [panels(sketch, model, kinds, ends=block is None)],
        legend(model, bool(amount)),
        described(model, kinds, amounts, block),
    )


def draw_methods(models):
    """One block of each model, side by side and without sizes; under each its name and how much is trained.

    models: {name: model}

    Raises: TypeError unless it is a dict of at least one name and model
    """
    if not isinstance(models, dict) or not models:
        raise TypeError(f'models are needed by name, such as {{"LoRA": model}}, not {models!r:.50}')
    for model in models.values():
        check_model(model)
    rows, said = [], []
    for name, model in models.items():
        trained, total = count_parameters(model)
        row = panels(Sketch(model, small=True), model, kinds_of(model))
        rows.append((*row, name, f"{trained:,} trained, {share(trained, total)}"))
        said.append(f"{name}: {contents(model)}")
    alt = f"{len(models)} transformer blocks side by side: {COMMON} {' '.join(said)}"
    return page(rows, [(FROZEN, "frozen"), (TRAINED, "trained")], alt, apart=14)


def check_model(model):
    if not isinstance(model, Module) or not isinstance(getattr(model, "h", None), list) or not model.h:
        raise TypeError(
            f"a model with a list of blocks, .h, is needed, such as load_base('english'), not {model!r:.50}"
        )


def kinds_of(model):
    """[[numbers of blocks], ...]: blocks that look the same stand together, in the order of their first."""
    kinds = {}
    for i, block in enumerate(model.h):
        kinds.setdefault(looks(block), []).append(i)
    return list(kinds.values())


def looks(block):
    """All of a block that can be seen in a picture of it."""
    nodes = [("", block), *block.walk()]
    return tuple(
        (path, node.data.shape, node.requires_grad) if isinstance(node, Parameter) else (path, type(node))
        for path, node in nodes
    )


def acts(*layers):
    """Is anything trained in these layers, or put around them?"""
    return any(isinstance(layer, Wrapper) or layer.trains() for layer in layers)


def panels(sketch, model, kinds, ends=True):
    """The kinds of blocks side by side; the embeddings below the first, the head above the one with the last block."""
    embed = ends and acts(model.wte, model.wpe)
    head = ends and acts(model.ln_f, model.lm_head)
    stacks = []
    for kind in kinds:
        block = panel(sketch.piece(model.h[kind[0]], ""), blocks_in_words(kind, len(model.h)), sketch.small)
        below = sketch.embeddings(model) if embed and 0 in kind else word("x")
        above = sketch.head(model) if head and len(model.h) - 1 in kind else word("y")
        stacks.append((below, block, above))
    rows = [in_row(stacks[i : i + ACROSS]) for i in range(0, len(stacks), ACROSS)]
    return rows[0] if len(rows) == 1 else above_each_other(rows)


def above_each_other(rows, gap=16):
    """Rows of blocks, the first on top."""
    h = sum(piece.h for piece, _ in rows) + gap * (len(rows) - 1)

    def paint(pen, x, y):
        top = y + h
        for piece, _ in rows:
            piece.paint(pen, x, top - piece.h)
            top -= piece.h + gap

    return Piece(max(piece.w for piece, _ in rows), h, 0, paint), rows[-1][1]


def in_row(stacks, gap=16):
    """Several (below, block, above), the blocks on one line."""
    base = max(below.h for below, *_ in stacks) + 10
    columns = [(base - stack[0].h - 10, column(*stack, gap=10)) for stack in stacks]
    w = sum(piece.w for _, piece in columns) + gap * (len(columns) - 1)
    h = max(lift + piece.h for lift, piece in columns)

    def paint(pen, x, y):
        for lift, piece in columns:
            piece.paint(pen, x, y + lift)
            x += piece.w + gap

    return Piece(w, h, columns[0][1].port, paint), base


def panel(block, title, small):
    """A block in its frame, with its numbers on top."""
    size, pad = 7.5 if small else 8.5, 7 if small else 10
    w = max(block.w + 2 * pad, block.port + pad + 14 + width(title, size, "bold") + 6)
    h = block.h + 2 * pad + 4

    def paint(pen, x, y):
        pen.box(x, y, w, h, "#fafafa", "#d0d0d0", round=6, z=0)
        port = x + pad + block.port
        pen.wire((port, y), (port, y + 4), head=False)
        block.paint(pen, x + pad, y + 4)
        pen.wire((port, y + 4 + block.h), (port, y + h), head=False)
        pen.text(x + w - 7, y + h - 5, title, size, "#666666", ha="right", va="top", weight="bold")

    return Piece(w, h, pad + block.port, paint, bare=True)


def word(text):
    w = width(text, 10) + 2
    return Piece(w, 15, w / 2, lambda pen, x, y: pen.text(x + w / 2, y + 7.5, text, 10))


def share(trained, total):
    return f"{trained / total:.1%}" if trained / total >= 0.001 else f"{trained / total:.2%}"


def legend(model, amount):
    """(colour, text) of what the colours mean."""
    trained, total = count_parameters(model)
    if not trained:
        return [(FROZEN, "frozen: nothing is trained")]
    if amount:
        return [(FROZEN, "frozen"), (PALE, "trained, changed little"), (TRAINED, "changed most")]
    return [(FROZEN, "frozen"), (TRAINED, f"trained: {trained:,} of {total:,} numbers, {share(trained, total)}")]


def page(rows, entries, alt, apart=24):
    """A Picture of rows of blocks, (piece, its height below the block, lines to write under it), side by side.

    The blocks stand on one line; above is a legend, of (colour, text).
    """
    base = max(row[1] for row in rows)
    foot = 16 * max(len(row) - 2 for row in rows)
    widths = [max(piece.w, *(width(line, 10.5, "bold") for line in lines), 0) for piece, _, *lines in rows]
    steps = [width(text, 8.5) + 13 + 16 for _, text in entries]
    w = sum(widths) + apart * (len(rows) - 1)
    below = sum(steps) - 16 > w  # then each entry has a line of its own
    key = 14 * (len(entries) if below else 1) + 6
    w = max(w, max(steps) - 16 if below else 0) + 2 * EDGE
    h = max(piece.h + base - down for piece, down, *_ in rows) + 2 * EDGE + key + foot
    pen, x, y = Pen(w, h), EDGE, h - EDGE
    for (color, text), step in zip(entries, steps, strict=True):
        pen.tile(x, y - 10, 9, 9, color)
        pen.text(x + 13, y - 5.5, text, 8.5, ha="left", va="center_baseline")
        x, y = (x, y - 14) if below else (x + step, y)
    x = EDGE
    for (piece, down, *lines), across in zip(rows, widths, strict=True):
        piece.paint(pen, x, EDGE + foot + base - down)
        for i, line in enumerate(lines):
            look = {"size": 10.5, "weight": "bold"} if i == 0 else {"size": 8.5, "color": "#555555"}
            pen.text(x, EDGE + foot - 13 - 15 * i, line, ha="left", va="center_baseline", **look)
        x += across + apart
    return Picture(pen.figure, alt)
