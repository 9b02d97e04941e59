"""A wrong answer to an exercise gets one line with its hint, never a pass and never a traceback.

The answers stand in wrong_answers/lesson_NN.py.  That right ones pass is what the solved notebooks show.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

from minipeft.course import check

FILES = sorted(path.stem for path in (Path(__file__).parent / "wrong_answers").glob("lesson_[0-9][0-9].py"))
ANSWERS = {
    (name, hint): answer
    for file in FILES
    for name, wrongs in importlib.import_module(f"wrong_answers.{file}").WRONG.items()
    for hint, answer in wrongs.items()
}


@pytest.mark.parametrize(("name", "hint"), ANSWERS)
def test_a_wrong_answer_gets_its_hint(name, hint, capsys):
    with np.errstate(all="ignore"):  # wrong answers divide by zero
        getattr(check, name)(ANSWERS[name, hint])
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "✓" not in said
    assert hint in said
