"""NumPy does not promise that its random streams stay the same (NEP 19): if one changes, this says so by its name,
before a dozen lessons print other numbers."""

import hashlib

import numpy as np
import pytest

DRAWS = {
    "random": lambda rng: rng.random(1000),
    "random float32": lambda rng: rng.random(1000, dtype="float32"),
    "normal": lambda rng: rng.normal(0, 0.02, 1000),
    "standard_normal": lambda rng: rng.standard_normal(1000),
    "uniform": lambda rng: rng.uniform(-1, 1, 1000),
    "integers": lambda rng: rng.integers(0, 1000, 1000).astype("int64"),
    "permutation": lambda rng: rng.permutation(1000).astype("int64"),
    "choice": lambda rng: rng.choice(1000, 500, replace=False).astype("int64"),
}
MD5 = {
    "random": "515647bcf36d6dc0e8fcbcf4719a78d7",
    "random float32": "efcd6e146b2c9614e9c20cc225a00ed5",
    "normal": "dcda084b8ceabf7d090332daf670468b",
    "standard_normal": "b273ddd6e171fa3c487613227de2166a",
    "uniform": "d46d2b6fb6fefb1ec47130464dbe1965",
    "integers": "e71d60e271a830f315ff67dcfcb1aea4",
    "permutation": "ba54d09ca4d93b939dfa3b51a69498aa",
    "choice": "8e4ee5be009cc6afe7e3466a5905ad5a",
}


@pytest.mark.parametrize("name", DRAWS)
def test_stream(name):
    draws = np.ascontiguousarray(DRAWS[name](np.random.default_rng(0)))
    digest = hashlib.md5(draws.astype(draws.dtype.newbyteorder("<")).tobytes(), usedforsecurity=False).hexdigest()
    assert digest == MD5[name], f"Generator.{name} gives other numbers in NumPy {np.__version__}: the lessons will, too"
