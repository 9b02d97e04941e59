"""nbval: kernels import this checkout, and a changed output is explained line by line."""

import difflib
import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_assertrepr_compare(config, op, left, right):
    if op == "==" and isinstance(left, str) and isinstance(right, str):
        lines = difflib.ndiff(left.splitlines(), right.splitlines())
        lines = [line.rstrip("\n") for line in lines if line[:2] in ("- ", "+ ")]
        return ["stored in the lesson (-)   computed on this machine (+)", *(lines or ["only white space differs"])]
    return None
