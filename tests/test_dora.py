"""What is particular to DoRA: lengths apart from directions, and a gradient that takes the norm as a constant."""

import numpy as np
import pytest
from parity import base_of, differences, distance, load
from specimens import activations, gradients, loss_of, off_start, tiny_model
from there_and_back import there_and_back, translated

from minipeft import FullFineTuning, LoRA, Stack, counting, get_peft_model, gradcheck, merge
from minipeft.methods import DoRA, surrogate
from minipeft.methods.dora import DoRALinear
from minipeft.methods.lora import LoRALinear
from minipeft.model import Linear
from minipeft.training import AdamW, fit

EVERYWHERE = DoRA(r=3, alpha=5, targets="*")


def tiny_dora(**settings):
    """A model with DoRA in it, away from every start."""
    return off_start(get_peft_model(tiny_model(), DoRA(**({"r": 2} | settings))))


def linear(rng, d_in=5, d_out=4):
    return off_start(Linear(d_in, d_out, rng)).requires_grad_(False)


def layer_and_lora(rng, **settings):
    """A DoRALinear off its start, and a LoRALinear with the same W, A and B."""
    base = linear(rng)
    dora, lora = off_start(DoRALinear(base, 2, 3, 0.0, rng, **settings)), LoRALinear(base, 2, 3, 0.0, rng)
    lora.A, lora.B = dora.A, dora.B
    return dora, lora


# What is computed


def test_each_column_has_the_length_m_and_the_direction_of_v(rng):
    dora, lora = layer_and_lora(rng)
    W, V = dora.fold().matrix(), dora.base.matrix() + lora.delta()
    assert np.allclose(np.linalg.norm(W, axis=0), abs(dora.m.data), rtol=1e-14)
    assert np.allclose(W / dora.m.data, V / np.linalg.norm(V, axis=0), rtol=1e-14)
    assert np.allclose(dora.delta(), W - dora.base.matrix(), rtol=1e-14)


def test_it_starts_with_the_lengths_of_w(rng):
    base = linear(rng)
    dora = DoRALinear(base, 2, 3, 0.0, rng)
    assert np.array_equal(dora.m.data, np.linalg.norm(base.weight.data, axis=0))
    assert np.array_equal(dora.fold().matrix(), base.weight.data)


def test_with_the_lengths_of_v_it_is_lora(rng):
    dora, lora = layer_and_lora(rng)
    dora.m.data[...] = np.linalg.norm(dora.direction(), axis=0)
    x = rng.normal(size=(2, 3, 5))
    assert np.allclose(dora(x)[0], lora(x)[0], rtol=1e-13)


def test_the_bias_is_not_scaled(rng):
    dora, _ = layer_and_lora(rng)
    assert np.array_equal(dora(np.zeros((1, 5)))[0][0], dora.base.bias.data)


def test_rslora_scales_by_the_root_of_r(rng):
    assert DoRALinear(linear(rng), 4, 6, 0.0, rng, rslora=True).scaling == 3
    assert DoRALinear(linear(rng), 4, 6, 0.0, rng).scaling == 1.5


def test_what_dropout_takes_goes_through_the_plain_weight(rng):
    """E[y] is what eval gives; and with m, A and B as they started, dropout changes nothing at all."""
    dora, x = off_start(DoRALinear(linear(rng), 2, 3, 0.5, rng)), rng.normal(size=(1, 3, 5))
    drawn = [dora(x)[0] for _ in range(4000)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert abs(np.mean(drawn, axis=0) - dora.eval()(x)[0]).max() < 0.15
    fresh = DoRALinear(dora.base, 2, 3, 0.5, rng).train()
    assert np.allclose(fresh(x)[0], dora.base(x)[0], rtol=1e-13)


def test_merged_is_exactly_the_formula():
    model = tiny_dora()
    dora = model.h[1].attn.v_proj
    V = dora.base.weight.data + dora.scaling * dora.A.data @ dora.B.data
    W = dora.m.data / np.linalg.norm(V, axis=0) * V
    merged = merge(model).h[1].attn.v_proj
    assert np.array_equal(merged.weight.data, W)
    assert np.array_equal(merged.bias.data, dora.base.bias.data)


# The gradient


def errors_of_loss(model, batch):
    """{path: relative error} against finite differences of the loss as it is computed now."""
    return gradcheck(loss_of(model, batch), model.named_parameters(), np.random.default_rng(1))


def test_the_default_gradient_is_not_the_derivative_of_the_loss(batch):
    """For A and B; m does not move the norm."""
    errors = errors_of_loss(tiny_dora(), batch)
    assert min(error for path, error in errors.items() if path.endswith((".A", ".B"))) > 1e-3
    assert max(error for path, error in errors.items() if path.endswith(".m")) < 1e-6


def test_but_that_of_its_surrogate(batch):
    model = tiny_dora()
    assert max(gradcheck(model, batch).values()) < 1e-6
    with surrogate(model):
        with surrogate(model):
            assert max(errors_of_loss(model, batch).values()) < 1e-6
        assert max(errors_of_loss(model, batch).values()) < 1e-6
    assert max(errors_of_loss(model, batch).values()) > 1e-3


def test_with_the_norm_followed_it_is_the_derivative_of_the_loss(batch):
    assert max(errors_of_loss(tiny_dora(detach_norm=False), batch).values()) < 1e-6


def test_both_modes_compute_the_same_and_differ_in_the_gradients_of_a_and_b(batch):
    models = tiny_dora(), tiny_dora(detach_norm=False)
    for model in models:
        loss_of(model, batch)()[1]()
    one, other = (gradients(model) for model in models)
    assert np.array_equal(models[0](batch[0])[0], models[1](batch[0])[0])
    assert {path[-1] for path in one if np.array_equal(one[path], other[path])} == {"m"}
    assert {path[-1] for path in one if not np.allclose(one[path], other[path], rtol=1e-3)} == {"A", "B"}


def test_a_step_along_the_column_itself_changes_nothing(rng):
    """The length of V is divided out: followed, the gradient of V is orthogonal to every column; detached it is not."""
    for followed in (True, False):
        base = linear(rng, 4, 4)
        dora = DoRALinear(base, 4, 4, 0.0, rng, detach_norm=not followed)
        dora.A.data[...], dora.B.data[...] = np.eye(4), rng.normal(size=(4, 4))  # so that dB = dV
        y, backward = dora(rng.normal(size=(3, 4)))
        backward(rng.normal(size=y.shape))
        along = (dora.B.grad * dora.direction()).sum(0)
        assert (abs(along).max() < 1e-13) == followed


def test_no_gradient_of_a_whole_weight_is_formed(rng):
    N, d_in, d_out = 7, 5, 4
    for detach_norm in (True, False):
        with counting() as flops:
            dora = DoRALinear(linear(rng, d_in, d_out), 2, 3, 0.0, rng, detach_norm=detach_norm)
            y, backward = dora(rng.normal(size=(N, d_in)))
            backward(y)
        assert {(N, d_in, d_out), (d_in, 2, d_out), (N, d_out, d_in)} <= set(flops.products)
        assert (d_in, N, d_out) not in flops.products


def test_frozen_it_keeps_no_activations(rng):
    dora = off_start(DoRALinear(linear(rng), 2, 3, 0.0, rng, detach_norm=False))
    x = rng.normal(size=(2, 5))
    assert len(activations(dora(x)[1])) > 3
    g_and_n = 2
    assert len(activations(dora.requires_grad_(False)(x)[1])) <= g_and_n
    assert not any(array.shape == x.shape or len(array) == len(x) for array in activations(dora(x)[1]))


def test_the_bias_under_it_may_be_trained(batch):
    model = get_peft_model(tiny_model(), DoRA(r=2, targets="*.c_fc")).requires_grad_(True, "*.c_fc.base.bias")
    errors = gradcheck(off_start(model), batch)
    assert len([path for path in errors if path.endswith("base.bias")]) == 2
    assert max(errors.values()) < 1e-6


def test_two_threads_train_it_as_one_does(batch):
    losses = []
    for workers in (1, 2):
        model = get_peft_model(tiny_model(), DoRA(r=2))
        losses.append(fit(model, [batch], 5, AdamW(model, lr=0.05), progress=False, workers=workers).loss)
    assert np.allclose(*losses, rtol=1e-12)


# What it refuses


def test_a_column_of_zeros_has_no_direction(model):
    model.h[1].attn.q_proj.weight.data[:, 3] = 0
    with pytest.raises(ValueError, match=r"column 3 .* no direction .*; leave this layer out of `targets`"):
        get_peft_model(model, DoRA(r=2))


def test_it_stands_on_the_weight_itself(model):
    with pytest.raises(ValueError, match="already has a LoRA"):
        get_peft_model(model, Stack((LoRA(r=2), DoRA(r=2))))
    with pytest.raises(ValueError, match="already has a LoRA"):
        get_peft_model(model, Stack((DoRA(r=2), LoRA(r=2))))


def test_an_input_of_another_width_is_named(rng):
    with pytest.raises(ValueError, match=r"this Linear maps 5 numbers to 4; it was given 3: x must be \(\.\.\., 5\)"):
        DoRALinear(linear(rng), 2, 3, 0.0, rng)(np.ones((1, 3)))


@pytest.mark.parametrize("several", [(DoRA(r=2), FullFineTuning()), (FullFineTuning(), DoRA(r=2))], ids=str)
def test_a_weight_that_is_trained_as_well_is_refused_when_it_runs(several, model, ids):
    get_peft_model(model, Stack(several))
    with pytest.raises(ValueError, match="the weight under DoRA is trained"):
        model(ids)


# As peft has it


def same(arrays, method):
    found = differences(arrays, method)
    assert {what: far for what, far in found.items() if not far < 1e-12} == {}
    assert len(found) > 20


def test_logits_and_gradients_are_pefts():
    same(load("dora_arrays.npz"), EVERYWHERE)


def test_the_gradients_are_not_pefts_when_the_norm_is_followed():
    found = differences(load("dora_arrays.npz"), DoRA(r=3, alpha=5, targets="*", detach_norm=False))
    assert max(far for what, far in found.items() if what in ("logits", "loss") or what.endswith(".m")) < 1e-12
    assert min(far for what, far in found.items() if what.endswith((".A", ".B"))) > 1e-2


@pytest.fixture
def dora_arrays():
    """What peft computes now, where it is installed."""
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    from make_dora_arrays import dora_arrays

    return dora_arrays


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"use_rslora": True}, {"rslora": True}),
        ({"dropout": 0.4}, {"dropout": 0.4}),
        ({"r": 1, "lora_alpha": 9}, {"r": 1, "alpha": 9}),
    ],
    ids=str,
)
def test_and_live_with_other_settings(dora_arrays, theirs, ours):
    same(dora_arrays(seed=4, **theirs), DoRA(**({"r": 3, "alpha": 5, "targets": "*"} | ours)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method", [DoRA(r=2, rslora=True), DoRA(r=3, alpha=5, targets="*", detach_norm=False)], ids=str
)
def test_there_and_back(method, tmp_path):
    """Where v has DoRA and k has none, peft's c_attn holds the lengths that k has anyway."""
    there_and_back(method, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_what_peft_saved_gives_the_same_logits(tmp_path):
    """q, k and v share the A of c_attn."""
    interop = translated()
    from make_dora_arrays import dora_run

    run = dora_run(use_rslora=True)
    run.model.save_pretrained(tmp_path)
    model = interop.import_peft(base_of(run.saved), tmp_path)
    assert model.h[0].attn.q_proj.A is model.h[0].attn.v_proj.A
    assert distance(model(run.ids.numpy())[0], run.forward()[0].detach().numpy()) < 1e-12


def test_a_lora_beside_it_has_no_place_in_its_file(tmp_path):
    model = get_peft_model(tiny_model(), Stack((DoRA(r=2), LoRA(r=2, targets="*.c_fc"))))
    with pytest.raises(ValueError, match="one peft folder holds one method"):
        translated().export_peft(model, tmp_path)
