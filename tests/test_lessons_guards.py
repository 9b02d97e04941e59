"""Each guard of test_notebooks.py is seen to fire on a planted fault, and to be quiet on a sound notebook."""

import copy

import nbformat
import pytest
import test_notebooks as guards
from make_exercises import exercises

PNG = {"image/png": "AAAA\n", "text/plain": "<Figure size 640x340 with 1 Axes>"}
ALT = "A line that falls from three to one along ten steps."


def output(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def shows(kind, content):
    return nbformat.v4.new_output("display_data", data={kind: content})


ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])


def figure(alt=ALT):
    return nbformat.v4.new_output("display_data", data=dict(PNG), metadata={"image/png": {"alt": alt}})


def sound():
    """A small notebook that has no fault."""
    new_code, new_text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [
        new_text(
            "# 07. Choose a rank\n\nA low rank may be too small, and one cannot see it by the loss of one run. In forty "
            "minutes you will tell a wall from slowness."
        ),
        new_code(f"{guards.ALONE}\nimport numpy as np\nfrom minipeft import course", execution_count=1),
        new_code("print(f'{2 / 3:.4f}')", execution_count=2, outputs=[output("0.6667\n")]),
        new_text("It costs $x^2$, or \\$5, and `$HOME` is code.\n\n**What you see.** It falls."),
        new_code("show_writing('near', {'base': base})", execution_count=3, outputs=[figure()]),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def planted(change):
    notebook = sound()
    change(notebook.cells)
    return notebook


def source(i, text):
    return lambda cells: cells[i].update(source=text)


def outputs(i, *new):
    return lambda cells: cells[i].update(outputs=list(new))


FAULTS = [  # (guard, what it says, the fault)
    (guards.not_run, "[1, None, 3]", lambda cells: cells[2].update(execution_count=None)),
    (guards.not_run, "[1, 7, 3]", lambda cells: cells[2].update(execution_count=7)),
    (guards.not_run, "[None, None, None]", lambda cells: [c.update(execution_count=None, outputs=[])
                                                          for c in cells if c.cell_type == "code"]),
    (guards.stripped, "no output stored for:\nprint", outputs(2)),
    (guards.stripped, "no output stored for:\nshow_writing", outputs(4)),
    (guards.hushed, "ends in ';'", source(2, "ax.plot([1, 2]);")),
    *((guards.unstable, "'0.69314718'", outputs(2, shows(kind, "<b>0.69314718</b>")))
      for kind in ("text/plain", "text/html", "text/markdown", "text/latex")),
    (guards.unstable, "'0.69314718'", outputs(2, nbformat.v4.new_output("error", ename="ValueError", evalue="0.69314718"))),
    (guards.noisy, "on stderr: RuntimeWarning", outputs(2, output("RuntimeWarning: overflow\n", "stderr"))),
    (guards.noisy, "ValueError from", outputs(2, ERROR)),
    (guards.noisy, "image/svg+xml", outputs(4, shows("image/svg+xml", "<svg/>"))),
    (guards.noisy, "widget-view+json", outputs(4, shows("application/vnd.jupyter.widget-view+json", {}))),
    (guards.wide, "119 characters: x x", outputs(2, output("x " * 59 + "x"))),
    (guards.wide, "125 characters: x = 1", source(2, "x = 1" + " + 1" * 30)),
    (guards.exempt, "reason' is missing", source(2, "# NBVAL_IGNORE_OUTPUT\nprint(1)")),
    (guards.exempt, "1 of 2 cells", source(2, "# NBVAL_IGNORE_OUTPUT\n# not compared: the clock\nprint(1)")),
    (guards.exempt, "does not understand this marker", source(2, "print(1)  # NBVAL_IGNORE_OUTPUT")),
    (guards.exempt, "does not understand this marker", source(2, "# nbval_ignore_output\nprint(1)")),
    (guards.exempt, "reason' is missing", lambda cells: cells[2].metadata.update(tags=["nbval-skip"])),
    (guards.strange_markdown, "MyST syntax ':::'", source(3, ":::{note}\nhello\n:::")),
    (guards.strange_markdown, "MyST syntax '```{'", source(3, "```{note}\nhello\n```")),
    (guards.strange_markdown, "MyST syntax '(lora)='", source(3, "(lora)=\n## LoRA")),
    (guards.strange_markdown, "MyST syntax '{eq}`'", source(3, "see {eq}`lora`")),
    (guards.strange_markdown, "as mathematics", source(3, r"here \(x^2\)")),
    (guards.strange_markdown, "as mathematics", source(3, r"here \[x^2\]")),
    (guards.strange_markdown, "a $ without its other half", source(3, "here $x^2")),
    (guards.strange_markdown, "W_ij shows as typed", source(3, "W_ij, and h")),
    (guards.strange_markdown, "begins with 3.", source(3, "<summary>Answer</summary>\n\n3. It grows.")),
    (guards.hints, "called ['Second hint']", source(3, "## 1. A\n\n<details><summary>Second hint</summary>")),
    (guards.figures, "without alt text, from:\nshow_writing", outputs(4, figure(alt=" "))),
    (guards.forbidden, "import torch", source(2, "import torch")),
    (guards.forbidden, "import scipy", source(2, "def f():\n    from scipy import stats")),
    (guards.forbidden, "import torch", source(1, f"{guards.ALONE}\nimport torch")),
    *((guards.forbidden, "not reproducible", source(2, f"{draw}(3)")) for draw in (
        "np.random.seed", "np.random.rand", "np.random.randn", "np.random.normal", "np.random.randint", "np.random.uniform",
        "rng.multivariate_normal")),
    (guards.header, "not an import", source(1, f"{guards.ALONE}\nimport os\n\nos.system('pip install minipeft')")),
    (guards.header, "not an import", source(1, f"{guards.ALONE}\nfrom minipeft import course\nx = 1")),
    (guards.header, "does not begin with", source(1, "from minipeft import course")),
    (guards.header, "does not import minipeft.course", source(1, f"{guards.ALONE}\nfrom minipeft import LoRA")),
    (guards.header, "does not import minipeft.course", source(1, f"{guards.ALONE}\nfrom minipeft.lab import check")),
]  # fmt: skip
UNSTABLE = [
    "0x7f3a1c2b", "np.float64(", "np.int64(", "np.bool_(", "<minipeft.LoRA object at ", "<Foo at ", "site-packages",
    "/tmp/", "/home/", "/work/", "/root/", "/Users/", "/var/folders/", "C:\\", "2026-01-31", "0.6931471",
    "3.2e-16", "2.3E-16", "4.4e-06", "1e-7", "-0.", "Warning:", "14 ms", "20 µs", "3.2 s", "2 sec", "8 seconds", "12 min",
    "5 minutes", "9 it/s", "1m 30s",
]  # fmt: skip
SECTIONS = {
    "# NN. Title": "# 07. Choose a rank", "a folded answer": "<details>", "Predict": "Predict", "Break it": "## Break it",
    "In real models": "## In real models", "Summary": "## Summary", "Exercises": "## Exercises",
    "reading": "## Further reading",
}  # fmt: skip


@pytest.mark.parametrize(("guard", "said", "change"), FAULTS)
def test_guard_fires(guard, said, change):
    assert any(said in fault for fault in guard(planted(change)))


@pytest.mark.parametrize("text", UNSTABLE)
def test_what_changes_from_machine_to_machine_is_seen(text):
    faults = guards.unstable(planted(outputs(2, output(f"it is {text} here\n"))))
    assert [fault.partition(" in an output of:")[0] for fault in faults] == [repr(text)]


@pytest.mark.parametrize("missing", SECTIONS)
def test_a_missing_section_is_named(missing):
    text = "\n\n".join(section for name, section in SECTIONS.items() if name != missing)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    assert guards.template(notebook) == [f"no {missing}"]


@pytest.mark.parametrize("guard", guards.EVERY, ids=lambda guard: guard.__name__)
def test_guard_is_quiet(guard):
    assert guard(sound()) == []


def test_a_lesson_ends_in_exercises_and_the_way_on():
    links = "[The exercises](exercises/07_a.ipynb), and [their solutions](solutions/07_a.ipynb):"
    table = "| exercise | difficulty and time |\n|---|---|\n| cut | easy, 5 min |"
    end = f"## Exercises\n\n{links}\n\n{table}\n\n## Further reading\n\n- Hu, 2021. Next: [08, b](08_b.ipynb)."

    def ending(text, following="08_b"):
        return guards.ending(planted(source(3, text)), following)

    assert ending(end) == ending(end.replace(" Next: [08, b](08_b.ipynb).", ""), None) == []
    for other in (end.replace(links + "\n\n", ""), end.replace("difficulty and time", ""), end.replace("easy, 5", "5")):
        assert "another form" in ending(other)[0]
    assert "does not end in" in ending(end.replace("[08, b](08_b.ipynb)", "lesson 08"))[0]
    assert "does not end in" in ending(end, "09_c")[0]


def first_screen(change=lambda cells: None):
    """A sound notebook whose picture comes first, changed."""
    notebook = sound()
    notebook.cells[2:] = [notebook.cells[4], notebook.cells[3], notebook.cells[2]]
    change(notebook.cells)
    return guards.first_screen(notebook)


def test_a_lesson_begins_with_words_imports_and_a_picture():
    assert first_screen() == []
    assert "begins with words" in first_screen(source(0, "# 07. Choose a rank"))[0]
    assert "begins with words" in first_screen(lambda cells: cells.insert(0, cells.pop(1)))[0]
    assert "does not draw" in first_screen(outputs(2, output("0.6667\n")))[0]
    assert "a folded cell" in first_screen(lambda cells: cells[4].metadata.update(tags=["hide-input"]))[0]


@pytest.mark.parametrize("text", ["same to 1e-12: True", "below 1e-7: True", "lr 1e-3", "< 1e-9", "s = 0.123456"])
def test_rounded_numbers_pass(text):
    assert guards.unstable(planted(outputs(2, output(text + "\n")))) == []


def test_a_large_file_is_seen(tmp_path):
    path = tmp_path / "07_large.ipynb"
    path.write_bytes(b" " * 599_999)
    assert guards.too_large(path) == []
    path.write_bytes(b" " * 600_000)
    assert "600,000 are the limit" in guards.too_large(path)[0]


def test_pair_out_of_step_is_seen():
    notebook = sound()
    notebook.cells[2].metadata.update(tags=["hide-input"], jupyter={"source_hidden": True})
    markdown = guards.as_markdown(notebook)
    assert guards.out_of_step(notebook, markdown) == []
    assert guards.out_of_step(notebook, markdown.replace(' jupyter={"source_hidden": true}', ""))
    assert guards.out_of_step(notebook, "---\njupyter:\n  kernelspec:\n    name: python3\n---\n\n" + markdown)
    assert guards.out_of_step(notebook, markdown + "\n")
    assert guards.out_of_step(notebook, markdown.replace("2 / 3", "2 / 4"))
    assert guards.out_of_step(notebook, markdown + "\n```python\nprint(1)\n```\n")
    changed = copy.deepcopy(notebook)
    changed.cells[0].source += "!"
    assert guards.out_of_step(changed, markdown)


def test_an_unnamed_lesson_is_seen(tmp_path):
    """And what was written for the course does not count."""
    for path, doc in {
        "lora.py": "LoRA. Lessons 05 and 06.",
        "course/a.py": "Lesson 07",
        "course/checks/b.py": "Lesson 07",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f'"""{doc}"""', "utf-8")
    known = guards.docstrings(tmp_path)
    assert guards.named_nowhere(sound(), "07", known)
    assert not guards.named_nowhere(sound(), "06", known)


def test_exercises_are_cut_out_of_solutions():
    solved = (
        "# 07. Rank: exercises, solved\n\n```python\n"
        "def f(x):\n    # BLANK return x\n    # SOLUTION\n    return 2 * x\n    # END\n\n"
        "def g(x):\n    # SOLUTION\n    return 3 * x\n    # END\n\nmine = 'b'  # ANSWER\n```\n\n"
        "<!-- SOLUTION -->\nBecause.\n<!-- END -->\n"
    )
    blank = exercises(solved)
    for given_away in ("2 * x", "3 * x", "'b'", "Because", "SOLUTION", "BLANK", "solved"):
        assert given_away not in blank
    for left in ("    return x\n", "    raise NotImplementedError", "mine = ...", "(Your answer here.)"):
        assert left in blank
