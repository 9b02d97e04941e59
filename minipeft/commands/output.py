"""What a command prints, where its reader has gone, the disk is full, or the terminal does not know a letter.

None of that may cost the work.  While a command runs, stdout and stderr are stand-ins: what they cannot write is dropped,
the command goes on, saves what it has made, and ends with a status that says so.

    0     done; also where a reader has seen enough of a command that only prints (`minipeft inspect a.npz | head -1`)
    1     failed; or done, but what it printed could not all be written (a full disk)
    2     a command line that cannot be read
    128+n stopped by signal n: 130 Ctrl-C, 143 terminated, 129 the terminal was closed;
    141   its work is done and saved, but the reader of what it printed has gone (`minipeft finetune my.txt | head -1`)
"""

import os
import sys

READER_GONE = 141  # what a shell reports of a program that ends by SIGPIPE
SPELLED = {"√": "sqrt ", "Δ": "d", "×": "x", "−": "-", "→": "->", "…": "...", "·": ".", "≥": ">=", "α": "alpha"}


def spelled(text):
    """Our own words as the terminal can show them: √ is sqrt where there is no √.  Not for names and texts of the user:
    those keep every letter, as \\uXXXX where need be."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return "".join(letter if encodable(letter, encoding) else SPELLED.get(letter, letter) for letter in text)


def encodable(letter, encoding):
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Stream:
    """A stand-in for stdout or stderr: writes what can be written, and keeps the error after which nothing can."""

    def __init__(self, stream):
        self.stream, self.error = stream, None

    def write(self, text):
        encoding = getattr(self.stream, "encoding", None)
        if encoding:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        self.unless_lost("write", text)
        return len(text)

    def flush(self):
        self.unless_lost("flush")

    def unless_lost(self, act, *args):
        if self.stream is None or self.error is not None:
            return
        try:
            getattr(self.stream, act)(*args)
        except OSError as error:
            self.error = error

    def finish(self):
        """Write what is still waiting; where that fails, send it nowhere, or Python would try again at its end."""
        self.flush()
        if self.error is None:
            return
        try:
            descriptor = self.stream.fileno()
        except OSError:  # not a file of the system
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)

    def isatty(self):
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name):  # encoding, fileno, buffer, ...
        return getattr(self.stream, name)


class Output:
    """with Output() as output: stdout and stderr are stand-ins.  saved: the files written so far, for the last words."""

    def __init__(self):
        self.name, self.saved = "minipeft", []

    def __enter__(self):
        keep_descriptors()
        self.before = sys.stdout, sys.stderr
        self.out, self.err = sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
        self.out.saved = self.saved
        return self

    def __exit__(self, *_):
        for stream in (self.out, self.err):
            stream.finish()
        sys.stdout, sys.stderr = self.before

    def say(self, message):
        """One line on stderr, in the name of the command, and what was saved in spite of it."""
        print(f"{self.name}: {message}{self.kept(message)}", file=sys.stderr)

    def status(self, status):
        """The exit status, once all is written that can be written."""
        self.out.flush()
        self.err.flush()
        errors = [stream.error for stream in (self.out, self.err) if stream.error is not None]
        if status or not errors:
            return status
        for error in errors:
            if not isinstance(error, BrokenPipeError):
                self.say(f"what it printed could not all be written: {error.strerror or error}")
                return 1
        return READER_GONE if self.saved else 0

    def kept(self, message=""):
        """What was saved, where the message does not say so, as the end of a sentence."""
        unsaid = [str(path) for path in self.saved if str(path) not in message]
        return f"; saved: {', '.join(unsaid)}" if unsaid else ""


def saved(path):
    """Note a file that a command has written, so that its last words can name it."""
    getattr(sys.stdout, "saved", []).append(path)


def unread():
    """Whether nobody reads what is printed any more: a command that only prints can end."""
    return getattr(sys.stdout, "error", None) is not None


def keep_descriptors():
    """Open nothing in place of stdin, stdout and stderr where they are closed: the next file would be given their numbers,
    and what a library prints would be written into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
