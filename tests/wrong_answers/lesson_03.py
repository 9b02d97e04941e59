"""Wrong answers to the exercises of lesson 03: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np

from minipeft.course.checks.lesson_03 import by_merges, joined


def once(word, merges):
    """Each merge at its first place only."""
    pieces, ranks = list(word), {pair: i for i, pair in enumerate(merges)}
    done = set()
    while found := [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in ranks and pair not in done]:
        pair = min(found, key=ranks.get)
        at = list(zip(pieces, pieces[1:], strict=False)).index(pair)
        pieces[at : at + 2] = ["".join(pair)]
        done.add(pair)
    return pieces


def one_round(word, merges):
    """Only the first merge that is possible."""
    pieces = list(word)
    for pair in merges:
        if pair in zip(pieces, pieces[1:], strict=False):
            return joined(pieces, pair)
    return pieces


def leftmost(word, merges):
    """The first pair in the word that has a merge, whichever."""
    pieces = list(word)
    while found := [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in merges]:
        pieces = joined(pieces, found[0])
    return pieces


def longest_first(word, merges):
    """At each place the longest piece that there is."""
    known, found = {a + b for a, b in merges}, []
    while word:
        size = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in known)
        found.append(word[:size])
        word = word[size:]
    return found


def embedding(x=None, dwte=None, dwpe=None):
    """An `embed`, right but for x(ids, wte, wpe), dwte(ids, wte, dx) or dwpe(wpe, dx)."""

    def fn(ids, wte, wpe):
        def backward(dx):
            tokens, positions = np.zeros_like(wte), np.zeros_like(wpe)
            np.add.at(tokens, ids, dx)
            positions[: dx.shape[1]] = dx.sum(0)
            return dwte(ids, wte, dx) if dwte else tokens, dwpe(wpe, dx) if dwpe else positions

        return x(ids, wte, wpe) if x else wte[ids] + wpe[: ids.shape[1]], backward

    return fn


def assigned(ids, wte, dx):
    got = np.zeros_like(wte)
    got[ids] += dx
    return got


def averaged(ids, wte, dx):
    got = np.zeros_like(wte)
    np.add.at(got, ids, dx)
    return got / np.maximum(1, np.bincount(ids.ravel(), minlength=len(wte)))[:, None]


def rows(values, start):
    def fn(wpe, dx):
        got = np.zeros_like(wpe)
        got[start : start + dx.shape[1] or None] = values(dx)
        return got

    return fn


def parallel(back=None, forward=None):
    """A `side_by_side`, right but for back(dy, back_ln, back_attn, back_mlp) or forward(x, a, m)."""

    def fn(x, ln, attn, mlp):
        u, back_ln = ln(x)
        (a, back_attn), (m, back_mlp) = attn(u), mlp(u)

        def backward(dy):
            return back(dy, back_ln, back_attn, back_mlp) if back else dy + back_ln(back_attn(dy) + back_mlp(dy))

        return forward(x, a, m) if forward else x + a + m, backward

    return fn


WRONG = {
    "predict_twice_as_wide": {
        "the blocks come first": "2 and 4",
        "is D × D": "2 and 2",
        "the vocabulary stays": "4 and 4",
        "the number of blocks stays": "8 and 4",
        "look again": "16 and 2",
        "not answered": ...,
    },
    "encode": {
        "is there a return": lambda word, merges: None,
        "a list of strings": lambda word, merges: word,
        "the letters stay": lambda word, merges: [] if not merges else by_merges(word, merges),
        "no pair was joined": lambda word, merges: list(word),
        "Begin again": one_round,
        "wherever it stands": once,
        "not the longest piece": longest_first,
        "not the first pair": leftmost,
        "put together": lambda word, merges: by_merges(word[::-1], merges),
        "it makes 1 pieces": lambda word, merges: [word] if word == "banana" else by_merges(word, merges),
        "the wrong places": lambda word, merges: by_merges(word[::-1], [(b, a) for a, b in merges]) and (
            ["n", "ewer"] if word == "newer" else by_merges(word, merges)
        ),
        "TypeError": lambda word: list(word),
    },
    "embed": {
        "where do positions begin": embedding(x=lambda ids, wte, wpe: wte[ids] + wpe[-ids.shape[1] :]),
        "positions are missing": embedding(x=lambda ids, wte, wpe: wte[ids]),
        "one of its four": embedding(dwte=assigned),
        "no mean in the rule": embedding(dwte=averaged),
        "a sum, not a mean": embedding(dwpe=rows(lambda dx: dx.mean(0), 0)),
        "the last four rows": embedding(dwpe=rows(lambda dx: dx.sum(0), -4)),
        "dwte is missing": lambda ids, wte, wpe: (wte[ids] + wpe[: ids.shape[1]], lambda dx: None),
    },
    "side_by_side": {
        "y is off": parallel(forward=lambda x, a, m: 2 * (x + a + m)),
        "nothing on it": parallel(lambda dy, ln, attn, mlp: ln(attn(dy) + mlp(dy))),
        "in the MLP": parallel(lambda dy, ln, attn, mlp: dy + ln(attn(dy))),
        "in attention": parallel(lambda dy, ln, attn, mlp: dy + ln(mlp(dy))),
        "the slope at u": parallel(lambda dy, ln, attn, mlp: dy + attn(dy) + mlp(dy)),
        "one behind the other": parallel(lambda dy, ln, attn, mlp: dy + ln(attn(mlp(dy)))),
        "once for each part": parallel(lambda dy, ln, attn, mlp: 2 * dy + ln(attn(dy) + mlp(dy))),
        "not once for each": parallel(lambda dy, ln, attn, mlp: 3 * dy + ln(attn(dy) + mlp(dy))),
        "dx is missing": parallel(lambda dy, ln, attn, mlp: None),
    },
}
