"""Exercises that check themselves: one stable line each, in words; never a traceback, and never the answer.

    report(name, checks)        checks: (what, test) pairs, from shape to special case to value to gradient check;
                                test() -> (right?, hint), where the first wrong one speaks
    compare(got, want, ...)     (right?, hint) for an array: names a missing return, a shape, a transpose, a sign, a factor
    compare_all(got, wanted)    the same for several, by name; shapes(got, like): their shapes only
    gradients(loss, arrays, grads, ...)   (right?, hint) by directional finite differences
    answers(wanted, mistakes, dA=..., dB=...)   the blanks of a lesson: a line for each, which names the slip
    prediction(name, answer, right, ...)  a multiple choice, asked before the cell is run

The checks of each lesson are functions that take the learner's function, such as check.rmsnorm(my_rmsnorm).  They stand in
checks/lesson_NN.py, and are found here by their name.
"""

import importlib
import pkgutil

import numpy as np

NOT_WRITTEN = "not written yet"


def report(name, checks):
    """Run the checks in order and print one line: what is still missing, the first thing that is wrong, or ✓."""
    for what, test in checks:
        try:
            with np.errstate(all="ignore"):
                right, hint = test()
        except NotImplementedError:
            print(f"{name}: {NOT_WRITTEN}")
            return
        except Exception as error:
            print(f"{name}: ✗ {what}: it stops with {an(type(error).__name__)}. {EXCEPTIONS.get(type(error), CALL_IT)}")
            return
        if not right:
            print(f"{name}: ✗ {what}: {hint}")
            return
    print(f"{name}: ✓ {'its check passes' if len(checks) == 1 else f'all {len(checks)} checks pass'}")


def an(word):
    return f"{'an' if word[0] in 'AEIO' else 'a'} {word}"


CALL_IT = "Call it by itself in a new cell to see where."
EXCEPTIONS = {
    NameError: "Is every name spelled as in the arguments?",
    ValueError: "Do the shapes fit? Write them beside each line.",
    TypeError: "Does it take the arguments that are asked for, and return what is asked for?",
}


def compare(got, want, what="the result", mistakes=(), tolerance=1e-8):
    """(right?, hint) for an array.  mistakes: (array that a likely mistake gives, hint) pairs."""
    if got is None or got is Ellipsis:
        return False, f"{what} is missing: is there a return?"
    got, want = np.asarray(got), np.asarray(want)
    if got.dtype.kind not in "fiub":
        return False, f"{what} is not an array of numbers"
    if got.shape != want.shape:
        for wrong, hint in mistakes:  # which may have a shape of their own
            if np.shape(wrong) == got.shape and np.allclose(got, wrong, rtol=tolerance, atol=tolerance):
                return False, hint
        turned = got.shape == want.shape[::-1]
        hint = ": is something transposed?" if turned else ""
        return False, f"{what} has shape {got.shape}, and should have {want.shape}{hint}"
    got, want, size = got.astype(float), want.astype(float), max(float(np.abs(want).max(initial=0)), 1e-12)

    def same(a, b):
        scale = max(size, float(np.abs(b).max(initial=0)))  # a mistake may be much larger than what is right
        return bool(np.abs(a - b).max(initial=0) <= tolerance * scale)

    if not np.isfinite(got).all():
        return False, f"{what} is not finite everywhere"
    if same(got, want):
        return True, ""
    for wrong, hint in mistakes:
        if np.shape(wrong) == got.shape and same(got, np.asarray(wrong, float)):
            return False, hint
    if same(got, np.zeros_like(got)):
        return False, f"{what} is zero everywhere"
    if same(got, -want):
        return False, f"{what} has the wrong sign"
    if got.ndim == 2 and got.shape[0] == got.shape[1] and same(got, want.T):
        return False, f"{what} is transposed: it fits only because it is square"
    if want.size == 1:
        return False, f"{what} is too {'large' if got.item() > want.item() else 'small'}"
    factor = float((got * want).sum() / (want * want).sum()) if want.any() else 0.0
    if factor and same(got, factor * want):
        return False, f"{what} is off by one factor everywhere: is a scale or a mean missing, or there twice?"
    wrong = int((np.abs(got - want) > tolerance * size).sum())
    return False, f"{what} has the right shape, but {wrong} of its {want.size} numbers are wrong"


def answers(wanted, mistakes=None, /, tolerance=1e-5, **given):
    """Check the blanks of a lesson, and print a line for each: answers({"dA": slopes, ...}, dA=my_dA).

    wanted      {name: the right array}, such as nudge measures; or {name: a function that returns it}
    mistakes    {name: {what to say: the array that a likely mistake gives}}
    given       what the reader found; ... where the blank is still empty

    It names a transpose, a sign, a missing factor (and how large it is), a sum that is missing, one too many, or one that
    ran over the wrong axis; what is none of these is counted.  Slopes that were rounded to six decimals are met.

    Raises: KeyError for a name that is not in wanted
    """
    for name, got in given.items():
        if name not in wanted:
            raise KeyError(f"there is no blank {name!r}; there are: {', '.join(wanted)}")
        want = np.asarray(wanted[name]() if callable(wanted[name]) else wanted[name], float)
        likely = [(array, hint) for hint, array in (mistakes or {}).get(name, {}).items()]
        if got is None or got is Ellipsis:
            print(f"{name}: {NOT_WRITTEN}; its shape is {want.shape}")
            continue
        right, hint = compare(got, want, name, likely, tolerance)
        if not right and hint not in [known for _, known in likely]:
            hint = slip(got, want, name, tolerance) or hint
        said = "✓ right" if want.size == 1 else f"✓ all {want.size} numbers are right"
        print(f"{name}: {said}" if right else f"{name}: ✗ {hint}")


def slip(got, want, name, tolerance):
    """What a wrong array tells about the mistake in it, beyond what compare says; None if nothing."""
    got = np.asarray(got)
    if got.dtype.kind not in "fiub" or not np.isfinite(got).all():
        return None
    if got.shape != want.shape:
        shapes = f"{name} has shape {got.shape}, and should have {want.shape}"
        if got.ndim == 2 and got.shape == want.shape[::-1]:
            return None  # compare asks whether it is transposed
        if got.ndim == want.ndim + 1 and any(got.shape[:i] + got.shape[i + 1 :] == want.shape for i in range(got.ndim)):
            return f"{shapes}: is a sum missing?"
        if got.ndim == want.ndim - 1 and any(
            want.shape[:i] + want.shape[i + 1 :] == got.shape for i in range(want.ndim)
        ):
            return f"{shapes}: is one sum too many?"
        if got.ndim == want.ndim and got.size and sorted(got.shape) != sorted(want.shape):
            return f"{shapes}: did a sum run over the wrong axis?"
        return None
    got = got.astype(float)
    size = tolerance * max(float(np.abs(want).max(initial=0)), 1e-12)
    if got.any() and want.any() and want.size > 1:
        factor = float((got * want).sum() / (got * got).sum())
        if factor > 0 and np.abs(factor * got - want).max() <= size:
            return f"times {factor:.4g}, every number would be right: which factor is {factor:.4g}?"
    return None


def one_number(name, got, want, slips):
    """The test of a number worked out by pencil, for report.  slips: {hint: the number that a likely mistake gives}."""

    def test():
        if got is ... or got is None:
            raise NotImplementedError
        return compare(float(got), want, name, [(wrong, hint) for hint, wrong in slips.items()])

    return test


def two_numbers(name, answer, asked):
    """Both numbers of an answer; (..., ...) while it is empty.  If it is no pair, say so and return None."""
    if answer is ... or answer is None:
        return ..., ...
    is_row = isinstance(answer, (tuple, list)) or (isinstance(answer, np.ndarray) and answer.ndim == 1)
    if is_row and len(answer) == 2:
        return answer
    report(name, [("answer", lambda: (False, f"two numbers are asked for: {asked}"))])
    return None


def compare_all(got, wanted):
    """(right?, hint) of the first array that is wrong.  wanted: {name: (array, mistakes)}."""
    results = (compare(got.get(name), want, name, mistakes) for name, (want, mistakes) in wanted.items())
    return next((result for result in results if not result[0]), (True, ""))


def shapes(got, like):
    """(right?, hint) of the first array that is missing or has another shape than its like."""
    zeros = {name: None if got.get(name) is None else np.zeros(np.shape(got[name])) for name in like}
    return compare_all(zeros, {name: (np.zeros(array.shape), ()) for name, array in like.items()})


def gradients(loss, arrays, grads, hints=None):
    """(right?, hint) for hand-written gradients, by central differences along one random direction each.

    loss: a function without arguments.  arrays: {name: array}, changed in place and put back.  grads: {name: gradient}.
    hints: {name: what is probably wrong}.
    """
    rng, eps = np.random.default_rng(0), 1e-5
    for name, x in arrays.items():
        g = grads.get(name)
        if g is None or np.shape(g) != x.shape:
            right, hint = compare(g, x, f"d{name}")
            return right, hint
        v, kept = rng.standard_normal(x.shape), x.copy()
        try:
            x[...] = kept + eps * v
            up = float(loss())
            x[...] = kept - eps * v
            down = float(loss())
        finally:
            x[...] = kept
        numeric, exact = (up - down) / (2 * eps), float(np.vdot(g, v))
        if not abs(exact - numeric) <= 1e-6 * max(abs(exact), abs(numeric), 1e-5):
            default = f"d{name} is not the slope of the loss along a random direction"
            return False, (hints or {}).get(name, default)
    return True, ""


def prediction(name, answer, right, why=None):
    """Say whether a prediction came true.  right: the right choice; why: {wrong choice: a question to think about}.

    Call it from a function of checks/lesson_NN.py: a notebook that holds the right choice gives it away.
    """
    if answer is Ellipsis or answer is None:
        print(f"{name}: not answered yet")
        return
    if plain(answer) == plain(right):
        print(f"{name}: ✓ that is what happens")
    else:
        asked = {plain(choice): question for choice, question in (why or {}).items()}
        print(f"{name}: ✗ not so: {asked.get(plain(answer), 'look again, and run the cell below if there is one.')}")


def plain(answer):
    """An answer as it is compared: 8, 8.0, "8", [8] and np.array(8) are one, and so are "LoRA" and " lora "."""
    answer = answer.tolist() if isinstance(answer, np.ndarray) else answer
    while isinstance(answer, (list, tuple)) and len(answer) == 1:
        answer = answer[0]
    return f"{answer:g}" if isinstance(answer, (int, float, np.number)) else str(answer).strip().lower()


def __getattr__(name):
    """check.NAME finds the checks of every lesson."""
    if not name.startswith("_"):
        from . import checks

        for module in pkgutil.iter_modules(checks.__path__, f"{checks.__name__}."):
            found = importlib.import_module(module.name)
            if name in found.__all__:
                return getattr(found, name)
    raise AttributeError(f"there is no check named {name!r}")
