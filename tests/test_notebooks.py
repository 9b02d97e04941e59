"""What nbval does not see: every lesson, solution and exercise is complete, in step with its text, and portable.

nbval passes a cell that was never run and a notebook whose outputs were stripped, and it does not compare pictures.
Each guard is a function of a notebook that returns its faults; tests/test_lessons_guards.py plants faults and sees each
guard fire.
"""

import ast
import itertools
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
from make_exercises import exercises  # noqa: E402
from refresh import as_markdown  # noqa: E402

LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("[0-9][0-9]_*.ipynb"))
EXERCISES = sorted((NOTEBOOKS / "exercises").glob("[0-9][0-9]_*.ipynb"))

ALONE = '# Opened alone, in Colab?  First run:  %pip install "minipeft[lessons]"'
UNSTABLE = re.compile(
    r"0x[0-9a-f]{6,}|np\.(float|int|bool)\d*_?\(|<[\w.]+ (object )?at |site-packages"
    r"|/(tmp|home|work|root|Users|var/folders)/|\b[A-Z]:\\|\b20\d\d-\d\d-\d\d\b"
    r"|\d\.\d{7,}|(?<!below )(?<!to )(?<!< )(?<!\w)[\d.]+[eE]-(0[6-9]|[6-9]\b|[1-9]\d)|-0\.(?!\d)|Warning:"
    r"|\b\d+(\.\d+)? ?(ms|µs|s|sec|seconds|min|minutes|it/s)\b|\b\d+m \d+s\b"
)
MYST = re.compile(r"^\s*(:::|```\{|\([\w-]+\)=)|\{[a-z:]+\}`", re.M)
MARKER = re.compile(r"NBVAL_(IGNORE_OUTPUT|SKIP)|nbval-(ignore-output|skip)", re.I)
INDEXED = re.compile(r"(?<![\w.])(?![ckoqv]_(?:proj|fc|attn)\b)d?[^\W\d_]_\w+")  # W_ij, dy_j, d_in; q_proj is a name
REASON = re.compile(r"# not compared: \w+")
ALLOWED = {
    "numpy", "matplotlib", "minipeft", "IPython", "inspect", "json", "math", "itertools", "functools", "textwrap", "string",
    "copy", "collections", "dataclasses", "contextlib", "tempfile", "pathlib", "io", "zipfile", "re",
}  # fmt: skip


def read(path):
    return nbformat.read(path, 4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def texts(cell):
    """Every text among a cell's outputs."""
    for output in cell.outputs:
        yield output.get("text", "")
        data = output.get("data", {})
        yield from (str(data.get(kind, "")) for kind in ("text/plain", "text/html", "text/markdown", "text/latex"))
        yield f"{output.get('ename', '')}: {output.get('evalue', '')}" if output.output_type == "error" else ""


def tags(cell):
    return cell.metadata.get("tags", [])


# ---- guards: functions of a notebook (and of the text that it is paired with) that return a list of faults


def too_large(path):
    """600 kB is a page that loads at once, and a repository that stays small."""
    size = path.stat().st_size
    return [f"{size:,} bytes; 600,000 are the limit: smaller figures, or fewer"] if size >= 600_000 else []


def out_of_step(notebook, markdown):
    """The Markdown is the notebook's, letter by letter: a save in JupyterLab would change nothing."""
    ours, theirs = as_markdown(notebook).split("\n"), markdown.split("\n")
    differing = [i for i, pair in enumerate(itertools.zip_longest(ours, theirs), 1) if pair[0] != pair[1]]
    return [f"the notebook and its .md differ from line {i} on: run notebooks/refresh.py" for i in differing[:1]]


def not_run(notebook):
    """Every code cell was run, in order, in one go: nbval passes what was not."""
    counts = [cell.execution_count for cell in code(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"cells were run as {counts}: nbval skips the None"]


def stripped(notebook):
    """A cell that prints, shows or returns something has an output."""
    speaks, draws = re.compile(r"\b(print|display)\(|\bcheck\.\w+\("), re.compile(r"\b(draw|plot|show)\w*\(")
    faults = []
    for cell in code(notebook):
        statements = [s for s in ast.parse(cell.source).body if not isinstance(s, (ast.FunctionDef, ast.ClassDef))]
        spoken = [ast.get_source_segment(cell.source, s) for s in statements if not isinstance(s, ast.If)]
        shown = statements and isinstance(statements[-1], ast.Expr) and draws.search(spoken[-1])
        if (shown or any(speaks.search(text) for text in spoken)) and not cell.outputs:
            faults.append(f"no output stored for:\n{cell.source}")
    return faults


def hushed(notebook):
    """No cell ends in a semicolon: nbval does not know that it hides the value (nbval#194)."""
    return [f"ends in ';':\n{cell.source}" for cell in code(notebook) if cell.source.rstrip().endswith(";")]


def unstable(notebook):
    """No output holds what changes from machine to machine: addresses, paths, timings, noise, too many digits."""
    return [f"{m.group()!r} in an output of:\n{cell.source}"
            for cell in code(notebook) for text in texts(cell) if (m := UNSTABLE.search(text))]  # fmt: skip


def noisy(notebook):
    """Nothing on stderr (warnings, progress bars), no picture but PNG, no error that was not asked for."""
    faults = []
    for cell in code(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                faults.append(f"on stderr: {output.text[:200]}\nfrom:\n{cell.source}")
            if output.output_type == "error" and "raises-exception" not in tags(cell):
                faults.append(f"{output.ename} from:\n{cell.source}")
            strange = {k for k in output.get("data", {}) if k.startswith(("image/", "application/"))} - {"image/png"}
            faults += [f"{kind} cannot be compared" for kind in sorted(strange)]
    return faults


def wide(notebook):
    """No line, of code or printed, is longer than a page is wide, but for the library's own code."""
    faults = []
    for cell in code(notebook):
        faults += [f"{len(line)} characters: {line}" for line in cell.source.splitlines() if len(line) > 110]
        if "getsource" not in cell.source:
            printed = [line for output in cell.outputs for line in output.get("text", "").splitlines()]
            faults += [f"{len(line)} characters: {line}" for line in printed if len(line) > 105 and ": ✗" not in line]
    return faults


def exempt(notebook):
    """At most 3% of the cells with output are not compared, in working syntax, with a reason in the cell."""
    with_output = [cell for cell in code(notebook) if cell.outputs]
    marked = [cell for cell in code(notebook) if MARKER.search(cell.source) or MARKER.search(" ".join(tags(cell)))]
    faults = [f"'# not compared: reason' is missing:\n{c.source}" for c in marked if not REASON.search(c.source)]
    for cell in marked:
        for line in cell.source.splitlines():
            if MARKER.search(line) and line.strip() not in ("# NBVAL_IGNORE_OUTPUT", "# NBVAL_SKIP"):
                faults.append(f"nbval does not understand this marker: {line}")
    if len(marked) > 0.03 * len(with_output):
        faults.append(f"{len(marked)} of {len(with_output)} cells with output are not compared")
    return faults


def strange_markdown(notebook):
    """Plain Markdown, with mathematics in dollars: other syntax shows raw in Jupyter, on GitHub or in JupyterLite."""
    faults = [f"MyST syntax {m.group()!r}" for text in prose(notebook) if (m := MYST.search(text))]
    faults += [r"\( or \[ as mathematics" for text in prose(notebook) if re.search(r"(?<!\\)\\[\[(]", text)]
    faults += ["a $ without its other half" for text in prose(notebook) if bare(text).count("$") % 2]
    for text in map(bare, prose(notebook)):
        plain = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|^#.*$", "", text, flags=re.M | re.S)
        faults += [f"{index} shows as typed: ${index}$, or a <sub>" for index in INDEXED.findall(plain)]
        if number := re.search(r"(?:\A|\n\n)(?!1\.)\d+\. ", plain):
            faults.append(f"a list that begins with {number[0].strip()}")
    return faults


def bare(text):
    """Text without code."""
    return re.sub(r"```.*?```|`[^`]*`|\\\$", "", text, flags=re.S)


def figures(notebook):
    """Each figure has alt text."""
    shown = [
        (cell, output) for cell in code(notebook) for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    return [f"a figure without alt text, from:\n{cell.source}"
            for cell, output in shown if not output.metadata.get("image/png", {}).get("alt", "").strip()]  # fmt: skip


def forbidden(notebook):
    """Nothing but NumPy, matplotlib, minipeft and the standard library; no global random state."""
    faults = []
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            faults += [f"import {name}" for name in names if name.split(".")[0] not in ALLOWED]
        if re.search(r"np\.random\.(seed|rand|randn|normal|randint|uniform)\b|multivariate_normal", cell.source):
            faults.append(f"not reproducible everywhere:\n{cell.source}")
    return faults


def header(notebook):
    """The first cell says what to do where minipeft is missing, and holds nothing but imports, of minipeft.course too."""
    first = code(notebook)[0].source
    statements = ast.parse(first).body
    faults = [] if first.startswith(ALONE) else [f"the first cell does not begin with the line\n{ALONE}"]
    faults += [f"not an import, in the first cell: {ast.get_source_segment(first, statement)}"
               for statement in statements if not isinstance(statement, (ast.Import, ast.ImportFrom))]  # fmt: skip
    imported = {f"{s.module}.{a.name}" for s in statements if isinstance(s, ast.ImportFrom) for a in s.names}
    if not any(name.startswith("minipeft.course") for name in imported):
        faults.append("the first cell does not import minipeft.course, which sets threads and style")
    return faults


def template(notebook):
    """The sections that a reader looks for."""
    whole = "\n".join(prose(notebook))
    wanted = {
        "# NN. Title": r"\A# \d\d\W+\w", "a folded answer": r"<details>", "Predict": r"Predict", "Break it": r"Break it",
        "In real models": r"In real models", "Summary": r"Summary", "Exercises": r"Exercises", "reading": r"[Rr]eading",
    }  # fmt: skip
    return [f"no {name}" for name, pattern in wanted.items() if not re.search(pattern, whole)]


def first_screen(notebook):
    """Words below the title, and a picture before any code but the imports."""
    faults, before = [], itertools.takewhile(lambda cell: cell.cell_type == "markdown", notebook.cells)
    if not re.match(r"# .*\n\s*\S", "\n".join(cell.source for cell in before)):
        faults.append("a lesson begins with words: what hurts, and what one will be able to do")
    if not any("image/png" in output.get("data", {}) for output in code(notebook)[1].outputs):
        faults.append("the first thing that runs does not draw")
    if hidden := [cell.source for cell in code(notebook) if "hide-input" in tags(cell)]:
        faults.append(f"a folded cell: what does not teach belongs into the library:\n{hidden[0]}")
    return faults


def ending(notebook, following=None):
    """The exercises, each with its difficulty and its time, below links to them; the way to the next lesson."""
    last = re.split("^## ", "\n".join(prose(notebook)), flags=re.M)[-2:]
    table = (
        r"Exercises\n\n\[[^\]]*\]\(exercises/[^)]*\), and \[[^\]]*\]\(solutions/[^)]*\):\n\n"
        r"\| exercise \| difficulty and time \|\n\|---\|---\|(\n\| [^|]+ \| (easy|medium|hard), \d+ min \|)+\s*\Z"
    )
    faults = [] if re.match(table, last[0]) else [f"the table of the exercises has another form:\n{last[0]}"]
    if following and not re.search(rf" Next: \[[^\]]+\]\({following}\.ipynb\)\.\s*\Z", last[-1]):
        faults.append(f"does not end in 'Next: [...]({following}.ipynb).'")
    return faults


def hints(notebook):
    """Folded under an exercise: Hint, and under it perhaps Second hint."""
    faults = []
    for text in re.split("^## ", "\n".join(prose(notebook)), flags=re.M)[1:]:
        names = re.findall(r"<summary>(.*?)</summary>", text)
        if names != ["Hint", "Second hint"][: len(names)]:
            faults.append(f"hints are called {names} in {text.splitlines()[0]!r}")
    return faults


def named_nowhere(notebook, number, docstrings):
    """Some module of the library, beside what was written for the course, names the lesson in its docstring."""
    return [] if any(re.search(rf"[Ll]essons? [\d, and]*\b{number}\b", doc) for doc in docstrings) else [
        f"no module of minipeft names Lesson {number} in its docstring"]  # fmt: skip


def docstrings(package=ROOT / "minipeft"):
    return [
        ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        for path in package.rglob("*.py")
        if package / "course" not in path.parents
    ]


# ---- the tests

EVERY = [not_run, stripped, hushed, unstable, noisy, wide, exempt, strange_markdown, figures, forbidden, header]


@pytest.mark.parametrize("guard", EVERY, ids=lambda guard: guard.__name__)
@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS, *EXERCISES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_notebook(path, guard):
    assert not (faults := guard(read(path))), "\n".join(faults)


@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS, *EXERCISES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pair_in_step(path):
    assert not (faults := out_of_step(read(path), path.with_suffix(".md").read_text("utf-8"))), "\n".join(faults)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path):
    notebook = read(path)
    faults = template(notebook) + first_screen(notebook) + named_nowhere(notebook, path.name[:2], docstrings())
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_ends(path):
    following = [later.stem for later in LESSONS if later > path]
    assert not (faults := ending(read(path), *following[:1])), "\n".join(faults)


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_hints(path):
    assert not (faults := hints(read(path))), "\n".join(faults)


@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS, *EXERCISES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_small(path):
    assert too_large(path) == []


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_exercises_come_from_solutions(path):
    want = exercises(path.with_suffix(".md").read_text("utf-8"))
    assert (NOTEBOOKS / "exercises" / f"{path.stem}.md").read_text("utf-8") == want, "run notebooks/refresh.py"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_right_and_exercises_are_not_given_away(path):
    def said(p):
        lines = "".join(text for cell in code(read(p)) for text in texts(cell)).splitlines()
        return [line for line in lines if re.match(r".*: (✓|✗|not written yet|not answered yet)", line)]

    solved, blank = said(path), said(NOTEBOOKS / "exercises" / path.name)
    assert solved
    assert all("✓" in line for line in solved)
    assert len(blank) == len(solved)
    assert not any("✓" in line for line in blank)


def test_every_lesson_has_exercises_and_solutions_and_every_markdown_its_notebook():
    lessons = {path.stem for path in LESSONS}
    for folder in (NOTEBOOKS, NOTEBOOKS / "solutions", NOTEBOOKS / "exercises"):
        md, ipynb = ({p.stem for p in folder.glob(f"[0-9][0-9]_*.{ext}")} for ext in ("md", "ipynb"))
        assert md == ipynb == lessons
