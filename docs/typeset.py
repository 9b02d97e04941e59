"""Docstrings of minipeft as reStructuredText: their Unicode equations as TeX, papers, lessons and names as links."""

import re
import unicodedata
from textwrap import indent, wrap

PAPERS = {  # as a docstring cites it: where it is
    "Ba et al., 2016": "1607.06450",
    "Ben Zaken et al., 2022": "2106.10199",
    "Dettmers, 2016": "1511.04561",
    "Dettmers et al., 2023": "2305.14314",
    "Hayou et al., 2024": "2402.12354",
    "He et al., 2022": "2110.04366",
    "Hendrycks & Gimpel, 2016": "1606.08415",
    "Houlsby et al., 2019": "1902.00751",
    "Hu et al., 2021": "2106.09685",
    "Kalajdzievski, 2023": "2312.03732",
    "Kopiczko et al., 2024": "2310.11454",
    "Lee et al., 2019": "1911.03090",
    "Lester et al., 2021": "2104.08691",
    "Li & Liang, 2021": "2101.00190",
    "Liu et al., 2022": "2205.05638",
    "Liu et al., 2024": "2402.09353",
    "Loshchilov & Hutter, 2019": "1711.05101",
    "Pascanu et al., 2013": "1211.5063",
    "Press & Wolf, 2017": "1608.05859",
    "Sennrich et al., 2016": "1508.07909",
    "Vaswani et al., 2017": "1706.03762",
    "Zhang et al., 2023": "2308.03303",
    "Zhao et al., 2024": "2312.11420",
}
NOT_ON_ARXIV = {"Radford et al., 2019", "Srivastava et al., 2014"}
# Hu, Hyeon-Woo, O'Neill, van den Oord
AUTHOR = r"(?:(?:Ben|[Vv]an|[Vv]on|[Dd]e[nrl]?|[Dd]i|[Dd]u|[Ll][ae]) )*[A-Z][\w'’-]+"
CITED = re.compile(rf"{AUTHOR}(?: et al\.| & {AUTHOR})?,? (?:19|20)\d\d")
LESSONS = re.compile(r"\b([Ll]essons?) (\d\d(?:(?:, | and | to )\d\d)*)")
FUNCTIONS = {
    "softmax", "gelu", "attention", "base", "exp", "log", "tanh", "mean", "var", "attn", "mlp", "back", "ln", "lm_head",
    "wte", "wpe", "onehot", "f",
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<root>√(?:\((?:[^()]|\([^()]*\))*\)|\w[\u0302\u0304]?))|(?P<space> +)|(?P<rest>\.\.\.|<-|\+=|: |[^A-Za-zα-ωΔΣ])"
    r"|(?P<word>[A-Za-zα-ωΔΣ]+[\u0302\u0304]?(?:_[A-Za-z0-9]+)?(?:'s)?)"
)
SIGNS = {
    "...": r"\dots ", "<-": r"\leftarrow ", "+=": r"\mathrel{+}=", ": ": r"\colon ", ":": "{:}", "½": r"\tfrac12 ",
    "#": r"\#", "%": r"\%", "&": r"\&", "{": r"\{", "}": r"\}", "ᵀ": r"^\top ", "−": "-", "‖": r"\|", "′": "'",
}  # fmt: skip
FIELDS = ("Shapes", "Trains", "At init", "Raises", "Options", "Class attributes", "Bits", "Error")
FIELD = re.compile(rf"(?:(.*\S)  )?({'|'.join(FIELDS)}): +(\S.*)")  # on a line of its own, or after two spaces
SETTING = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (\S.*)")
RELATION = re.compile(r"\S+ (=|\+=|<-) ")


def tex(line):
    """One line of a docstring as TeX, its English words as text.  KaTeX itself reads α, ⊙ and ².

    Raises: ValueError for letters side by side of which some are Greek: they are neither a variable nor a word
    """
    line = unicodedata.normalize("NFD", line)  # Ŵ as W and a hat
    tokens = [(m.lastgroup, m[0]) for m in TOKEN.finditer(line)]

    def english(i):
        kind, word = tokens[i] if 0 <= i < len(tokens) else ("", "")
        variable = re.fullmatch("d?Δ?.[\u0302\u0304]?(_.+)?", word) or {word, word.partition("_")[0]} & FUNCTIONS
        return english(i + 2) if word == "a" else kind == "word" and not variable

    def one(i, kind, word):
        if kind == "root":
            return rf"\sqrt{{{tex(word[2:-1] if word[1] == '(' else word[1:])}}}"
        if kind == "space":
            beside = tokens[i - 1][1] + "".join(word for _, word in tokens[i + 1 : i + 2])
            if english(i - 1) or english(i + 1):
                return r"\ "
            return " " if re.search("[-=+−⊙/≈,;:Σ]", beside) else r"\,"
        if kind == "rest":
            return SIGNS.get(word, word)
        if word in FUNCTIONS and "_" in word:
            return r"\operatorname{" + word.replace("_", r"\_") + "}"
        name, _, sub = word.partition("_")
        sub = sub and f"_{{{sub}}}" if len(sub) < 2 else rf"_{{\text{{{sub}}}}}"
        name = re.sub("(.)\u0302", r"\\hat{\1}", name).replace("s\u0304", r"\bar{s}").replace("Σ", r"\sum{}")
        if english(i) and re.search("[α-ωΔΣ]", word):
            raise ValueError(
                f"{word!r} in the equation {line.strip()!r} is no variable, which is one letter behind d or Δ"
            )
        kind = "text" if english(i) else "operatorname" if name in FUNCTIONS and len(name) > 1 else ""
        return (rf"\{kind}{{{name}}}" if kind else name) + sub

    return "".join(one(i, *token) for i, token in enumerate(tokens)).replace("{}_", "_")


def cited(text):
    """The papers that a text cites, in their order: [(as it is written, arXiv number or None)].

    Raises: ValueError for one that stands neither in PAPERS nor in NOT_ON_ARXIV
    """
    found = list(dict.fromkeys(CITED.findall(" ".join(text.split()))))
    if unknown := [paper for paper in found if paper not in PAPERS and paper not in NOT_ON_ARXIV]:
        raise ValueError(f"docs/typeset.py knows no arXiv number of {unknown[0]!r}: add it to PAPERS or NOT_ON_ARXIV")
    return [(paper, PAPERS.get(paper)) for paper in found]


class Typesetter:
    """What turns a docstring of one page into reStructuredText.

    lesson: number of a lesson, "06" -> its address from this page, or None; name: a name in `back quotes` -> the same
    """

    def __init__(self, lesson=lambda number: None, name=lambda name: None):
        self.lesson, self.name = lesson, name

    def text(self, text):
        """A paragraph: `code`, with a link where a name has one; papers and lessons as links."""
        text = re.sub(r"[ \n]+", " ", text)
        return "".join(self.code(s) if i % 2 else self.plain(s) for i, s in enumerate(text.split("`")))

    def code(self, name):
        target = self.name(name)
        if target is None:
            return f"``{name}``"
        return f':raw-html:`<code class="docutils literal"><a href="{target}">{name}</a></code>`'

    def plain(self, text):
        out, at = [], 0
        for match in re.finditer(f"{CITED.pattern}|{LESSONS.pattern}", text):
            out.append(escaped(text[at : match.start()]))
            out.append(self.lessons(match[0]) if match[1] else self.paper(match[0]))
            at = match.end()
        return "".join([*out, escaped(text[at:])])

    def paper(self, name):
        [(_, number)] = cited(name)
        return escaped(name) if number is None else f"`{name} <https://arxiv.org/abs/{number}>`__"

    def lessons(self, words):
        def link(match):
            target = self.lesson(match[0])
            return match[0] if target is None else rf"\ `{match[0]} <{target}>`__\ "

        return re.sub(r"\d\d", link, words)

    def rst(self, doc, which=lambda equation: True, prose=True, literal=False):
        """A docstring, with those of its equations for which `which` is true; or, without `prose`, these alone."""
        math = [] if literal else mathematics(equations(doc, which), self.text)
        if not prose:
            return "\n\n".join(math)
        out, settings, fields = [], [], []
        for kind, text in parts(doc, literal):
            if kind == "MATH":
                out, math = [*out, *math], []  # all of them where the first stands
            elif kind == "PROSE":
                out.append("- " * text.startswith("- ") + self.text(text.removeprefix("- ").strip()))
            elif kind in ("DOCTEST", "CODE"):
                out.append((".. code-block:: pycon" if kind == "DOCTEST" else "::") + "\n\n" + indent(text, "   "))
            elif kind in FIELDS:
                fields.append(f":{kind}: {self.text(text)}")
            else:
                settings.append(f"``{kind}``\n   {self.text(text)}")
        return "\n\n".join(filter(None, [*out, "\n".join(settings), "\n".join(fields)]))


def parts(doc, literal=False):
    """[(kind, text)] of a docstring.  A blank line ends each.

    MATH     a line that is indented by four
    CODE     such lines where `literal`
    DOCTEST  lines from >>> on
    PROSE    a paragraph, or an entry of a list, which begins with -
    Shapes   (all FIELDS) `Shapes:   x (N, D)`, with what goes on below; on a line of its own or after two spaces
    r        `r: rank`, where a paragraph or another setting begins
    """
    found, last = [], ""
    for line in doc.splitlines():
        field, setting = FIELD.fullmatch(line), SETTING.fullmatch(line)
        if not line.strip():
            last = ""
        elif last in ("DOCTEST", "CODE"):
            found[-1][1] += line.removeprefix("    ") + "\n"
        elif line.startswith(">>> ") or (literal and line.startswith("    ")):
            last = "DOCTEST" if line.startswith(">>> ") else "CODE"
            found.append([last, line.removeprefix("    ") + "\n"])
        elif field:
            if field[1] and last == "PROSE":
                found[-1][1] += field[1]
            elif field[1]:
                found.append(["PROSE", field[1]])
            last = field[2]
            found.append([last, field[3]])
        elif setting and last not in ("PROSE", "MATH", *FIELDS):
            last = setting[1]
            found.append([last, setting[2]])
        elif last and last not in ("PROSE", "MATH"):
            found[-1][1] += " " + line.strip()
        elif line.startswith("    "):
            last = "MATH"
            found.append([last, line.strip()])
        else:
            found += [] if last == "PROSE" and not line.startswith("- ") else [["PROSE", ""]]
            last = "PROSE"
            found[-1][1] += line + "\n"
    return found


def equations(doc, which=lambda equation: True):
    """[(kind, text)] of the indented lines: an `equation`, a `head` for those of its line, or a `note` on those before it.

    Pieces of a line are three spaces apart; a head may have a line of its own.  A note is also what follows after `:  `,
    or in brackets after two spaces; it stays with its equation, and is left out with it.

    Raises: ValueError for a head of nothing
    """
    found, pieces = [], []
    for line in [text for kind, text in parts(doc) if kind == "MATH"]:
        for piece in re.split(" {3,}", line):
            equation, note = re.fullmatch(r"(.*?)(?:(?::  +| {2,}\()(.*?)\)?)?", piece).groups()
            if not note or not RELATION.match(equation):
                equation, note = piece, ""
            equation = equation.strip(" ,;")
            kind = "equation" if is_equation(equation) else "note" if "equation" in dict(pieces) else "head"
            pieces.append((kind, equation if kind == "equation" else re.sub(r"^\((.*)\)$", r"\1", equation)))
            pieces += [("note", note)] if note else []
        if "equation" not in dict(pieces):
            continue
        keep = [kind == "equation" and which(text) for kind, text in pieces]
        for i, (kind, _) in enumerate(pieces):
            keep[i] = any(keep) if kind == "head" else keep[i - 1] if kind == "note" else keep[i]
        found += [piece for piece, kept in zip(pieces, keep, strict=True) if kept]
        pieces = []
    if pieces:
        raise ValueError(f"indented by four, as an equation, but there is none: {pieces[0][1]!r}")
    return found


def is_equation(piece):
    """Or a remark: in brackets, or in words with no sign between two sides."""
    words = re.search(r"(?<!_\{)\\text\{", tex(re.sub(r"\[[^]]*\]", "", piece)))
    return bool(RELATION.match(piece)) or not (words or re.fullmatch(r"\([^()]*\)", piece))


def mathematics(pieces, plain):
    """Equations of a docstring, one under the other, each remark at what it is about; plain(text) is a head as text."""
    blocks = []
    for kind, text in pieces:
        if kind == "head":
            blocks += [plain(text), []]
        elif kind == "note":
            blocks[-1] += [rf"&\quad{{\small {tex(line)}}}" for line in wrap(text, 48)]
        else:
            blocks += [] if blocks and isinstance(blocks[-1], list) else [[]]
            blocks[-1] += [at_its_sign(line) for line in lines_of(text)]
    begin, end = ".. math::\n\n   \\begin{aligned}", r"\end{aligned}"
    return [block if isinstance(block, str) else begin + r"\\ ".join(block) + end for block in blocks]


def at_its_sign(row):
    """A row of `aligned`, with its mark before the first sign = that stands in no brackets."""
    if row.startswith(r"\quad"):  # the second line of a long one
        return "&" + row
    depth = 0
    for sign in re.finditer(r"\\[a-z]+\{\+\}=|\\leftarrow|\\.|[()\[\]{}=≈]", row):
        if depth == 0 and sign[0].endswith(("=", "≈", "arrow")):
            return f"{row[: sign.start()]}&{row[sign.start() :]}"
        depth += (sign[0] in "([{") - (sign[0] in ")]}")
    return "&" + row


def lines_of(equation, most=46):
    """An equation as TeX; one that is longer than the column beside the code, in two lines, broken outside of brackets."""
    places = [m.end() for m in re.finditer(r", | (?=[=+] )", equation) if 18 < m.end() <= most]
    places = [at for at in places if not re.search(r"√\([^)]*$", equation[:at])]
    if len(equation) <= most or not places:
        return [tex(equation)]
    depth = {at: equation[:at].count("(") - equation[:at].count(")") for at in places}
    commas = [at for at in places if equation[at - 2] == ","] or places
    at = min(commas, key=lambda at: (depth[at], -at))
    return [tex(equation[:at].strip()), r"\quad " + tex(equation[at:])]


def escaped(text):
    """Plain text as reStructuredText."""
    return re.sub(r"([*|\\`]|_(?!\w))", r"\\\1", text)
