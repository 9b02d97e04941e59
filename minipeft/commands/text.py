"""The base of a command, how text becomes its tokens (characters, or those of a tokenizer), and writing with it."""

import argparse
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..generation import generate
from ..interop import load_gpt2, load_tokenizer
from ..interop import tokenizer as pieces
from ..model import GPT2
from ..training import base_names, decode, encode, load_base, plain

BASE = "a shipped base, a GPT-2 folder, or a name on the Hugging Face Hub"


def at_least(low):
    """The type of an argument: a whole number that is not below `low`."""

    def whole(text):
        if int(text) < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, not {text}")
        return int(text)

    whole.__name__ = "whole number"  # argparse says: invalid whole number value: '1.5'
    return whole


class Base(NamedTuple):
    """A model with its text: encode(text) -> ids (T,), decode(ids) -> text, plain(text) -> (text, what gave way)."""

    model: GPT2
    encode: Callable
    decode: Callable
    plain: Callable
    unit: str


def open_model(name, dtype="float32"):
    """A shipped base by its name, or else a GPT-2 folder or a model of the Hub."""
    return load_base(name, dtype) if name in base_names() else load_gpt2(name, dtype)


def open_base(name):
    """A Base.  Raises: ValueError for symbols, which are no text; what load_gpt2 and load_tokenizer raise."""
    if name == "symbols":
        raise ValueError("the base symbols knows no text; choose english or a GPT-2 folder")
    model = open_model(name)
    if name in base_names():
        return Base(model, encode, decode, plain, "character")
    tokenizer, V = load_tokenizer(name), model.config.vocab_size
    if tokenizer.get_vocab_size() > V:
        raise ValueError(f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the model knows {V}")
    return Base(
        model,
        lambda text: pieces.encode(tokenizer, text),
        lambda ids: pieces.decode(tokenizer, ids),
        lambda text: (text, Counter()),
        "token",
    )


def write(base, prompt, length, temperature=0.7, top_k=None, seed=0):
    """The prompt and `length` tokens more.  Of a prompt longer than half the window, the model sees the end."""
    ids = base.encode(prompt)[-(base.model.config.n_positions // 2) :]
    if not len(ids):
        raise ValueError(f"the prompt is empty: the model needs at least one {base.unit} to go on from")
    new = generate(base.model, ids[None], length, temperature, top_k, np.random.default_rng(seed))
    return prompt + base.decode(new[0, len(ids) :])


def replaced(unknown):
    """One line on the characters that had to give way, for people."""
    kinds = ", ".join(f"{char!r} ({count})" for char, count in unknown.most_common(8))
    more = " ..." if len(unknown) > 8 else ""
    return f"Replaced by '?', not in the alphabet ({unknown.total()} in all): {kinds}{more}"


def line(text):
    """Text on one line."""
    return " ".join(text.split())
