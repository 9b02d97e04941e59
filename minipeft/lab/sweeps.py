"""Many short runs, over a grid of settings and several seeds, side by side on all cores or on a cluster.

    def trial(lr, r, seed):
        ...
        return {"loss": 0.31, "exact": 0.97}

    found = sweep(trial, {"lr": [0.01, 0.03], "r": [1, 4, 16]})      # 6 points, 3 seeds each: 18 runs
    found                                                            # as the last line of a cell: a table
    found.plot(x="r", lines="lr", y="exact")                         # lines; every seed is a dot

The numbers do not depend on how many processes there are, or where: each run is told its seed, and the matrix products of
each are done on one thread.  joblib starts the processes; without it, the runs follow each other here.
"""

import itertools
import json
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np

from ..process import computing, threads_asked
from ..training.progress import progress_bar
from ..training.step import Diverged
from ..validation import is_seed
from .results import Sweep
from .store import Store


class SweepError(RuntimeError):
    """A run failed.  The message names its point, and what it failed with."""


def sweep(function, grid, seeds=(0, 1, 2), file=None, progress=None, jobs=None):
    """Call function(**point, seed=seed) for every point of a grid and every seed; return the results, a Sweep.

    function    returns a number, a dict of numbers, or an Evaluation; a list of numbers counts as one (a learning curve).
                If it raises Diverged, its training is wrecked: that is a result, and every number of it is NaN.
    grid        {name: values}: all combinations.  Or a list of points, {name: value} each, all with the same names.
                Values stand in tables as they print; {name: {label: value}} gives them labels.
    seeds       numbers; None for a function that takes no seed, and is called once for each point
    file        where each result is written as soon as it is there, a line of JSON.  The same call goes on where it
                stopped, and computes only what is missing; a grid that has grown since is welcome.
    progress    True or False: a bar on standard error or none; by default, a bar if that is a terminal
    jobs        processes: as many as there are cores, if not given; 1 stays in this one.  What joblib.parallel_config says
                goes first: inside `with joblib.parallel_config("dask")` the runs go to a Dask cluster, and with "ray" to
                a Ray cluster.

    The function and its arguments go to the processes by cloudpickle, so the function may stand in a notebook.

    Raises: SweepError, where a run fails, with the name of its point; ValueError for an empty grid, and for a file of
            another function or another grid
    """
    names, points = points_of(grid)
    seeds = check_seeds(seeds)
    runs = [(labels, values, seed) for labels, values in points for seed in seeds]
    keys = [key_of(labels, seed) for labels, _, seed in runs]
    if len(set(keys)) < len(keys):
        twice = next(labels for (labels, _, _), key in zip(runs, keys, strict=True) if keys.count(key) > 1)
        raise ValueError(f"the grid holds a point twice, or two that print alike: {describe(twice)}")
    store = Store(file, function, names, keys) if file is not None else None
    found = dict(store.found) if store else {}
    todo = [i for i, key in enumerate(keys) if key not in found]
    tasks = [(i, function, runs[i][1], runs[i][2], name_of(function, *runs[i][::2])) for i in todo]
    shown = progress if progress is not None else sys.stderr is not None and sys.stderr.isatty()
    with progress_bar(len(runs), len(found), "sweep", shown) as advance:
        for i, values, warned in results_of(tasks, jobs):
            found[keys[i]] = values
            if store:
                store.write(keys[i], values)
            for category, text in warned:
                warnings.warn(text, category, stacklevel=2)
            advance()
    rows = [(labels, seed, found[key]) for (labels, _, seed), key in zip(runs, keys, strict=True)]
    return Sweep(names, [labels for labels, _ in points], seeds, rows)


def points_of(grid):
    """(names, [({name: label}, {name: value}), ...]) of a grid."""
    if isinstance(grid, Mapping):
        if not grid or not all(len(labelled(values, name)) for name, values in grid.items()):
            raise ValueError("the grid is empty: it needs {name: [values]}, such as {'lr': [0.01, 0.03]}")
        axes = [[(name, *pair) for pair in labelled(values, name)] for name, values in grid.items()]
        pairs = list(itertools.product(*axes))
    else:
        if not grid or not all(isinstance(point, Mapping) and point for point in grid):
            raise ValueError("a grid is {name: [values]}, or a list of points, each {name: value}; it is not empty")
        if len({frozenset(point) for point in grid}) > 1:
            raise ValueError(f"all points need the same names; these have {sorted({*map(tuple, grid)}, key=str)}")
        pairs = [[(name, label_of(value), value) for name, value in point.items()] for point in grid]
    points = [({n: label for n, label, _ in pair}, {n: value for n, _, value in pair}) for pair in pairs]
    if "seed" in points[0][0]:
        raise ValueError("'seed' cannot be a name of the grid: hand the seeds in as seeds=(0, 1, 2)")
    return list(points[0][0]), points


def labelled(values, name):
    """[(label, value), ...] of one setting."""
    if isinstance(values, Mapping):
        return list(values.items())
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"grid: {name} needs a list of values, such as [{values!r}]")
    return [(label_of(value), value) for value in values]


def label_of(value):
    """How a value stands in tables and in files: a number or a text as it is, anything else as it prints."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", None) or repr(value)


def check_seeds(seeds):
    seeds = (None,) if seeds is None else tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or not all(seed is None or is_seed(seed) for seed in seeds):
        raise ValueError(f"seeds must be different whole numbers of at least 0, such as (0, 1, 2), not {seeds!r}")
    return seeds


def key_of(labels, seed):
    """A point and a seed as one text."""
    return json.dumps([labels, seed], default=str, ensure_ascii=False)


def describe(labels):
    return ", ".join(f"{name} = {label}" for name, label in labels.items())


def name_of(function, labels, seed):
    """What a run is called where it fails: trial(lr = 0.1, seed = 2)."""
    inside = labels if seed is None else labels | {"seed": seed}
    return f"{getattr(function, '__name__', repr(function))}({describe(inside)})"


# ---- the runs


def results_of(tasks, jobs):
    """(number, values, warnings) of each task, as it is done."""
    if not tasks:
        return
    try:
        import joblib
    except ModuleNotFoundError:  # it only saves time
        joblib = None
    backend, configured = joblib.parallel.get_active_backend() if joblib else (None, 1)
    elsewhere = joblib is not None and (type(backend).__name__ != "LokyBackend" or configured not in (1, None))
    jobs = jobs or (None if elsewhere else joblib.cpu_count() if joblib else 1)
    if joblib is None or jobs == 1 or (len(tasks) == 1 and not elsewhere):
        yield from itertools.starmap(run, tasks)
        return
    here = nullcontext() if elsewhere else joblib.parallel_config("loky", inner_max_num_threads=threads_asked() or 1)
    with here, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")  # it starts another
        if backend.supports_return_generator:
            parts, how = [tasks], "generator_unordered"
        else:  # joblib hands back a list: a few at a time, so that a file grows all the same
            size = 4 * (os.cpu_count() or 1)
            parts, how = [tasks[i : i + size] for i in range(0, len(tasks), size)], "list"
        for part in parts:
            n = min(jobs, len(part)) if jobs else None
            parallel = joblib.Parallel(n, batch_size=1, return_as=how)
            yield from parallel(joblib.delayed(run)(*task) for task in part)


def run(i, function, values, seed, name):
    """(i, {name: number}, [(category, text)]) of one call; the warnings of it, each once, are for who asked for the runs."""
    arguments = values if seed is None else values | {"seed": seed}
    alone = threading.current_thread() is threading.main_thread()  # filters of warnings belong to the process
    with computing(), warnings.catch_warnings(record=True) if alone else nullcontext([]) as caught:
        try:
            result = numbers_of(function(**arguments))
        except Diverged:
            return i, {}, []
        except Exception as error:
            raise SweepError(f"{name}: {type(error).__name__}: {error}") from error
    return i, result, list(dict.fromkeys((one.category, str(one.message)) for one in caught))


def numbers_of(result):
    """{name: float or list of floats} of what a function returned.  Raises: TypeError for anything else"""
    if hasattr(result, "_asdict"):
        result = result._asdict()
    if not isinstance(result, Mapping):
        result = {"value": result}
    found = {}
    for name, value in result.items():
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" or array.ndim > 1:
            raise TypeError(f"a run returns a number, or a dict of numbers; {name!r} is {value!r:.60}")
        found[str(name)] = array.tolist() if array.dtype.kind != "b" else array.astype(int).tolist()
    return found
