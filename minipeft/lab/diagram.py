"""Pictures of a model as it is: draw(model).  And of what happens in it: draw_lora, draw_attention, draw_outer (lanes.py).

    from minipeft.lab.diagram import draw
    draw(get_peft_model(load_base("english"), LoRA(r=8)))
"""

from ..methods.wrapper import Wrapper
from ..model.module import Module, Parameter
from .picture import FROZEN, TRAINED, Picture
from .shapes import GAP, PALE, Pen, Piece, column, width
from .sketch import Sketch, changes
from .spoken import blocks_in_words, counted, described

EDGE = 8  # white space around a picture


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
    if block is not None and not (isinstance(block, int) and 0 <= block < n):
        raise ValueError(f"block must be in 0 ... {n - 1}, or None for all, not {block!r}")
    kinds = [[block]] if block is not None else [[i] for i in range(n)] if amounts else kinds_of(model)
    sketch = Sketch(model, amounts=amounts)
    pages = [panels(sketch, model, kinds, ends=block is None)]
    return page(pages, legend(model, bool(amount)), described(model, kinds, amounts, block))


def draw_methods(models):
    """One block of each model, side by side and without sizes; under each its name and how much is trained.

    models: {name: model}
    """
    for model in models.values():
        check_model(model)
    pages, said = [], []
    for name, model in models.items():
        kinds = kinds_of(model)
        trained, total = counted(model)
        words = f"{trained:,} trained, {share(trained, total)}"
        pages.append(captioned(panels(Sketch(model, small=True), model, kinds), name, words))
        said.append(f"{name}: {described(model, kinds)}")
    return page(pages, [(FROZEN, "frozen"), (TRAINED, "trained")], " ".join(said), apart=16)


def check_model(model):
    if not isinstance(model, Module) or not isinstance(getattr(model, "h", None), list) or not model.h:
        raise TypeError(f"a model with a list of blocks, .h, is needed, such as load_base('english'), not {model!r:.50}")


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
        parts = [panel(sketch.piece(model.h[kind[0]], ""), blocks_in_words(kind, len(model.h)), sketch.small)]
        below = sketch.embeddings(model) if embed and 0 in kind else word("x")
        above = sketch.head(model) if head and len(model.h) - 1 in kind else word("y")
        stacks.append((below, parts[0], above))
    return in_row(stacks)


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
    return Piece(w, 12, w / 2, lambda pen, x, y: pen.text(x + w / 2, y + 5.5, text, 10))


def captioned(row, name, words):
    """A row of blocks with its method's name above and a line of numbers below."""
    piece, base = row
    w = max(piece.w, width(name, 10.5, "bold"), width(words, 8))

    def paint(pen, x, y):
        piece.paint(pen, x, y + 16)
        pen.text(x, y + 4, words, 8, "#555555", ha="left", va="center_baseline")

    return Piece(w, piece.h + 16, piece.port, paint), base, name


def share(trained, total):
    return f"{trained / total:.1%}" if trained / total >= 0.001 else f"{trained / total:.2%}"


def legend(model, amount):
    trained, total = counted(model)
    count = f"trained: {trained:,} of {total:,} numbers, {share(trained, total)}" if trained else "nothing is trained"
    if not amount:
        return [(FROZEN, "frozen"), (TRAINED, count)]
    return [(FROZEN, "frozen"), (PALE, "trained, changed little"), (TRAINED, "changed most")]


def page(rows, entries, alt, apart=24):
    """A Picture of pieces in a row, aligned at the lower edges of their blocks, with a legend above."""
    base = max(row[1] for row in rows)
    lifts = [base - row[1] for row in rows]
    names = any(len(row) > 2 for row in rows)
    key_w = sum(width(text, 8.5) + 13 + 16 for _, text in entries) - 16
    w = max(sum(row[0].w for row in rows) + apart * (len(rows) - 1), key_w) + 2 * EDGE
    h = max(row[0].h + lift for row, lift in zip(rows, lifts, strict=True)) + 2 * EDGE + 20 + 18 * names
    pen, x = Pen(w, h), EDGE
    for color, text in entries:
        pen.tile(x, h - EDGE - 10, 9, 9, color)
        pen.text(x + 13, h - EDGE - 5.5, text, 8.5, ha="left", va="center_baseline")
        x += width(text, 8.5) + 13 + 16
    x = EDGE
    for (piece, _, *name), lift in zip(rows, lifts, strict=True):
        piece.paint(pen, x, EDGE + lift)
        if name:
            pen.text(x, h - EDGE - 28, name[0], 10.5, ha="left", va="center_baseline", weight="bold")
        x += piece.w + apart
    return Picture(pen.figure, alt)


