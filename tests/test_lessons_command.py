"""minipeft lessons DIR: the whole course, and nothing of the learner's overwritten."""

import argparse
import configparser
import json
import sys
from pathlib import Path

import pytest

from minipeft.commands import lessons

ROOT = Path(__file__).parents[1]


def arguments(*argv):
    parser = argparse.ArgumentParser()
    lessons.add_arguments(parser)
    return parser.parse_args(argv)


def cells(path):
    """[(kind, source, tags)] of a notebook."""
    return [
        (cell["cell_type"], "".join(cell["source"]), cell["metadata"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]


NOTEBOOKS = sorted(path.relative_to(lessons.CHECKOUT) for path in lessons.CHECKOUT.rglob("[0-9][0-9]_*.ipynb"))


def test_the_course_is_copied_with_its_outputs(tmp_path, capsys):
    folder = tmp_path / "new" / "course"
    lessons.run(arguments(str(folder), "--no-open"))
    assert sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) == NOTEBOOKS
    for name in NOTEBOOKS:
        mine, theirs = (json.loads((place / name).read_text(encoding="utf-8")) for place in (folder, lessons.CHECKOUT))
        assert mine["cells"] == theirs["cells"]
        assert mine["metadata"] == {"kernelspec": theirs["metadata"]["kernelspec"]}  # pairing it is for authors
    said = capsys.readouterr().out
    assert said.startswith(f"{len(list(lessons.CHECKOUT.glob('*.ipynb')))} lessons, ")
    assert "as you run them" not in said


def test_nothing_is_overwritten(tmp_path):
    mine = tmp_path / "06_write_lora.ipynb"
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=r"already has 06_write_lora\.ipynb; nothing was overwritten"):
        lessons.run(arguments(str(tmp_path), "--no-open"))
    assert [p.name for p in tmp_path.iterdir()] == ["06_write_lora.ipynb"]
    assert mine.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "course").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        lessons.copy_course(lessons.course(), tmp_path / "course")


class Installed(str):
    """A file of the course, as importlib.metadata finds it."""

    def locate(self):
        return ROOT / self.removeprefix("../../share/minipeft/")


def installed(monkeypatch):
    """As if from a wheel with the files that setup.cfg names."""
    setup = configparser.ConfigParser(inline_comment_prefixes="#")
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    files = [
        Installed(f"../../{place}/{path.name}")
        for place, patterns in setup["options.data_files"].items()
        for pattern in patterns.split(",")
        for path in ROOT.glob(pattern.strip())
    ]
    monkeypatch.setattr(lessons.metadata, "files", lambda name: files)
    monkeypatch.setattr(lessons, "CHECKOUT", ROOT / "nowhere")


def test_an_installation_makes_the_same_notebooks_from_texts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jupytext")
    checkout = lessons.CHECKOUT
    installed(monkeypatch)
    lessons.run(arguments(str(tmp_path / "course"), "--no-open"))
    assert sorted(p.relative_to(tmp_path / "course") for p in tmp_path.rglob("*") if p.is_file()) == NOTEBOOKS
    for name in NOTEBOOKS:
        assert cells(tmp_path / "course" / name) == cells(checkout / name)
        made = json.loads((tmp_path / "course" / name).read_text(encoding="utf-8"))["cells"]
        assert [cell["id"] for cell in made] == [f"c{i:03d}" for i in range(len(made))]
    assert "appears as you run them" in capsys.readouterr().out


def test_what_came_meanwhile_stays(tmp_path, monkeypatch):
    """Making 42 notebooks takes seconds, in which somebody may write one of those names."""
    made, late = lessons.for_a_learner, tmp_path / "course" / "03_build_a_gpt2.ipynb"

    def slowly(source):
        late.parent.mkdir(exist_ok=True)
        late.write_text("mine")
        return made(source)

    monkeypatch.setattr(lessons, "for_a_learner", slowly)
    with pytest.raises(OSError, match=r"03_build_a_gpt2\.ipynb cannot be written"):
        lessons.copy_course(lessons.course(), tmp_path / "course")
    assert late.read_text() == "mine"
    assert [path.name for path in late.parent.iterdir()] == [late.name]


def test_a_folder_of_that_name_beside_the_package_is_no_checkout(tmp_path, monkeypatch):
    installed(monkeypatch)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text("mine")
    monkeypatch.setattr(lessons, "CHECKOUT", tmp_path / "notebooks")
    assert sorted(lessons.course()) == NOTEBOOKS


def test_an_installation_without_its_lessons_or_jupytext_says_so(tmp_path, monkeypatch):
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(ImportError, match=r"pip install \"minipeft\[lessons\]\""):
        lessons.run(arguments(str(tmp_path / "course"), "--no-open"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(lessons.metadata, "files", lambda name: [])
    with pytest.raises(FileNotFoundError, match="has no lessons"):
        lessons.course()


def test_without_jupyter_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: None)
    lessons.open_jupyter(tmp_path)
    assert "pip install" in capsys.readouterr().out
