"""Ctrl-C, a time limit, a closed terminal: a command stops where it can save what it has."""

import functools
import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
AT_ONCE = 1.0


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end, between two steps of training or anywhere; in words, what became of the work."""

    def __init__(self, signum=signal.SIGINT, words="", between_steps=False):
        super().__init__(words)
        self.signum, self.between_steps = signum, between_steps


class Gate:
    """A handler in front of another: while it is shut, it notes a signal, so that none is raised halfway."""

    def __init__(self, handler):
        self.handler, self.is_open, self.waiting = handler, False, None

    def __call__(self, signum, frame):
        if self.is_open:
            self.handler(signum, frame)
        else:
            self.waiting = signum

    def open(self):
        self.is_open = True
        if self.waiting is not None:
            signum, self.waiting = self.waiting, None
            self.handler(signum, None)

    def shut(self):
        self.is_open = False


@contextmanager
def handled(handler):
    """Inside, the signals of SIGNALS go to the handler, but for those that are ignored (by nohup, say).

    A signal that comes while handlers are put in waits until all are in; one that comes while the former ones are put
    back goes to them.  What a handler raises before the block begins leaves by the `with`, and the former ones are back.
    """
    gate = Gate(handler)
    with ExitStack() as undo:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    undo.callback(signal.signal, number, former)  # before it is needed: a signal may come in between
                    signal.signal(number, gate)
        undo.callback(gate.shut)
        gate.open()
        yield
    if gate.waiting is not None:  # not after an error: that one is on its way already
        signal.raise_signal(gate.waiting)


def stop(signum, _):
    raise Stopped(signum)


class BetweenSteps:
    """with BetweenSteps() as pause: a signal waits for the step to end, since within it some weights are new, others old.

    Another Ctrl-C, AT_ONCE seconds after the first or later, does not wait.  Before, it is the same one once more: the
    system may send one for the process and one for its group, as when a terminal is closed.
    """

    def __enter__(self):
        self.signum, self.came, self.here = None, None, handled(self.note)
        self.here.__enter__()
        return self

    def __exit__(self, *error):
        return self.here.__exit__(*error)

    def note(self, signum, frame):
        if self.signum is not None:
            if signum == signal.SIGINT and time.monotonic() - self.came >= AT_ONCE:
                stop(signum, frame)
            return
        self.signum, self.came = signum, time.monotonic()
        with suppress(OSError):  # where nobody is there to read it
            # not print, which this may have come into the middle of
            os.write(2, b"\nstopping after this step, to save what is trained; Ctrl-C once more to stop at once\n")

    def watch(self, batches):
        """The same batches, and before each a look at whether a signal has come."""

        @functools.wraps(batches)
        def batch(rng):
            if self.signum is not None:
                raise Stopped(self.signum, between_steps=True)
            return batches(rng)

        return batch
