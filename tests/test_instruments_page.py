"""Every example of docs/instruments.md runs, and prints what the page says."""

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from minipeft import lab

PAGE = (Path(__file__).parents[1] / "docs" / "instruments.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python( cluster)?\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def shown(code, names):
    """What a cell shows: what it prints, then its last expression."""
    tree, out = ast.parse(code), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(out):
        exec(compile(tree, "instruments.md", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "instruments.md", "eval"), names) if last else None
    return (out.getvalue() + (f"{value!r}\n" if value is not None else "")).rstrip()


def run(cluster):
    names = {"__name__": "__main__"}
    for marked, code, said in EXAMPLES:
        if marked and not cluster:
            continue
        got = shown(code, names)
        if said:
            assert got == said.rstrip(), code
        if marked:
            return


def test_the_examples():
    assert len(EXAMPLES) > 12
    run(cluster=False)


def test_the_example_on_a_cluster(tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)  # its workers write there
    run(cluster=True)


def test_every_instrument_is_on_the_page():
    helpers = {"Picture", "Sweep", "SweepError", "Table", "canvas", "count_parameters", "counting", "saved_bytes"}
    helpers |= {"plot_heat", "plot_lines"}
    elsewhere = {name for name, home in lab.HOMES.items() if home == "diagram"}
    assert [name for name in lab.__all__ if name not in PAGE and name not in helpers | elsewhere] == []
