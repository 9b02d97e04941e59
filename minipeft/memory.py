"""Keep freed memory at hand, so that large temporaries are not page faults; give it back where much was freed."""

import ctypes
import sys


def keep_freed_memory():
    """Tell glibc not to give freed memory back to the system; elsewhere, do nothing.

    A training step makes hundreds of large arrays and frees them again.  By default glibc asks the system for each one
    above 128 kB anew, and the system must clear every page before its first use: half of a step's time.  Kept and used
    again, the pages are warm.  Peak memory stays the same.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    if mallopt := of_glibc("mallopt"):
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # glibc's own maximum
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back_freed_memory():
    """Return to the system what was freed and kept: the gradient buffers of a base that was just frozen, say."""
    if malloc_trim := of_glibc("malloc_trim"):
        malloc_trim(0)


def of_glibc(name):
    """A function of glibc; None elsewhere (musl, macOS, Windows)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
