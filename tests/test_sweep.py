"""A sweep gives the same numbers wherever it runs, goes on where it stopped, and says where it failed."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from minipeft.lab import Sweep, SweepError, sweep
from minipeft.lab.picture import Picture
from minipeft.training import Diverged, Evaluation

GRID = {"lr": [0.01, 0.1, 1.0], "r": [1, 2]}


def trial(lr, r, seed):
    """Matrix products, so that threads of the BLAS could show; the process it ran in; wrecked at the largest of both."""
    if lr == 1.0 and r == 2:
        raise Diverged("the loss is nan")
    x = np.random.default_rng(seed).normal(size=(60, 60))
    return {"loss": float(np.linalg.norm(x @ x) * lr / r), "process": os.getpid()}


def losses(found):
    return found.values("loss")


@pytest.fixture(scope="module")
def serial():
    return sweep(trial, GRID, jobs=1)


def test_the_numbers_do_not_depend_on_the_processes(serial):
    pytest.importorskip("joblib")
    found = sweep(trial, GRID, jobs=2)
    assert np.array_equal(losses(found), losses(serial), equal_nan=True)
    assert os.getpid() not in found.values("process")
    assert set(serial.values("process", r=1).ravel()) == {os.getpid()}


def test_a_function_of_a_notebook_goes_to_the_processes_and_nothing_is_printed():
    pytest.importorskip("joblib")
    code = """
import numpy as np
from minipeft.lab import sweep
factor = 2
def trial(a, seed):
    return factor * a + np.random.default_rng(seed).random()
print(sweep(trial, {"a": [1, 2]}, jobs=2).values().tolist() == sweep(trial, {"a": [1, 2]}, jobs=1).values().tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_without_joblib_the_runs_follow_each_other(serial, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert np.array_equal(losses(sweep(trial, GRID)), losses(serial), equal_nan=True)


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_other_back_ends_of_joblib_give_the_same_numbers(backend, serial, tmp_path):
    """That of multiprocessing hands back lists, as that of Ray does."""
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend, n_jobs=2):
        found = sweep(trial, GRID, file=tmp_path / "a.jsonl")
    assert np.array_equal(losses(found), losses(serial), equal_nan=True)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1 + 18


def test_a_dask_cluster_gives_the_same_numbers(serial, tmp_path):
    joblib = pytest.importorskip("joblib")
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": tmp_path}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        found = sweep(trial, GRID)
    assert np.array_equal(losses(found), losses(serial), equal_nan=True)
    assert os.getpid() not in found.values("process")


# The grid


def test_all_combinations_in_order(serial):
    assert serial.points == [{"lr": lr, "r": r} for lr in GRID["lr"] for r in GRID["r"]]
    assert serial.measured == ["loss", "process"]
    assert losses(serial).shape == (6, 3)
    assert serial.values("loss", lr=0.1, r=2).shape == (3,)


def test_a_list_of_points_and_labels():
    found = sweep(
        lambda f, x, seed: f(x) + seed, {"f": {"square": np.square, "root": np.sqrt}, "x": [4.0]}, seeds=(0, 1)
    )
    assert found.values(f="root").tolist() == [2.0, 3.0]
    found = sweep(lambda a, b: a * b, [{"a": 2, "b": 3}, {"b": 5, "a": 4}], seeds=None)
    assert found.values().ravel().tolist() == [6, 20]
    assert found.mean(a=4) == 20


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "empty"),
        ({"lr": []}, "empty"),
        ([], "not empty"),
        ({"lr": 0.1}, "list of values"),
        ({"lr": "fast"}, "list of values"),
        ([{"a": 1}, {"b": 1}], "same names"),
        ({"lr": [1, 1]}, "twice"),
        ({"seed": [1]}, "seeds="),
    ],
)
def test_grids_that_are_none(grid, said):
    with pytest.raises(ValueError, match=said):
        sweep(trial, grid)


@pytest.mark.parametrize("seeds", [(), (1, 1), (0.5,)])
def test_seeds_that_are_none(seeds):
    with pytest.raises(ValueError, match="seeds"):
        sweep(trial, GRID, seeds=seeds)


# What a run returns


def test_numbers_evaluations_and_curves():
    assert sweep(lambda a, seed: a, {"a": [1, 2]}, jobs=1).values().tolist() == [[1, 1, 1], [2, 2, 2]]
    found = sweep(lambda a, seed: Evaluation(0.5, 0.75, 0.25, a), {"a": [8]}, jobs=1)
    assert found.measured == ["loss", "accuracy", "exact", "tokens"]
    assert found.mean("exact") == 0.25
    curves = sweep(lambda a, seed: {"loss": [a, a / 2, a / 4]}, {"a": [8, 4]}, jobs=1)
    assert curves.values("loss", a=8).shape == (3, 3)
    assert curves.mean("loss", a=8).tolist() == [8, 4, 2]


def test_the_mean_of_a_curve_is_over_seeds_named_or_not():
    curves = sweep(lambda a, seed: [a + 10 * seed, a + 10 * seed + 1], {"a": [1, 2]}, seeds=(0, 1, 2), jobs=1)
    assert curves.mean(a=1).tolist() == curves.mean("value", a=1).tolist() == [11, 12]
    assert curves.mean().tolist() == [[11, 12], [12, 13]]
    with pytest.raises(ValueError, match="'value' is a curve; by= must name one number for each run"):
        curves.best()


def curve_or_wreck(a, seed):
    if a == 2:
        raise Diverged("the loss is nan")
    return [1.0, 2.0]


def test_a_point_where_every_curve_was_wrecked_has_no_mean():
    curves = sweep(curve_or_wreck, {"a": [1, 2]}, jobs=1)
    assert curves.mean(a=1).tolist() == [1, 2]
    assert np.isnan(curves.mean(a=2))


def wrecked_once(a, seed):
    if seed == 1:
        raise Diverged("the loss is nan")
    return a + seed


def test_a_cell_that_is_partly_wrecked_has_the_mean_of_the_others():
    table = sweep(wrecked_once, {"a": [1, 2]}, jobs=1).table()
    assert table.rows == [("2 (1 × 3)", "3 (2 × 4)")]
    assert table.note == "×: a wrecked run; the mean is of the others"


def loss_or_wreck(rate, a, seed):
    if a == 2:
        raise Diverged("the loss is nan")
    return {"loss": rate * a}


def test_a_part_that_is_all_wrecked_still_knows_what_was_measured():
    found = sweep(loss_or_wreck, {"a": [1, 2], "rate": [1, 3]}, jobs=1)
    assert found.where(a=2).measured == found.only([{"a": 2, "rate": 1}]).measured == ["loss"]
    assert "wrecked" in repr(found.where(a=2).table())
    assert found.plot("rate").alt.endswith("a = 1: 1 at 1, 3 at 3; a = 2: wrecked at 1, wrecked at 3.")


@pytest.mark.parametrize("result", ["good", {"a": "good"}, np.ones((2, 2)), None])
def test_what_is_no_number_is_an_error_with_its_point(result):
    with pytest.raises(SweepError, match=r"a = 1, seed = 0\): TypeError: a run returns a number"):
        sweep(lambda a, seed: result, {"a": [1]}, jobs=1)


def broken(lr, seed):
    if lr == 2 and seed == 1:
        raise KeyError("no such layer")
    return lr


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_names_its_point(jobs):
    with pytest.raises(SweepError, match=r"broken\(lr = 2, seed = 1\): KeyError: 'no such layer'"):
        sweep(broken, {"lr": [1, 2]}, jobs=jobs)


def test_warnings_of_the_runs_come_out_here_once_each():
    def warns(a, seed):
        warnings.warn("the rate is large", UserWarning, stacklevel=1)
        return a

    with pytest.warns(UserWarning, match="the rate is large"):
        sweep(warns, {"a": [1, 2]}, jobs=2)


def test_a_bar_only_where_it_is_asked_for_or_seen(capsys):
    sweep(broken, {"lr": [1]}, jobs=1)
    assert capsys.readouterr().err == ""
    sweep(broken, {"lr": [1]}, jobs=1, progress=True)
    assert "sweep: 100%" in capsys.readouterr().err


# The file


def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    file, calls, power = tmp_path / "sweep.jsonl", [], []

    def noted(lr, r, seed):
        if (lr, r, seed) == (0.1, 2, 1) and not power:
            raise RuntimeError("the power is out")
        calls.append((lr, r, seed))
        return trial(lr, r, seed)["loss"]

    with pytest.raises(SweepError, match="power"):
        sweep(noted, GRID, file=file, jobs=1)
    assert len(file.read_text().splitlines()) == 1 + 10
    power.append(True)
    file.write_text(file.read_text()[:-7])  # the last line is cut short: it is computed again
    found = sweep(noted, GRID, file=file, jobs=1)
    assert len(calls) == 10 + 1 + 8
    assert found.values().tobytes() == sweep(noted, GRID, jobs=1).values().tobytes()
    grown = sweep(noted, {"lr": [0.001, *GRID["lr"]], "r": [1, 2]}, file=file, jobs=1)
    assert len(grown) == 8
    header, *lines = map(json.loads, file.read_text().splitlines())
    assert header["names"] == ["lr", "r"]
    assert len(lines) == 24


def another(lr, r, seed):
    return 0.0


def test_a_file_of_another_sweep_is_refused(tmp_path):
    file = tmp_path / "sweep.jsonl"
    sweep(trial, GRID, file=file, jobs=1)
    before = file.read_text()
    for function, grid, said in (
        (another, GRID, "its function is trial, not another"),
        (trial, {"lr": [0.01], "r": [1]}, "no point of this grid"),
        (trial, [{"r": 1, "lr": 0.01}], "its names"),
    ):
        with pytest.raises(ValueError, match=said):
            sweep(function, grid, file=file)
    file.write_text(before.replace(json.loads(before.splitlines()[0])["source"], "0" * 16))
    with pytest.raises(ValueError, match="the source has changed"):
        sweep(trial, GRID, file=file)
    for text, said in (("notes", "not a file of a sweep"), ("{}\n", "not a file of a sweep"), ("{\n", "line 1")):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            sweep(trial, GRID, file=file)
        assert file.read_text() == text
    with pytest.raises(ValueError, match="label it"):
        sweep(another, {"lr": [object()], "r": [1]}, file=tmp_path / "b")


# The results


def test_it_prints_itself(serial):
    text = repr(serial)
    assert "loss, mean of 3 seeds, and each" in text
    assert "r = 1" in text.splitlines()[1]
    assert "wrecked (× × ×)" in text
    assert "also measured: process" in text
    assert "also measured" not in repr(serial.table(value="loss"))  # the reader chose
    assert f"{serial.mean('loss', lr=0.1, r=2):.3g}" in text
    percent = repr(serial.table("r", "lr", format=".0%", each_seed=False))
    assert "lr = 0.01" in percent
    assert f"{serial.mean('loss', lr=0.01, r=1):.0%}" in percent


def test_best_where_only(serial):
    assert serial.best("loss", least=True) == {"lr": 0.01, "r": 2}
    assert serial.best("loss") == {"lr": 1.0, "r": 1}
    assert serial.best("loss", each="r") == {1: {"lr": 1.0, "r": 1}, 2: {"lr": 0.1, "r": 2}}
    assert np.isnan(serial.mean("loss", lr=1.0, r=2))
    part = serial.where(lr=[0.01, 0.1], r=1)
    assert isinstance(part, Sweep)
    assert losses(part).shape == (2, 3)
    assert serial.only(serial.best("loss", each="r")).points == [{"lr": 1.0, "r": 1}, {"lr": 0.1, "r": 2}]


def test_what_is_not_there_is_named(serial):
    with pytest.raises(KeyError, match=r"'rank'; there are: lr, r"):
        serial.mean(rank=1)
    with pytest.raises(ValueError, match=r"lr = 3; there are: 0.01, 0.1, 1.0"):
        serial.mean(lr=3)
    with pytest.raises(KeyError, match="there is: loss, process"):
        serial.table(value="exact")


def test_the_pictures_say_every_mean(serial):
    for picture in (serial.plot("lr", "r", "loss"), serial.heat("lr", "r", "loss")):
        assert isinstance(picture, Picture)
        for point in serial.points:
            mean = serial.mean("loss", **point)
            assert ("wrecked" if np.isnan(mean) else f"{mean:.3g}") in picture.alt
    lines = serial.plot("lr", "r", "loss").figure.axes[0]
    assert lines.get_xscale() == "log"
    assert sum(len(line.get_xdata()) for line in lines.lines if line.get_marker() not in ("None", None)) == 18
    lost = {"lr = 1, r = 2": (1.5, 0.5), "lr = 1, r = 1": (1.5, -0.5)}  # the corners of two cells
    assert hatched(serial.heat("lr", "r", "loss")) == {lost["lr = 1, r = 2"]}
    assert hatched(serial.heat("lr", "r", "loss", wrecked=lambda loss: loss > 100)) == set(lost.values())


def hatched(picture):
    return {patch.get_xy() for patch in picture.figure.axes[0].patches if patch.get_hatch()}
