"""What is particular to VeRA: projections that no layer owns, no step moves and no file holds."""

import json

import numpy as np
import pytest
from parity import base_of, differences, distance, load
from specimens import CONFIG, activations, gradients, loss_of, off_start, tiny_model, tiny_peft
from there_and_back import there_and_back, translated

from minipeft import (
    GPT2,
    FullFineTuning,
    GPT2Config,
    LoRA,
    Stack,
    get_peft_model,
    gradcheck_layer,
    load_adapter,
    merge,
    save_adapter,
)
from minipeft.files import read_npz
from minipeft.lab.ledger import count_parameters, saved_bytes
from minipeft.methods import VeRA
from minipeft.methods.lora import LoRALinear
from minipeft.methods.vera import VeRALinear, projections
from minipeft.model import Linear, Parameter
from minipeft.training import AdamW, fit

D = CONFIG.n_embd
ARRAYS = load("vera_arrays.npz")


def linear(rng, d_in=5, d_out=4):
    return off_start(Linear(d_in, d_out, rng)).requires_grad_(False)


def vera_layer(rng, r=3, dropout=0.0):
    """A VeRALinear off its start."""
    A, B = (Parameter(P, False) for P in projections(5, 4, r, 0, "float64"))
    layer = VeRALinear(linear(rng), A, B, 0.1, dropout, rng)
    for p in (layer.d, layer.b):
        p.data += rng.normal(0, 0.5, p.data.shape)
    return layer


def veras(model):
    return {path: node for path, node in model.walk() if isinstance(node, VeRALinear)}


# What is computed


def test_it_is_the_formula_of_the_paper(rng):
    layer, x = vera_layer(rng), rng.normal(size=(2, 3, 5))
    A, B, d, b = (p.data for p in (layer.A, layer.B, layer.d, layer.b))
    expected = layer.base(x)[0] + x @ A @ np.diag(d) @ B @ np.diag(b)
    assert np.allclose(layer(x)[0], expected, rtol=1e-13)
    assert np.allclose(layer.delta(), A @ np.diag(d) @ B @ np.diag(b), rtol=1e-13)
    merged = layer.fold()
    assert np.array_equal(merged.weight.data, layer.base.weight.data + layer.delta())
    assert np.array_equal(merged.bias.data, layer.base.bias.data)


def test_it_is_a_lora_whose_factors_hang_together(rng):
    layer, x = vera_layer(rng), rng.normal(size=(2, 3, 5))
    lora = LoRALinear(layer.base, 3, 3, 0.0, rng)
    lora.A.data[...], lora.B.data[...] = layer.A.data * layer.d.data, layer.B.data * layer.b.data
    assert np.allclose(layer(x)[0], lora(x)[0], rtol=1e-13)


@pytest.mark.parametrize("trained", ["db", "d", "b"])
def test_its_gradients_by_itself(rng, trained):
    layer, x = vera_layer(rng), rng.normal(size=(2, 3, 5))
    layer.d.requires_grad, layer.b.requires_grad = "d" in trained, "b" in trained
    errors = gradcheck_layer(layer, (x,), rng)
    assert errors.keys() == {*trained, "input 0"}
    assert max(errors.values()) < 1e-7


def test_at_the_start_only_b_has_a_gradient(batch):
    model = get_peft_model(tiny_model(), VeRA(r=4, d_initial=0.25))
    loss_of(model, batch)()[1]()
    for layer in veras(model).values():
        assert (layer.d.data == 0.25).all()
        assert not layer.b.data.any()
        assert not layer.d.grad.any()
        assert layer.b.grad.any()


def test_its_dropout_acts_on_its_own_path_only(rng):
    layer, x = vera_layer(rng, dropout=0.5), rng.normal(size=(1, 3, 5))
    drawn = [layer(x)[0] for _ in range(3000)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert abs(np.mean(drawn, axis=0) - layer.eval()(x)[0]).max() < 0.15
    layer.train().b.data[:] = 0
    assert np.array_equal(layer(x)[0], layer.base(x)[0])


def test_it_keeps_h_and_u_and_frozen_nothing(rng):
    layer, x = vera_layer(rng), rng.normal(size=(2, 3, 5))
    h, u = 2 * 3 * 3 * 8, 2 * 3 * 4 * 8
    assert saved_bytes(layer(x)[1]) == h + u
    layer.b.requires_grad = False
    assert saved_bytes(layer(x)[1]) == h
    assert activations(layer.requires_grad_(False)(x)[1]) == []


def test_the_projections_are_no_activations_though_layers_see_parts_of_them(model):
    get_peft_model(model, VeRA(r=3, targets="*"))
    layer, x = model.h[0].attn.k_proj, np.ones((2, 3, D))
    assert layer.A.data.base is not None
    assert saved_bytes(layer(x)[1]) == 8 * 2 * 3 * (3 + D)


# The projections


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_they_are_the_numbers_that_torch_draws(seed):
    """To the last bit on a processor that multiplies and adds in one step; that of the stored arrays does."""
    A, B = (ARRAYS[f"drawn/{seed}/{name}"].T for name in "AB")
    ours = projections(len(A), B.shape[1], len(B), seed)
    assert all(np.array_equal(P, theirs) for P, theirs in zip(ours, (A, B), strict=True))
    assert {P.dtype for P in ours} == {np.dtype("float32")}


def test_in_float64_they_are_the_same_numbers():
    for one, other in zip(projections(9, 5, 4, 3), projections(9, 5, 4, 3, "float64"), strict=True):
        assert other.dtype == np.float64
        assert np.array_equal(one, other)


def test_they_are_uniform_as_the_docstring_says():
    A, B = projections(300, 200, 50, 1)
    for P, bound in (A, (6 / 300) ** 0.5), (B, (6 / 50) ** 0.5):
        assert 0.99 * bound < abs(P).max() <= bound * (1 + 1e-6)
        assert abs(P.std() * 3**0.5 / bound - 1) < 0.02
        assert abs(P.mean()) < 0.02 * bound


def test_numpys_global_generator_is_not_moved():
    before = np.random.get_state()  # noqa: NPY002
    get_peft_model(tiny_model(), VeRA(r=4))
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_all_layers_share_them():
    """Parts of equal width and place are one Parameter, others are other views of the same numbers."""
    layers = veras(get_peft_model(tiny_model(), VeRA(r=6, targets="*")))
    A, B = projections(4 * D, 4 * D, 6, 0, "float64")
    first = {"k_proj": D, "v_proj": 2 * D}
    assert len(layers) == 12
    for path, layer in layers.items():
        (d_in, d_out), start = layer.shape, first.get(path.split(".")[-1], 0)
        assert np.array_equal(layer.A.data, A[:d_in])
        assert np.array_equal(layer.B.data, B[:, start : start + d_out])
        assert np.shares_memory(layer.A.data, layers["h.0.mlp.c_proj"].A.data)
        assert np.shares_memory(layer.B.data, layers["h.0.mlp.c_fc"].B.data)
        assert layer.A is layers["h.0" + path[3:]].A
        assert layer.B is layers["h.0" + path[3:]].B


def test_a_narrower_choice_of_targets_takes_the_same_columns_of_b():
    few, all_three = (veras(get_peft_model(tiny_model(), VeRA(r=4, targets=t))) for t in ("*.q_proj", "*.[qkv]_proj"))
    assert np.array_equal(few["h.1.attn.q_proj"].B.data, all_three["h.1.attn.q_proj"].B.data)
    assert np.array_equal(few["h.1.attn.q_proj"].A.data, all_three["h.1.attn.q_proj"].A.data)


def test_they_are_counted_once_and_as_frozen(model):
    _, before = count_parameters(model)
    get_peft_model(model, VeRA(r=4))
    own = 2 * 2 * (4 + D)
    assert count_parameters(model) == (own, before + own + D * 4 + 2 * 4 * D)  # A, and the B of q and of v


def test_another_projection_seed_is_another_model_and_the_seed_of_the_method_is_not():
    def B(seed, projection_seed):
        model = get_peft_model(tiny_model(), VeRA(r=4, projection_seed=projection_seed), seed)
        return model.h[0].attn.v_proj.B.data

    assert np.array_equal(B(0, 5), B(1, 5))
    assert not np.array_equal(B(0, 5), B(0, 6))


def test_a_file_holds_d_and_b_and_loading_brings_the_projections_back(tmp_path):
    model = tiny_peft("vera")
    save_adapter(model, tmp_path / "a.npz")
    names = {f"h.{i}.attn.{letter}_proj.{name}" for i in range(2) for letter in "qv" for name in "db"}
    assert read_npz(tmp_path / "a.npz", "adapter")[1].keys() == names
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    for path, layer in veras(model).items():
        assert np.array_equal(veras(loaded)[path].A.data, layer.A.data)
        assert np.array_equal(veras(loaded)[path].B.data, layer.B.data)


def test_training_does_not_move_them_even_under_full_fine_tuning(batch, tmp_path):
    model = get_peft_model(tiny_model(), Stack((VeRA(r=4), FullFineTuning())))
    layer = model.h[0].attn.q_proj
    before, weight = layer.A.data.copy(), layer.base.weight.data.copy()
    fit(model, [batch], 3, AdamW(model, lr=0.01), progress=False)
    assert np.array_equal(layer.A.data, before)
    assert not np.array_equal(layer.base.weight.data, weight)
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(load_adapter(tiny_model(), tmp_path / "a.npz")(batch[0])[0], model(batch[0])[0])


def test_thawed_by_hand_they_are_not_lost_in_silence(tmp_path):
    model = tiny_peft("vera").requires_grad_(True, "*.A")
    with pytest.raises(ValueError, match=r"no method trains h.0.attn.q_proj.A"):
        save_adapter(model, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_two_of_them_with_seeds_of_their_own(batch, tmp_path):
    stack = Stack((VeRA(r=4), VeRA(r=3, projection_seed=1), LoRA(r=2, targets="*.q_proj")))
    model = get_peft_model(tiny_model(), stack)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += np.random.default_rng(p.data.size).normal(0, 0.3, p.data.shape)
    before = model(batch[0])[0]
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(load_adapter(tiny_model(), tmp_path / "a.npz")(batch[0])[0], before)
    assert abs(merge(model)(batch[0])[0] - before).max() < 1e-12


# What it refuses


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"r": 0}, "r must be a whole number"),
        ({"r": 2.0}, "r must be a whole number"),
        ({"r": True}, "r must be a whole number"),
        ({"d_initial": 0}, r"d_initial must be a number other than 0.*gradient"),
        ({"d_initial": np.nan}, "d_initial"),
        ({"projection_seed": -1}, "projection_seed"),
        ({"projection_seed": 2**32}, "projection_seed"),
        ({"projection_seed": None}, "projection_seed"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"targets": "*.nothing"}, "matches nothing"),
        ({"targets": "*.mlp"}, "matches nothing"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings, match, model):
    with pytest.raises(ValueError, match=match):
        get_peft_model(model, VeRA(**settings))
    assert not veras(model)


# As peft has it


EVERYWHERE = VeRA(r=5, targets="*")


def same(arrays, method):
    found = differences(arrays, method)
    assert {what: far for what, far in found.items() if not far < 1e-12} == {}
    assert len(found) == 2 + 2 * (4 + 6)  # logits and loss; in each block a d for a matrix, a b for a part


def test_logits_and_gradients_are_pefts():
    same(ARRAYS, EVERYWHERE)


def test_the_stored_projections_are_ours():
    A, B = projections(4 * 8, 4 * 8, 5, 0)
    assert np.array_equal(A, ARRAYS["projection/A"].T)
    assert np.array_equal(B, ARRAYS["projection/B"].T)


def test_with_another_seed_they_would_not_be():
    found = differences(ARRAYS, VeRA(r=5, targets="*", projection_seed=1))
    assert min(far for what, far in found.items() if what.endswith((".d", ".b", "logits"))) > 1e-2


@pytest.fixture
def maker():
    """make_vera_arrays, where peft is installed."""
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    import make_vera_arrays

    return make_vera_arrays


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("r", [1, 40])
@pytest.mark.parametrize("seed", [0, 3])
def test_and_live_with_other_settings(maker, r, seed):
    same(maker.vera_arrays(seed=4, r=r, projection_prng_key=seed), VeRA(r=r, targets="*", projection_seed=seed))
    found = differences(maker.vera_arrays(r=r, target_modules=["c_attn"]), VeRA(r=r, targets="*.[qkv]_proj"))
    assert max(found.values()) < 1e-12


@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 32, 96), (64, 96, 288), (256, 384, 384)], ids=str)
def test_torch_draws_them_now(maker, shape):
    """Within one rounding: how many there are depends on the processor."""
    r, d_in, d_out = shape
    ours = projections(d_in, d_out, r, 11)
    for P, theirs in zip(ours, maker.projections(r, d_in, d_out, 11).values(), strict=True):
        assert np.allclose(P, theirs.T, rtol=2e-7, atol=2**-24 * abs(P).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method",
    [
        VeRA(),
        VeRA(r=5, targets="*"),
        VeRA(r=5, targets="*.v_proj", projection_seed=3),
        VeRA(r=3, d_initial=0.5, targets=("h.0.mlp.c_fc", "h.1.attn.[qk]_proj")),
        VeRA(r=2, dropout=0.3, targets="*.mlp.c_proj"),
        VeRA(r=40, targets="*.[qkv]_proj"),
    ],
    ids=str,
)
def test_there_and_back(method, tmp_path):
    """q, k and v have each a d of their own, in peft as well; what has no VeRA here has none when it comes back."""
    back = there_and_back(method, tmp_path)
    assert (back.r, back.projection_seed, back.d_initial) == (method.r, method.projection_seed, method.d_initial)
    trained = [
        {path for path, p in get_peft_model(tiny_model(), one).named_parameters() if p.requires_grad}
        for one in (method, back)
    ]
    assert trained[0] == trained[1]


def test_thirds_of_one_pair_compute_what_three_vectors_do(rng):
    peft_vera = translated().peft_methods.peft_vera
    A, B, d, x = rng.normal(size=(4, 2)), rng.normal(size=(2, 16)), rng.normal(size=(3, 2)), rng.normal(size=(5, 4))
    A3, B3 = peft_vera.in_thirds(A, B, 4)
    parts = [x @ A * d[j] @ B[:, 4 * j : 4 * (j + 1)] for j in range(3)]
    assert np.allclose((x @ A3 * d.ravel() @ B3)[:, :12], np.concatenate(parts, axis=1), rtol=1e-12)
    assert np.allclose(x @ A3 * np.tile(d[1], 3) @ B3, x @ A * d[1] @ B, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save_projection", [True, False])
@pytest.mark.parametrize(
    "targets", [["attn.c_attn"], ["c_attn", "c_proj", "c_fc"], ["attn.c_attn", "mlp.c_fc"]], ids=str
)
def test_what_peft_saved_is_the_same_function_here(maker, tmp_path, save_projection, targets):
    """q, k and v share one d, as there, and are given back with it."""
    interop, safetensors = translated(), pytest.importorskip("safetensors.numpy")
    run = maker.vera_run(2, r=6, target_modules=targets, save_projection=save_projection, projection_prng_key=9)
    run.model.save_pretrained(tmp_path / "theirs")
    model, ids = interop.import_peft(base_of(run.saved), tmp_path / "theirs"), run.ids.numpy()
    assert distance(model(ids)[0], run.forward()[0].detach().numpy()) < 1e-12
    attn = model.h[1].attn
    assert attn.q_proj.d is attn.k_proj.d is attn.v_proj.d
    interop.export_peft(model, tmp_path / "ours")
    theirs, ours = (safetensors.load_file(tmp_path / name / "adapter_model.safetensors") for name in ("theirs", "ours"))
    assert (theirs.keys() == ours.keys()) == save_projection
    assert all(np.array_equal(ours[key], array) for key, array in theirs.items() if "lambda" in key)
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(load_adapter(base_of(run.saved), tmp_path / "a.npz")(ids)[0], model(ids)[0])


@pytest.mark.filterwarnings("ignore")
def test_trained_on_in_peft_it_comes_back_unless_a_matrix_has_three_vectors_by_then(maker, tmp_path):
    import peft
    import torch

    interop, run = translated(), maker.vera_run()
    for method in (VeRA(r=3), VeRA(r=3, targets=("*.[qv]_proj", "*.c_fc"))):
        model = off_start_of_trained(get_peft_model(base_of(run.saved), method))
        interop.export_peft(model, tmp_path / "there")
        theirs = peft.PeftModel.from_pretrained(bare_gpt2(run), tmp_path / "there", is_trainable=True).double()
        with torch.no_grad():
            for p in theirs.parameters():
                if p.requires_grad:
                    p += 0.2 * torch.randn_like(p)
        theirs.save_pretrained(tmp_path / "back")
        if "*.c_fc" in method.targets:
            with pytest.raises(ValueError, match=r"h.0.mlp.c_fc.vera_lambda_d has three parts that differ"):
                interop.import_peft(base_of(run.saved), tmp_path / "back")
        else:
            back = interop.import_peft(base_of(run.saved), tmp_path / "back")
            assert back.peft[0].method.r == 3
            assert distance(back(run.ids.numpy())[0], theirs(run.ids).logits.detach().numpy()) < 1e-12


def test_where_b_is_zero_no_row_says_whose_it_is(tmp_path, ids):
    interop = translated()
    interop.export_peft(get_peft_model(tiny_model(), VeRA(r=4)), tmp_path)
    back = interop.import_peft(tiny_model(), tmp_path)
    assert {path.split(".")[-1] for path in veras(back)} == {"q_proj", "k_proj", "v_proj"}
    assert back.peft[0].method.r == 4
    assert np.array_equal(back(ids)[0], tiny_model()(ids)[0])


def bare_gpt2(run):
    """The base of a run, as transformers has it."""
    return run.model.unload()


def off_start_of_trained(model):
    rng = np.random.default_rng(8)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.3, p.data.shape)
    return model


@pytest.mark.parametrize(
    "method",
    [
        Stack((VeRA(r=4), VeRA(r=3, targets="*.c_fc"))),
        Stack((VeRA(r=4), VeRA(r=4, projection_seed=1, targets="*.c_fc"))),
        Stack((VeRA(r=4), VeRA(r=4))),
        Stack((VeRA(r=4, dropout=0.1), VeRA(r=4, targets="*.k_proj"))),
    ],
    ids=str,
)
def test_what_peft_has_no_place_for_is_refused(method, tmp_path):
    model = get_peft_model(tiny_model(), method)
    with pytest.raises(ValueError, match=r"share one A, one B and one dropout.*save_gpt2"):
        translated().export_peft(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_projection_changed_by_hand_is_not_left_out_in_silence(tmp_path):
    model = get_peft_model(tiny_model(), VeRA(r=4))
    model.h[1].attn.v_proj.B.data[0, 0] += 1
    with pytest.raises(ValueError, match="share one A, one B"):
        translated().export_peft(model, tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"projection_prng_key": 1}, "not what projection_prng_key = 1 gives"),
        ({"projection_prng_key": -1}, "projection_seed must be a whole number"),
        ({"bias": "vera_only"}, "bias is 'vera_only'"),
        ({"d_initial": 0}, "d_initial must be a number other than 0"),
        ({"vera_dropout": 2}, "dropout must lie"),
        ({"r": 0}, "r must be a whole number"),
        ({"r": 4}, r"vera_A has shape \(12, 8\) where \(4, 8\)"),
        ({"save_projection": False}, "unknown"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_refused(changes, match, tmp_path):
    interop = translated()
    interop.export_peft(off_start_of_trained(get_peft_model(tiny_model(), VeRA(r=4))), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    model = tiny_model()
    with pytest.raises(ValueError, match=match):
        interop.import_peft(model, tmp_path)
    assert not veras(model)


def test_in_float32_too(batch):
    model = get_peft_model(GPT2(GPT2Config(**(vars(CONFIG) | {"dtype": "float32"}))), VeRA(r=4, targets="*"))
    assert {P.data.dtype for layer in veras(model).values() for P in (layer.A, layer.B, layer.d)} == {
        np.dtype("float32")
    }
    loss_of(model, batch)()[1]()
    assert all(np.isfinite(grad).all() for grad in gradients(model).values())
