"""NF4 and QLoRA: the numbers of bitsandbytes and peft, bytes, errors, and a base that is stored in 4 bits for good."""

import gc
import re
import weakref
from copy import deepcopy
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from specimens import CONFIG, activations, counted, gradients, loss_of, snapshot, tiny_batch, tiny_model

from minipeft import (
    GPT2,
    METHODS,
    Adapter,
    FullFineTuning,
    GPT2Config,
    Linear,
    LoRA,
    Stack,
    counting,
    disabled,
    fit,
    generate,
    get_peft_model,
    gradcheck,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from minipeft.lab.ledger import count_parameters, parameter_table, saved_bytes
from minipeft.methods import QLoRA, fingerprint, quantise
from minipeft.methods.lora import LoRALinear
from minipeft.methods.nf4 import DYNAMIC, NF4, NF4Linear, dequantise_blocks, quantise_blocks
from minipeft.model import Module
from minipeft.training import AdamW
from minipeft.training.bases import write_base
from minipeft.training.workers import replica, sharing

every_double = pytest.mark.parametrize("double", [True, False], ids=["double", "single"])
BLOCKS = ("*_proj", "*.c_fc")  # every Linear of the blocks


@pytest.fixture(scope="module")
def theirs():
    """What make_qlora_arrays.py wrote."""
    with np.load(Path(__file__).parent / "data" / "qlora_arrays.npz") as npz:
        return dict(npz)


def linear_of(theirs):
    return Linear.from_arrays(theirs["weight"], theirs["bias"], requires_grad=False)


def normal_linear(rng, d_in, d_out, dtype="float64"):
    return Linear.from_arrays(rng.normal(0, 0.02, (d_in, d_out)).astype(dtype), rng.normal(size=d_out).astype(dtype))


def relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def moved(model, scale=0.3):
    """The model with what is trained moved away from its start."""
    rng = np.random.default_rng(6)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, scale, p.data.shape)
    return model


def linears(model):
    """{path in the base: Linear}"""
    found = {path.replace(".base", ""): node for path, node in model.walk() if isinstance(node, Linear)}
    assert len(found) == 6 * CONFIG.n_layer
    return found


# The two codes


def test_nf4_is_what_its_comment_says():
    delta, quantile = (1 / 32 + 1 / 30) / 2, NormalDist().inv_cdf
    p = [*np.linspace(delta, 0.5, 8), *np.linspace(0.5, 1 - delta, 9)[1:]]
    q = np.array([quantile(one) for one in p])
    assert len(NF4) == 16
    assert abs(q / q[-1] - NF4).max() < 4e-7  # theirs was rounded to float32 on the way
    assert NF4[[0, 7, 15]].tolist() == [-1, 0, 1]


def test_the_8_bit_code_is_that_of_bitsandbytes(theirs):
    assert len(DYNAMIC) == 256
    assert (np.diff(DYNAMIC) > 0).all()
    assert np.allclose(DYNAMIC, theirs["double/dynamic"], rtol=2e-7, atol=0)  # one unit in the last place


# Stored and read back, by loops over single numbers


def slow_blocks(x, code, size):
    """(codes, scales), a number at a time."""
    codes, scales = [], []
    for start in range(0, len(x), size):
        block = x[start : start + size]
        s = max(abs(v) for v in block)
        scales.append(s)
        for v in block:
            distances = [abs(v / s - c) if s else abs(c) for c in code.tolist()]
            codes.append(distances.index(min(distances)))
    return codes, scales


def slow_matrix(layer):
    """Ŵ from the stored bytes, a number at a time."""
    d_in, d_out = layer.shape
    W = np.zeros((d_in, d_out))
    for i in range(d_in):
        for o in range(d_out):
            n = o * d_in + i  # its place along the rows of the transpose
            byte = int(layer.codes[n // 2])
            code = byte // 16 if n % 2 == 0 else byte % 16
            s = layer.scales[n // 64]
            if layer.double:
                s = layer.mean + layer.scales_of_scales[n // 64 // 256] * DYNAMIC[s]
            W[i, o] = s * NF4[code]
    return W


@every_double
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 32), (7, 30), (130, 131)], ids=str)
def test_stored_and_read_back_by_loops(shape, double, rng):
    linear = normal_linear(rng, *shape, "float32")
    layer = NF4Linear(linear, double)
    codes, scales = slow_blocks(linear.matrix().T.ravel().tolist(), NF4, 64)
    codes += [0] * (len(codes) % 2)
    assert [16 * a + b for a, b in zip(codes[::2], codes[1::2], strict=True)] == layer.codes.tolist()
    if double:
        mean = float(np.mean(scales, dtype="f4"))
        assert abs(mean - layer.mean) < 1e-8
        p, t = slow_blocks((np.array(scales, "f4") - layer.mean).tolist(), DYNAMIC, 256)
        assert p == layer.scales.tolist()
        assert t == layer.scales_of_scales.tolist()
    else:
        assert scales == layer.scales.tolist()
    assert layer.codes.dtype == np.uint8
    assert np.allclose(layer.matrix(), slow_matrix(layer), rtol=1e-6, atol=1e-12)


def test_what_lies_on_the_code_is_stored_without_a_loss(rng):
    """Numbers s NF4[q] with a block's largest among them come back to the bit."""
    q = rng.integers(0, 16, (40, 64))
    q[:, 5] = 15
    x = (rng.uniform(0.1, 3, (40, 1)).astype("f4") * NF4[q]).ravel()
    codes, s = quantise_blocks(x, NF4, 64)
    assert np.array_equal(codes, q.ravel())
    assert np.array_equal(dequantise_blocks(codes, s, NF4, 64), x)


@every_double
def test_a_weight_of_zeros_stays_one(double):
    layer = NF4Linear(Linear.from_arrays(np.zeros((16, 9))), double)
    assert not layer.matrix().any()


@pytest.mark.parametrize("spoilt", [np.nan, -np.inf, 1e39])
def test_a_weight_that_is_not_finite_is_refused_and_nothing_has_changed(spoilt, model):
    model.h[1].mlp.c_fc.weight.data[3, 4] = spoilt
    before = snapshot(model)
    with (
        pytest.raises(ValueError, match=r"not finite in float32, .* load a base whose weights are all finite"),
        np.errstate(over="ignore"),
    ):
        quantise(model)
    assert snapshot(model) == before
    with (
        pytest.raises(ValueError, match=r"not finite in float32, .* load a base whose weights are all finite"),
        np.errstate(over="ignore"),
    ):
        get_peft_model(model, QLoRA())
    assert snapshot(model) == before


# The same numbers as bitsandbytes and peft


@every_double
def test_the_stored_bytes_are_those_of_bitsandbytes(theirs, double):
    layer, under = NF4Linear(linear_of(theirs), double), "double/" if double else "single/"
    stored = layer.stored_arrays()
    for name in {"codes", "scales"} | ({"scales_of_scales", "mean"} if double else set()):
        assert stored.pop(name).tolist() == pytest.approx(theirs[under + name].tolist(), rel=2e-7, abs=0), name
    assert not stored
    assert np.array_equal(layer.codes, theirs[under + "codes"])
    assert np.allclose(layer.matrix()[:, ::16], theirs[under + "some_W"], rtol=4e-7 if double else 0, atol=0)


@every_double
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lora_on_it_computes_what_peft_computes(theirs, double, dtype):
    given = {name: theirs[name].astype(dtype) for name in ("weight", "bias", "x", "dy", "A", "B")}
    linear = Linear.from_arrays(given["weight"], given["bias"], requires_grad=False)
    layer = LoRALinear(NF4Linear(linear, double), 3, 5, 0.0, np.random.default_rng(0))
    layer.A.data[...], layer.B.data[...] = given["A"], given["B"]
    y, backward = layer(given["x"])
    dx = backward(given["dy"])
    ours = {"y": y, "dx": dx, "dA": layer.A.grad, "dB": layer.B.grad}
    for name, array in ours.items():
        assert array.dtype == dtype
        assert relative(array, theirs[f"{'double' if double else 'single'}/{name}"]) < 1e-6, name
    plain = LoRALinear(linear, 3, 5, 0.0, np.random.default_rng(0))
    plain.A.data[...], plain.B.data[...] = given["A"], given["B"]
    assert relative(plain(given["x"])[0], y) > 1e-2  # the numbers of the weight in full precision are others


def test_bitsandbytes_itself_has_the_same_codes(rng):
    """Live, many weights: all codes of 4 bits are equal; of those of 8 bits, all but the few that it rounds a worse way."""
    bnb, torch = (pytest.importorskip(name) for name in ("bitsandbytes", "torch"))
    others, scales = 0, 0
    for _ in range(4):
        W = rng.normal(0, 0.02, (256, 300)).astype("f4")
        codes, state = bnb.functional.quantize_4bit(
            torch.tensor(W.T.copy()), blocksize=64, quant_type="nf4", compress_statistics=True
        )
        layer = NF4Linear(Linear.from_arrays(W))
        _, exact = quantise_blocks(W.T.ravel(), NF4, 64)
        assert np.array_equal(codes.flatten().numpy(), layer.codes)
        theirs = state.absmax.numpy()
        for i in np.flatnonzero(theirs != layer.scales):
            wanted = (exact[i] - layer.mean) / layer.scales_of_scales[i // 256]
            assert abs(DYNAMIC[layer.scales[i]] - wanted) <= abs(DYNAMIC[theirs[i]] - wanted) + 1e-6
        others, scales = others + (theirs != layer.scales).sum(), scales + len(theirs)
    assert others < 0.005 * scales


NAMES = {"attn.o_proj": "attn.c_proj", "mlp.c_fc": "mlp.c_fc", "mlp.c_proj": "mlp.c_proj"}  # ours: theirs


def a_gpt2_of_torch(folder, dtype):
    """(a GPT2LMHeadModel without dropout, ids); it is written to the folder, too."""
    pytest.importorskip("transformers")
    from test_interop_gpt2 import some_ids, torch_gpt2

    shape = (23, 12, 64, 2, 2)
    there = torch_gpt2(shape, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0).to(dtype)
    there.save_pretrained(folder)
    return there, some_ids(shape)


def compare_with_peft(there, ours, ids, tolerance):
    """Put LoRA on a GPT2LMHeadModel, with our A and B, and compare logits and gradients."""
    import peft
    import torch
    from test_interop_gpt2 import torch_loss

    from minipeft.training.step import add_gradients

    settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=list(NAMES.values()), task_type="CAUSAL_LM")
    there = peft.get_peft_model(there, settings).train()  # in eval mode a kernel in bfloat16 may stand in
    if ours.config.dtype == "float64":
        there.double()

    def theirs(path):
        block, name, letter = re.match(r"(h\.\d)\.(.*)\.([AB])", path).groups()
        return there.get_parameter(f"base_model.model.transformer.{block}.{NAMES[name]}.lora_{letter}.default.weight")

    trained = [(path, p) for path, p in ours.named_parameters() if p.requires_grad]
    with torch.no_grad():
        for path, p in trained:
            theirs(path).copy_(torch.tensor(p.data.T))
    assert relative(ours(ids)[0], there(torch.tensor(ids)).logits.detach().numpy()) < tolerance
    torch_loss(there, ids).backward()
    add_gradients(ours, (ids[:, :-1], ids[:, 1:]))
    assert len(trained) == 2 * len(NAMES) * 2
    for path, p in trained:
        assert relative(p.grad, theirs(path).grad.numpy().T) < 5 * tolerance, path


QLORA = QLoRA(r=3, alpha=5, targets=tuple(f"*.{name}" for name in NAMES))


@pytest.mark.filterwarnings("ignore")
def test_lora_in_peft_on_the_same_weight_has_the_same_logits_and_gradients(tmp_path):
    """Live, without bitsandbytes: their base holds Ŵ in full precision."""
    torch, _ = (pytest.importorskip(name) for name in ("torch", "peft"))
    from minipeft.interop import load_gpt2

    there, ids = a_gpt2_of_torch(tmp_path, torch.float64)
    model = moved(get_peft_model(load_gpt2(tmp_path, "float64"), QLORA))
    assert relative(load_gpt2(tmp_path, "float64")(ids)[0], model(ids)[0]) > 1e-2
    with torch.no_grad():
        for i, block in enumerate(there.transformer.h):
            ours = {path: layer.matrix() for path, layer in linears(model).items() if path.startswith(f"h.{i}.")}
            qkv = [ours.pop(f"h.{i}.attn.{letter}_proj") for letter in "qkv"]
            block.attn.c_attn.weight.copy_(torch.tensor(np.concatenate(qkv, axis=1)))
            for name, matrix in zip(NAMES.values(), ours.values(), strict=True):
                block.get_submodule(name).weight.copy_(torch.tensor(matrix))
    compare_with_peft(there, model, ids, 1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("double", "tolerance"), [(False, 1e-6), (True, 1e-2)])
def test_a_base_that_transformers_holds_in_4_bits_computes_the_same(double, tolerance, tmp_path):
    """Live: its base by bitsandbytes, LoRA by peft, from a file with our A and B, and from these alone."""
    _, torch, peft, transformers, *_ = (pytest.importorskip(name) for name in
        ("bitsandbytes", "torch", "peft", "transformers", "accelerate", "safetensors"))  # fmt: skip
    from minipeft.interop import export_peft, load_gpt2

    _, ids = a_gpt2_of_torch(tmp_path / "base", torch.float32)
    method = QLoRA(**(vars(QLORA) | {"double": double}))
    model = moved(get_peft_model(load_gpt2(tmp_path / "base"), method))
    with pytest.raises(ValueError, match="no counterpart for QLoRA"):  # its file would name the base in full precision
        export_peft(model, tmp_path / "adapter")
    settings = {name: value for name, value in vars(method).items() if name != "double"}
    plain, trained = get_peft_model(load_gpt2(tmp_path / "base"), LoRA(**settings)), dict(model.named_parameters())
    for path, p in plain.named_parameters():
        if p.requires_grad:
            p.data[...] = trained[path].data
    export_peft(plain, tmp_path / "adapter")
    bits = transformers.BitsAndBytesConfig(**method.quantization_config(), bnb_4bit_compute_dtype=torch.float32)

    def in_4_bits():
        settings = {"quantization_config": bits, "dtype": torch.float32, "device_map": "cpu"}
        return transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "base", **settings)

    there = peft.PeftModel.from_pretrained(in_4_bits(), tmp_path / "adapter").train()
    assert relative(model(ids)[0], there(torch.tensor(ids)).logits.detach().numpy()) < tolerance
    compare_with_peft(in_4_bits(), model, ids, tolerance)


# Errors and bytes: the numbers of the docstrings


def said(cls, start):
    """The line of a docstring that begins so."""
    return next(line.strip() for line in cls.__doc__.splitlines() if line.strip().startswith(start))


def test_nf4_beats_a_uniform_grid_on_normal_weights_by_what_the_docstring_says():
    x = np.random.default_rng(0).normal(size=2**23).astype("f4")  # fewer leave the last digit to chance: 10.05%
    errors = []
    for code in NF4, np.linspace(-1, 1, 16, dtype="f4"):
        q, s = quantise_blocks(x, code, 64)
        errors.append(relative(dequantise_blocks(q, s, code, 64), x))
    nf4, uniform = (f"{error:.1%}" for error in errors)
    assert said(NF4Linear, "Error:").endswith(f"is {nf4}; with 16 numbers in equal steps from −1 to 1 it is {uniform}")
    assert errors[0] < 0.93 * errors[1]


def test_quantised_scales_add_almost_nothing_to_the_error(rng):
    linear = normal_linear(rng, 512, 512)
    single, double = (relative(NF4Linear(linear, double).matrix(), linear.matrix()) for double in (False, True))
    assert single < double < 1.002 * single


@pytest.mark.parametrize(("double", "bits"), [(True, "4.127"), (False, "4.5")])
def test_the_bits_of_each_number_are_those_of_the_docstring(double, bits, rng):
    layer = NF4Linear(normal_linear(rng, 1024, 1024, "float32"), double)
    measured = 8 * layer.nbytes() / 1024**2
    assert measured == pytest.approx(float(bits), abs=2e-4)
    assert f"= {bits}" in said(NF4Linear, "Bits:")
    assert measured <= 4 + 8 / 64 + 32 / (64 * 256) + 32 / 1024**2 if double else measured == 4.5  # and the one mean


def test_the_errors_of_a_merge_are_those_of_the_docstring():
    rng = np.random.default_rng(0)
    W, AB = rng.normal(0, 0.02, (256, 256)), rng.normal(size=(256, 8)) @ rng.normal(size=(8, 256))
    layer = NF4Linear(Linear.from_arrays(W))
    shares, again, before = (0.01, 0.03, 0.1, 0.3), [], []
    for share in shares:
        delta = AB * (share * np.linalg.norm(W) / np.linalg.norm(AB))
        trained = layer.matrix() + delta
        assert np.array_equal(layer.plus(delta).matrix(), trained)
        for errors, matrix in (again, NF4Linear(layer.plus(delta)).matrix()), (before, W + delta):
            errors.append(np.linalg.norm(matrix - trained) / np.linalg.norm(delta))
    again, before = (", ".join(f"{error:.2f}" for error in errors) for errors in (again, before))
    text = " ".join(NF4Linear.plus.__doc__.split())
    assert f"{', '.join(f'{share:.0%}' for share in shares)} of them, the error is {again} times" in text
    assert f"it is {before}.)" in text


# The layer


@every_double
def test_what_is_computed_is_the_product_with_its_matrix(double, rng):
    linear = normal_linear(rng, 24, 16)
    layer, x, dy = NF4Linear(linear, double), rng.normal(size=(2, 3, 24)), rng.normal(size=(2, 3, 16))
    assert layer.bias is linear.bias
    assert layer.shape == linear.shape
    assert layer.dtype == layer.matrix().dtype == np.float64
    y, backward = layer(x)
    assert np.allclose(y, x @ layer.matrix() + linear.bias.data, rtol=1e-13)
    assert np.allclose(backward(dy), dy @ layer.matrix().T, rtol=1e-13)
    assert np.allclose(layer.bias.grad, dy.sum((0, 1)), rtol=1e-13)
    assert [path for path, _ in layer.named_parameters()] == ["bias"]
    with pytest.raises(ValueError, match=r"maps 24 numbers to 16; it was given 23: x must be \(\.\.\., 24\)"):
        layer(x[..., 1:])


def test_the_matrix_is_the_same_in_float32_and_float64(rng):
    linear = normal_linear(rng, 24, 16, "float32")
    double = Linear.from_arrays(linear.matrix().astype("f8"), linear.bias.data.astype("f8"))
    assert np.array_equal(NF4Linear(linear).matrix(), NF4Linear(double).matrix())


def test_neither_x_nor_the_matrix_is_kept(rng):
    """What lives between forward and backward: the layer, and nothing that forward made."""
    layer, x = NF4Linear(normal_linear(rng, 64, 64).requires_grad_(False)), rng.normal(size=(4, 64))
    alive, at_rest = weakref.ref(x), dict(vars(layer))
    _, backward = layer(x)
    del x
    gc.collect()
    assert alive() is None
    assert activations(backward) == []
    assert saved_bytes(backward) == 0
    assert vars(layer).keys() == at_rest.keys()
    assert all(vars(layer)[name] is value for name, value in at_rest.items())


def test_made_from_arrays_it_is_in_4_bits_too(rng):
    linear = normal_linear(rng, 24, 16)
    layer = NF4Linear.from_arrays(linear.matrix(), linear.bias.data)
    assert type(layer) is NF4Linear
    assert np.array_equal(layer.matrix(), NF4Linear(linear).matrix())


def test_plus_is_a_frozen_linear_in_full_precision_in_the_same_mode(rng):
    layer = NF4Linear(normal_linear(rng, 24, 16).eval())
    sum_ = layer.plus(np.ones((24, 16)))
    assert type(sum_) is Linear
    assert not sum_.weight.requires_grad
    assert sum_.bias is layer.bias
    assert not sum_.training
    assert np.array_equal(sum_.matrix(), layer.matrix() + 1)


# The method


def test_every_linear_of_the_blocks_is_in_4_bits_and_lora_is_on_the_targets():
    model = get_peft_model(tiny_model(), QLoRA(r=2, targets="*.[qv]_proj"))
    assert {type(layer) for layer in linears(model).values()} == {NF4Linear}
    assert {path for path, node in model.walk() if isinstance(node, LoRALinear)} == {
        f"h.{i}.attn.{name}_proj" for i in range(CONFIG.n_layer) for name in "qv"}  # fmt: skip
    everywhere = get_peft_model(tiny_model(), METHODS["qlora"]())
    assert sum(isinstance(node, LoRALinear) for _, node in everywhere.walk()) == 6 * CONFIG.n_layer


@every_double
def test_it_is_lora_on_the_base_in_4_bits(double, batch):
    """Logits and gradients, to the bit."""
    one = moved(get_peft_model(tiny_model(), QLoRA(r=2, alpha=3, double=double), seed=4))
    two = moved(get_peft_model(quantise(tiny_model(), double=double), LoRA(r=2, alpha=3, targets=BLOCKS), seed=4))
    for model in one, two:
        loss_of(model, batch)()[1]()
    assert np.array_equal(one(batch[0])[0], two(batch[0])[0])
    grads, others = gradients(one), gradients(two)
    assert grads.keys() == others.keys()
    assert all(np.array_equal(grads[path], others[path]) for path in grads)


def test_on_a_base_in_4_bits_the_codes_stay_as_they_are():
    model = quantise(tiny_model(), double=False)
    before = {path: layer.stored_arrays() for path, layer in linears(model).items()}
    get_peft_model(model, QLoRA(double=True))
    for path, layer in linears(model).items():
        assert all(array is before[path][name] for name, array in layer.stored_arrays().items())


def test_fewer_targets_merge_and_unwrap_too(ids):
    model, plain = moved(get_peft_model(tiny_model(), QLoRA(r=2, targets="*.[qv]_proj"))), tiny_model()
    before = model(ids)[0]
    merge(model)
    assert {type(linear) for path, linear in linears(model).items() if path[-6] in "qv"} == {Linear}
    assert {type(linear) for path, linear in linears(model).items() if path[-6] not in "qv"} == {NF4Linear}
    assert abs(model(ids)[0] - before).max() < 1e-12
    with disabled(model):
        assert np.array_equal(model(ids)[0], plain(ids)[0])
    assert np.array_equal(unwrap(model)(ids)[0], plain(ids)[0])


@pytest.mark.parametrize("together", [True, False], ids=["one Stack", "one after another"])
def test_what_another_method_brought_stays_in_full_precision_and_is_saved(together, ids, tmp_path):
    methods = Adapter(m=3), QLoRA(r=2)
    model = tiny_model()
    for method in [Stack(methods)] if together else methods:
        moved(get_peft_model(model, method))
    adapter = model.h[1].mlp.adapter
    assert type(adapter.down) is type(adapter.up) is Linear
    inside = [node for path, node in model.walk() if type(node) is NF4Linear]
    assert len(inside) == 6 * CONFIG.n_layer
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(load_adapter(tiny_model(), tmp_path / "a.npz")(ids)[0], model(ids)[0])
    assert fingerprint(model) == fingerprint(tiny_model())
    assert np.array_equal(unwrap(model)(ids)[0], tiny_model()(ids)[0])


def test_a_layer_with_a_wrapper_on_it_goes_to_4_bits_beneath_it(ids):
    model = tiny_model()
    get_peft_model(model, Stack((Adapter(m=2), LoRA(r=2, targets="*.q_proj"))))
    before = snapshot(model)
    with pytest.raises(ValueError, match="already has a LoRA"):
        get_peft_model(model, QLoRA(r=2))
    assert snapshot(model) == before
    moved(get_peft_model(model, QLoRA(r=2, targets=("*.[kvo]_proj", "*.c_*"))))
    assert {type(layer) for path, layer in linears_but_adapters(model)} == {NF4Linear}
    assert type(model.h[0].attn.base.q_proj.base) is NF4Linear
    assert np.array_equal(unwrap(model)(ids)[0], tiny_model()(ids)[0])


def linears_but_adapters(model):
    return [(path, node) for path, node in model.walk() if isinstance(node, Linear) and ".adapter." not in path]


@pytest.mark.parametrize("steps", [0, 2])
def test_what_full_fine_tuning_learned_before_is_not_lost_in_silence(steps, batch, tmp_path):
    """4 bits of a trained weight are in no file: then there is none."""
    model = get_peft_model(tiny_model(), FullFineTuning())
    if steps:
        fit(model, [batch], steps, AdamW(model, 1e-2), progress=False)
    moved(get_peft_model(model, QLoRA(r=2)))
    if steps:
        with pytest.raises(ValueError, match=r"h\.0\.attn\.q_proj\.weight of the base was trained, .* with save_gpt2"):
            save_adapter(model, tmp_path / "a.npz")
        assert not (tmp_path / "a.npz").exists()
    else:
        save_adapter(model, tmp_path / "a.npz")
        assert np.array_equal(load_adapter(tiny_model(), tmp_path / "a.npz")(batch[0])[0], model(batch[0])[0])
    assert np.array_equal(unwrap(model)(batch[0])[0], tiny_model()(batch[0])[0])


def test_generation_with_its_cache_writes_what_it_writes_without(ids):
    model = moved(get_peft_model(tiny_model(), QLoRA(r=2)))
    written = generate(model, ids[:1, :3], 6)
    longer = ids[:1, :3]
    for _ in range(6):
        longer = np.append(longer, model(longer)[0][:, -1].argmax(-1)[:, None], axis=1)
    assert np.array_equal(written, longer)


# For good


@every_double
def test_a_base_in_4_bits_is_a_base(double, batch, rng, tmp_path):
    """Another than it was: with a fingerprint, adapters and an unwrap of its own."""
    model, plain = quantise(tiny_model(), double=double), tiny_model()
    assert fingerprint(model) != fingerprint(plain)
    assert fingerprint(model) == fingerprint(quantise(tiny_model(), double=double))
    logits, before = model(batch[0])[0], {path: a.tobytes() for path, a in stored(model)}
    moved(get_peft_model(model, LoRA(r=2, targets=BLOCKS)))
    assert max(gradcheck(loss_of(model, batch), model.named_parameters(), rng, eps=1e-6).values()) < 1e-6
    save_adapter(model, tmp_path / "a.npz")
    loaded = load_adapter(quantise(tiny_model(), double=double), tmp_path / "a.npz")
    assert np.array_equal(loaded(batch[0])[0], model(batch[0])[0])
    for other in plain, quantise(tiny_model(), double=not double):
        with pytest.raises(ValueError, match="belongs to another base"):
            load_adapter(other, tmp_path / "a.npz")
    with disabled(model):
        assert np.array_equal(model(batch[0])[0], logits)
    unwrap(model)
    assert np.array_equal(model(batch[0])[0], logits)
    assert {path: a.tobytes() for path, a in stored(model)} == before


def stored(model):
    return [(f"{path}.{name}", array) for path, node in model.walk() if isinstance(node, Module)
            for name, array in node.stored_arrays().items()]  # fmt: skip


@every_double
def test_every_byte_of_a_base_in_4_bits_is_in_its_fingerprint(double):
    model = quantise(tiny_model(), double=double)
    first, names = fingerprint(model), set()
    for path, array in stored(model):
        kept = array.copy()
        array[...] = array + 1
        assert fingerprint(model) != first, path
        array[...] = kept
        names.add(path.rpartition(".")[2])
    assert names == ({"codes", "scales", "scales_of_scales", "mean"} if double else {"codes", "scales"})
    assert fingerprint(model) == first


def test_the_fingerprint_in_4_bits_is_the_same_in_float32_and_float64():
    single = GPT2(GPT2Config(**(vars(CONFIG) | {"dtype": "float32"})))
    double = GPT2(CONFIG)
    for (_, p), (_, q) in zip(single.named_parameters(), double.named_parameters(), strict=True):
        q.data[...] = p.data
    assert fingerprint(quantise(single)) == fingerprint(quantise(double))


def test_only_what_the_targets_name_is_stored_in_4_bits():
    model = quantise(tiny_model(), targets="h.1.mlp.*")
    assert {path for path, linear in linears(model).items() if type(linear) is NF4Linear} == {
        "h.1.mlp.c_fc", "h.1.mlp.c_proj"}  # fmt: skip


def test_targets_that_match_nothing_leave_the_model_as_it_was(model):
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"'\*\.query' matches nothing"):
        quantise(model, targets="*.query")
    assert snapshot(model) == before


def test_a_model_with_a_method_on_it_is_not_quantised(model):
    get_peft_model(model, LoRA(r=2))
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"h\.0\.attn\.q_proj carries a LoRALinear: unwrap\(model\) or merge\(model\)"):
        quantise(model)
    with disabled(model), pytest.raises(ValueError, match="disabled"):
        quantise(model)
    assert snapshot(model) == before


def test_the_weights_in_full_precision_are_let_go(ids):
    model = moved(get_peft_model(tiny_model(), QLoRA(r=2)))
    weight = weakref.ref(model.peft[0].replaced[0][1])
    assert type(weight()) is Linear
    merge(model)
    before = model(ids)[0]
    quantise(model)
    gc.collect()
    assert weight() is None
    assert model.peft == []
    assert {type(layer) for layer in linears(model).values()} == {NF4Linear}
    assert 0 < relative(model(ids)[0], before) < 1
    assert unwrap(model) is model
    assert {type(layer) for layer in linears(model).values()} == {NF4Linear}


def test_the_bytes_of_a_model():
    """Of the english base's shape: all its numbers, in Parameters or not."""
    config = GPT2Config(vocab_size=97, n_positions=128, n_embd=96, n_layer=3, n_head=4, dtype="float32")

    def total(model):
        return sum(p.data.nbytes for _, p in model.named_parameters()) + sum(a.nbytes for _, a in stored(model))

    before, after = total(GPT2(config)), total(quantise(GPT2(config)))
    weights = 3 * 12 * 96**2
    assert before - after == 4 * weights - sum(layer.nbytes() for _, layer in quantised(config))
    assert sum(layer.nbytes() for _, layer in quantised(config)) * 8 / weights < 4.14
    assert before > 5 * after


def quantised(config):
    return [(path, node) for path, node in quantise(GPT2(config)).walk() if isinstance(node, NF4Linear)]


# Beside it


def test_replicas_share_the_codes_and_compute_the_same(batch):
    model = moved(get_peft_model(tiny_model(), QLoRA(r=2)))
    twin = replica(model, 1)
    ours, theirs = stored(model), stored(twin)
    assert len(ours) == 4 * 6 * CONFIG.n_layer
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    assert all(a is b for (_, a), (_, b) in zip(ours, theirs, strict=True))
    copied = stored(deepcopy(model))
    assert not any(a is b for (_, a), (_, b) in zip(ours, copied, strict=True))
    losses, grads = [], []
    for workers in 1, 2:
        model.zero_grad()
        with sharing(model, workers) as (backpropagate, _):
            losses.append(backpropagate(model, batch))
        grads.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert all(np.allclose(grads[0][path], grads[1][path], rtol=1e-10, atol=1e-14) for path in grads[0])


def test_the_ledger_counts_the_numbers_and_products_of_lora(batch):
    """A weight in 4 bits is as many numbers, and is multiplied as often, as one in full precision."""
    one, two = QLoRA(r=2), LoRA(r=2, targets=BLOCKS)
    models = [get_peft_model(tiny_model(), method) for method in (one, two)]
    assert count_parameters(models[0]) == count_parameters(models[1])
    assert count_parameters(models[0])[0] == counted(one, CONFIG)
    assert {row.path for row in parameter_table(models[0])} == {row.path for row in parameter_table(models[1])}
    operations = []
    for model in models:
        with counting() as flops:
            loss_of(model, batch)()[1]()
        operations.append(flops.total)
    assert operations[0] == operations[1] > 0


def test_the_activations_kept_are_loras(batch):
    kept = [saved_bytes(get_peft_model(tiny_model(), method)(batch[0])[1])
            for method in (QLoRA(r=2), LoRA(r=2, targets=BLOCKS))]  # fmt: skip
    assert kept[0] == kept[1] > 0


def test_the_file_of_a_base_has_no_place_for_4_bits(tmp_path):
    with pytest.raises(ValueError, match=r"h\.0\.attn\.q_proj stores its weight in a form"):
        write_base(quantise(tiny_model()), tmp_path / "base.npz")
    assert not list(tmp_path.iterdir())


def test_it_learns_on_4_bits_what_lora_learns():
    batch = tiny_batch(N=4, T=8)
    final = []
    for method in QLoRA(r=4), LoRA(r=4, targets=BLOCKS):
        model = get_peft_model(tiny_model(), method)
        losses = fit(model, [batch], 60, AdamW(model, method.lr), progress=False).loss
        final.append(np.mean(losses[-5:]))
        assert final[-1] < 0.6 * losses[0]
    assert final[0] < 1.2 * final[1]
