"""Keep freed memory at hand, so that large temporaries are not page faults."""

import ctypes
import sys


def keep_freed_memory():
    """Tell glibc not to give freed memory back to the system; elsewhere, do nothing.

    A training step makes hundreds of large arrays and frees them again.  By default glibc asks the system for each one
    above 128 kB anew, and the system must clear every page before its first use: half of a step's time.  Kept and used
    again, the pages are warm.  Peak memory stays the same.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has no such function
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 32 << 20)  # glibc's own maximum
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
