"""The exercises' checks: one line each, the right hint for a likely mistake, and never a traceback or the answer."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from minipeft.course import check, checks


def says(capsys, call, *args):
    call(*args)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "Traceback" not in out
    return out.strip()


WANT = np.array([[1.0, 2.0], [3.0, 5.0]])
SAID = {
    "missing": (None, "is missing: is there a return?"),
    "not filled in": (..., "is missing: is there a return?"),
    "a string": ("no", "not an array of numbers"),
    "shape": (np.ones((2, 3)), "has shape (2, 3), and should have (2, 2)"),
    "not finite": (WANT * np.nan, "not finite"),
    "zero": (0 * WANT, "zero everywhere"),
    "sign": (-WANT, "wrong sign"),
    "transposed": (WANT.T, "transposed: it fits only because it is square"),
    "a factor": (3 * WANT, "off by one factor everywhere"),
    "one entry": (WANT + np.diag([0, 1]), "1 of its 4 numbers are wrong"),
    "a known mistake": (WANT + 7, "seven too many"),
}


@pytest.mark.parametrize("name", SAID)
def test_compare_names_the_mistake(name):
    got, hint = SAID[name]
    right, said = check.compare(got, WANT, "dA", [(WANT + 7, "seven too many")])
    assert not right
    assert hint in said


def test_compare_accepts_what_is_right():
    assert check.compare(WANT + 1e-12, WANT) == (True, "")
    assert check.compare(20, 20) == (True, "")


def test_one_number_is_too_large_or_too_small():
    assert check.compare(21, 20, "r") == (False, "r is too large")
    assert check.compare([19.0], [20.0], "r") == (False, "r is too small")


def test_a_turned_shape_asks_for_the_transpose():
    assert "transposed?" in check.compare(np.ones((3, 2)), np.ones((2, 3)))[1]


def test_report_stops_at_the_first_wrong_check(capsys):
    checks = [("shape", lambda: (True, "")), ("value", lambda: (False, "look at dA")), ("never", lambda: 1 / 0)]
    assert says(capsys, check.report, "lora", checks) == "lora: ✗ value: look at dA"


@pytest.mark.parametrize("error", [ValueError, TypeError, NameError, ZeroDivisionError, IndexError])
def test_report_turns_errors_into_words(capsys, error):
    def breaks():
        raise error("secret 0.123456789")

    said = says(capsys, check.report, "lora", [("value", breaks)])
    assert f"it stops with {'an' if error is IndexError else 'a'} {error.__name__}" in said
    assert "secret" not in said


def test_report_knows_what_is_not_written(capsys):
    def blank():
        raise NotImplementedError

    assert says(capsys, check.report, "lora", [("value", blank)]) == "lora: not written yet"


def test_gradients():
    x, w = np.random.default_rng(0).normal(size=(3, 4)), np.random.default_rng(1).normal(size=(3, 4))

    def loss():
        return (w * x**2).sum()

    kept = x.copy()
    assert check.gradients(loss, {"x": x}, {"x": 2 * w * x}) == (True, "")
    assert not check.gradients(loss, {"x": x}, {"x": w * x})[0]
    assert check.gradients(loss, {"x": x}, {"x": w * x}, hints={"x": "two"}) == (False, "two")
    assert "missing" in check.gradients(loss, {"x": x}, {"x": None})[1]
    assert np.array_equal(x, kept)


def test_prediction(capsys):
    assert says(capsys, check.prediction, "p", ..., "a") == "p: not answered yet"
    assert says(capsys, check.prediction, "p", " A ", "a") == "p: ✓ that is what happens"
    assert says(capsys, check.prediction, "p", "b", "a", {"b": "why b?"}) == "p: ✗ not so: why b?"
    for answer in (8, 8.0, "8", [8], np.array([8]), np.array(8), np.float64(8)):
        assert says(capsys, check.prediction, "p", answer, 8) == "p: ✓ that is what happens"
    for answer in ([], {}, ["a", "b"], [[1], [1, 2]], np.eye(2), print, 3j):
        assert "look again" in says(capsys, check.prediction, "p", answer, 8)
    assert says(capsys, check.prediction, "p", "4", 8, {4: "why 4?"}) == "p: ✗ not so: why 4?"


def test_an_unknown_check_is_named():
    with pytest.raises(AttributeError, match="no check named 'nothing'"):
        check.nothing  # noqa: B018


def scale_and_shift(dx=lambda x, g, dy: dy * g, dg=lambda x, g, dy: (dy * x).sum(0), db=lambda x, g, dy: dy.sum(0)):
    def layer(x, g, b):
        return x * g + b, lambda dy: (dx(x, g, dy), dg(x, g, dy), db(x, g, dy))

    return layer


def rms(dx):
    def layer(x, g, eps=1e-5):
        r = np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return g * x / r, lambda dy: (dx(x / r, dy * g, r), (dy * x / r).sum(0))

    return layer


LESSONS = [
    (check.lora_count, lambda a, b, r: r * (a + b), "✓"),
    (check.lora_count, lambda a, b, r: r * a * b, "A and B are thin"),
    (check.lora_count, lambda a, b, r: r * a, "which one is missing"),
    (check.who_trains, lambda m, method, rng: (m.requires_grad_(False), method.inject(m, rng)), "✓"),
    (
        check.who_trains,
        lambda m, method, rng: (method.inject(m, rng), m.requires_grad_(False)),
        "what froze it, and when",
    ),
    (check.who_trains, lambda m, method, rng: method.inject(m, rng), "more than A and B"),
    (check.scale_and_shift, scale_and_shift(), "✓"),
    (check.scale_and_shift, scale_and_shift(dx=lambda x, g, dy: dy), "passes through g"),
    (check.scale_and_shift, scale_and_shift(dg=lambda x, g, dy: (dy * x).mean(0)), "not a mean"),
    (check.scale_and_shift, scale_and_shift(db=lambda x, g, dy: dy), "has shape (4, 3), and should have (3,)"),
    (check.rmsnorm, rms(lambda xhat, d, r: (d - xhat * (d * xhat).mean(-1, keepdims=True)) / r), "✓"),
    (check.rmsnorm, rms(lambda xhat, d, r: d / r), "which way is missing"),
    (check.one_sided_step, 1e-8, "✓"),
    (check.one_sided_step, 1e-7, "how large is the part that rounding makes"),
]


@pytest.mark.parametrize(("what", "answer", "hint"), LESSONS)
def test_checks_of_lessons_00_and_01(capsys, what, answer, hint):
    assert hint in says(capsys, what, answer)


NAMES = [
    name
    for file in sorted(Path(checks.__file__).parent.glob("lesson_*.py"))
    for name in importlib.import_module(f"minipeft.course.checks.{file.stem}").__all__
]
JUNK = [None, ..., 0, -1.5, 3j, np.nan, "no", "", [], [1, [2, 3]], {}, len]
JUNK += [np.eye(3), np.full((2, 2), np.nan), np.zeros((0, 4))]


def raises(*args, **kwargs):
    raise ZeroDivisionError


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_however_strange_breaks_a_check(capsys, name):
    """One line, and no ✓, whether the answer is strange itself or a function that hands back something strange."""
    for junk in JUNK:
        answers = [
            junk,
            raises,
            lambda *args, junk=junk, **kwargs: junk,
            lambda *args, junk=junk, **kwargs: (junk, junk),
        ]
        for answer in answers[:1] if name.startswith("predict") else answers:
            assert "✓" not in says(capsys, getattr(check, name), answer)


def test_no_two_lessons_have_a_check_of_the_same_name():
    assert len(NAMES) > 30
    assert len(NAMES) == len(set(NAMES))  # check.NAME would find the first one only
