"""What lessons measure with their tools is what it is called."""

import re
from itertools import product

import numpy as np
import pytest

from minipeft import AdamW, Parameter, gradcheck_layer, load_base
from minipeft.course import lesson_02, lesson_09, lesson_10, lesson_12
from minipeft.lab.heads import most_seen
from minipeft.methods.prefix import PrefixAttention
from minipeft.model import Attention
from minipeft.training.optimizers import warmup_cosine


def test_the_scale_keeps_the_slope_and_without_it_almost_nothing_is_left():
    said = lesson_02.plot_scale().alt
    slopes = {name: [float(one) for one in re.findall(r"([\d.e-]+) at", said.partition(f"{name}: ")[2].partition(";")[0])]
              for name in ("with 1/√K", "without")}  # fmt: skip
    assert max(slopes["with 1/√K"]) < 1.5 * min(slopes["with 1/√K"])
    assert slopes["without"][-1] < 0.01 * slopes["with 1/√K"][-1]


def test_how_far_a_number_travels_is_how_far_adamw_moves_it():
    p = Parameter(np.zeros(1))
    p.grad[...] = -3.0
    optimizer = AdamW([p], lr=0.01)
    for step in range(20):
        optimizer.step(warmup_cosine(step, 20))
    assert p.data.item() == pytest.approx(lesson_09.travelled(0.01), rel=1e-6)


def test_the_ridge_is_where_the_mean_loss_over_all_masks_has_no_slope():
    rng, p = np.random.default_rng(0), 0.25
    X, Y = rng.normal(size=(5, 3)), rng.normal(size=(5, 1))
    W, slope = lesson_10.ridge(X, Y, p), 0
    for kept in product((0, 1), repeat=3):
        MX = X * np.array(kept) / (1 - p)
        slope = slope + np.prod([1 - p if one else p for one in kept]) * MX.T @ (MX @ W - Y)
    assert np.allclose(slope, 0, rtol=0, atol=1e-12)


P = np.array([[0.3, 0.2, 0.4, 0.1, 0.0], [0.1, 0.1, 0.3, 0.5, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4]])  # m = 2, three tokens


@pytest.mark.parametrize(("w", "m", "shown", "said"), [
    (P, 2, range(3), "virtual tokens 0.27, first token 0.30, the same token 0.43, the one before 0.30"),
    (P, 2, range(1, 3), "virtual tokens 0.15, first token 0.25, the same token 0.45, the one before 0.30"),
    (P, 2, range(1), "virtual tokens 0.50, first token 0.40, the same token 0.40"),
    (P[:, 2:], 0, range(3), "first token 0.30, the same token 0.43, the one before 0.30"),
])  # fmt: skip
def test_where_a_head_looks_in_words(w, m, shown, said):
    assert most_seen(w, m, shown) == said


def test_the_share_of_later_tokens(monkeypatch):
    """Two layers; of four keys the first three are the tokens', and query 2 has no later one."""
    p = np.array([[0.4, 0.3, 0.2, 0.1], [0.2, 0.1, 0.6, 0.1], [0.3, 0.3, 0.3, 0.1]])
    monkeypatch.setattr(lesson_12, "attention_weights", lambda model, ids: [p[None, None], 0 * p[None, None]])
    assert lesson_12.share_of_later_tokens(None, np.zeros((1, 3))) == pytest.approx((0.5 + 0.6 + 0) / 3 / 2)


def test_attention_under_its_own_mask_and_under_others():
    rng = np.random.default_rng(0)
    q, k, v, do = (rng.normal(size=(2, n, 8)) for n in (3, 5, 5, 3))
    own, given = Attention(2), lesson_12.Masked(2, lambda T, S: np.tri(T, S, S - T))
    (o, back), (o_given, back_given) = own(q, k, v), given(q, k, v)
    for a, b in zip((o, *back(do)), (o_given, *back_given(do)), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-12)
    assert max(gradcheck_layer(lesson_12.Masked(2, lambda T, S: np.tri(T, S)), (q, k, v)).values()) < 1e-6


def test_only_a_right_prefix_is_the_words():
    base, (words, text) = load_base("symbols"), np.random.default_rng(0).integers(0, 16, (2, 6))

    def off(kind, mask=None):
        return lesson_12.off_the_words(base, words, text, kind, mask)

    class InFront(lesson_12.AtTheEnd):
        forward = PrefixAttention.forward
        prefix = PrefixAttention.prefix

    before = base(text[None])[0]
    assert off(InFront) < 1e-10
    assert min(off(lesson_12.AtTheEnd), off(InFront, lambda T, S: np.tri(T, S))) > 0.1
    assert np.array_equal(base(text[None])[0], before)  # the base is left as it was
