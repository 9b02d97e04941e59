"""What concerns the whole process, while minipeft computes: threads of the BLAS, and memory that was freed.

Importing minipeft changes none of it.  Training, evaluation and generation do, for as long as they last.
"""

import ctypes
import os
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import lru_cache

BLAS_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)
LARGEST = 32 << 20  # bytes: glibc's own maximum of the threshold below which it keeps freed memory
lock, state = threading.Lock(), {"inside": 0, "threads": nullcontext()}  # how many blocks are inside `computing` now


@contextmanager
def computing():
    """with computing(): ...   One BLAS thread, and freed memory is kept at hand; afterwards all is as it was.

    Small matrices are slower on two threads than on one.  Whoever wants more sets OPENBLAS_NUM_THREADS (or what the BLAS
    in use goes by): then nothing is changed here.  Blocks may overlap, in several threads: the first one in sets, the last
    one out restores.
    """
    with lock:
        if state["inside"] == 0:
            keep_freed_memory(True)
            state["threads"] = one_blas_thread()
            state["threads"].__enter__()
        state["inside"] += 1
    try:
        yield
    finally:
        with lock:
            state["inside"] -= 1
            if state["inside"] == 0:
                state["threads"].__exit__(None, None, None)
                keep_freed_memory(False)


def one_blas_thread():
    """A context in which the BLAS has one thread, unless the user has said how many it shall have."""
    if threads_asked() or blas() is None:
        return nullcontext()
    return blas().limit(limits=1, user_api="blas")


def threads_asked():
    """The BLAS threads that the environment asks for, or None.  What is no whole number > 0 counts for nothing."""
    asked = (os.environ.get(name, "") for name in BLAS_VARIABLES)
    return next((int(number) for number in asked if number.isdecimal() and int(number)), None)


@lru_cache(maxsize=1)
def blas():
    """The handle on NumPy's BLAS; None where threadpoolctl is missing.  An environment variable would come too late."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def keep_freed_memory(flag):
    """Tell glibc not to give freed memory back to the system, or to do so again; elsewhere, do nothing.

    A training step makes hundreds of large arrays and frees them again.  By default glibc asks the system for each one
    above 128 kB anew, and the system must clear every page before its first use: half of a step's time.  Kept and used
    again, the pages are warm.  Peak memory stays the same.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    if mallopt := of_glibc("mallopt"):
        mallopt(M_MMAP_THRESHOLD, LARGEST)  # as glibc itself has it once it has seen large arrays go
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1 if flag else 2 * LARGEST)
        if not flag:
            of_glibc("malloc_trim")(0)


@lru_cache(maxsize=2)
def of_glibc(name):
    """A function of glibc; None elsewhere (musl, macOS, Windows)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
