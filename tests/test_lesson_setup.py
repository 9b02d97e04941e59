"""notebooks/lesson.py: what all lessons share."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from test_notebooks import HEADER

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SCRIPT = """
import os, sys
{before}
import lesson
import numpy as np
def draw(seed, n):
    return np.random.default_rng(seed).standard_normal(n).sum(), os.getpid()
rows = lesson.starmap(draw, [(seed, 5) for seed in range(6)])
print([float(row[0]).hex() for row in rows], {{row[1] for row in rows}} == {{os.getpid()}})
"""


def starmap(before):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)], cwd=NOTEBOOKS, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.rsplit(maxsplit=1)


def test_starmap_gives_the_same_numbers_with_and_without_joblib():
    many, _ = starmap("")
    alone, here = starmap("sys.modules['joblib'] = None")  # as if it were not installed
    assert many == alone
    assert here == "True"


def test_starmap_leaves_a_core_to_each_thread():
    _, here = starmap(f"os.environ['OPENBLAS_NUM_THREADS'] = '{joblib.cpu_count()}'")
    assert here == "True"


def test_starmap_uses_other_processes_where_there_are_several_cores():
    _, here = starmap("os.environ['OPENBLAS_NUM_THREADS'] = '1'")
    assert here == str(joblib.cpu_count() == 1)


@pytest.mark.skipif(os.name == "nt", reason="puts shell scripts in the place of pip and python")
def test_a_lesson_that_was_downloaded_alone_fetches_the_course(tmp_path):
    """The first lines of a notebook, in a folder that holds only that notebook; a second run does no harm."""
    for name, line in {"pip": 'echo "pip $@"', "python": f'exec "{sys.executable}" "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "05_cut_the_rank.ipynb").write_text("mine")
    script = HEADER + "print(lesson.__file__)"
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(NOTEBOOKS.parent)}
    for _ in "12":
        result = subprocess.run([sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("pip install -q minipeft\n")
        assert Path(result.stdout.splitlines()[-1]) == folder / "course" / "lesson.py"
    assert (folder / "05_cut_the_rank.ipynb").read_text() == "mine"
