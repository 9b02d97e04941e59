"""The base of a command, how text becomes its tokens, and writing with it."""

import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..generation import generate
from ..interop import load_gpt2, load_tokenizer
from ..interop import tokenizer as pieces
from ..methods.wrapper import virtual_tokens
from ..model import GPT2
from ..training import base_names, load_base, load_tokens, read_text
from ..training.data import TEXTS

BASE = "a shipped base, a GPT-2 folder, or a name on the Hugging Face Hub"


class Base(NamedTuple):
    """A model with its text: encode(text) -> ids (T,), decode(ids) -> text, unknown(text) -> Counter of what in it the
    model does not know, piece by piece."""

    model: GPT2
    encode: Callable
    decode: Callable
    unknown: Callable


def open_model(name):
    """A shipped base by its name, or else a GPT-2 folder or a model of the Hub; in float32."""
    if name in base_names():
        return load_base(name, "float32")
    if not Path(name).exists() and (meant := get_close_matches(name, base_names(), 1, 0.8)):
        raise ValueError(f"there is no base {name!r}, and no folder of that name; did you mean {meant[0]}?")
    return load_gpt2(name, "float32")


def open_base(name):
    """A Base.  Raises: ValueError for symbols, which are no text; what load_gpt2 and load_tokenizer raise."""
    if name == "symbols":
        raise ValueError("the base symbols knows no text; choose english or a GPT-2 folder")
    model = open_model(name)
    if name in base_names():
        tokens = load_tokens(name)
        return Base(model, tokens.encode, tokens.decode, marks)
    tokenizer, V = load_tokenizer(name), model.config.vocab_size
    if tokenizer.get_vocab_size() > V:
        raise ValueError(f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the model knows {V}")
    return Base(
        model,
        lambda text: np.array(pieces.encode(tokenizer, text).ids, int),
        lambda ids: pieces.decode(tokenizer, ids),
        lambda text: unknown_pieces(tokenizer, text),
    )


def unknown_pieces(tokenizer, text):
    """Counter of the pieces of a text that a tokenizer replaces by its token for the unknown, or leaves out."""
    tokens = pieces.encode(tokenizer, text)
    try:
        lost = pieces.encode(tokenizer, RARE).ids
    except ValueError:  # it takes only what it knows
        return marks(text)
    if RARE in pieces.decode(tokenizer, lost):  # GPT-2's spells whatever it is in bytes
        return marks(text)
    model = json.loads(tokenizer.to_str())["model"]
    unknown = model.get("unk_id")
    if unknown is None:
        unknown = tokenizer.token_to_id(model.get("unk_token") or "")
    if unknown is not None:
        return Counter(text[a:b] for i, (a, b) in zip(tokens.ids, tokens.offsets, strict=True) if i == unknown)
    letters = Counter(text)
    return Counter(
        {one: n for one, n in letters.items() if not one.isspace() and pieces.encode(tokenizer, one).ids == lost}
    )


def marks(text):
    """Counter of the mark that takes the place of letters which some program before could not read."""
    return +Counter({"\ufffd": text.count("\ufffd")})


RARE = "\U00013000"  # a hieroglyph, which no vocabulary has


def unknown_share(text, unknown):
    """The share of a text's letters (all but white space) that a base does not know, 0 ... 1."""
    return min(1.0, sum(letters(piece) * count for piece, count in unknown.items()) / max(letters(text), 1))


def letters(text):
    return sum(not char.isspace() for char in text)


def read_beside(base, ids, n):
    """The text of ids[n:], as it reads after ids[:n]: a tokenizer may write a token otherwise at the beginning of a text,
    without its space, say.  None if those before read otherwise, too, with what follows."""
    before, whole = base.decode(ids[:n]), base.decode(ids)
    return whole[len(before) :] if whole.startswith(before) else None


def write(base, prompt, length, temperature=0.7, top_k=None, seed=0):
    """The prompt and `length` tokens more.  Of a prompt longer than half the window, the model sees the end."""
    ids = seen(base, prompt)
    new = generate(base.model, ids[None], length, temperature, top_k, np.random.default_rng(seed))[0]
    text = read_beside(base, new, len(ids))
    if text is None:
        return base.decode(new)
    if text and not base.decode(ids)[-1:].isspace():  # a space at the end is no token of its own for every tokenizer
        prompt = prompt.rstrip()
    return prompt + text


def seen(base, prompt):
    """The ids of a prompt, or of its end, where it is longer than half of the window that virtual tokens leave."""
    ids = base.encode(prompt)[-max((base.model.config.n_positions - virtual_tokens(base.model)) // 2, 1) :]
    if not len(ids):
        what = "nothing of the prompt is known to the tokenizer" if prompt.strip() else "the prompt is empty"
        raise ValueError(f"{what}: the model needs at least one token to go on from")
    return ids


def lost(unknown):
    """One line on what the tokenizer does not know, for people."""
    kinds = ", ".join(f"{piece!r} ({count})" for piece, count in unknown.most_common(8))
    more = f" and {len(unknown) - 8} others" if len(unknown) > 8 else ""
    return f"Not known to the tokenizer, and lost ({unknown.total()} in all): {kinds}{more}"


def line(text):
    """Text on one line."""
    return " ".join(text.split())


def read_text_file(path):
    """The text of a file, or where there is none of this name, a shipped one.

    Raises: OSError; ValueError if it is not UTF-8, or no text at all
    """
    if path in TEXTS and not os.path.lexists(path):
        return read_text(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise ValueError(f"{path} is a device; a file with a text is needed")
        raw = Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16, as its first two bytes say; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        zeros = text.count("\0")
        what = "UTF-16, saved without its mark: save it as UTF-8" if zeros > len(text) / 3 else "no text"
        raise ValueError(f"{path} has {zeros} NUL characters, which are in no text; it may be {what}")
    return text.replace("\r\n", "\n").replace("\r", "\n")
