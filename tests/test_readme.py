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
USING = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")
(LISTING,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_its_listing_is_the_source_word_for_word():
    assert inspect.getsource(LoRALinear.path).strip() in LISTING


def test_the_lora_of_the_listing_runs_inside_the_model():
    """Its path, put into the model as it stands there, computes and learns what the library's does."""
    names = {"Beside": Beside, "matmul": matmul, "outer": outer}
    exec(compile(LISTING, "README.md", "exec"), names)
    models = [get_peft_model(load_base("symbols"), LoRA(r=2)) for _ in range(2)]
    for _, layer in models[1].walk():
        if isinstance(layer, LoRALinear):
            layer.path = names["LoRALinear"].path.__get__(layer)
    batch = symbols_batches("map")(np.random.default_rng(0))
    losses = [[train_step(model, batch, AdamW(model, lr=1e-2)) for _ in range(3)] for model in models]
    assert losses[0] == losses[1]
    assert losses[0][2] < losses[0][0]


def test_the_program_of_using_runs(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", USING, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/using.md", "exec"), {})
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


def commands(page):
    return set(re.findall(r"(?:`|^    )minipeft ([a-z_]+)", page, re.MULTILINE))


def test_the_commands_that_are_named_exist():
    assert commands(README) <= COMMANDS.keys()
    assert commands(USING) == COMMANDS.keys()


def test_the_lessons_of_the_readme_are_those_that_there_are():
    lessons = re.findall(r"^- \[(\d\d [^]]*)\]\(notebooks/(\S+)\.ipynb\): ", README, re.MULTILINE)
    assert [stem for _, stem in lessons] == sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for title, stem in lessons:
        number, _, words = title.partition(" ")
        heading = (ROOT / "notebooks" / f"{stem}.md").read_text(encoding="utf-8")
        assert heading.startswith(f"# {number}. {words}"), title


def test_ways_through_the_course_are_those_of_the_page_on_teaching():
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    paths = re.findall(r"^\| [^|]* \| (\d\d[\d, ]*) \| \d", page, re.MULTILINE)
    ways = re.findall(r"\d\d(?:, \d\d)+", " ".join(README.split("## The lessons")[1].split("\n- ")[0].split()))
    assert ways
    assert set(ways) <= set(paths)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_links_to_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/design.md"])
def test_the_files_that_it_names_exist(page):
    page = (ROOT / page).read_text(encoding="utf-8")
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
