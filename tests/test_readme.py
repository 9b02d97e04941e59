"""The README says nothing that does not run: its code, its commands, the files that it names."""

import re
from pathlib import Path

import pytest

from minipeft.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_its_program_runs(tmp_path, monkeypatch, capsys):
    program = README.split("## Use it")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    bits = float(capsys.readouterr().out.split(" bits a character")[0])
    assert bits < 3
    assert (tmp_path / "climate.npz").exists()


def test_its_commands_exist():
    assert set(re.findall(r"`minipeft ([a-z_]+)", README)) <= COMMANDS.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_links_to_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


def test_the_files_that_it_names_exist():
    names = re.findall(r"`((?:minipeft|notebooks|tests|docs)/[\w./]*)`", README)
    assert names
    assert not [name for name in names if not (ROOT / name).exists()]
