"""minipeft.course: what every lesson's first cell sets up."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import minipeft.course  # noqa: F401 (importing it makes the settings that are tested here)
from minipeft.lab.picture import COLORS

ROOT = Path(__file__).resolve().parents[1]
CORES = joblib.cpu_count()


def python(code, *, without=(), **environment):
    """What code prints in a new process, where neither NumPy nor the BLAS variables are there yet."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    absent = "".join(f"sys.modules[{name!r}] = None\n" for name in without)  # as if it were not installed
    result = subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{absent}{code}"],
        cwd=ROOT, env=clean | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


UNTOUCHED = """
import warnings
import numpy, threadpoolctl
import matplotlib as mpl
def state():
    return dict(os.environ), numpy.get_printoptions(), list(warnings.filters), dict(mpl.rcParams), [
        pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
before = state()
import minipeft{more}
print(state() == before)
"""


@pytest.mark.parametrize(("more", "untouched"), [("; from minipeft import *", "True"), (".course", "False")])
def test_only_the_course_changes_settings_of_the_process(more, untouched):
    assert python(UNTOUCHED.format(more=more)).strip() == untouched


# Threads

THREADS = """
import numpy, threadpoolctl
def threads():
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
before = threads()
import minipeft.course
print(before, threads(), os.environ["OPENBLAS_NUM_THREADS"])
"""
OPENBLAS = [pool for pool in pytest.importorskip("threadpoolctl").threadpool_info() if pool["user_api"] == "blas"]

several = pytest.mark.skipif(not OPENBLAS or CORES == 1, reason="needs a BLAS that threadpoolctl knows, and two cores")


@several
def test_one_thread_although_numpy_was_imported_first():
    before, after, variable = python(THREADS).split()
    assert before != "{1}"  # or this test could not fail
    assert after == "{1}"
    assert variable == "1"


@several
def test_whoever_sets_the_threads_has_them():
    assert python(THREADS, OPENBLAS_NUM_THREADS="2").split()[1:] == ["{2}", "2"]


@several
@pytest.mark.parametrize("nonsense", ["", "0", "two", "-1", "²"])
def test_a_variable_that_says_no_number_counts_for_nothing(nonsense):
    assert python(THREADS, OPENBLAS_NUM_THREADS=nonsense).split()[1:] == ["{1}", "1"]


@several
def test_the_variables_of_other_blas_count_too():
    assert python(THREADS, OMP_NUM_THREADS="2").split()[1:] == ["{2}", "2"]


def test_without_threadpoolctl_the_processes_started_from_here_still_have_one_thread():
    script = "import minipeft.course; print(os.environ['OPENBLAS_NUM_THREADS'])"
    assert python(script, without=["threadpoolctl"]) == "1\n"


# Figures and numbers


def test_each_line_of_a_figure_has_its_own_colour_and_dash():
    lines = Figure().subplots().plot(np.zeros((2, len(COLORS))))
    assert [line.get_color() for line in lines] == COLORS
    dashes = mpl.rcParams["axes.prop_cycle"].by_key()["linestyle"]  # in greyscale the colours are alike
    assert len({str(dash) for dash in dashes}) == len(COLORS)
    assert mpl.rcParams["axes.titlelocation"] == "left"


def test_numbers_have_four_digits():
    assert str(np.array([2 / 3, 1e-9])) == "[0.6667 0.    ]"


# Several cores

SCRIPT = """
from minipeft import course
import numpy as np
def draw(seed, n):
    return np.random.default_rng(seed).standard_normal(n).sum(), os.getpid()
rows = course.starmap(draw, [(seed, 5) for seed in range(6)])
print([float(row[0]).hex() for row in rows], {row[1] for row in rows} == {os.getpid()})
"""


def starmap(**how):
    return python(SCRIPT, **how).rsplit(maxsplit=1)


def test_starmap_gives_the_same_numbers_with_and_without_joblib():
    many, _ = starmap()
    alone, here = starmap(without=["joblib"])
    assert many == alone
    assert here == "True"


def test_starmap_leaves_a_core_to_each_thread():
    _, here = starmap(OPENBLAS_NUM_THREADS=str(CORES))
    assert here == "True"


def test_starmap_uses_other_processes_where_there_are_several_cores():
    _, here = starmap(OPENBLAS_NUM_THREADS="1")
    assert here == str(CORES == 1)
