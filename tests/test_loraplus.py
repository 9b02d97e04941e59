"""What is particular to LoRA+: B learns at another rate than A, wherever the optimizer is made of the model."""

import numpy as np
import pytest
from parity import differences, distance, in_minipeft, load, under
from specimens import loss_of, tiny_model
from there_and_back import there_and_back

from minipeft import AdamW, Adapter, LoRA, Stack, get_peft_model, load_adapter, save_adapter
from minipeft.methods import LoRAPlus
from minipeft.training import fit


def rates(model, lr=0.01):
    """{path: rate} of all that an optimizer of this model trains."""
    paths = {id(p): path for path, p in model.named_parameters()}
    return {paths[id(p)]: group["lr"] for group in AdamW(model, lr=lr).groups for p in group["params"]}


def tiny_plus(method, seed=3):
    """A tiny model with the method in it, where no gradient is zero."""
    model, rng = get_peft_model(tiny_model(), method, seed), np.random.default_rng(seed)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.3, p.data.shape)
    return model


def trained(model):
    return {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}


def after_one_step(model, batch, lr, factor=1.0):
    """{path: array} of what is trained, after a step of AdamW(model, lr)."""
    optimizer = AdamW(model, lr=lr)
    loss_of(model, batch)()[1]()
    optimizer.step(factor)
    return trained(model)


# The groups arrive


def test_b_has_ratio_times_the_rate_of_a():
    found = rates(get_peft_model(tiny_model(), LoRAPlus(r=2, ratio=5)))
    assert {path[-1] for path in found} == {"A", "B"}
    assert len(found) == 8
    assert all(rate == (5 * 0.01 if path.endswith("B") else 0.01) for path, rate in found.items())


def test_after_loading_it_is_the_same(tmp_path):
    model = tiny_plus(LoRAPlus(r=2, ratio=5))
    save_adapter(model, tmp_path / "a.npz")
    assert rates(load_adapter(tiny_model(), tmp_path / "a.npz")) == rates(model)
    assert set(rates(model).values()) == {0.01, 0.05}


def test_in_a_stack_everything_else_keeps_its_rate(tmp_path):
    """An adapter around the attention moves q_proj to another path; c_fc has a LoRA without a ratio, o_proj another one."""
    several = (LoRAPlus(r=2, ratio=5), LoRA(r=2, targets="*.c_fc"), Adapter(m=2, targets="*.attn"),
               LoRAPlus(r=2, ratio=7, targets="*.o_proj"))  # fmt: skip
    model = tiny_plus(Stack(several))
    save_adapter(model, tmp_path / "a.npz")
    for one in (model, load_adapter(tiny_model(), tmp_path / "a.npz")):
        found = rates(one)
        assert found.keys() == trained(one).keys()
        for path, rate in found.items():
            times = {"base.q_proj.B": 5, "base.v_proj.B": 5, "base.o_proj.B": 7}.get(path.split("attn.")[-1], 1)
            assert rate == times * 0.01, path
        assert sorted(set(found.values())) == [0.01, 0.05, 7 * 0.01]


def test_two_of_one_ratio_claim_nothing_twice():
    found = rates(tiny_plus(Stack((LoRAPlus(r=2, targets="*.q_proj"), LoRAPlus(r=3, targets="*.c_fc")))))
    assert sum(rate == 16 * 0.01 for rate in found.values()) == 4
    assert len(found) == 8


def test_a_second_one_trains_alone_at_its_own_rates():
    model = get_peft_model(tiny_plus(LoRAPlus(r=2, ratio=5)), LoRAPlus(r=2, ratio=3, targets="*.c_fc"))
    assert {path.split(".", 2)[2]: rate for path, rate in rates(model).items()} == {
        "mlp.c_fc.A": 0.01,
        "mlp.c_fc.B": 0.03,
    }


@pytest.mark.parametrize(("train", "expected"), [("A", {0.01}), ("B", {0.16})])
def test_one_factor_alone_has_its_own_rate(train, expected):
    assert set(rates(get_peft_model(tiny_model(), LoRAPlus(r=2, train=train))).values()) == expected


# The steps


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_the_first_step_of_adam_is_loras_at_the_two_rates(batch, factor):
    """Exactly: A moves as LoRA's at lr, B as LoRA's at ratio · lr."""
    lr, ratio = 0.01, 8.0
    plus = after_one_step(tiny_plus(LoRAPlus(r=2, ratio=ratio)), batch, lr, factor)
    slow, fast = (after_one_step(tiny_plus(LoRA(r=2)), batch, rate, factor) for rate in (lr, ratio * lr))
    for path, array in plus.items():
        assert np.array_equal(array, (fast if path.endswith("B") else slow)[path]), path
        assert not np.array_equal(slow[path], fast[path])


def test_each_number_of_b_first_moves_by_ratio_times_lr(batch):
    """g / √g² is ±1, up to Adam's ε."""
    model = tiny_plus(LoRAPlus(r=2, ratio=16))
    before, after = trained(model), after_one_step(model, batch, 1e-3)
    for path, array in after.items():
        moved = abs(array - before[path])
        assert np.allclose(moved, 16e-3 if path.endswith("B") else 1e-3, rtol=1e-3), path


def test_with_a_ratio_of_one_it_is_lora(batch):
    runs = []
    for method in (LoRA(r=2), LoRAPlus(r=2, ratio=1)):
        model = get_peft_model(tiny_model(), method)
        fit(model, [batch], 4, AdamW(model, lr=0.02), progress=False)
        runs.append(trained(model))
    assert all(np.array_equal(runs[0][path], runs[1][path]) for path in runs[0].keys() | runs[1].keys())


def test_parameters_that_are_handed_over_by_hand_have_one_rate():
    model = get_peft_model(tiny_model(), LoRAPlus(r=2))
    assert {group["lr"] for group in AdamW(model.named_parameters(), lr=0.01).groups} == {0.01}


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf"), "16", None, True])
def test_a_ratio_that_is_no_positive_number_is_refused(model, ratio):
    with pytest.raises(ValueError, match="ratio, how many times faster B learns than A, must be a positive number"):
        get_peft_model(model, LoRAPlus(ratio=ratio))


# As peft has it


def same_steps(arrays, lr=1e-2, ratio=8, steps=3):
    method = LoRAPlus(r=3, alpha=5, ratio=ratio, targets=("*.o_proj", "*.c_fc", "*.c_proj"))
    assert max(differences(arrays, method).values()) < 1e-12
    model = in_minipeft(arrays, method)
    optimizer, batch = AdamW(model, lr=lr), [arrays[name] for name in ("ids", "targets", "mask")]
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, batch)()[1]()
        optimizer.step()
    ours, theirs = trained(model), under("after/", arrays)
    assert ours.keys() == theirs.keys()
    assert max(distance(ours[path], theirs[path]) for path in ours) < 1e-10
    assert min(distance(under("own/", arrays)[path], theirs[path]) for path in ours) > 1e-2


def test_three_steps_are_pefts():
    same_steps(load("loraplus_arrays.npz"))


@pytest.mark.filterwarnings("ignore")
def test_and_live_with_another_ratio():
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    from make_loraplus_arrays import loraplus_arrays

    same_steps(loraplus_arrays(seed=2, lr=3e-2, ratio=2.5, steps=5), lr=3e-2, ratio=2.5, steps=5)


@pytest.mark.filterwarnings("ignore")
def test_in_peft_it_is_a_lora(tmp_path):
    """The rates are an optimizer's, and in no file of peft: it comes back as LoRA."""
    assert type(there_and_back(LoRAPlus(r=2), tmp_path)) is LoRA
