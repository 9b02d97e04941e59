"""Generation: the cache changes nothing but the time, and everything is put back afterwards."""

import numpy as np
import pytest
from specimens import CASES, CONFIG, snapshot, tiny_model, tiny_peft

from minipeft import Adapter, After, LoRA, PrefixTuning, PromptTuning, disabled, generate, get_peft_model, merge
from minipeft.generation import caching, choose
from minipeft.model.attention import CausalSelfAttention

every_case = pytest.mark.parametrize("case", CASES)
START = np.array([[1, 4, 1], [0, 6, 12]])


def by_hand(model, ids, n, window):
    """Greedy generation in four lines; when the window is full, its older half is dropped."""
    start = 0
    for _ in range(n):
        if ids.shape[1] - start > window:
            start = ids.shape[1] - window // 2
        ids = np.concatenate([ids, model(ids[:, start:])[0][:, -1:].argmax(-1)], axis=1)
    return ids


@every_case
@pytest.mark.parametrize("T", [1, 3])
def test_cached_is_uncached_greedily_and_past_the_window(case, T):
    model = tiny_peft(case).eval()
    virtual = sum(getattr(node, "virtual_tokens", 0) for _, node in model.walk())
    expected = by_hand(model, START[:, :T], 40, CONFIG.n_positions - virtual)
    assert np.array_equal(generate(model, START[:, :T], 40), expected)
    assert np.array_equal(generate(model, START[:, :T], 40, cache=False), expected)


@every_case
@pytest.mark.parametrize("top_k", [None, 4])
def test_cached_is_uncached_when_tokens_are_drawn(case, top_k):
    model = tiny_peft(case)
    with_cache, without = (
        generate(model, START, 40, temperature=1.5, top_k=top_k, rng=np.random.default_rng(8), cache=cache)
        for cache in (True, False)
    )
    assert with_cache.shape == (2, 43)
    assert np.array_equal(with_cache, without)
    assert np.array_equal(with_cache[:, :3], START)
    assert not np.array_equal(with_cache, generate(model, START, 40))


def test_cached_logits_are_the_uncached_ones():
    model = tiny_peft("stack")
    ids = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 10))
    with caching(model.eval()) as step:
        parts = [step(ids[:, :4]), step(ids[:, 4:5]), step(ids[:, 5:10])]
    assert np.allclose(np.concatenate(parts, axis=1), model(ids)[0], rtol=0, atol=1e-13)


def test_the_cache_makes_each_step_one_token_long(model, monkeypatch):
    lengths, forward = [], type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, ids: (lengths.append(ids.shape[1]), forward(self, ids))[1])
    generate(model, START, 5)
    assert lengths == [3, 1, 1, 1, 1]


def test_a_prompt_as_long_as_the_window_still_gets_an_answer(model):
    ids = np.ones((1, CONFIG.n_positions), int)
    assert generate(model, ids, 1)[0, -1] == model(ids)[0][0, -1].argmax()
    assert np.array_equal(generate(model, ids, 9), generate(model, ids, 9, cache=False))


def test_a_window_of_one_token():
    model = get_peft_model(tiny_model(), PrefixTuning(m=CONFIG.n_positions - 1))
    assert np.array_equal(generate(model, START[:, :1], 4), generate(model, START[:, :1], 4, cache=False))


def test_nothing_to_add_gives_the_ids_back(model):
    assert np.array_equal(generate(model, START, 0), START)


def test_the_callers_ids_are_left_alone(model):
    ids = START.copy()
    generate(model, ids, 4)
    assert np.array_equal(ids, START)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_integers_of_any_kind_give_integers(model, dtype):
    out = generate(model, START.astype(dtype), 4)
    assert out.dtype.kind in "iu"
    assert np.array_equal(out, generate(model, START, 4))


# Drawing


def test_draws_follow_the_softmax_of_the_logits():
    logits, n = np.array([0.5, -1.0, 2.0, 0.0]), 20_000
    drawn = choose(np.tile(logits, (n, 1)), 0.7, None, np.random.default_rng(0))
    p = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    assert abs(np.bincount(drawn) / n - p).max() < 4 * (0.25 / n) ** 0.5


def test_top_k_draws_only_among_the_k_likeliest():
    logits = np.tile([0.5, -1.0, 0.6, 0.4, -9.0], (500, 1))
    drawn = {k: set(choose(logits, 1.0, k, np.random.default_rng(0)).tolist()) for k in (1, 2, 3, 5)}
    assert drawn == {1: {2}, 2: {0, 2}, 3: {0, 2, 3}, 5: {0, 1, 2, 3}}


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_no_draw_leaves_the_top_k(u):
    """Not even at the two ends of [0, 1), where cumulated probabilities round."""

    class Constant:
        def random(self, shape):
            return np.full(shape, u)

    rng = np.random.default_rng(0)
    logits = np.concatenate([np.full((200, 1), -50.0), rng.normal(size=(200, 30)), np.full((200, 1), -50.0)], axis=1)
    drawn = choose(logits, 1.0, 20, Constant())
    assert (logits[np.arange(200), drawn] >= np.sort(logits)[:, -20]).all()


def test_top_k_of_one_is_greedy(model):
    drawn = generate(model, START, 12, temperature=3.0, top_k=1, rng=np.random.default_rng(0))
    assert np.array_equal(drawn, generate(model, START, 12))


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-310])
def test_a_low_temperature_is_nearly_greedy(model, temperature):
    drawn = generate(model, START, 12, temperature, rng=np.random.default_rng(0))
    assert np.array_equal(drawn, generate(model, START, 12))


def test_the_same_seed_draws_the_same_and_another_does_not(model):
    one, same, other = (generate(model, START, 12, 2.0, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


# Afterwards


@every_case
def test_everything_is_put_back(case):
    model = tiny_peft(case)
    before = snapshot(model)
    generate(model, START, 20)
    assert snapshot(model) == before


@every_case
def test_everything_is_put_back_after_an_exception(case):
    class Tired:
        draws = 0

        def random(self, shape):
            self.draws += 1
            if self.draws == 3:
                raise KeyboardInterrupt
            return np.full(shape, 0.5)

    model = tiny_peft(case)
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        generate(model, START, 20, temperature=1.0, rng=Tired())
    assert snapshot(model) == before
    with pytest.raises(ValueError, match="ids must lie in 0"):
        generate(model, START + 100, 2)
    assert snapshot(model) == before


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_meanwhile_and_the_mode_comes_back(mode):
    model = get_peft_model(tiny_model(), LoRA(r=2, dropout=0.9)).train(mode)
    for _, p in model.named_parameters():
        p.data += 0.3 if p.requires_grad else 0
    assert np.array_equal(generate(model, START, 12), generate(model, START, 12))
    modes = {node.training for _, node in model.walk() if hasattr(node, "training")}
    assert modes == {mode}
    assert model.training == mode


def test_a_part_in_eval_mode_stays_in_eval_mode(model):
    model.train().h[0].eval()
    before = snapshot(model)
    generate(model, START, 3)
    assert snapshot(model) == before


def test_inside_disabled_the_base_speaks(model):
    alone = generate(model, START, 12)
    model = tiny_peft("stack")
    assert not np.array_equal(generate(model, START, 12), alone)
    with disabled(model):
        assert np.array_equal(generate(model, START, 12), alone)


def test_a_merged_model_says_the_same():
    model = tiny_peft("lora")
    before = generate(model, START, 20)
    assert np.array_equal(generate(merge(model), START, 20), before)


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature must be 0"),
        ({"temperature": np.nan}, "temperature must be 0"),
        ({"temperature": np.inf}, "temperature must be 0"),
        ({"top_k": 0}, "top_k must lie in 1 ... 13, not 0"),
        ({"top_k": 14}, "top_k must lie in 1 ... 13, not 14"),
        ({"temperature": 1.0}, "hand in rng"),
        ({"temperature": 1.0, "rng": 0}, "hand in rng"),
        ({"top_k": 2.5}, "top_k must lie in 1 ... 13, not 2.5"),
        ({"n": -1}, "n = -1"),
        ({"n": 2.5}, "n = 2.5"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(model, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(model, START, **({"n": 3} | settings))


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_spoilt_weights_write_nothing(model, temperature):
    """They wrote token 0 for ever."""
    model.wte.weight.data[3] = np.nan
    with pytest.raises(ValueError, match="the logits are not finite numbers"):
        generate(model, START, 3, temperature, rng=np.random.default_rng(0))


def test_an_empty_prompt(model):
    with pytest.raises(ValueError, match=r"ids \(N, T\) with 1 ≤ T ≤ 16"):
        generate(model, [[]], 3)


@pytest.mark.parametrize("shape", [(3,), (2, 0), (1, 1, 1), (1, CONFIG.n_positions + 1)])
def test_ids_of_the_wrong_shape(model, shape):
    with pytest.raises(ValueError, match=r"ids \(N, T\) with 1 ≤ T ≤ 16"):
        generate(model, np.zeros(shape, int), 3)


@pytest.mark.parametrize("cache", [True, False])
def test_ids_that_are_not_integers(model, cache):
    with pytest.raises(TypeError, match="must be integers, not float64"):
        generate(model, START * 1.0, 3, cache=cache)


@pytest.mark.parametrize("method", [PrefixTuning(m=5), PromptTuning(m=5)])
def test_virtual_tokens_shorten_the_window(model, method):
    get_peft_model(model, method)
    assert generate(model, np.zeros((1, 11), int), 1).shape == (1, 12)
    with pytest.raises(ValueError, match="1 ≤ T ≤ 11"):
        generate(model, np.zeros((1, 12), int), 1)


def test_adapters_do_not(model):
    get_peft_model(model, Adapter(m=2))
    assert generate(model, np.zeros((1, 16), int), 1).shape == (1, 17)


class AttentionAfter(After):
    """A path of the reader's own that attends."""

    def __init__(self, base):
        super().__init__(base)
        self.attention = CausalSelfAttention(CONFIG.n_embd, CONFIG.n_head, np.random.default_rng(1), std_out=1)

    def path(self, u):
        return self.attention(u)


def test_an_attention_that_was_brought_has_its_past_too():
    model, ids = tiny_model(), np.arange(8)[None]
    model.wrap("*.mlp", AttentionAfter)
    whole = model(ids)[0]
    with caching(model) as step:
        parts = [step(ids[:, :3]), *(step(ids[:, i : i + 1]) for i in range(3, 8))]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-12)
