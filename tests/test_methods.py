"""The contract, for every method that METHODS names and for its variants."""

from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

import numpy as np
import pytest
from specimens import (
    CASES,
    CONFIG,
    PEFT,
    counted,
    gradients,
    loss_of,
    off_start,
    off_start_of_added,
    rewrite,
    snapshot,
    tiny_base_parameters,
    tiny_base_stored,
    tiny_batch,
    tiny_model,
    tiny_peft,
    to_float32,
)

from minipeft import (
    GPT2,
    IA3,
    METHODS,
    Adapter,
    DoRA,
    FullFineTuning,
    GPT2Config,
    LoRA,
    Method,
    Module,
    PrefixTuning,
    PromptTuning,
    Stack,
    Wrapper,
    disabled,
    get_peft_model,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from minipeft.files import read_npz
from minipeft.lab.gradcheck import gradcheck
from minipeft.methods import fingerprint, surrogate
from minipeft.methods.wrapper import wrappers_of
from minipeft.model import Linear
from minipeft.model.module import plain_path

every_case = pytest.mark.parametrize("case", CASES)
peft_case = pytest.mark.parametrize("case", PEFT)
DATA = Path(__file__).parent / "data"
V, P, D, L = CONFIG.vocab_size, CONFIG.n_positions, CONFIG.n_embd, CONFIG.n_layer


def logits_of(model, ids):
    """In eval mode, where dropout is off."""
    training = model.training
    logits = model.eval()(ids)[0]
    model.train(training)
    return logits


def steps(model, batch, n, rate):
    """n steps of plain gradient descent; the losses before each."""
    losses, loss = [], loss_of(model, batch)
    for _ in range(n):
        model.zero_grad()
        value, backward = loss()
        backward()
        losses.append(value)
        for _, p in model.named_parameters():
            if p.requires_grad:
                p.data -= rate * p.grad
    return losses


def error_of(act, *inputs):
    """The words of the ValueError, or None if there is none."""
    try:
        act(*inputs)
    except ValueError as error:
        return str(error)


def base_bytes(model):
    """{path: bytes} of all numbers of the base, whether Parameters hold them or not."""
    parameters = {path: p.data.tobytes() for path, p in tiny_base_parameters(model)}
    return parameters | {path: array.tobytes() for path, array in tiny_base_stored(model)}


# Put in


@every_case
def test_identity_at_init_is_as_the_method_says(case, ids):
    method = CASES[case]
    before = tiny_model()(ids)[0]
    after = logits_of(get_peft_model(tiny_model(), method), ids)
    assert np.array_equal(after, before) == method.identity_at_init
    assert after.shape == before.shape


@every_case
def test_it_returns_the_model_it_was_given(case, model):
    assert get_peft_model(model, CASES[case]) is model


@every_case
def test_only_what_the_method_added_is_trained(case):
    model = get_peft_model(tiny_model(), CASES[case])
    base = {id(p) for _, p in tiny_base_parameters(model)}
    stored = {path.rpartition(".")[0] for path, _ in tiny_base_stored(model)}  # layers that hold no weight, but codes
    assert len(base) + len(stored) == len(tiny_model().named_parameters())
    assert any(p.grad is not None for _, p in model.named_parameters())
    kept = {id(one.parameter) for one in model.peft[0].kept}
    assert {id(p) for _, p in model.named_parameters() if id(p) in base and p.grad is not None} == kept
    assert (case in PEFT) == (not kept)


def trained(model):
    return sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)


@every_case
def test_the_number_of_parameters_is_that_of_the_docstring(case, model):
    method = CASES[case]
    methods = method.methods if isinstance(method, Stack) else [method]
    if not isinstance(method, Stack) or case == "stack-net":  # in a Stack one's targets may be what another put in
        assert trained(get_peft_model(model, method)) == sum(counted(one, CONFIG) for one in methods)


@every_case
def test_the_seed_decides_the_start(case):
    method = CASES[case]
    one, same, other = (
        b"".join(p.data.tobytes() for _, p in get_peft_model(tiny_model(), method, seed).named_parameters())
        for seed in (0, 0, 1)
    )
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    method.inject(tiny_model(), rng)
    assert one == same
    assert (one != other) == (rng.bit_generator.state != before)  # or nothing is drawn


@every_case
def test_the_dtype_of_the_base_decides(case, ids):
    model = GPT2(GPT2Config(**(vars(CONFIG) | {"dtype": "float32"})))
    get_peft_model(model, CASES[case])
    logits, backward = model(ids)
    backward(np.ones_like(logits))
    assert logits.dtype == np.float32
    assert {p.data.dtype for _, p in model.named_parameters()} == {np.dtype("float32")}
    assert {p.grad.dtype for _, p in model.named_parameters() if p.requires_grad} == {np.dtype("float32")}


@pytest.mark.parametrize("case", ["lora-small", "stack-net"])
def test_what_is_put_into_a_model_in_eval_mode_is_in_eval_mode(case, ids):
    model = off_start(get_peft_model(tiny_model().eval(), CASES[case]))
    assert np.array_equal(model(ids)[0], model(ids)[0])


# Gradients


@every_case
def test_gradients_are_those_of_finite_differences(case, batch, rng):
    with surrogate(tiny_peft(case)) as model:
        errors = gradcheck(loss_of(model, batch), model.named_parameters(), rng)
    assert errors.keys() == {path for path, p in model.named_parameters() if p.requires_grad}
    assert {path: error for path, error in errors.items()
            if error > (1e-4 if path.endswith("k_proj.bias") else 1e-6)} == {}  # fmt: skip


@every_case
def test_the_surrogate_is_the_model_where_it_stands(case, ids):
    """And afterwards the model is what it was."""
    model = tiny_peft(case).eval()
    before, logits = snapshot(model), model(ids)[0]
    with surrogate(model):
        assert np.array_equal(model(ids)[0], logits)
    assert snapshot(model) == before
    assert not [path for path, node in model.walk() if getattr(node, "held", None) is not None]


@every_case
def test_two_forwards_then_two_backwards(case, batch):
    model = tiny_peft(case).eval()
    other = tiny_batch(N=2, T=4)
    expected = {}
    for one in (batch, other):
        model.zero_grad()
        loss_of(model, one)()[1]()
        expected = {path: grad + expected.get(path, 0) for path, grad in gradients(model).items()}
    model.zero_grad()
    (_, backward), (_, backward_other) = loss_of(model, batch)(), loss_of(model, other)()
    backward(), backward_other()
    for path, grad in gradients(model).items():
        assert np.allclose(grad, expected[path], rtol=1e-12, atol=1e-14), path


@every_case
def test_gradients_add_until_they_are_set_to_zero(case, batch):
    model = tiny_peft(case)
    loss = loss_of(model, batch)
    loss()[1]()
    once = gradients(model)
    loss()[1]()
    for path, grad in gradients(model).items():
        assert np.allclose(grad, 2 * once[path], rtol=1e-12, atol=1e-15), path
    model.zero_grad()
    assert not any(grad.any() for grad in gradients(model).values())


@peft_case
def test_training_leaves_the_base_bit_for_bit_and_frozen(case, batch):
    model = tiny_peft(case)
    before = base_bytes(model)
    added = {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}
    steps(model, batch, 4, rate=0.1)
    assert base_bytes(model) == before
    assert before == base_bytes(tiny_model()) or tiny_base_stored(model)
    assert all(p.grad is None for _, p in tiny_base_parameters(model))
    still = [path for path, p in model.named_parameters() if path in added and np.array_equal(p.data, added[path])]
    assert still == []
    assert base_bytes(unwrap(model)) == base_bytes(tiny_model())


@every_case
def test_the_loss_falls(case, batch):
    """From where the method starts, by descent alone: a step that is small enough makes the loss smaller.

    The rate is found, not given: it is halved until the loss falls, and doubled after.  So no method has to choose its
    defaults, its scale say, to suit a rate of ours.
    """
    model = get_peft_model(tiny_model(), CASES[case]).eval()
    loss, rate = loss_of(model, batch), 1.0
    trained = [p for _, p in model.named_parameters() if p.requires_grad]
    before, backward = loss()
    first = before
    for _ in range(40):
        model.zero_grad()
        backward()
        here, rate = [p.data for p in trained], 2 * rate
        for _ in range(30):
            for p, data in zip(trained, here, strict=True):
                p.data = data - rate * p.grad
            after, backward = loss()
            if after < before:
                break
            rate /= 2
        assert after < before, f"at a rate of {rate:.1e} the loss still rises: this is not the way down"
        before = after
    assert before < first - 0.05


# Take off


@every_case
def test_unwrap_gives_the_base_back_bit_for_bit(case, batch):
    model, plain = tiny_peft(case), tiny_model()
    steps(model, batch, 2, rate=0.1)
    assert unwrap(model) is model
    assert [(path, type(node)) for path, node in model.walk()] == [(path, type(node)) for path, node in plain.walk()]
    assert base_bytes(model) == base_bytes(plain)
    assert np.array_equal(model(batch[0])[0], plain(batch[0])[0])
    assert all(p.grad is None for _, p in model.named_parameters())
    assert get_peft_model(model, CASES[case]) is model


@every_case
def test_disabled_shows_the_base_and_comes_back(case, ids):
    model, plain = tiny_peft(case), tiny_model()
    with_method, before = logits_of(model, ids), snapshot(model)
    with disabled(model) as base:
        assert base is model
        assert np.array_equal(logits_of(model, ids), plain(ids)[0])
    assert snapshot(model) == before
    assert np.array_equal(logits_of(model, ids), with_method)
    with pytest.raises(KeyboardInterrupt), disabled(model):
        raise KeyboardInterrupt
    assert snapshot(model) == before
    assert not np.array_equal(with_method, plain(ids)[0])


@pytest.mark.parametrize(
    "methods",
    [(PrefixTuning(m=2, reparametrise=True), LoRA(r=2, targets="*")), (Adapter(m=2), DoRA(r=2, targets="h.0.*")),
     (Adapter(m=2, kind="parallel", targets="*.mlp"), IA3(targets="*"))],
    ids=["net", "adapter", "parallel"],
)  # fmt: skip
@pytest.mark.parametrize("stacked", [True, False])
def test_what_one_method_brings_is_no_target_of_another(methods, stacked, tmp_path, ids):
    """Targets are layers of the base: a network that is dropped on saving could not be put in again."""
    model = tiny_model()
    for method in [Stack(methods)] if stacked else methods:
        get_peft_model(model, method)
        off_start_of_added(model)
    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    assert np.allclose(logits_of(loaded, ids), logits_of(model, ids), rtol=0, atol=1e-12)
    bare = {path for path, node in tiny_model().walk() if isinstance(node, Module)}
    assert {plain_path(path) for path, node in wrappers_of(model)} <= bare


def test_after_unwrap_there_is_nothing_to_save_and_room_for_another(tmp_path):
    save_adapter(tiny_peft("adapter"), tmp_path / "a.npz")
    model = unwrap(tiny_peft("lora"))
    with pytest.raises(ValueError, match="there is nothing to save"):
        save_adapter(model, tmp_path / "b.npz")
    assert load_adapter(model, tmp_path / "a.npz") is model


@every_case
def test_what_is_trained_while_the_base_shows_through_is_not_lost(case, batch):
    """disabled inside disabled, and unwrap after further steps."""
    model, plain = tiny_peft(case), tiny_model()
    for _ in range(2):
        steps(model, batch, 1, rate=0.1)
        after = logits_of(model, batch[0])
        with disabled(model):
            assert base_bytes(model) == base_bytes(plain)
        assert np.array_equal(logits_of(model, batch[0]), after)
    assert base_bytes(unwrap(model)) == base_bytes(plain)


def test_a_model_without_a_method_unwraps_to_itself(model):
    before = [(path, id(node)) for path, node in model.walk()]
    assert unwrap(model) is model
    assert [(path, id(node)) for path, node in model.walk()] == before


# Fold in


@every_case
def test_what_says_so_merges_without_a_change_and_unwrap_gives_the_base_back(case, batch):
    if not CASES[case].merges:
        return
    model, plain = tiny_peft(case), tiny_model()
    before = logits_of(model, batch[0])
    assert merge(model) is model
    assert [(path, type(node)) for path, node in model.walk()] == [(path, type(node)) for path, node in plain.walk()]
    assert abs(model(batch[0])[0] - before).max() < 1e-12
    assert not np.array_equal(model(batch[0])[0], plain(batch[0])[0])
    with disabled(model):
        assert np.array_equal(model(batch[0])[0], plain(batch[0])[0])
    assert abs(model(batch[0])[0] - before).max() < 1e-12
    unwrap(model)
    assert base_bytes(model) == base_bytes(plain)
    assert np.array_equal(model(batch[0])[0], plain(batch[0])[0])


@every_case
def test_what_is_merged_shares_no_array_with_the_base(case, batch):
    """Full fine-tuning of the merged model writes into every array that it has."""
    if not CASES[case].merges:
        return
    plain = tiny_model()
    model = get_peft_model(merge(tiny_peft(case)), FullFineTuning())
    steps(model, batch, 2, rate=0.1)
    with disabled(model):
        assert base_bytes(model) == base_bytes(plain)
    assert base_bytes(unwrap(model)) == base_bytes(plain)


@every_case
def test_what_cannot_be_merged_says_why_and_stays(case):
    if CASES[case].merges:
        return
    model = tiny_peft(case)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"cannot be merged: \w+ "):
        merge(model)
    assert snapshot(model) == before


@every_case
def test_merge_folds_everything_or_nothing(case, ids):
    model = tiny_peft(case)
    logits, before = logits_of(model, ids), snapshot(model)
    refusal = error_of(merge, model)
    assert not refusal or ("cannot be merged" in refusal and snapshot(model) == before)
    assert abs(logits_of(model, ids) - logits).max() < 1e-12


def test_a_merge_that_fails_late_has_folded_nothing(model):
    get_peft_model(model, Stack((LoRA(r=2, targets="h.0.*"), Adapter(m=2, targets="h.1.mlp"))))
    before = snapshot(model)
    with pytest.raises(ValueError, match="SequentialAdapter cannot be merged"):
        merge(model)
    assert snapshot(model) == before


def test_merging_twice_over(model, ids):
    """A second LoRA on a merged first: both are folded, and unwrap goes all the way down."""
    plain = tiny_model()
    for seed in (1, 2):
        off_start_of_added(get_peft_model(model, LoRA(r=2), seed))
        before = model(ids)[0]
        assert abs(merge(model)(ids)[0] - before).max() < 1e-12
    assert np.array_equal(unwrap(model)(ids)[0], plain(ids)[0])


class Doubled(Wrapper):
    """A wrapper of one's own that can be folded: y = 2 base(x)."""

    def forward(self, x):
        y, backward = self.base(x)
        return 2 * y, lambda dy: backward(2 * dy)

    def fold(self):
        base = self.base.fold() if isinstance(self.base, Wrapper) else self.base
        return Linear.from_arrays(2 * base.matrix(), 2 * base.bias.data, requires_grad=False)


def test_a_lora_around_another_wrapper_folds_both(model, batch, rng):
    plain = tiny_model()
    model.wrap("*.q_proj", Doubled)
    off_start_of_added(get_peft_model(model, LoRA(r=2, targets="*.q_proj")))
    assert max(gradcheck(loss_of(model, batch), model.named_parameters(), rng).values()) < 1e-6
    before = model(batch[0])[0]
    assert abs(merge(model)(batch[0])[0] - before).max() < 1e-12
    assert [(path, type(node)) for path, node in model.walk()] == [(path, type(node)) for path, node in plain.walk()]
    assert np.array_equal(unwrap(model)(batch[0])[0], plain(batch[0])[0])


# Copies and files


@every_case
def test_a_deep_copy_is_a_model_of_its_own(case, batch):
    model = tiny_peft(case)
    twin = deepcopy(model)
    before = logits_of(model, batch[0])
    assert np.array_equal(logits_of(twin, batch[0]), before)
    ours, theirs = ({id(p.data) for _, p in one.named_parameters()} for one in (model, twin))
    assert len(ours) == len(theirs)
    assert not ours & theirs
    steps(twin, batch, 1, rate=0.1)
    assert np.array_equal(logits_of(model, batch[0]), before)
    assert not np.array_equal(logits_of(twin, batch[0]), before)
    assert twin.lm_head.weight is dict(twin.named_parameters())[twin.named_parameters()[0][0]]


def test_a_deep_copy_of_a_merged_model_unwraps_by_itself(ids):
    merged = merge(tiny_peft("lora"))
    before = logits_of(merged, ids)
    assert base_bytes(unwrap(deepcopy(merged))) == base_bytes(tiny_model())
    assert np.array_equal(logits_of(merged, ids), before)


@every_case
def test_saved_and_loaded_the_logits_are_the_same(case, batch, tmp_path):
    model = tiny_peft(case)
    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    assert np.array_equal(logits_of(loaded, batch[0]), logits_of(model, batch[0]))
    assert not np.array_equal(logits_of(loaded, batch[0]), tiny_model()(batch[0])[0])
    before = logits_of(loaded, batch[0])
    assert np.isfinite(steps(loaded, batch, 2, rate=0.05)).all()
    assert not np.array_equal(logits_of(loaded, batch[0]), before)


@every_case
def test_a_loaded_adapter_saved_again_is_the_same_file(case, tmp_path):
    """Settings, seed, base and arrays."""
    save_adapter(tiny_peft(case), tmp_path / "a.npz")
    save_adapter(load_adapter(tiny_model(), tmp_path / "a.npz"), tmp_path / "b.npz")
    (header, arrays), (again, arrays_again) = (read_npz(tmp_path / f"{name}.npz", "adapter") for name in "ab")
    assert header == again
    assert arrays.keys() == arrays_again.keys()
    assert all(np.array_equal(array, arrays_again[name]) for name, array in arrays.items())


@peft_case
def test_nothing_of_the_frozen_base_is_in_the_file(case, tmp_path):
    model = tiny_peft(case)
    save_adapter(model, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as npz:
        names = set(npz.files) - {"header"}
    base = {path for path, p in model.named_parameters() if id(p) in {id(q) for _, q in tiny_base_parameters(model)}}
    assert names
    assert not names & base


def test_a_reparametrised_prefix_is_saved_plain(ids, tmp_path):
    model = tiny_peft("prefix-net")
    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    trained = {path: p.data.shape for path, p in loaded.named_parameters() if p.requires_grad}
    assert trained == {f"h.{i}.attn.core.P_{kv}": (3, D) for i in range(L) for kv in "kv"}
    assert np.array_equal(logits_of(loaded, ids), logits_of(model, ids))


@every_case
def test_an_adapter_trained_in_float64_loads_into_a_float32_base(case, ids, tmp_path):
    model = tiny_peft(case)
    save_adapter(model, tmp_path / "a.npz")
    base = GPT2(GPT2Config(**(vars(CONFIG) | {"dtype": "float32"})))
    for (_, ours), (_, theirs) in zip(base.named_parameters(), tiny_model().named_parameters(), strict=True):
        ours.data[...] = theirs.data
    logits = logits_of(load_adapter(base, tmp_path / "a.npz"), ids)
    assert logits.dtype == np.float32
    assert abs(logits - logits_of(model, ids)).max() < 1e-4


def test_a_merged_adapter_is_not_saved_as_nothing(tmp_path):
    assert_not_saved(merge(tiny_peft("lora")), tmp_path / "a.npz", "was merged into the weights")


def test_a_method_on_a_merged_one_is_not_saved_alone(tmp_path):
    model = get_peft_model(merge(tiny_peft("lora")), Adapter(m=2))
    assert_not_saved(model, tmp_path / "a.npz", "was merged into the weights")


def test_a_disabled_adapter_is_not_saved_as_nothing(tmp_path):
    with disabled(tiny_peft("lora")) as model:
        assert_not_saved(model, tmp_path / "a.npz", "are disabled: leave the `with")


def assert_not_saved(model, path, message):
    with pytest.raises(ValueError, match=message):
        save_adapter(model, path)
    assert not path.exists()


def assert_comes_back(model, path, ids):
    save_adapter(model, path)
    assert np.array_equal(logits_of(load_adapter(tiny_model(), path), ids), logits_of(model, ids))


def test_settings_of_numpy_numbers_can_be_saved(ids, tmp_path):
    model = off_start_of_added(get_peft_model(tiny_model(), LoRA(r=np.int64(2), alpha=np.float64(4)), seed=np.int64(1)))
    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    assert np.array_equal(logits_of(loaded, ids), logits_of(model, ids))


def test_a_config_of_numpy_numbers_takes_a_method():
    config = GPT2Config(*(np.int64(size) for size in (V, P, D, L, 2)))
    assert fingerprint(GPT2(config)) == fingerprint(GPT2(CONFIG))


def test_the_file_stands_whatever_name_it_has(tmp_path):
    model = tiny_peft("lora")
    save_adapter(model, tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    load_adapter(tiny_model(), str(tmp_path / "adapter"))


@pytest.mark.parametrize("name", ["lora", "stack-net"])
def test_a_file_of_the_first_edition_loads_and_computes_the_same(name, ids):
    loaded = load_adapter(tiny_model(), DATA / f"first_edition_{name}.npz")
    assert np.allclose(logits_of(loaded, ids), np.load(DATA / f"first_edition_{name}_logits.npy"), rtol=1e-12)


# Starting values


def test_starting_values_can_be_set(model):
    get_peft_model(model, LoRA(r=2), start={"*.B": 0.5, "h.0.*.A": lambda shape, rng: np.full(shape, 2.0)})
    layers = dict(model.named_parameters())
    assert (layers["h.0.attn.q_proj.B"].data == 0.5).all()
    assert (layers["h.0.attn.q_proj.A"].data == 2).all()
    assert not (layers["h.1.attn.q_proj.A"].data == 2).any()


@pytest.mark.parametrize(
    ("start", "message"), [({"*.C": 1}, r"'\*.C' matches no trained"), ({"*.A": np.ones(3)}, "shape")]
)
def test_starting_values_that_cannot_be_leave_the_model_as_it_was(start, message, model):
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, LoRA(r=2), start=start)
    assert snapshot(model) == before


# The fingerprint


@every_case
def test_the_fingerprint_is_the_bases_whatever_is_around_it(case):
    assert fingerprint(tiny_peft(case)) == fingerprint(tiny_model())


def test_the_fingerprint_is_the_same_in_float32_and_not_for_another_base(model):
    assert fingerprint(to_float32(model)) == fingerprint(model)
    seen = {fingerprint(model)}
    for _, p in model.named_parameters():
        kept = p.data.flat[-1]
        p.data.flat[-1] += 1e-3
        seen.add(fingerprint(model))
        p.data.flat[-1] = kept
    assert len(seen) == 1 + len(model.named_parameters())
    heads = GPT2Config(**(vars(CONFIG) | {"n_head": 4}))
    assert fingerprint(tiny_model(heads)) != fingerprint(model)


# Two methods after one another


def test_a_second_method_freezes_the_first(batch, rng, tmp_path):
    model = tiny_peft("lora")
    first = {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}
    off_start_of_added(get_peft_model(model, Adapter(m=2), seed=9))
    parameters = dict(model.named_parameters())
    inside = {path.replace("attn.q", "attn.base.q").replace("attn.v", "attn.base.v"): a for path, a in first.items()}
    assert all(parameters[path].grad is None for path in inside)
    errors = gradcheck(loss_of(model, batch), model.named_parameters(), rng)
    assert len(errors) == 2 * L * 4
    assert max(errors.values()) < 1e-6
    steps(model, batch, 2, rate=0.1)
    assert all(np.array_equal(parameters[path].data, array) for path, array in inside.items())

    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    assert np.array_equal(logits_of(loaded, batch[0]), logits_of(model, batch[0]))
    assert base_bytes(unwrap(model)) == base_bytes(tiny_model())


TRAINED_AND_GONE = "of the base was trained, and then its layer gave way"


@pytest.mark.parametrize("second", METHODS)
def test_a_method_on_a_fully_fine_tuned_base_is_saved_with_that_base_or_not_at_all(second, batch, tmp_path):
    """Never the second method on the untrained base."""
    model = get_peft_model(tiny_model(), FullFineTuning())
    steps(model, batch, 3, rate=0.05)
    off_start_of_added(get_peft_model(model, METHODS[second](), seed=4))
    if second == "qlora":  # the trained weights are no longer in the model, and no file holds them
        assert_not_saved(model, tmp_path / "a.npz", TRAINED_AND_GONE)
    else:
        assert_comes_back(model, tmp_path / "a.npz", batch[0])


def test_biases_trained_by_hand_beside_a_method_are_not_lost_without_a_word(tmp_path):
    model = tiny_peft("lora").requires_grad_(True, "h.*.bias")
    biases = [p for path, p in model.named_parameters() if path.endswith("bias") and p.requires_grad]
    for p in biases:
        p.data += 0.1
    named = r"h\.0\.ln_1\.bias, h\.0\.attn\.\S+\.bias"
    assert_not_saved(model, tmp_path / "a.npz", f"no method trains {named} and {len(biases) - 2} more, and loading")


@every_case
def test_a_second_method_trains_alone_and_right_on_any_first(case, batch, rng):
    model = tiny_peft(case)
    first = {id(p) for _, p in model.named_parameters()}
    off_start_of_added(get_peft_model(model, Adapter(m=2, targets="*.mlp")))
    trained = [(path, p) for path, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 4 * L
    assert not first & {id(p) for _, p in trained}
    assert max(gradcheck(loss_of(model, batch), trained, rng).values()) < 1e-6


def small(method):
    """The method by its defaults, but small enough that two of it have room in a model that is 8 wide."""
    sizes = {"r": 3, "m": 2}
    return method(**{field.name: sizes[field.name] for field in fields(method) if field.name in sizes})


LORAS = ("lora", "loraplus", "dora", "qlora")
DORA_FIRST = "DoRA changes a weight itself, .*: put DoRA in first"
FREEZE_IT = "the weight under DoRA is trained, .*: freeze it"
# (first, second): why the second cannot go on top of the first; every other pair must work
REFUSED = {(first, second): "already has a LoRA: unwrap" for first in LORAS for second in LORAS} | {
    ("vera", "dora"): DORA_FIRST,
    ("ia3", "dora"): DORA_FIRST,
    ("dora", "lastk"): FREEZE_IT,
    ("dora", "full"): FREEZE_IT,
}
REFUSED_IN_A_STACK = REFUSED | {("lastk", "dora"): FREEZE_IT, ("full", "dora"): FREEZE_IT}  # else the first is frozen


def assert_refused(model, method, ids, why):
    """When it is put in, and then nothing has happened; or when it runs, if one trains what the other takes as frozen."""
    before = snapshot(model)
    refusal = error_of(get_peft_model, model, method)
    assert snapshot(model) == before or not refusal
    with pytest.raises(ValueError, match=why):
        raise ValueError(refusal) if refusal else model(ids)


def assert_right(model, merges, batch, rng):
    """What is put in does all that is asked of one method alone."""
    with surrogate(model):
        errors = gradcheck(loss_of(model, batch), model.named_parameters(), rng)
    errors = {path.replace(".base", ""): error for path, error in errors.items()}
    assert {path: error for path, error in errors.items()
            if error > (1e-4 if path.endswith("k_proj.bias") else 1e-6)} == {}  # fmt: skip
    logits, before = logits_of(model, batch[0]), snapshot(model)
    if merges:
        assert abs(logits_of(merge(model), batch[0]) - logits).max() < 1e-11
    else:
        with pytest.raises(ValueError, match="cannot be merged"):
            merge(model)
        assert snapshot(model) == before
    assert base_bytes(unwrap(model)) == base_bytes(tiny_model())
    assert np.array_equal(model(batch[0])[0], tiny_model()(batch[0])[0])


@pytest.mark.parametrize("in_a_stack", [True, False], ids=["stack", "second"])
@pytest.mark.parametrize("second", METHODS)
@pytest.mark.parametrize("first", METHODS)
def test_a_method_on_top_of_another_is_right_or_refused(first, second, in_a_stack, batch, rng, tmp_path):
    """In one Stack, or in a second get_peft_model: what a layer is put around may be a wrapper."""
    one, two = small(METHODS[first]), small(METHODS[second])
    model, method, refused = tiny_model(), Stack((one, two)), REFUSED_IN_A_STACK
    if not in_a_stack:
        model, method, refused = off_start_of_added(get_peft_model(model, one)), two, REFUSED
    if why := refused.get((first, second)):
        assert_refused(model, method, batch[0], why)
        return
    off_start_of_added(get_peft_model(model, method).eval(), 0.1)  # twice as much put in, as steep a loss: less far
    if not in_a_stack and first in ("lastk", "full") and second == "qlora":  # what was trained is now in 4 bits
        assert_not_saved(model, tmp_path / "a.npz", TRAINED_AND_GONE)
    else:
        assert_comes_back(model, tmp_path / "a.npz", batch[0])
    assert_right(model, one.merges and two.merges, batch, rng)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_around_a_wrapper_of_ones_own_is_right_or_refused(name, batch, rng):
    """One around every Linear, so that it is there whatever the targets are; no file brings it back."""
    model, method = tiny_model(), small(METHODS[name])
    model.wrap("h.*", Doubled, kind=Linear)
    if name == "dora":
        assert_refused(model, method, batch[0], DORA_FIRST)
        return
    off_start_of_added(get_peft_model(model, method).eval(), 0.1)
    assert_right(model, method.merges, batch, rng)


# When it fails, nothing has happened


@pytest.mark.parametrize(
    "method",
    [
        LoRA(targets="nothing"),
        LoRA(r=999),
        LoRA(r=D + 1, targets=("*.q_proj", "*.c_fc")),
        Stack((LoRA(r=2), Adapter(m=2), LoRA(r=2))),
        Stack((FullFineTuning(), PromptTuning(m=2), PrefixTuning(m=99))),
        Stack((PrefixTuning(m=2, reparametrise=True), Adapter(kind="diagonal"))),
        Method(),
    ],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize("start", ["base", "lora-targets", "adapter-block", "merged"])
def test_a_failed_get_peft_model_leaves_the_model_as_it_was(method, start, batch):
    model = {"base": tiny_model, "merged": lambda: merge(tiny_peft("lora"))}.get(start, lambda: tiny_peft(start))()
    loss_of(model, batch)()[1]()
    before, gradient = snapshot(model), gradients(model)
    with pytest.raises((ValueError, NotImplementedError)):
        get_peft_model(model, method)
    assert snapshot(model) == before
    assert gradients(model).keys() == gradient.keys()
    loss_of(model, batch)()[1]()
    assert all(np.allclose(grad, 2 * gradient[path]) for path, grad in gradients(model).items())


@every_case
def test_a_failed_load_leaves_the_model_as_it_was(case, batch, tmp_path):
    """The arrays are wrong only at the end, when the method is already in."""
    save_adapter(tiny_peft(case), tmp_path / "a.npz")
    rewrite(tmp_path / "a.npz", lambda header, arrays: arrays[max(arrays)].fill(np.nan))
    model = tiny_model()
    loss_of(model, batch)()[1]()
    before = snapshot(model)
    with pytest.raises(ValueError, match="finite"):
        load_adapter(model, tmp_path / "a.npz")
    assert snapshot(model) == before
    assert get_peft_model(model, CASES[case]) is model


def test_a_failed_load_leaves_a_wrapper_of_ones_own(model, tmp_path):
    class Loud(Wrapper):
        def forward(self, x):
            return self.base(x)

    save_adapter(tiny_peft("lora"), tmp_path / "a.npz")
    rewrite(tmp_path / "a.npz", lambda header, arrays: arrays[max(arrays)].fill(np.nan))
    model.wrap("*.mlp", Loud)
    before = snapshot(model)
    with pytest.raises(ValueError, match="finite"):
        load_adapter(model, tmp_path / "a.npz")
    assert snapshot(model) == before


def made_and_put_in(model, name, settings):
    """A setting may be refused where the settings are made, or where they are put in."""
    get_peft_model(model, METHODS[name](**settings))


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_that_cannot_be_is_refused_by_its_name(name, batch):
    """A whole number, a number, yes or no, a choice or a glob: what is none of that is a ValueError that names it."""
    whole, number = [-1, 2.5, True, "8", None], [float("nan"), float("inf"), True, "0.5", None]
    hints = get_type_hints(METHODS[name])
    wrong = {int: whole, float: number, bool: [2, 0.0, "no", None], str | tuple: ["nothing", 8, None]}
    for field in fields(METHODS[name]):
        kind = hints[field.name]
        values = ["neither", 3.5, None] if get_origin(kind) is Literal else wrong[kind]
        for value in values:
            model = tiny_model()
            before = snapshot(model)
            refusal = error_of(made_and_put_in, model, name, {field.name: value})
            assert refusal, f"{name} takes {field.name} = {value!r}"
            assert repr(value) in refusal, refusal
            assert field.name in refusal or kind == str | tuple, refusal
            assert snapshot(model) == before


# What is particular to one method


def test_lora_starts_as_the_paper_says(rng):
    model = get_peft_model(GPT2(GPT2Config(13, 16, 128, 1, 2)), LoRA(r=8))
    lora = model.h[0].attn.q_proj
    assert not lora.B.data.any()
    assert 0.95 < abs(lora.A.data).max() * 128**0.5 <= 1
    assert abs(lora.A.data.std() * (3 * 128) ** 0.5 - 1) < 0.1
    logits, backward = model(rng.integers(0, 13, (2, 5)))
    backward(rng.normal(size=logits.shape))
    assert not lora.A.grad.any()
    assert lora.B.grad.any()


@pytest.mark.parametrize(
    ("method", "path", "std"),
    [
        (LoRA(r=16, train="A", targets="*.c_fc"), "h.0.mlp.c_fc.B", (3 * 16) ** -0.5),
        (Adapter(m=32), "h.0.attn.adapter.down.weight", 128**-0.5),
        (PrefixTuning(m=15), "h.0.attn.core.P_k", 0.02),
        (PrefixTuning(m=15), "h.0.attn.core.P_v", 0.02),
        (PrefixTuning(m=15, reparametrise=True), "h.0.attn.core.encoder.E", 1),
        (PrefixTuning(m=15, reparametrise=True), "h.0.attn.core.encoder.linear.weight", 128**-0.5),
        (PrefixTuning(m=15, reparametrise=True), "h.0.attn.core.up.weight", 0.02),
        (PromptTuning(m=15), "wte.P", 0.02),
    ],
    ids=str,
)
def test_the_starting_values_have_the_spread_of_the_docstring(method, path, std):
    model = get_peft_model(GPT2(GPT2Config(50, 16, 128, 1, 2)), method)
    start = dict(model.named_parameters())[path].data
    assert abs(start.std() / std - 1) < 0.1
    assert abs(start.mean()) < 0.1 * std


def test_lora_is_the_base_plus_a_scaled_product(rng):
    for settings, s in ({"r": 4, "alpha": 6}, 6 / 4), ({"r": 4, "alpha": 6, "rslora": True}, 6 / 4**0.5):
        lora = off_start(get_peft_model(tiny_model(), LoRA(**settings))).h[0].attn.q_proj
        x = rng.normal(size=(2, 3, D))
        assert lora.scaling == s
        expected = lora.base(x)[0] + s * (x @ lora.A.data) @ lora.B.data
        assert np.allclose(lora(x)[0], expected, rtol=1e-13)
        assert np.allclose(lora.delta(), s * lora.A.data @ lora.B.data)


def test_lora_trains_only_the_factor_it_is_told_to():
    for train in ("A", "B", "AB"):
        model = get_peft_model(tiny_model(), LoRA(r=2, train=train))
        lora = model.h[1].attn.v_proj
        assert (lora.A.requires_grad, lora.B.requires_grad) == ("A" in train, "B" in train)
        assert lora.A.data.any() == (train != "A")
        assert lora.B.data.any() == (train == "A")


def test_loras_dropout_acts_on_its_own_branch_only(rng):
    model = get_peft_model(tiny_model(), LoRA(r=2, dropout=0.5))
    lora, x = model.h[0].attn.q_proj, rng.normal(size=(1, 3, D))
    lora.B.data += 1
    drawn = [lora(x)[0] for _ in range(2000)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert abs(np.mean(drawn, axis=0) - lora.eval()(x)[0]).max() < 0.15
    lora.train().A.data[:] = 0
    assert np.array_equal(lora(x)[0], lora.base(x)[0])


def test_a_sequential_adapter_reads_the_output_a_parallel_one_the_input(rng):
    x = rng.normal(size=(2, 3, D))
    for case, read in ("adapter-mlp", lambda part: part.base(x)[0]), ("adapter-parallel", lambda part: x):
        part = tiny_peft(case).h[0].mlp
        assert np.allclose(part(x)[0], part.base(x)[0] + part.adapter(read(part))[0], rtol=1e-14)


def test_a_prefix_is_m_keys_and_values_before_those_of_the_tokens(rng):
    core = tiny_peft("prefix").h[0].attn.core
    q, k, v = rng.normal(size=(3, 2, 4, D))
    keys, values = (np.concatenate([[P.data] * 2, a], axis=1) for P, a in ((core.P_k, k), (core.P_v, v)))
    assert np.array_equal(core(q, k, v)[0], core.base(q, keys, values)[0])


def test_after_a_prefix_the_tokens_sit_at_positions_from_m():
    model = tiny_peft("prefix-net")
    assert np.array_equal(model.wpe(np.arange(4))[0], tiny_model().wpe.weight.data[3:7])


def test_a_soft_prompt_is_what_its_tokens_would_be(ids):
    """With P the embeddings of real tokens, the logits are those after these tokens."""
    model = get_peft_model(tiny_model(), PromptTuning(m=2))
    E = model.lm_head.weight.data
    model.wte.P.data[...] = E[[4, 9]]
    longer = np.concatenate([np.tile([4, 9], (len(ids), 1)), ids], axis=1)
    assert np.allclose(model(ids)[0], tiny_model()(longer)[0][:, 2:], rtol=1e-13)


def test_a_soft_prompt_starts_as_rows_of_the_embedding():
    model = get_peft_model(tiny_model(), PromptTuning(m=5))
    rows = {row.tobytes() for row in model.lm_head.weight.data}
    assert all(row.tobytes() in rows for row in model.wte.P.data)
    model.wte.P.data += 1
    assert base_bytes(model) == base_bytes(tiny_model())


def test_virtual_tokens_of_two_methods_add_up(ids):
    model = tiny_peft("stack-net")
    assert model(np.zeros((1, CONFIG.n_positions - 4), int))[0].shape == (1, CONFIG.n_positions - 4, V)
    with pytest.raises(ValueError, match="n_positions = 16"):
        model(np.zeros((1, CONFIG.n_positions - 3), int))


def test_virtual_tokens_of_two_methods_must_leave_a_position(model):
    with pytest.raises(ValueError, match="virtual tokens"):
        get_peft_model(model, Stack((PrefixTuning(m=8), PromptTuning(m=8))))
