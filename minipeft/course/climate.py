"""The texts of lessons 04, 05 and 08: new ones on the climate, and conversations of the kind that `english` was made of.

Each text is encoded once, whoever asks.
"""

from functools import lru_cache

from ..training import evaluate, load_tokens, read_text, split_lines, text_batches, text_windows

T, N = 64, 4  # tokens of a stretch, and stretches of a batch
LINES = {"new": 60, "old": 50}  # so many of each held-out text are measured in lessons 04 and 05


@lru_cache
def batches():
    """Batches of the climate's training text, for fit."""
    train, _ = split_lines(read_text("climate"))
    return text_batches(load_tokens().encode(train), T, N)


def held_out():
    """{"new": the held-out lines on the climate, "old": the conversations}; nobody trains on either."""
    return {"new": split_lines(read_text("climate"))[1], "old": read_text("conversation")}


@lru_cache
def texts():
    """(draw, old, new): batches of climate text, and the first lines of two held-out texts, as lesson 04 makes them."""
    first = {name: "".join(text.splitlines(keepends=True)[: LINES[name]]) for name, text in held_out().items()}
    return batches(), first["old"], first["new"]


@lru_cache
def windows(text):
    """The batches on which a text is measured."""
    return text_windows(load_tokens().encode(text), T)


def bits(model, text):
    """Bits a character of a text under the model."""
    return float(evaluate(model, windows(text)).bits_a_character(text))


@lru_cache
def first_tokens(n=700):
    """{"new": windows, "old": windows} of the first n tokens of the held-out texts, as lesson 08 measures them."""
    return {name: text_windows(load_tokens().encode(text)[:n], T) for name, text in held_out().items()}
