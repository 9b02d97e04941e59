r"""How GPT-2 cuts a text into words, before it looks for tokens.

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

A word is the end of a contraction, or a run of letters, of numbers or of other signs, each with one space before it;
where more spaces stand together, the last goes with the word behind them.  Nothing is lost between the words:

>>> list(split("It's 3 o'clock,  nearly."))
['It', "'s", ' 3', ' o', "'", 'clock', ',', ' ', ' nearly', '.']

Python's `re` knows no \p{L} (letters) and no \p{N} (numbers), and its \s has four control characters too many.  So
all three are written out here as ranges of characters, from `unicodedata`.
"""

import re
from functools import cache
from unicodedata import category

SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
YOUNGER = {  # what Unicode 14 to 16 added: so the words are the same from Python 3.10 to 3.14
    "L": """
        870-887 889-88e 8b5 8c8-8c9 c5d cdd 170d 171f 1b4c 1c89-1c8a 2c2f 2c5f 9ffd-9fff a7c0-a7c1 a7cb-a7cd a7d0-a7d1
        a7d3 a7d5-a7dc a7f2-a7f4 10570-1057a 1057c-1058a 1058c-10592 10594-10595 10597-105a1 105a3-105b1 105b3-105b9
        105bb-105bc 105c0-105f3 10780-10785 10787-107b0 107b2-107ba 10d4a-10d65 10d6f-10d85 10ec2-10ec4 10f70-10f81
        11071-11072 11075 1123f-11240 11380-11389 1138b 1138e 11390-113b5 113b7 113d1 113d3 11740-11746 11ab0-11abf
        11bc0-11be0 11f02 11f04-11f10 11f12-11f33 12f90-12ff0 1342f 13441-13446 13460-143fa 16100-1611d 16a70-16abe
        16d40-16d6c 18cff 1aff0-1aff3 1aff5-1affb 1affd-1affe 1b11f-1b122 1b132 1b155 1df00-1df1e 1df25-1df2a
        1e030-1e06d 1e290-1e2ad 1e4d0-1e4eb 1e5d0-1e5ed 1e5f0 1e7e0-1e7e6 1e7e8-1e7eb 1e7ed-1e7ee 1e7f0-1e7fe
        2a6de-2a6df 2b735-2b739 2ebf0-2ee5d 31350-323af""",
    "N": """
        10d40-10d49 116d0-116e3 11bf0-11bf9 11f50-11f59 16130-16139 16ac0-16ac9 16d70-16d79 1ccf0-1ccf9 1d2c0-1d2d3
        1e4f0-1e4f9 1e5f1-1e5fa""",
}


def split(text):
    """The words of a text, one after the other."""
    return map(re.Match.group, word_pattern().finditer(text))


@cache
def word_pattern():
    """The pattern above, compiled; made when it is first needed."""
    L, N, S = ranges("L"), ranges("N"), SPACES
    signs = f"[^{S}{''.join(L)}{''.join(N)}]+"
    return re.compile(f"'s|'t|'re|'ve|'m|'ll|'d| ?{run(*L)}| ?{run(*N)}| ?{signs}|[{S}]+(?![^{S}])|[{S}]+")


def ranges(kind):
    """The ranges of letters ("L") or numbers ("N"), as they stand between brackets: (below U+10000, from there on)."""
    kinds = "".join(category(chr(i))[0] for i in range(0x40000))  # Unicode has neither above that
    found = [(match.start(), match.end() - 1) for match in re.finditer(f"{kind}+", kinds)]
    for younger in YOUNGER[kind].split():
        first, _, last = younger.partition("-")
        found.append((int(first, 16), int(last or first, 16)))
    near, far = ([pair for pair in found if (pair[0] < 0x10000) == is_near] for is_near in (True, False))
    return tuple("".join(f"{chr(first)}-{chr(last)}" for first, last in pairs) for pairs in (near, far))


def run(near, far):
    """A run of these characters.  `re` goes through the hundreds of ranges in `far` one by one: only where it must."""
    return rf"(?:[{near}]+|(?=[\U00010000-\U0010ffff])[{far}]+)+"
