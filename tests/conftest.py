"""What every test may ask for: a tiny model at a point where nothing is zero, and a batch for it."""

import importlib
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: these arrays are too small to share out

import numpy as np
import pytest
import specimens

if os.environ.get("MINIPEFT_MISSING") == "error":  # .ci/run, once all packages are there: a missing one hides no test
    pytest.importorskip = lambda name, **_: importlib.import_module(name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n: all cells of a notebook go to one process, since each builds on those before it."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def model():
    return specimens.tiny_model()


@pytest.fixture
def batch():
    """(ids, targets, mask)"""
    return specimens.tiny_batch()


@pytest.fixture
def ids(batch):
    return batch[0]


@pytest.fixture
def few(monkeypatch):
    """A base that is pretrained for a step is measured on few sequences."""
    monkeypatch.setattr("minipeft.training.bases.MEASURED", 4)
