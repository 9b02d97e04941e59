"""A file while it is being written, .NAME.PID-START@HOST.part beside its place; and what a killed process leaves of it."""

import os
import platform
import re
import time
from contextlib import suppress
from pathlib import Path

PART = re.compile(r"\..+\.(\d+)-(\d+)@(.+)\.part", re.DOTALL)
HOST = re.sub(r"[^\w.-]", "_", platform.node(), flags=re.ASCII)[:40] or "localhost"
HOUR = 3600


def part_of(path):
    """Where a file is while it is being written.  The name says who writes it: which process, on which machine."""
    return path.with_name(f".{path.name[:40]}.{os.getpid()}-{started(os.getpid())}@{HOST}.part")


def remove_stale_parts(path):
    """Take away the parts beside `path` whose process, on this machine, is gone."""
    for name in os.listdir(path.parent):
        if left_behind(path.parent / name, path.name):
            with suppress(OSError):  # of another user, or another process took it away just now
                (path.parent / name).unlink()


def left_behind(part, name):
    """Whether a file is a part that nobody writes any more.  Another machine's parts say nothing of their process.

    Older versions wrote .NAME.PID.part, which does not say on which machine: such a one, of the file that is now written,
    has to be an hour old.
    """
    if match := PART.fullmatch(part.name):
        return match[3] == HOST and not is_running(int(match[1]), int(match[2]))
    if match := re.fullmatch(rf"\.{re.escape(name)}\.(\d+)\.part", part.name):
        with suppress(OSError):
            return not is_running(int(match[1])) and part.stat().st_mtime < time.time() - HOUR
    return False


def is_running(pid, start=0):
    """Whether the process is there, and is the one that began at `start`: a number is given out again."""
    if os.name != "posix":  # elsewhere the question itself would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # there, and another user's
        pass
    return not start or started(pid) in (0, start)


def started(pid):
    """When the process began, in the system's own count; 0 where it does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
