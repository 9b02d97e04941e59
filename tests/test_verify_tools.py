"""The tools that run lessons on other machines, or nudged: what they must not call green."""

from pathlib import Path

import pytest
import verify_matrix
import verify_nudge


@pytest.mark.parametrize(("text", "good"), [("a\nb", True), ("a\nc", False), ("a\nb\nc", False), ("a", False)])
def test_every_printed_line_must_stay_and_none_may_come(text, good, monkeypatch):
    printed = {0.0: "a\nb", verify_nudge.NUDGE: text}
    monkeypatch.setattr(
        verify_nudge, "in_a_process", lambda path, nudge: {"losses": [[False, 1.0]], "text": printed[nudge]}
    )
    assert verify_nudge.verify(Path("04_x.ipynb")) == good


@pytest.mark.parametrize(("change", "wild", "good"), [(1e-9, False, True), (1e-7, False, False), (1e-7, True, True)])
def test_a_final_loss_may_move_only_where_a_run_is_meant_to_go_wild(change, wild, good, monkeypatch):
    losses = {0.0: 1.0, verify_nudge.NUDGE: 1 + change}
    monkeypatch.setattr(
        verify_nudge, "in_a_process", lambda path, nudge: {"losses": [[wild, losses[nudge]]], "text": ""}
    )
    assert verify_nudge.verify(Path("04_x.ipynb")) == good


@pytest.mark.parametrize("tool", [verify_nudge, verify_matrix])
def test_a_lesson_that_is_not_there_is_refused(tool):
    with pytest.raises(SystemExit, match="no lesson 99"):
        tool.main(["99"])


def test_no_leg_at_all_is_not_green(monkeypatch, capsys):
    monkeypatch.setattr(verify_matrix, "find_python", lambda version: None)
    assert verify_matrix.main(["python"]) == 1
    assert "0 of 0 legs" in capsys.readouterr().out
