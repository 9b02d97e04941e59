"""Tokens: a text as whole numbers, by byte-pair encoding on bytes, as in GPT-2.

A model reads numbers.  With one number for each letter a text is long; with one for each word, most words are unknown.
A token lies between: a string that is frequent, like " the" or "ing", or, where there is none, a single byte.

Bytes come first.  Every text is a row of bytes (UTF-8), so 256 tokens can spell whatever can be written, and nothing is
unknown (Radford et al., 2019, section 2.2).  All other tokens come from one rule, which is applied until there are as
many as are wanted: the two tokens that stand side by side most often are merged into a new one (Sennrich et al., 2016,
section 3.2).

The list of merges, in order, is all that is learned.  To encode a text, make the same merges in it, in the same order;
to decode, put the bytes of its tokens side by side.  Both happen inside of words, each with the space before it
(words.py), so that no token reaches from one word into the next.

Lesson 03 does it by hand.  The words of the paper's example, and how often each stands in the text:

>>> tokens = Tokens.train({"low": 5, "lower": 2, "newest": 6, "widest": 3}, V=260)
>>> tokens.vocab[256:]
[b'es', b'est', b'lo', b'low']
>>> ids = tokens.encode("lowest newer")
>>> [tokens.vocab[i] for i in ids]
[b'low', b'est', b' ', b'n', b'e', b'w', b'e', b'r']
>>> tokens.decode(ids)
'lowest newer'
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..validation import is_whole
from .tokenizer_json import BYTES, read_merges, write_tokenizer, write_tokenizer_folder
from .words import split

ID_OF_BYTE = bytes(BYTES.index(byte) for byte in range(256))
CACHE = 100_000  # words whose tokens are kept while a text is encoded, since most come again


class Tokens:
    """V tokens: the 256 bytes, in GPT-2's order, and one for each merge.

    - `.vocab`: id -> bytes
    - `.merges`: (left, right) -> the id of the two in one; the lower it is, the earlier the merge
    """

    def __init__(self, merges=()):
        """merges: pairs of ids in their order; the first makes token 256.

        Raises: ValueError if a pair takes a token that no merge before it makes, or two make the same
        """
        self.vocab, self.merges = [bytes([byte]) for byte in BYTES], {}
        for new, (left, right) in enumerate(merges, 256):
            if not is_whole(left, 0, new - 1) or not is_whole(right, 0, new - 1):
                raise ValueError(f"token {new} is made of two tokens in 0 ... {new - 1}, not of {left!r} and {right!r}")
            self.vocab.append(self.vocab[left] + self.vocab[right])
            self.merges[left, right] = new
        token, times = Counter(self.vocab).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times - 1} of the merges make {token!r}, which is a token before them")

    @classmethod
    def train(cls, text, V):
        """The V tokens that suit a text; it may be given as the counts of its words, {word: times}, too."""
        return cls(learn_merges(text if isinstance(text, Mapping) else Counter(split(text)), V))

    @property
    def vocab_size(self):
        """V, the number of tokens."""
        return len(self.vocab)

    def encode(self, text):
        """Text to token ids, (T,) integers.  A word that comes again is not merged again.

        Raises: ValueError for half a surrogate pair, the only thing in a str that is no character
        """
        encode_word, ids = lru_cache(CACHE)(self.encode_word), []
        for word in split(text):
            ids += encode_word(word)
        return np.array(ids, int)

    def encode_word(self, word):
        """The ids of one word, a list: make the earliest merge that is possible, everywhere, until none is left.

        What it makes can only be used by later merges, so there are at most V - 256 rounds.  Each goes through the whole
        word: a hundred thousand letters without a space take some seconds.
        """
        ids = bytes_to_ids(word)
        while possible := self.merges.keys() & pairwise(ids):
            pair = min(possible, key=self.merges.get)
            ids = merge(ids, pair, self.merges[pair])
        return ids

    def decode(self, ids):
        """Token ids to text.  Bytes that are no UTF-8, such as the first of the two of "é" alone, become U+FFFD.

        Raises: ValueError for what is no id of a token
        """
        ids = np.asarray(ids).reshape(-1)
        if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= self.vocab_size):
            raise ValueError(f"ids of tokens are integers in 0 ... {self.vocab_size - 1}, not {ids!r:.60}")
        return b"".join(self.vocab[i] for i in ids.tolist()).decode(errors="replace")

    def save(self, path):
        """Write tokenizer.json, which Hugging Face tokenizers reads, too."""
        write_tokenizer(path, list(self.merges))

    def save_folder(self, folder, n_positions):
        """Write the tokenizer of a model's folder, tokenizer.json and tokenizer_config.json, for transformers."""
        write_tokenizer_folder(folder, list(self.merges), n_positions)

    @classmethod
    def load(cls, path):
        """Read a tokenizer.json.

        Raises: FileNotFoundError; FileError that names the field that is damaged, or set to what is not done here
        """
        return cls(read_merges(path))


def bytes_to_ids(word):
    """A token for each byte of a word, a list of ids."""
    try:
        return list(word.encode().translate(ID_OF_BYTE))
    except UnicodeEncodeError as error:
        half = word[error.start]
        raise ValueError(f"{half!r} is half of a surrogate pair, which is no character and has no bytes") from error


def merge(ids, pair, new):
    """The ids with `new` in place of the pair, from left to right."""
    merged = []
    for i in ids:
        if merged and (merged[-1], i) == pair:
            merged[-1] = new
        else:
            merged.append(i)
    return merged


def learn_merges(counts, V):
    """The merges, [(left, right), ...], that make V tokens for the words {word: times}.

    Each is the most frequent pair so far; of several, the one with the lowest ids.  All pairs are counted once at the
    beginning: a merge changes the counts only where it happens.

    Raises: ValueError if V is too small, or too large for these words, or the counts are none
    """
    check_counts(counts, V)
    words, times = [bytes_to_ids(word) for word in counts], list(counts.values())
    frequency, holders = Counter(), defaultdict(set)  # of each pair: how often it stands in the text; in which words

    def count(ids, i, n):
        for pair in pairwise(ids):
            frequency[pair] += n
            holders[pair].add(i)

    for i, ids in enumerate(words):
        count(ids, i, times[i])
    merges = []
    for new in range(256, V):
        most = max(frequency.values(), default=0)
        if most == 0:
            raise ValueError(f"V = {V} is too large: after {new} tokens, each word of the text is one token")
        pair = min(pair for pair, n in frequency.items() if n == most)
        for i in holders.pop(pair):
            ids, at = words[i], 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == pair:
                    before = max(at - 1, 0)
                    count(ids[before : at + 3], i, -times[i])  # the pair, and the two that it was part of
                    ids[at : at + 2] = [new]
                    count(ids[before : at + 2], i, times[i])
                at += 1
        merges.append(pair)
    return merges


def check_counts(counts, V):
    if not is_whole(V, 256):
        raise ValueError(f"V, the number of tokens, is a whole number of at least 256, one for each byte, not {V!r}")
    if not all(isinstance(word, str) and is_whole(n, 0) for word, n in counts.items()):
        raise ValueError("counts are {word: times}, words as text and times as whole numbers of at least 0")
