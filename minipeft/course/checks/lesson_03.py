"""The checks of the exercises of lesson 03."""

import numpy as np

from .. import check

__all__ = ["embed", "encode", "predict_twice_as_wide", "side_by_side"]

MERGES = [("o", "w"), ("l", "ow"), ("e", "r"), ("e", "w"), ("n", "ew"), ("a", "n"), ("an", "a"), ("s", "t"), ("e", "st")]


def predict_twice_as_wide(answer):
    """The factors by which blocks and tables grow: "4 and 2"."""
    check.prediction("predict twice as wide", answer, "4 and 2", {
        "2 and 4": "the blocks come first; in which of the two does D stand twice?",
        "2 and 2": "a matrix of a block is D × D or D × 4D: how often does D stand there?",
        "4 and 4": "the vocabulary stays: how often does D stand in the shape of wte?",
        "8 and 4": "the number of blocks stays; count how often D stands in the shape of each matrix",
    })  # fmt: skip


def by_merges(word, merges):
    """All merges in their order, as the lesson does it."""
    pieces = list(word)
    for pair in merges:
        pieces = joined(pieces, pair)
    return pieces


def joined(pieces, pair):
    found = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def encode(fn):
    """fn(word, merges) -> a list of pieces: the earliest merge that is possible, everywhere, until none is left."""

    def one(word, merges=MERGES, extra=()):
        got, want = fn(word, list(merges)), by_merges(word, merges)
        if got is None or got is Ellipsis:
            return False, "the pieces are missing: is there a return?"
        if isinstance(got, str) or not all(isinstance(piece, str) for piece in got):
            return False, "the pieces are a list of strings"
        got = list(got)
        if got == want:
            return True, ""
        for wrong, hint in extra:
            if got == wrong:
                return False, hint
        if "".join(got) != word:
            return False, f"put together, the pieces of {word!r} give {''.join(got)!r}"
        return False, f"of {word!r} it makes {len(got)} pieces, and it should be {len(want)}" if len(got) != len(want) else (
            f"{word!r} is cut in the wrong places"
        )  # fmt: skip

    def nothing():
        return one("xyz", (), [([], "with no merges, the letters stay")])

    def chain_of_merges():
        return one("low", MERGES, [
            (list("low"), "no pair was joined at all"),
            (["l", "ow"], "after one merge another one is possible: l and ow. Begin again until none is left"),
        ])  # fmt: skip

    def everywhere():
        right_pair = ["er", "e", "r"]
        return one("erer", MERGES, [(right_pair, "join the pair wherever it stands, not only at its first place")])

    def order():
        merges = [("b", "c"), ("a", "b"), ("ab", "c"), ("c", "d")]
        hint = "what counts is which merge came earliest: not the longest piece, and not the first pair in the word"
        return one("abcd", merges, [(["abc", "d"], hint), (["ab", "cd"], hint)])

    def many():
        for word in ("newer", "slowest", "banana", "renew", "a", ""):
            right, hint = one(word)
            if not right:
                return right, hint
        return True, ""

    check.report("encode", [
        ("without merges", nothing), ("low", chain_of_merges), ("erer", everywhere), ("the order", order), ("words", many),
    ])  # fmt: skip


def embed(fn):
    """fn(ids, wte, wpe) -> x, backward(dx) -> dwte, dwpe; three bugs: positions from the end, += on rows, a mean."""
    rng = np.random.default_rng(0)
    wte, wpe, ids = rng.normal(size=(6, 3)), rng.normal(size=(7, 3)), np.array([[4, 1, 4, 0], [1, 5, 4, 4]])
    dx = rng.normal(size=(2, 4, 3))
    dwte, last, dwpe = np.zeros_like(wte), np.zeros_like(wte), np.zeros_like(wpe)
    np.add.at(dwte, ids, dx)
    last[ids] += dx
    dwpe[:4] = dx.sum(0)

    def forward():
        return check.compare(fn(ids, wte, wpe)[0], wte[ids] + wpe[:4], "x", [
            (wte[ids] + wpe[-4:], "the first token gets row 3 of wpe: where do positions begin?"),
            (wte[ids], "positions are missing in x"),
        ])  # fmt: skip

    def tokens():
        back = fn(ids, wte, wpe)[1](dx)
        return check.compare(None if back is None else back[0], dwte, "dwte", [
            (last, "token 4 stands four times in the batch, and got one of its four slopes"),
            (dwte / np.maximum(1, np.bincount(ids.ravel(), minlength=6))[:, None], "add the slopes up; there is no mean in the rule"),
        ])  # fmt: skip

    def positions():
        got = fn(ids, wte, wpe)[1](dx)[1]
        shifted = np.zeros_like(wpe)
        shifted[-4:] = dx.sum(0)
        return check.compare(got, dwpe, "dwpe", [
            (dwpe / 2, "a row of wpe lands in both texts: a sum, not a mean"),
            (shifted, "those are the slopes of the last four rows: which rows did the forward take?"),
        ])  # fmt: skip

    def slopes():
        got = dict(zip(("wte", "wpe"), fn(ids, wte, wpe)[1](dx), strict=True))
        return check.gradients(lambda: (fn(ids, wte, wpe)[0] * dx).sum(), {"wte": wte, "wpe": wpe}, got)

    check.report("embed", [("x", forward), ("tokens", tokens), ("positions", positions), ("gradient check", slopes)])


def side_by_side(fn):
    """fn(x, ln, attn, mlp) -> y, backward(dy) -> dx, of y = x + attn(ln(x)) + mlp(ln(x))."""
    rng = np.random.default_rng(0)
    L, A, M = (rng.normal(size=(4, 4)) for _ in range(3))
    x, dy = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))

    def layer(W):
        return lambda v: (v @ W, lambda d: d @ W.T)

    def run():
        return fn(x, layer(L), layer(A), layer(M))

    def forward():
        return check.compare(run()[0], x + x @ L @ (A + M), "y")

    def value():
        both = dy @ (A + M).T @ L.T
        return check.compare(run()[1](dy), dy + both, "dx", [
            (both, "x lands in y, too: one way has nothing on it"),
            (dy + dy @ A.T @ L.T, "u lands in the MLP, too"),
            (dy + dy @ M.T @ L.T, "u lands in attention, too"),
            (dy + dy @ (A + M).T, "what comes back from both parts is the slope at u; x is below ln"),
            (dy + dy @ M.T @ A.T @ L.T, "that is a block whose parts stand one behind the other"),
            (3 * dy + both, "x lands in y once, not once for each part"),
            (2 * dy + both, "x lands in y once, not once for each part"),
        ])  # fmt: skip

    def slope():
        dx = run()[1](dy)
        return check.gradients(lambda: (run()[0] * dy).sum(), {"x": x}, {"x": dx})

    check.report("side_by_side", [("y", forward), ("dx", value), ("gradient check", slope)])
