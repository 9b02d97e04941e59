"""minipeft lessons DIR: the whole course, and nothing of the learner's overwritten."""

import argparse

import pytest

from minipeft.commands import lessons


def arguments(*argv):
    parser = argparse.ArgumentParser()
    lessons.add_arguments(parser)
    return parser.parse_args(argv)


def test_the_course_is_copied(tmp_path, capsys):
    folder = tmp_path / "new" / "course"
    lessons.run(arguments(str(folder), "--no-open"))
    for name in ("00_start_here.ipynb", "00_start_here.md", "refresh.py", "exercises/00_start_here.ipynb"):
        assert (folder / name).read_bytes() == (lessons.CHECKOUT / name).read_bytes()
    assert not list(folder.rglob("__pycache__"))
    assert capsys.readouterr().out.startswith(f"{len(list(lessons.CHECKOUT.glob('*.ipynb')))} lessons, ")


def test_nothing_is_overwritten(tmp_path):
    mine = tmp_path / "refresh.py"
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=r"already has refresh\.py; nothing was overwritten"):
        lessons.run(arguments(str(tmp_path), "--no-open"))
    assert [p.name for p in tmp_path.iterdir()] == ["refresh.py"]
    assert mine.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "course").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        lessons.copy_course(tmp_path / "course")


def test_an_installation_finds_its_lessons(tmp_path, monkeypatch):
    class File(str):
        def locate(self):
            return tmp_path / "share/minipeft/notebooks/00_start_here.ipynb"

    monkeypatch.setattr(lessons, "CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(
        lessons.metadata, "files", lambda name: [File("../../share/minipeft/notebooks/00_start_here.ipynb")]
    )
    assert [str(path) for path in lessons.course()] == ["00_start_here.ipynb"]
    monkeypatch.setattr(lessons.metadata, "files", lambda name: [])
    with pytest.raises(FileNotFoundError, match="has no lessons"):
        lessons.course()


def test_without_jupyter_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: None)
    lessons.open_jupyter(tmp_path)
    assert "pip install" in capsys.readouterr().out
