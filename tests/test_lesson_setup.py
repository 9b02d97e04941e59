"""notebooks/lesson.py: what all lessons share."""

import subprocess
import sys
from pathlib import Path

import joblib

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
