"""What the site is made from: examples run, papers are known, equations become TeX.  CI builds and checks the pages."""

import ast
import doctest
import importlib.util
import json
import random
import re
import sys
from pathlib import Path

import pytest

import minipeft

ROOT = Path(__file__).resolve().parents[1]


def module_of_docs(name):
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


examples, typeset = module_of_docs("examples"), module_of_docs("typeset")
FILES = [file for part in ("model", "methods", "training") for file in sorted((ROOT / "minipeft" / part).glob("*.py"))]


@pytest.mark.parametrize("name", sorted(minipeft.__all__))
def test_every_public_name_has_an_example_that_runs(name):
    text = examples.EXAMPLES[name]
    assert re.search(rf"\b{name}\b", text)
    test = doctest.DocTestParser().get_doctest(text, {}, name, "docs/examples.py", 0)
    assert any(example.want for example in test.examples)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_there_are_no_examples_of_what_is_not_public():
    assert examples.EXAMPLES.keys() == set(minipeft.__all__)


def docstrings(file):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    return [(node, ast.get_docstring(node)) for node in nodes if ast.get_docstring(node)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_papers_that_a_docstring_cites_are_known(file):
    for _, text in docstrings(file):
        typeset.cited(text)


def test_a_variable_is_one_letter_behind_d_or_delta():
    assert typeset.tex("dΔW = s ΔW") == r"dΔW = s\,ΔW"
    with pytest.raises(ValueError, match="'dWΔ' in the equation 'dWΔ = 1' is no variable"):
        typeset.tex("dWΔ = 1")


@pytest.mark.parametrize(
    "paper",
    [
        "Hu et al., 2021",
        "Hyeon-Woo et al., 2022",
        "O'Neill 2019",
        "van den Oord et al., 2018",
        "Ben Zaken et al., 2021",
        "De Cao & Schlichtkrull, 2020",
        "Loshchilov & Hutter 2017",
    ],
)
def test_the_name_of_an_author_is_read_whole(paper, monkeypatch):
    monkeypatch.setitem(typeset.PAPERS, paper, "1234.56789")
    assert typeset.cited(f"The rule of {paper}, and no other.") == [(paper, "1234.56789")]


def test_a_paper_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="Nobody et al"):
        typeset.cited("As in Nobody et al., 2020, it is.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_braces_of_every_equation_match(file):
    for node, text in docstrings(file):
        if isinstance(node, ast.ClassDef):
            for line in (line.strip() for line in text.splitlines() if line.startswith("    ")):
                formula = typeset.tex(line).replace(r"\{", "").replace(r"\}", "")
                assert formula.count("{") == formula.count("}"), line


@pytest.mark.parametrize(
    ("line", "formula"),
    [
        ("y = x W + b", "y = x\\,W + b"),
        ("dA = xᵀ dh", "dA = x^\\top \\,dh"),
        ("s = α / √r", "s = α / \\sqrt{r}"),
        ("p = softmax(z)", "p = \\operatorname{softmax}(z)"),
        ("dx = gelu′(z′)", "dx = \\operatorname{gelu}'(z')"),
        ("x̂ = (x − mean x) / σ", "\\hat{x} = (x - \\operatorname{mean}\\,x) / σ"),
        ("dx = base's dx + dh Aᵀ", "dx =\\ \\text{base's}\\ dx + dh\\,A^\\top "),
    ],
)
def test_equations_become_tex(line, formula):
    assert typeset.tex(line) == formula


def test_a_docstring_becomes_prose_equations_and_fields():
    text = "One sentence (Hu et al., 2021).\n\n    y = x W\n\nShapes:   x (N, D)"
    out = typeset.Typesetter().rst(text)
    assert "`Hu et al., 2021 <https://arxiv.org/abs/2106.09685>`__" in out
    assert r"y &= x\,W" in out
    assert ":Shapes: x (N, D)" in out


# The course on the site


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return module_of_docs("pages")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_are_shown_without_what_makes_exercises_of_them(pages, path):
    made, shown = (
        json.loads(path.read_text(encoding="utf-8")),
        pages.solved(json.loads(path.read_text(encoding="utf-8"))),
    )
    assert len(shown["cells"]) == len(made["cells"])
    for before, cell in zip(made["cells"], shown["cells"], strict=True):
        assert not re.search("SOLUTION|BLANK|ANSWER|# END|<!-- END|never shows the answer|Answer first", cell["source"])
        if cell["cell_type"] == "code":  # nothing but comments has gone
            assert ast.dump(ast.parse(cell["source"])) == ast.dump(ast.parse("".join(before["source"])))


def test_only_the_first_paragraph_of_the_exercises_is_replaced(pages):
    for first, stays in (("Each exercise ends in a check.", False), ("Of one's own.", True)):
        content = {"cells": [{"cell_type": "markdown", "source": f"# 00. Solved\n\n{first}\n\nMore."}]}
        title, shown, more = pages.solved(content)["cells"][0]["source"].split("\n\n")
        assert (title, shown == first, more) == ("# 00. Solved", stays, "More.")


def test_a_lesson_links_to_pages_and_not_to_files(pages):
    text = "In [exercises/06_x.ipynb](exercises/06_x.ipynb), solved in [solutions/](solutions/06_x.ipynb).\n\n- A."
    text += " Next: [07](07_y.ipynb)."
    assert pages.without_files(text) == (
        "In [a notebook of their own](exercises/06_x.ipynb), solved in [another](solutions/06_x.ipynb).\n\n- A."
    )


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ('<a href="../06.html"></a><a href="../exercises/06.html"></a> # BLANK x = 1', "shows a mark"),
        ('<a href="../06.html"></a>', "no link to ../exercises/06.html"),
        ('<a href="../exercises/06.html"></a>', "no link to ../06.html"),
        ('<a href="../06.html"></a><a href="../exercises/06.html"></a>', None),
    ],
)
def test_the_check_of_the_site_refuses_marks_and_dead_ends(tmp_path, page, complaint):
    for name, text in {"06": "", "exercises/06": "", "solutions/06": page}.items():
        file = tmp_path / "notebooks" / f"{name}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    bad = [line for line in module_of_docs("check").check(tmp_path)[0] if "solutions" in line.split(" ")[0]]
    assert (complaint in bad[0] and len(bad) == 1) if complaint else not bad


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ('<img src="data:,">', "06.html: no alt text: data:,"),
        ('<a href="gone.html"></a>', "06.html: no such file: gone.html"),
        ('<a href="06.html#gone"></a>', "06.html: no such place: 06.html#gone"),
        ('<a href="#gone"></a>', "06.html: no such place: #gone"),
        ('<script src="https://a.org/x.js"></script>', "06.html loads https://a.org/x.js"),
        ('<link rel="stylesheet" href="//a.org/x.css">', "06.html loads //a.org/x.css"),
        (" " * 200_001, "06.html: 200,001 bytes of HTML; at most 200,000"),
        ('<script src="large.js"></script>', "of CSS and JavaScript; at most 100,000"),
        ('<img src="large.png" alt="A line.">' + " " * 100_000, None),
        ('<a href="#a%20b" id="a b"></a><a href="https://a.org"></a><a href="mailto:a@b"></a>', None),
        ('<link rel="canonical" href="https://a.org/06.html">', None),
    ],
)
def test_the_check_of_the_site_refuses_bad_links_loads_pictures_and_sizes(tmp_path, page, complaint):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "06.html").write_text(page, encoding="utf-8")
    for name in ("large.js", "large.png"):
        (folder / name).write_bytes(random.Random(0).randbytes(101_000))  # it does not get smaller when it is zipped
    bad = module_of_docs("check").check(tmp_path)[0]
    assert (complaint in bad[0] and len(bad) == 1) if complaint else not bad


# What the pages of the source are made of


def names_of(node):
    """What a docstring can explain: arguments, fields and attributes of a function or class."""
    if isinstance(node, ast.FunctionDef):
        return {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
    fields = {n.target.id for n in ast.walk(node) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return fields.union(*(names_of(n) for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef)))


PUBLIC_FILES = [*FILES, *(ROOT / "minipeft" / name for name in ("generation.py", "lab/gradcheck.py", "lab/ledger.py"))]


@pytest.mark.parametrize("file", PUBLIC_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_settings_of_a_docstring_are_its_names_and_its_indented_lines_are_equations(file):
    inherited = {field for method in minipeft.METHODS.values() for field in method.__dataclass_fields__}
    for node, text in docstrings(file):
        if not isinstance(node, ast.Module):
            settings = {kind for kind, _ in typeset.parts(text) if not kind[0].isupper()}
            assert settings <= names_of(node) | inherited, node.name
            typeset.equations(text)
        assert not re.search(r"(?<![\w*(\"`])\*\w+\*", text), "asterisks for emphasis would be seen as they are"


def test_a_line_of_prose_that_begins_like_a_setting_is_none():
    text = (
        "One sentence, which goes on to the\nword: it is prose.\n\nword: a setting\n    that goes on\nother: one more"
    )
    assert typeset.parts(text) == [
        ["PROSE", "One sentence, which goes on to the\nword: it is prose.\n"],
        ["word", "a setting that goes on"],
        ["other", "one more"],
    ]


def test_a_field_may_follow_a_sentence():
    assert typeset.parts("A digest.  Raises: ValueError if\nthere is none") == [
        ["PROSE", "A digest."],
        ["Raises", "ValueError if there is none"],
    ]


def test_a_doctest_keeps_its_lines_and_spaces():
    out = typeset.Typesetter().rst("It is cut:\n\n>>> split(\"a,  b\")\n['a', ',  b']\n\nNothing is lost.")
    assert ".. code-block:: pycon\n\n   >>> split(\"a,  b\")\n   ['a', ',  b']\n" in out


EQUATIONS = """A layer.

    y = x W + b,   W = s Q             (Q in 4 bits)
    db = Σ dy,   dx = dy Wᵀ:  there is no dW
    if `double`:
    dA += s dV,   s = 1

Shapes:   x (N, D)
          and y
"""


@pytest.mark.parametrize(
    ("begins_with_d", "pieces"),
    [
        (
            False,
            ["equation y = x W + b", "equation W = s Q", "note Q in 4 bits", "head if `double`:", "equation s = 1"],
        ),
        (
            True,
            [
                "equation db = Σ dy",
                "equation dx = dy Wᵀ",
                "note there is no dW",
                "head if `double`:",
                "equation dA += s dV",
            ],
        ),
    ],
)
def test_a_remark_stays_with_its_equation(begins_with_d, pieces):
    found = typeset.equations(EQUATIONS, lambda equation: equation.startswith("d") == begins_with_d)
    assert [f"{kind} {text}" for kind, text in found] == pieces


def test_what_is_indented_without_an_equation_is_refused():
    with pytest.raises(ValueError, match="there is none: 'the whole of it is words'"):
        typeset.equations("A layer.\n\n    the whole of it is words\n\nIt is.")


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("dA += s dV", r"dA &\mathrel{+}= s\,dV"),
        ("σ(z) = 1 / z", r"σ(z) &= 1 / z"),
        ("u <- μ u + g", r"u &\leftarrow  μ\,u + g"),
        ("max (z = 1)", r"&\text{max}\ (z = 1)"),
    ],
)
def test_equations_are_aligned_at_their_sign(line, row):
    [block] = typeset.mathematics([("equation", line)], str)
    assert row in block


WIDE = 88  # columns of code in the text column of the site; what is longer goes out of sight to the right


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_code_fits_into_the_column_of_the_page(page):
    text = page.read_text("utf-8")
    blocks = [*re.findall(r"^```.*\n((?:.*\n)*?)```", text, re.M), *re.findall(r"^(?: {4}.*\n)+", text, re.M)]
    assert [line for block in blocks for line in block.splitlines() if len(line) > WIDE] == []
