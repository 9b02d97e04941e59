"""Docstrings of minipeft as reStructuredText: their Unicode equations as TeX, papers, lessons and names as links."""

import re
import unicodedata

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
NOT_ON_ARXIV = {"Radford et al., 2019", "Srivastava 2014"}
# Hu, Hyeon-Woo, O'Neill, van den Oord
AUTHOR = r"(?:(?:Ben|[Vv]an|[Vv]on|[Dd]e[nrl]?|[Dd]i|[Dd]u|[Ll][ae]) )*[A-Z][\w'’-]+"
CITED = re.compile(rf"{AUTHOR}(?: et al\.| & {AUTHOR})?,? (?:19|20)\d\d")
LESSONS = re.compile(r"\b([Ll]essons?) (\d\d(?:(?:, | and | to )\d\d)*)")
FUNCTIONS = {
    "softmax", "gelu", "attention", "base", "exp", "log", "tanh", "mean", "var", "attn", "mlp", "back", "ln", "lm_head",
    "wte", "wpe", "onehot", "f",
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<root>√(?:\((?:[^()]|\([^()]*\))*\)|\w\u0302?))|(?P<space> +)|(?P<rest>\.\.\.|<-|[^A-Za-zα-ωΔΣ])"
    r"|(?P<word>[A-Za-zα-ωΔΣ]+\u0302?(?:_[A-Za-z0-9]+)?(?:'s)?)"
)
SIGNS = {
    "...": r"\dots ", "<-": r"\leftarrow ", "½": r"\tfrac12 ", "#": r"\#", "%": r"\%", "&": r"\&", "{": r"\{",
    "}": r"\}", "ᵀ": r"^\top ", "−": "-", "‖": r"\|",
}  # fmt: skip
FIELDS = ("Shapes", "Trains", "At init", "Raises", "Options", "Class attributes")
RELATION = re.compile(r"\S+ (=|\+=|<-) ")


def tex(line):
    """One line of a docstring as TeX, its English words as text.  KaTeX itself reads α, ⊙ and ²."""
    line = unicodedata.normalize("NFD", line)  # Ŵ as W and a hat
    tokens = [(m.lastgroup, m[0]) for m in TOKEN.finditer(line)]

    def english(i):
        kind, word = tokens[i] if 0 <= i < len(tokens) else ("", "")
        variable = re.fullmatch("[dΔ]?.\u0302?(_.+)?", word) or {word, word.partition("_")[0]} & FUNCTIONS
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
        name = re.sub("(.)\u0302", r"\\hat{\1}", name).replace("Σ", r"\sum{}")
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
        """Indented lines are equations (or code, where `literal`); `Shapes:   x (N, D)` is a field; `r: rank`, a setting."""
        parts, fields, settings, rows = [], [], [], []
        open_field = open_setting = False  # both go on until a blank line
        for line in doc.splitlines():
            if field := re.match(rf"({'|'.join(FIELDS)}): +(\S.*)", line):
                fields.append([field[1], field[2]])
                open_field = True
            elif open_field and line.strip():
                fields[-1][1] += " " + line.strip()
            elif setting := re.match(r"([a-z_]\w*(?:, [a-z_]\w*)*): (\S.*)", line):
                settings.append([setting[1], setting[2]])
                open_setting = True
            elif open_setting and line.strip():
                settings[-1][1] += " " + line.strip()
            elif line.startswith("    "):
                if literal:
                    parts = [*parts, ["code", line]] if not parts or parts[-1][0] != "code" else parts
                    parts[-1][1] += "" if parts[-1][1] == line else "\n" + line
                else:
                    parts += [] if parts and parts[-1][0] == "math" else [["math", ""]]
                    rows += [piece.strip(" ,;") for piece in re.split(" {3,}", line.strip())]
            elif not line.strip():
                open_field = open_setting = False
                parts.append(["text", ""])
            else:
                if not parts or parts[-1][0] != "text" or line.startswith("- "):
                    parts.append(["text", ""])
                parts[-1][1] += line + "\n"
        math, out = mathematics([row for row in rows if which(row)]), []
        if not prose:
            return "\n\n".join(math)
        for kind, text in parts:
            if kind == "math":
                out, math = [*out, *math], []  # all of them where the first stands
            elif kind == "code":
                out.append("::\n\n" + text)
            elif text.strip():
                out.append("- " * text.startswith("- ") + self.text(text.removeprefix("- ").strip()))
        settings = [f"``{name}``\n   {self.text(text)}" for name, text in settings]
        fields = [f":{name}: {self.text(text)}" for name, text in fields]
        return "\n\n".join(filter(None, [*out, "\n".join(settings), "\n".join(fields)]))


def mathematics(rows):
    """Equations of a docstring, one under the other; then, as text, what is said of them and what has no equation."""
    equations, notes = [], []
    for row in rows:
        equation, note = re.fullmatch(r"(.*?)(?:(?::  +| {2,}\()(.*?)\)?)?", row).groups()
        if not note or not RELATION.match(equation):
            equation, note = row, ""
        if RELATION.match(equation) or tex(equation).count(r"\text{") < 4:
            equations += lines_of(equation)
        else:
            note = equation
        notes += [note] if note else []
    sign = re.compile(r"(?!\\quad)([^(=]*?)(\+?=|\\leftarrow)")  # where rows are aligned
    aligned = [sign.sub(r"\1&\2", row, count=1) if sign.match(row) else "&" + row for row in equations]
    block = [".. math::\n\n   \\begin{aligned}" + r"\\ ".join(aligned) + r"\end{aligned}"][: len(aligned)]
    return [*block, *(escaped(note) for note in notes)]


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
