"""The README says nothing that does not run: its code, its commands, the files that it names."""

import inspect
import re
from pathlib import Path

import make_tables
import numpy as np
import pytest

from minipeft import AdamW, Beside, LoRA, get_peft_model, load_base, matmul, outer, symbols_batches, train_step
from minipeft.__main__ import COMMANDS
from minipeft.lab.methods_table import with_table
from minipeft.methods.lora import LoRALinear

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def listing(name):
    """The code of a class in the README."""
    return next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if f"class {name}(" in block)


@pytest.mark.parametrize(("layer", "method"), [(LoRALinear, "path"), (Beside, "forward")])
def test_a_listing_is_the_source_word_for_word(layer, method):
    assert inspect.getsource(getattr(layer, method)).strip() in listing(layer.__name__)


def test_the_lora_of_the_listing_runs_inside_the_model():
    """Its path, put into the model as it stands there, computes and learns what the library's does."""
    names = {"Beside": Beside, "matmul": matmul, "outer": outer}
    exec(compile(listing("LoRALinear"), "README.md", "exec"), names)
    models = [get_peft_model(load_base("symbols"), LoRA(r=2)) for _ in range(2)]
    for _, layer in models[1].walk():
        if isinstance(layer, LoRALinear):
            layer.path = names["LoRALinear"].path.__get__(layer)
    batch = symbols_batches("map")(np.random.default_rng(0))
    losses = [[train_step(model, batch, AdamW(model, lr=1e-2)) for _ in range(3)] for model in models]
    assert losses[0] == losses[1]
    assert losses[0][2] < losses[0][0]


def test_its_program_runs(tmp_path, monkeypatch, capsys):
    program = README.split("## Use it")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    bits = float(capsys.readouterr().out.split(" bits a character")[0])
    assert bits < 3
    assert (tmp_path / "climate.npz").exists()


def test_the_search_for_a_learning_rate_in_contributing_runs(capsys):
    program = re.search(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)[1]
    for long, short in (("steps=150", "steps=2"), ("seeds=(0, 1, 2)", "seeds=(0, 1), jobs=1")):
        assert long in program
        program = program.replace(long, short)
    exec(compile(program, "CONTRIBUTING.md", "exec"), {})
    out = capsys.readouterr().out
    assert all(rate in out for rate in ("0.001", "0.003", "0.01", "0.03", "0.1"))


def test_its_commands_exist():
    assert set(re.findall(r"`minipeft ([a-z_]+)", README)) <= COMMANDS.keys()


def test_minutes_needs_and_paths_of_its_lessons_are_those_of_the_page_on_teaching():
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\d\d) (.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    rows = re.findall(r"^\| (\d\d) \| \[.*\| (\d+) \| ([\d, ]*)\|$", README, re.MULTILINE)
    assert [number for number, *_ in rows] == list(sections)
    for number, minutes, needs in rows:
        assert re.search(r"\*\*Time\*\*: (\d+) minutes", sections[number])[1] == minutes, number
        first = re.search(r"\*\*Prerequisites\*\*: ([^;.]*)", sections[number])[1]
        assert re.findall(r"\b\d\d\b", first) == re.findall(r"\d\d", needs), number
    paths = re.findall(r"^\| [^|]* \| (?:the same, then )?(\d\d[\d, ]*) \| \d", page, re.MULTILINE)
    ways = README.partition("Ways through it:")[2].partition("\n\n")[0]
    assert set(re.findall(r"\d\d(?:, \d\d)+", " ".join(ways.split()))) == set(paths)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_links_to_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_the_files_that_it_names_exist(page):
    names = re.findall(r"`((?:minipeft|notebooks|tests|docs|\.ci)/[\w./]*)`", page)
    names = [name for name in names if not re.search("NN|NAME", name)]
    assert names
    assert not [name for name in names if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", make_tables.PAGES, ids=lambda page: page.name)
def test_the_table_of_methods_is_what_the_methods_say(page):
    """After a change: python tests/tools/make_tables.py"""
    text = page.read_text(encoding="utf-8")
    assert text == with_table(text)


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="once each"):
        with_table("no marks")
