"""Attention as a table, forward and back; tall times wide as a sum of outer products."""

import numpy as np

from ...validation import is_whole
from ..picture import COLORS, FAINT, FROZEN, TRAINED, Picture
from .shapes import BACK, INK, PALE, QUIET, Pen, blank, heading, mixed, numeral, typeset, width

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
CELL, BETWEEN = 30, 10  # a cell of the table; between the prefix and the tokens


def draw_attention(T=3, m=0, backward=True, solved=True):
    """Attention as a table: a row for each of T queries, a column for each key, m of them a prefix' own.

    o = p v,   p = softmax(q kᵀ / √K), where a query sees the prefix and the tokens up to its own.  On the way back:
    dv = pᵀ do,   dz = p ⊙ (dp − do·o),   dk = dzᵀ q / √K,   dq = dz k / √K;  for the prefix, summed over the batch.

    backward: the way back, too.  solved: with the gradients, or with a question mark in place of each

    Raises: ValueError for T outside 1 ... 8, or m outside 0 ... 8
    """
    if not is_whole(T, 1, 8) or not is_whole(m, 0, 8):
        raise ValueError(
            f"T must be in 1 ... 8 and m in 0 ... 8, or the letters would not be read; not {T!r} and {m!r}"
        )
    table_w = CELL * (T + m) + (BETWEEN if m else 0)
    height = CELL * T + 2 * CELL + 2 * 12 + 118
    left = 102  # for what stands at the left of the table
    forward_w = max(left + table_w + 62, left + CELL * m + 160 if m else 0, 300) + 14
    back_left = 132 if solved else 46 if m else 88
    back_w = max(back_left + table_w + (92 if m else 128), back_left + 190 if solved else 0)
    pen = Pen(forward_w + (back_w if backward else 0), height)
    attention_forward(pen, 0, left, T, m, height)
    if backward:
        attention_backward(pen, forward_w, back_left, T, m, height, solved)
    alt = (f"{'Two panels. Forward: a' if backward else 'A'} table of attention weights with a row for each of {T} "
           f"{'query' if T == 1 else 'queries'}. ")  # fmt: skip
    if m:
        one, every = ("column on the left belongs", "it") if m == 1 else ("columns on the left belong", "them")
        alt += f"{m} blue {one} to the prefix, and every row has {every}. "
    alt += (f"{T} grey {'column belongs' if T == 1 else 'columns belong'} to the tokens, and a query has only those up to "
            "its own. Keys stand above, values below; outputs leave to the right.")  # fmt: skip
    if backward:
        found = gradients(m)
        alt += " Back: do comes in from the right, and where the weights p stood is dz. "
        if m:
            alt += f"Upwards and downwards it leaves the blue column{'s' * (m > 1)}: "
        alt += ("; ".join(found.values()) if solved else f"{' and '.join(found)} are question marks") + "."
    return Picture(pen.figure, alt)


def gradients(m):
    """{name: equation} of what comes back from the table."""
    if m:
        return {"dP_k": "dP_k = Σₙ dzᵀ q / √K", "dP_v": "dP_v = Σₙ pᵀ do"}
    return {"dk": "dk = dzᵀ q / √K", "dv": "dv = pᵀ do", "dq": "dq = dz k / √K"}


def numbered(name, i):
    return name + str(i + 1).translate(SUBSCRIPTS)


def table(pen, x, height, T, m, back):
    """Keys, weights and values, or with back the slopes of the scores; returns (the height of the keys' middle, of the
    values', of each row's)."""
    keys, color = height - 84, BACK if back else INK
    rows = [keys - CELL - 10 - CELL * t for t in range(T)]
    low, gap = rows[-1] - CELL - 10, 1.5
    for c in range(m + T):
        at, mine = x + CELL * c + (BETWEEN if m and c >= m else 0), c < m
        for level, name in ((keys, "k"), (low, "v")):
            pen.tile(
                at + gap, level - CELL / 2 + gap, CELL - 2 * gap, CELL - 2 * gap, TRAINED if mine else FROZEN, QUIET
            )
            text = typeset(f"P_{name},{c + 1}") if mine else numbered(name, c - m)
            pen.text(at + CELL / 2, level, text, 11.5, "white" if mine else INK, va="center_baseline")
        for t, level in enumerate(rows):
            seen = mine or c - m <= t
            face = (PALE if mine else "#f4f4f4") if seen else "white"
            pen.tile(at + gap, level - CELL / 2 + gap, CELL - 2 * gap, CELL - 2 * gap, face, TRAINED if mine else FAINT,
                     linestyle="-" if seen else (0, (2, 2)))  # fmt: skip
            if seen:
                slope = TRAINED if mine else QUIET
                pen.text(at + CELL / 2, level, "dz" if back else "p", 10.5, slope, va="center_baseline")
    right = x + CELL * (m + T) + (BETWEEN if m else 0)
    for t, level in enumerate(rows):
        pen.text(x - 15, level, numbered("q", t), 12, va="center_baseline")
        near, far = (right + 5, level), (right + 33, level)
        pen.wire(*((far, near) if back else (near, far)), color=color, lw=1.7)
        pen.text(right + 38, level, numbered("do" if back else "o", t), 12, color, ha="left", va="center_baseline")
    return keys, low, rows


def attention_forward(pen, x, left, T, m, height):
    heading(pen, x + 8, height - 12, "forward")
    at = x + left
    keys, low, rows = table(pen, at, height, T, m, back=False)
    if m:
        split = at + CELL * m + BETWEEN / 2
        for line, (mine, theirs) in enumerate((("the prefix: trained", "the tokens: frozen model"),
                                               (f"m = {m} column{'s' * (m > 1)}", "a column each"))):  # fmt: skip
            level = height - 42 - 14 * line
            pen.text(split - 7, level, mine, 10.5 - line / 2, TRAINED, ha="right", va="center_baseline")
            pen.text(split + 7, level, theirs, 10.5 - line / 2, QUIET, ha="left", va="center_baseline")
    for level, text in ((keys, "keys"), (sum(rows) / T, "weights,\na row sums\nto 1"), (low, "values")):
        pen.text(at - 32, level, text, 10, QUIET, ha="right")
    pen.text(x + 14, low - CELL / 2 - 18, "o = p v: each output is its weights times the values", 10, QUIET, ha="left")


def attention_backward(pen, x, left, T, m, height, solved):
    heading(pen, x + 8, height - 12, "and back")
    at, found = x + left, gradients(m)
    keys, low, rows = table(pen, at, height, T, m, back=True)
    columns, right = (m or T) * CELL, at + CELL * (m + T) + (BETWEEN if m else 0)
    up, down = ("dP_k", "dP_v") if m else ("dk", "dv")
    middle = at + columns / 2
    for name, start, end in ((up, keys + CELL / 2, keys + CELL / 2 + 15), (down, low - CELL / 2, low - CELL / 2 - 15)):
        pen.wire((middle, start), (middle, end), color=BACK, lw=1.7)
        text = found[name] if solved else f"{name} = ?"
        blank(pen, middle, end + (12 if end > start else -12), text.replace(name, typeset(name)), solved)
    if m:
        for level, name in ((keys, "dk"), (low, "dv")):
            pen.text(right + 5, level, f"{name} goes on\nto the tokens", 10, QUIET, ha="left")
    level = sum(rows) / T
    if not m:
        pen.wire((at - 24, level), (at - 36, level), color=BACK, lw=1.7)
        blank(pen, at - 38, level, found["dq"].replace(" = ", " =\n") if solved else "dq = ?", solved, ha="right")
        if solved:
            pen.text(right + 5, keys, "dp = do vᵀ\ndz = p ⊙ (dp − do·o)", 10, BACK, ha="left")
    elif solved:
        pen.text(at - 28, level, "dp = do vᵀ\ndz = p ⊙\n(dp − do·o)", 10, BACK, ha="right")


# ---- outer products


def draw_outer(k=2, m=4, n=5, A=None, B=None):
    """Tall times wide is a sum of k outer products: A B = a₁ b₁ + ... + a_k b_k, a column of A times a row of B each.

    A (m, k), B (k, n): arrays whose numbers are written into the cells; without them the cells are empty

    Raises: ValueError for k outside 1 ... 5, sides outside 1 ... 9, or an A and a B that do not fit
    """
    if (A is None) != (B is None):
        raise ValueError("A and B are needed both, or neither")
    if A is not None:
        A, B = np.asarray(A, float), np.asarray(B, float)
        if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
            raise ValueError(f"A (m, k) and B (k, n) are needed, not {A.shape} and {B.shape}")
        (m, k), n = A.shape, B.shape[1]
    if not is_whole(k, 1, 5) or not is_whole(m, 1, 9) or not is_whole(n, 1, 9):
        raise ValueError(f"k must be in 1 ... 5, m and n in 1 ... 9; not {k!r}, {m!r}, {n!r}")
    numbers = A is not None
    cell, gap, sign = (23 if numbers else 15), 26, 24
    faces = [*COLORS[:4], "#555555"][:k]
    tints = [mixed(0.3, "#ffffff", color) for color in faces]
    wide, tall = n * cell, max(m, k) * cell
    rank = np.linalg.matrix_rank(A @ B) if numbers else f"at most {min(k, m, n)}"
    last = f"{m} × {n},\nrank {rank}"
    x, top = 14, tall + 28
    pen = Pen(
        k * cell + gap + wide + k * (sign + wide) + (sign + max(wide, width(last, 8.5)) if k > 1 else 0) + 2 * x,
        top + 40,
    )
    middle = top + 40 - 28 - tall / 2

    def grid(rows, columns, face, title, color, below, values=None, lift=9):
        high, low = middle + rows * cell / 2, middle - rows * cell / 2
        for i in range(rows):
            for j in range(columns):
                here = face(i, j)
                pen.tile(x + j * cell, high - (i + 1) * cell, cell, cell, here, "white", lw=1.2)
                if values is not None:
                    text = numeral(values[i, j])
                    pen.text(x + (j + 0.5) * cell, high - (i + 0.5) * cell, text, 8 if len(text) < 4 else 6.5,
                             "white" if here in faces else INK, va="center_baseline")  # fmt: skip
        pen.text(x + columns * cell / 2, high + lift, title, 11, color)
        pen.text(x + columns * cell / 2, low - 5, below, 8.5, QUIET, va="top")

    grid(m, k, lambda i, j: faces[j], "A", INK, f"{m} × {k}", A, lift=20)
    for i in range(k):
        pen.text(x + (i + 0.5) * cell, middle + m * cell / 2 + 7, numbered("a", i), 9, faces[i])
        pen.text(x + k * cell + gap - 4, middle + (k / 2 - i - 0.5) * cell, numbered("b", i), 9, faces[i], ha="right")
    x += k * cell + gap
    grid(k, n, lambda i, j: faces[i], "B", INK, f"{k} × {n}", B)
    x += wide
    for i in range(k):
        pen.text(x + sign / 2, middle, "+" if i else "=", 13)
        x += sign
        product = A[:, [i]] * B[[i]] if numbers else None
        one = f"rank {np.linalg.matrix_rank(product) if numbers else 1}"
        grid(m, n, lambda *_, i=i: tints[i], f"{numbered('a', i)} {numbered('b', i)}", faces[i], one, product)
        x += wide
    if k > 1:
        pen.text(x + sign / 2, middle, "=", 13)
        x += sign
        grid(m, n, lambda *_: "#dddddd", "A B", INK, last, A @ B if numbers else None)
    terms = " + ".join(f"{numbered('a', i)} {numbered('b', i)}" for i in range(k))
    alt = (f"A, {m} × {k}, tall, times B, {k} × {n}, wide, is {terms}: "
           f"{'an outer product' if k == 1 else f'a sum of {k} outer products'}, each a column of A times the row of B in "
           f"the same colour, {m} × {n}; the sum is of rank {rank}.")  # fmt: skip
    if numbers:
        alt += f" A = {in_words(A)}, B = {in_words(B)}, A B = {in_words(A @ B)}."
    return Picture(pen.figure, alt)


def in_words(matrix):
    """[[1, 0.5], [-2, 3]]"""
    return "[" + ", ".join("[" + ", ".join(f"{v + 0.0:.3g}" for v in row) + "]" for row in matrix) + "]"
