"""What is particular to (IA)³: scales at the output of keys and values, and at the input of the MLP's second matrix."""

import numpy as np
import pytest
from parity import base_of, differences, distance, load
from specimens import CONFIG, activations, off_start, tiny_model, tiny_peft
from there_and_back import there_and_back, translated

from minipeft import LoRA, Stack, get_peft_model, load_adapter, merge, save_adapter
from minipeft.methods import IA3, DoRA
from minipeft.methods.ia3 import ScaledInput, ScaledOutput
from minipeft.model import Linear, chain

D = CONFIG.n_embd


def linear(rng):
    return off_start(Linear(5, 4, rng)).requires_grad_(False)


# What is computed


def test_an_output_is_scaled_with_its_bias(rng):
    base, x = linear(rng), rng.normal(size=(2, 3, 5))
    scaled = ScaledOutput(base)
    scaled.l.data[...] = l = rng.normal(size=4)
    assert np.array_equal(scaled(x)[0], (x @ base.weight.data + base.bias.data) * l)


def test_an_input_is_scaled_without_the_bias(rng):
    base, x = linear(rng), rng.normal(size=(2, 3, 5))
    scaled = ScaledInput(base)
    scaled.l.data[...] = l = rng.normal(size=5)
    assert np.allclose(scaled(x)[0], (x * l) @ base.weight.data + base.bias.data, rtol=1e-14)
    assert np.array_equal(scaled(np.zeros((1, 5)))[0][0], base.bias.data)


def test_the_input_of_c_proj_is_what_the_activation_writes(rng):
    """The paper's form: l ⊙ gelu(...) inside the MLP."""
    mlp, x = tiny_peft("ia3").h[0].mlp, rng.normal(size=(2, 3, D))
    inside, _ = chain(x, mlp.c_fc, mlp.act)
    assert np.array_equal(mlp(x)[0], mlp.c_proj.base(mlp.c_proj.l.data * inside)[0])


def test_it_stands_where_the_paper_puts_it():
    model = get_peft_model(tiny_model(), IA3())
    found = {path: p.data.shape for path, p in model.named_parameters() if p.requires_grad}
    assert found == {f"h.{i}.{part}.l": shape for i in range(CONFIG.n_layer) for part, shape in
                     (("attn.k_proj", (D,)), ("attn.v_proj", (D,)), ("mlp.c_proj", (4 * D,)))}  # fmt: skip
    assert all((p.data == 1).all() for _, p in model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("empty", [(), []])
def test_one_of_the_two_places_may_be_left_out(empty, tmp_path):
    for method in (IA3(feedforward=empty), IA3(targets=empty)):
        model = get_peft_model(tiny_model(), method)
        kinds = {type(node) for _, node in model.walk() if hasattr(node, "l")}
        assert kinds == {ScaledOutput if method.targets else ScaledInput}
        save_adapter(model, tmp_path / "a.npz")
        load_adapter(tiny_model(), tmp_path / "a.npz")
    with pytest.raises(ValueError, match="scales nothing: name at least one"):
        get_peft_model(tiny_model(), IA3(targets=empty, feedforward=empty))


@pytest.mark.parametrize("bad", [None, "", 0, ("",), "*.act"])
def test_what_is_no_place_is_refused(model, bad):
    for method in (IA3(targets=bad), IA3(feedforward=bad)):
        with pytest.raises(ValueError, match=r"targets must be a glob|matches nothing"):
            get_peft_model(model, method)


# Folded


def test_merged_is_exactly_the_formula():
    model = tiny_peft("ia3")
    k, inside = model.h[1].attn.k_proj, model.h[1].mlp.c_proj
    merged = merge(model).h[1]
    assert np.array_equal(merged.attn.k_proj.weight.data, k.base.weight.data * k.l.data)
    assert np.array_equal(merged.attn.k_proj.bias.data, k.base.bias.data * k.l.data)
    rows = inside.base.weight.data * inside.l.data[:, None]
    assert np.array_equal(merged.mlp.c_proj.weight.data, rows)
    assert np.array_equal(merged.mlp.c_proj.bias.data, inside.base.bias.data)


def test_around_another_method_both_are_folded(rng):
    model = off_start(get_peft_model(tiny_model(), Stack((LoRA(r=2, targets="*.c_proj"), IA3()))))
    scaled, x = model.h[0].mlp.c_proj, rng.normal(size=(2, 4 * D))
    expected = scaled(x)[0]
    assert isinstance(scaled, ScaledInput)
    assert np.allclose(merge(model).h[0].mlp.c_proj(x)[0], expected, rtol=1e-12)


# What is kept


@pytest.mark.parametrize(("kind", "width"), [(ScaledOutput, 4), (ScaledInput, 5)])
def test_only_what_the_gradient_needs_is_kept(rng, kind, width):
    """One array the size of what is scaled, and nothing when it is frozen."""
    scaled, x = kind(linear(rng)), rng.normal(size=(2, 3, 5))
    assert [array.shape for array in activations(scaled(x)[1])] == [(2, 3, width)]
    assert activations(scaled.requires_grad_(False)(x)[1]) == []


def test_dora_does_not_stand_on_a_scaled_layer(model):
    with pytest.raises(ValueError, match=r"a ScaledOutput stands around this one: put DoRA in first"):
        get_peft_model(model, Stack((IA3(), DoRA(r=2))))


# As peft has it


def same(arrays, method):
    found = differences(arrays, method)
    assert {what: far for what, far in found.items() if not far < 1e-12} == {}
    assert len(found) >= 6


def test_logits_and_gradients_are_pefts():
    """On c_attn peft scales q, k and v."""
    same(load("ia3_arrays.npz"), IA3(targets="*.[qkv]_proj"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {"targets": "*.[qkv]_proj"}),
        ({"feedforward": ()}, {"targets": ("*.[qkv]_proj", "*.mlp.c_proj"), "feedforward": ()}),
        (
            {"targets": ("c_attn", "attn.c_proj", "mlp.c_proj", "c_fc"), "feedforward": ("attn.c_proj", "c_fc")},
            {"targets": ("*.[qkv]_proj", "*.mlp.c_proj"), "feedforward": ("*.o_proj", "*.c_fc")},
        ),
        ({"feedforward": ("c_attn",)}, {"targets": "*.mlp.c_proj", "feedforward": "*.[qkv]_proj"}),
    ],
    ids=str,
)
def test_and_live_in_other_places(theirs, ours):
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    from make_ia3_arrays import ia3_arrays

    same(ia3_arrays(seed=5, **theirs), IA3(**ours))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method",
    [IA3(), IA3(targets="*.[qkv]_proj", feedforward=("*.c_fc", "*.c_proj")), IA3(targets="*.c_proj", feedforward=())],
    ids=str,
)
def test_there_and_back(method, tmp_path):
    """What is scaled here, and only that: the ones that peft's c_attn holds for q do not come back as a part of it."""
    back = there_and_back(method, tmp_path)
    expected = get_peft_model(tiny_model(), method)
    paths = [path for path, p in get_peft_model(tiny_model(), back).named_parameters() if p.requires_grad]
    assert paths == [path for path, p in expected.named_parameters() if p.requires_grad]


@pytest.mark.parametrize(
    "method",
    [
        IA3(feedforward="*.q_proj"),
        IA3(feedforward="*.[qkv]_proj"),
        Stack((IA3(targets="*.c_proj", feedforward=()), IA3(targets=(), feedforward="*.c_proj"))),
    ],
    ids=str,
)
def test_what_peft_has_no_vector_for_is_refused(method, tmp_path):
    model = off_start(get_peft_model(tiny_model(), method))
    interop = translated()
    with pytest.raises(ValueError, match="in peft one vector scales"):
        interop.export_peft(model, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_vector_that_peft_puts_before_c_attn_is_one_here(tmp_path):
    """And goes back, since its parts are alike."""
    interop = translated()
    from make_ia3_arrays import ia3_run

    run = ia3_run(targets=("c_attn",), feedforward=("c_attn",))
    run.model.save_pretrained(tmp_path / "theirs")
    model = interop.import_peft(base_of(run.saved), tmp_path / "theirs")
    assert sorted(p.data.shape for _, p in model.named_parameters() if p.requires_grad) == [(D,)] * 2
    assert distance(model(run.ids.numpy())[0], run.forward()[0].detach().numpy()) < 1e-12
    interop.export_peft(model, tmp_path / "ours")
    again = interop.import_peft(base_of(run.saved), tmp_path / "ours")
    assert np.array_equal(again(run.ids.numpy())[0], model(run.ids.numpy())[0])


@pytest.mark.filterwarnings("ignore")
def test_a_config_of_peft_without_places_means_its_own(tmp_path):
    interop = translated()
    import json

    from make_ia3_arrays import ia3_run

    run = ia3_run()
    run.model.save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    model = interop.import_peft(base_of(run.saved), tmp_path)
    assert distance(model(run.ids.numpy())[0], run.forward()[0].detach().numpy()) < 1e-12
