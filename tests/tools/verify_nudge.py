"""One machine stands for many: change numbers by 1e-10 where a computation begins, and see that no printed number moves.

    python tests/tools/verify_nudge.py             # every lesson
    python tests/tools/verify_nudge.py 04 08       # lessons 04 and 08

Two kinds are changed: one weight of each model when its optimizer is made, and one number of the first array (normal or
uniform) that each random generator draws, where lessons descend by hand.  Both are changed in proportion, so a zero
stays zero, as it does on every machine: a factor of LoRA that begins at zero gives its partner a gradient of exactly
zero, not of 1e-16.  Machines differ by about 1e-16 of a number in a sum.  A
recipe that keeps a nudge of 1e-10 below 1e-8 to the end prints the same four digits everywhere; one that does not will
differ on the next processor.  Runs that are meant to go wild are listed in WILD; of their late losses a lesson must print
nothing but words.
"""

import ast
import contextlib
import io
import itertools
import json
import linecache
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUDGE, LIMIT = 1e-10, 1e-8
ASTRAY = {(4, 0.1), (16, 0.03), (16, 0.1), (64, 0.03), (64, 0.1), (256, 0.01), (256, 0.03), (256, 0.1)}
# (α, rate) of lesson 08 at which a training of `near` goes astray, and rounding decides how far
WILD = {  # lesson: (the function that trains, which of its runs go wild: a question to its local variables)
    # steps that are not along the slope, so that a rounding may grow
    "02": ("copy_loss", lambda here: here["name"] in ("dz without its sum", "dk from the last query only")),
    "03": ("last_loss", lambda here: here["make"].__name__ == "forgetful"),
    "08": ("train_near", lambda here: (here["alpha"], here["lr"]) in ASTRAY),
}


def is_wild(lesson):
    """Whether the call of fit that is going on is one of WILD."""
    name, question = WILD.get(lesson, (None, None))
    frame = sys._getframe()
    while frame and frame.f_code.co_name != name:
        frame = frame.f_back
    return bool(frame and question(frame.f_locals))


def run_lesson(path, nudge):
    """Run a lesson's cells with nudged optimizers: {"losses": [[wild, final loss], ...], "text": what was printed}."""
    import matplotlib as mpl

    mpl.use("Agg")
    import nbformat
    import numpy as np

    import minipeft
    from minipeft import course, training
    from minipeft.lab import sweeps
    from minipeft.training import loop, optimizers

    losses, plain_init, plain_fit, plain_rng = [], optimizers.Optimizer.__init__, loop.fit, np.random.default_rng

    class Nudged(np.random.Generator):
        """A generator whose first array of real numbers has one of them, the largest, changed."""

        drawn = False

        def changed(self, numbers):
            if not self.drawn and np.size(numbers) > 1 and numbers.dtype == float:
                self.drawn, flat = True, numbers.reshape(-1)
                flat[np.abs(flat).argmax()] *= 1 + nudge
            return numbers

        def standard_normal(self, *args, **kwargs):
            return self.changed(super().standard_normal(*args, **kwargs))

        def normal(self, *args, **kwargs):
            return self.changed(super().normal(*args, **kwargs))

        def uniform(self, *args, **kwargs):
            return self.changed(super().uniform(*args, **kwargs))

    def init(self, *args, **kwargs):
        plain_init(self, *args, **kwargs)
        for p in [p for p in self.parameters() if p.data.any()][:1]:
            flat = p.data.reshape(-1)
            flat[np.abs(flat).argmax()] *= 1 + nudge

    def fit(*args, **kwargs):
        wild = is_wild(path.name[:2])
        try:
            history = plain_fit(*args, **kwargs)
        except loop.Diverged:
            losses.append([wild, None])
            raise
        losses.append([wild, history.loss[-1]])
        return history

    optimizers.Optimizer.__init__ = init
    loop.fit = training.fit = minipeft.fit = fit
    np.random.default_rng = lambda seed=None: Nudged(plain_rng(seed).bit_generator)
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    printed, space = io.StringIO(), {"__name__": "lesson_under_test"}
    os.chdir(path.resolve().parent)
    course.starmap = lambda function, cases: list(itertools.starmap(function, cases))  # here, where fit is watched
    sweeps.results_of = lambda tasks, jobs: itertools.starmap(sweeps.run, tasks)
    with contextlib.redirect_stdout(printed):
        for i, cell in enumerate(cells):
            name = f"<cell {i}>"
            linecache.cache[name] = (
                len(cell.source),
                None,
                cell.source.splitlines(True),
                name,
            )  # for inspect.getsource
            tree = ast.parse(cell.source, name)
            try:
                last = (
                    ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
                )
                exec(compile(tree, name, "exec"), space)
                if last and (value := eval(compile(last, name, "eval"), space)) is not None:
                    print(repr(value))  # a table, or the words of a picture: what nbval compares
            except Exception as error:
                if "raises-exception" not in cell.metadata.get("tags", []):
                    raise
                print(type(error).__name__)
    return {"losses": losses, "text": printed.getvalue()}


def in_a_process(path, nudge):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, __file__, "--one", str(path), repr(nudge)], capture_output=True, text=True, env=environment
    )
    if result.returncode:
        raise RuntimeError(result.stderr[-2000:])
    return json.loads(result.stdout.splitlines()[-1])


def verify(path):
    """Print one line; True if the lesson stands the nudge."""
    began = time.perf_counter()
    calm, nudged = in_a_process(path, 0.0), in_a_process(path, NUDGE)
    pairs = list(zip(calm["losses"], nudged["losses"], strict=True))
    steady = [abs(a[1] - b[1]) for a, b in pairs if not a[0] and None not in (a[1], b[1])]
    wild = len(pairs) - len(steady)
    moved = [(a, b) for a, b in zip(calm["text"].splitlines(), nudged["text"].splitlines(), strict=False) if a != b]
    good = not moved and max(steady, default=0) < LIMIT
    print(f"{'ok    ' if good else 'FAILED'} {path.stem:28} {len(steady):3} runs, largest change of a final loss "
          f"{max(steady, default=0):.0e}; {wild} unstable on purpose; {len(moved)} printed lines moved "
          f"({time.perf_counter() - began:.0f} s)", flush=True)  # fmt: skip
    for a, b in moved[:5]:
        print(f"       - {a}\n       + {b}")
    return good


def main(argv):
    if argv[:1] == ["--one"]:
        print(json.dumps(run_lesson(Path(argv[1]), float(argv[2]))))
        return 0
    lessons = [p for p in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")) if not argv or p.name[:2] in argv]
    results = [verify(path) for path in lessons]  # all of them, also after a failure
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
