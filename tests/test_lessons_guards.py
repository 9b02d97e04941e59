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


FAULTS = [
    (guards.not_run, "a cell that was never run", lambda cells: cells[2].update(execution_count=None)),
    (guards.not_run, "cells run out of order", lambda cells: cells[2].update(execution_count=7)),
    (guards.not_run, "outputs and counts stripped", lambda cells: [c.update(execution_count=None, outputs=[])
                                                                  for c in cells if c.cell_type == "code"]),
    (guards.stripped, "an output removed, its count kept", outputs(2)),
    (guards.stripped, "a figure removed", outputs(4)),
    (guards.hushed, "a semicolon at the end", source(2, "ax.plot([1, 2]);")),
    (guards.unstable, "an address", outputs(2, output("<function f at 0x7f3a1c2b>\n"))),
    (guards.unstable, "a NumPy scalar's repr", outputs(2, output("np.float64(1.75)\n"))),
    (guards.unstable, "a path of one machine", outputs(2, output("/home/user/minipeft/data\n"))),
    (guards.unstable, "noise", outputs(2, output("largest error 3.2e-16\n"))),
    (guards.unstable, "more digits than a machine shares with the next", outputs(2, output("loss 0.69314718\n"))),
    (guards.unstable, "a path on a Mac", outputs(2, output("/Users/ada/minipeft\n"))),
    (guards.unstable, "a path on Windows", outputs(2, output("C:\\Users\\ada\n"))),
    (guards.unstable, "noise in capitals", outputs(2, output("2.3E-16\n"))),
    (guards.unstable, "noise at 1e-6", outputs(2, output("error 4.4e-06\n"))),
    (guards.unstable, "a zero with a sign", outputs(2, output("[-0.  1.]\n"))),
    (guards.unstable, "a date", outputs(2, output("run on 2026-01-31\n"))),
    (guards.unstable, "a timing in ms", outputs(2, output("one step took 14 ms\n"))),
    (guards.unstable, "a timing in s", outputs(2, output("took 3.2 s\n"))),
    (guards.unstable, "a timing in min", outputs(2, output("took 12 min\n"))),
    (guards.unstable, "a timing in m and s", outputs(2, output("took 1m 30s\n"))),
    (guards.unstable, "digits in HTML", outputs(2, shows("text/html", "<b>0.69314718</b>"))),
    (guards.noisy, "a warning", outputs(2, output("RuntimeWarning: overflow\n", "stderr"))),
    (guards.noisy, "an error that nobody asked for", outputs(2, ERROR)),
    (guards.noisy, "an SVG", outputs(4, shows("image/svg+xml", "<svg/>"))),
    (guards.noisy, "a widget", outputs(4, shows("application/vnd.jupyter.widget-view+json", {}))),
    (guards.wide, "a table wider than the page", outputs(2, output("x " * 60))),
    (guards.wide, "code wider than the page", source(2, "x = 1" + " + 1" * 30)),
    (guards.exempt, "no reason given", source(2, "# NBVAL_IGNORE_OUTPUT\nprint(1)")),
    (guards.exempt, "too many of them", source(2, "# NBVAL_IGNORE_OUTPUT\n# not compared: the clock\nprint(1)")),
    (guards.exempt, "a marker that does nothing", source(2, "print(1)  # NBVAL_IGNORE_OUTPUT")),
    (guards.exempt, "a marker in lower case", source(2, "# nbval_ignore_output\nprint(1)")),
    (guards.exempt, "a tag", lambda cells: cells[2].metadata.update(tags=["nbval-skip"])),
    (guards.strange_markdown, "a MyST directive", source(3, ":::{note}\nhello\n:::")),
    (guards.strange_markdown, "a MyST role", source(3, "see {eq}`lora`")),
    (guards.strange_markdown, "other brackets for mathematics", source(3, r"here \(x^2\)")),
    (guards.strange_markdown, "half a formula", source(3, "here $x^2")),
    (guards.strange_markdown, "an index as it is typed", source(3, "W_ij, and h")),
    (guards.strange_markdown, "an answer that becomes a list", source(3, "<summary>Answer</summary>\n\n3. It grows.")),
    (guards.hints, "a second hint without a first", source(3, "## 1. A\n\n<details><summary>Second hint</summary>")),
    (guards.figures, "no alt text", outputs(4, figure(alt=""))),
    (guards.figures, "nothing says what one sees", source(3, "Nice.")),
    (guards.forbidden, "another library", source(2, "import torch")),
    (guards.forbidden, "another library inside a function", source(2, "def f():\n    from scipy import stats")),
    (guards.forbidden, "another library in the first cell", source(1, f"{guards.ALONE}\nimport torch")),
    (guards.forbidden, "a shell", source(1, f"{guards.ALONE}\nimport os\n\nos.system('pip install minipeft')")),
    (guards.forbidden, "the global seed", source(2, "np.random.seed(0)")),
    (guards.forbidden, "draws that differ between machines", source(2, "rng.multivariate_normal(m, C)")),
    (guards.header, "no word on how to get minipeft", source(1, "from minipeft import course")),
    (guards.header, "no set-up", source(1, f"{guards.ALONE}\nfrom minipeft import LoRA")),
    (guards.header, "no set-up, checks from elsewhere", source(1, f"{guards.ALONE}\nfrom minipeft.lab import check")),
    (guards.header, "more than imports", source(1, f"{guards.ALONE}\nfrom minipeft import course\nx = 1")),
    (guards.template, "no sections", lambda cells: None),
]  # fmt: skip


@pytest.mark.parametrize(("guard", "name", "change"), FAULTS, ids=lambda x: x if isinstance(x, str) else "")
def test_guard_fires(guard, name, change):
    assert guard(planted(change))


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
    assert "more than six lines" in first_screen(source(1, "\n".join(f"import a{i}" for i in range(7))))[0]
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


def test_an_unnamed_lesson_is_seen():
    assert guards.named_nowhere(sound(), "07", ["Linear. Lesson 06."])
    assert not guards.named_nowhere(sound(), "07", ["LoRA. Lessons 06 and 07."])


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
