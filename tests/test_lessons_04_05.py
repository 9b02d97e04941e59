"""What lessons 04 and 05 measure and cut is what they say."""

from types import SimpleNamespace

import numpy as np
import pytest

from minipeft import load_base
from minipeft.course import lesson_04, lesson_05
from minipeft.lab.spectra import truncate


@pytest.mark.parametrize(("old", "lower"), [(1.2, True), (0.9, False)])
def test_whether_the_straight_way_lies_below_the_steps(old, lower):
    one = SimpleNamespace(new=np.array([2.0, 1.5, 1.0]), old=np.array([0.5, old, 1.5]),  # half way on the new text
                          way_new=np.array([1.75, 1.5, 1.25, 0.9]), way_old=np.array([0.75, 1.0, 1.25, 1.8]))  # fmt: skip
    assert lesson_04.way_is_lower(one) is lower


def test_operations_of_a_token_in_a_text_of_another_length(capsys):
    D, L, V, S = 128, 4, 2048, (32 * 32 + 33) / 33
    model, ids = load_base("english", "float32"), np.zeros((2, 33), int)
    lesson_04.check_operations(model, ids, 2 * (L * (12 * D**2 + 2 * S * D) + V * D))
    assert "✓" in capsys.readouterr().out
    lesson_04.check_operations(model, ids, 2 * (L * (12 * D**2 + S * D) + V * D))
    assert "mean of the values" in capsys.readouterr().out


def test_cuts_of_an_update():
    rng = np.random.default_rng(0)
    base = dict(load_base("english").named_parameters())
    update = {path: rng.normal(0, 1e-3, p.data.shape) for path, p in base.items()}
    cuts, path = lesson_05.Cuts([update]), "h.1.attn.v_proj.weight"
    assert np.allclose(cuts.cut(0, 3)[path], truncate(update[path], 3), rtol=0, atol=1e-12)
    assert np.isclose(np.linalg.norm(cuts.shrunk(0, 3)[path]), np.linalg.norm(cuts.cut(0, 3)[path]))
    assert np.linalg.matrix_rank(cuts.by_chance(0, 3)[path]) == 3
    assert np.linalg.matrix_rank(cuts.chance_as_long(0, 3)[path]) == 3
    assert np.isclose(np.linalg.norm(cuts.chance_as_long(0, 3)[path]), np.linalg.norm(cuts.cut(0, 3)[path]))
    pooled, matrices = cuts.pooled(0, 3), [name for name in update if update[name].ndim == 2]
    ranks, sides = ([f(name) for name in matrices] for f in (lambda name: np.linalg.matrix_rank(pooled[name]),
                                                             lambda name: sum(update[name].shape)))  # fmt: skip
    assert 0 <= 3 * sum(sides) - np.dot(ranks, sides) < max(sides)  # the room of rank 3 is used, and not exceeded
    assert len(set(ranks)) > 1
    lost = [sum(np.sum((update[name] - cut[name]) ** 2) for name in matrices) for cut in (pooled, cuts.cut(0, 3))]
    assert lost[0] < lost[1]
    assert all(cuts.cut(0, 3)[name] is update[name] for name in update if update[name].ndim == 1)
    changed = dict(cuts.model(cuts.cut(0, 128)).named_parameters())
    assert np.allclose(changed[path].data, base[path].data + update[path], rtol=0, atol=1e-12)
    shares = lesson_05.shares(2.0, {0: np.array([1.9]), 1: np.array([1.5]), 2: np.array([1.0])})
    assert np.allclose(shares[1], (0.5, 0.4 / 0.9))


def test_texts_are_measured_in_float32_and_lose_no_digit_that_is_shown():
    base = load_base("english")
    _, old, new = lesson_04.texts()
    assert lesson_04.old_and_new(base) == pytest.approx(
        {"old": lesson_04.bits(base, old), "new": lesson_04.bits(base, new)}, abs=1e-5
    )


def test_what_is_left_without_zero_grad_has_the_length_that_clipping_gave_it():
    first, second = lesson_04.inside_careless(2).rows
    assert (first[1], second[1]) == ("0.00", "1.00")  # left
    assert (first[2], first[4]) == (first[3], "1.00")  # nothing was left yet: the sum is the new gradient
    assert float(second[3]) < float(first[3]) + 1  # it does not add up
