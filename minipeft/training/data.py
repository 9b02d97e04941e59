"""What is learned: sequences of symbols with a task, and text as tokens."""

import hashlib
import lzma
from importlib import resources

import numpy as np

from ..validation import is_whole

# ---- symbols: [task] x1 ... x8 SEP y1 ... y8

SYMBOLS, LENGTH = 16, 8
COPY, REVERSE, PLUS_ONE, SEP, PAD = range(SYMBOLS, SYMBOLS + 5)
TABLE = np.array([11, 6, 0, 13, 9, 2, 15, 4, 1, 12, 7, 14, 3, 8, 5, 10])  # a permutation drawn once: 3 -> 13, say

TASKS = {  # name: (task token, what y is)
    "copy": (COPY, lambda x: x),
    "reverse": (REVERSE, lambda x: x[:, ::-1]),
    "plus": (PLUS_ONE, lambda x: (x + 1) % SYMBOLS),
    "near": (COPY, lambda x: (x + 1) % SYMBOLS),  # a skill the base has, under another token
    "map": (COPY, lambda x: TABLE[x]),  # new symbols, old routing
    "swap": (COPY, lambda x: np.roll(x, 3, axis=1)),  # new routing, old symbols
    "perm": (COPY, lambda x: TABLE[x[:, ::-1]]),  # known routing under another token, and new symbols
}


def symbols_batch(task, rng, n=32, pad=0):
    """n sequences of one task, as (ids, targets, mask); the mask counts y1 ... y8 only.

    pad: so many PAD tokens come first, which moves the sequence to later positions.

    Shapes:   ids, targets, mask (n, pad + 17)
    Raises:   ValueError for a task that is not in TASKS
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; there are: {', '.join(TASKS)}")
    token, rule = TASKS[task]
    x = rng.integers(0, SYMBOLS, (n, LENGTH))
    return in_rows(token, x, rule(x), pad)


def chance_batch(rng, n=32):
    """n sequences as of copy, but y1 ... y8 are drawn, so that nothing which is read tells them: (ids, targets, mask).

    Shapes:   ids, targets, mask (n, 17)
    """
    x, y = rng.integers(0, SYMBOLS, (2, n, LENGTH))
    return in_rows(COPY, x, y)


def in_rows(token, x, y, pad=0):
    """(ids, targets, mask) of the sequences: PAD ... token x1 ... x8 SEP y1 ... y8.  x, y (n, 8)"""
    column = np.ones((len(x), 1), int)
    sequence = np.hstack([PAD * np.ones((len(x), pad), int), token * column, x, SEP * column, y])
    mask = np.zeros((len(x), sequence.shape[1] - 1), bool)
    mask[:, -LENGTH:] = True
    return sequence[:, :-1], sequence[:, 1:], mask


def symbols_batches(task, n=32):
    """The batches of one task for fit: a function of a generator."""
    return lambda rng: symbols_batch(task, rng, n)


def new_sequences(task, n=128, seed=7):
    """n sequences of a task that no training was given, for evaluate: a list of one batch, the same one each time."""
    return [symbols_batch(task, np.random.default_rng(seed), n)]


LAST_START = 16  # while the base is made, a sequence begins at any position from 0 to this one
SPAN = LAST_START + 2 * LENGTH + 1  # the positions that takes


def pretraining_batches(rng, n=48):
    """A quarter copy, half reverse (the hardest), a quarter +1, of two kinds of batch in equal shares.

    Padded: each row has 0 to 16 PAD tokens in front, drawn for it alone, and PAD behind it up to SPAN.
    Bare: the rows are as they are, and AnyStart moves them, with nothing in front.

    Shapes:   ids, targets, mask (n, SPAN) or (n, 17)
    """
    tasks = [symbols_batch(task, rng, part) for task, part in (("copy", n // 4), ("reverse", n // 2), ("plus", n // 4))]
    sequences = [np.concatenate(arrays) for arrays in zip(*tasks, strict=True)]
    if rng.random() < 0.5:
        return tuple(sequences)
    batch = [np.full((n, SPAN), fill) for fill in (PAD, PAD, False)]
    for row, start in enumerate(rng.integers(LAST_START + 1, size=n)):
        for whole, part in zip(batch, sequences, strict=True):
            whole[row, start : start + part.shape[1]] = part[row]
    return tuple(batch)


# ---- text, as token ids


def text_ids(ids, T, n):
    """The ids of a text as an array (length,), if stretches of T and batches of n can be cut from it."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        raise TypeError("a text is given as its token ids, (length,) integers, as tokens.encode(text) makes them")
    if not is_whole(T, 1) or not is_whole(n, 1):
        raise ValueError(f"T, the length of a stretch, and n must be whole numbers of at least 1, not {T!r} and {n!r}")
    return ids


def text_batches(ids, T, n=16):
    """Random stretches of a text for fit: a function of a generator that returns (ids (n, T), targets (n, T)).

    Raises: ValueError that says how long the text must be
    """
    ids = text_ids(ids, T, n)
    if len(ids) < T + 1:
        raise ValueError(f"the text has {len(ids)} tokens; stretches of {T} need at least {T + 1}")

    def batch(rng):
        rows = rng.integers(0, len(ids) - T, n)[:, None] + np.arange(T)
        return ids[rows], ids[rows + 1]

    batch.digest = f"{hashlib.sha256(ids.astype(int)).hexdigest()}, {n} stretches of {T}"  # for checkpoints
    return batch


def text_windows(ids, T, n=16):
    """The whole text once, for evaluate: a list of (ids, targets), in windows of T tokens side by side.

    Each token but the first is predicted once, the last window being shorter.
    """
    ids = text_ids(ids, T, n)
    if len(ids) < 2:
        raise ValueError(f"a text of {len(ids)} tokens has nothing to predict; it needs at least 2")
    whole = (len(ids) - 1) // T
    rows = np.arange(whole)[:, None] * T + np.arange(T)
    windows = [(ids[part], ids[part + 1]) for part in np.split(rows, range(n, whole, n)) if whole]
    rest = ids[whole * T :][None]
    return windows + ([(rest[:, :-1], rest[:, 1:])] if rest.shape[1] > 1 else [])


TEXTS = ("climate", "recipes", "conversation", "plain")


def read_text(name):
    """A text that comes with the package, a line a sentence: "climate", "recipes"; a line a turn: "conversation", which is
    held out of what the base `english` was made of, and "plain", all that it was made of (5 million characters).

    Raises: ValueError for another name
    """
    if name not in TEXTS:
        raise ValueError(f"there is no text {name!r}; there are: {', '.join(TEXTS)}")
    file = resources.files("minipeft").joinpath("data", "plain.txt.xz" if name == "plain" else f"{name}.txt")
    raw = file.read_bytes()
    return (lzma.decompress(raw) if name == "plain" else raw).decode("utf-8")


def split_lines(text, every=5):
    """(training text, held-out text): every fifth line is held out."""
    lines = text.splitlines(keepends=True)
    held_out = lines[every - 1 :: every]
    return "".join(line for i, line in enumerate(lines) if i % every != every - 1), "".join(held_out)
