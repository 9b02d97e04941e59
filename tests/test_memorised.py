"""What stands word for word in the training text is found, and nothing else is."""

import numpy as np
import pytest

from minipeft.lab.memorised import copied

TEXT = np.arange(100)


def test_nothing_is_copied_from_another_text():
    share, longest = copied(np.arange(200, 230), TEXT)
    assert share == 0
    assert longest.size == 0


def test_the_share_counts_tokens_in_runs_and_the_longest_is_shown():
    sample = np.concatenate([[500, 501], np.arange(10, 20), [600], np.arange(40, 47), [700], np.arange(50, 59)])
    share, longest = copied(sample, TEXT)
    assert share == pytest.approx((10 + 9) / len(sample))  # the run of seven is too short
    assert longest.tolist() == list(range(10, 20))


def test_the_run_may_be_shorter_and_order_counts():
    assert copied(np.arange(40, 47), TEXT, run=7)[0] == 1
    assert copied(np.arange(47, 40, -1), TEXT, run=2)[0] == 0


def test_the_longest_is_found_where_a_token_stands_twice():
    text = np.array([1, 2, 3, 1, 2, 3, 4, 5])
    assert copied(np.array([1, 2, 3, 4, 5, 9]), text, run=3)[1].tolist() == [1, 2, 3, 4, 5]


def test_no_stretch_reaches_across_the_end_of_a_line():
    sample = np.arange(10, 30)
    assert copied(sample, TEXT)[0] == 1
    share, longest = copied(sample, TEXT, ends=[14, 25])
    assert share == pytest.approx(10 / 20)  # 15 ... 24
    assert longest.tolist() == list(range(15, 25))


def test_a_text_shorter_than_a_run_holds_nothing():
    assert copied(np.arange(10), np.arange(3))[0] == 0


def test_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        copied(np.array([], int), TEXT)
