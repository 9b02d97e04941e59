"""Every layer by itself: its gradients, its precision, and what it keeps."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import CONFIG, LAYERS, activations, as_tuple, gradients, off_start, specimen, tiny_model

from minipeft import LoRA, cross_entropy, get_peft_model
from minipeft.lab.gradcheck import directional_error, gradcheck_layer
from minipeft.methods.lora import LoRALinear
from minipeft.model import Attention, CausalSelfAttention, Dropout, Embedding, LayerNorm, Linear, Module, TiedHead
from minipeft.model.functional import gelu, softmax

few = settings(max_examples=12, deadline=None, derandomize=True)
sizes = st.integers(1, 4)
every_layer = pytest.mark.parametrize("name", LAYERS)

ONE_INPUT = ["Linear", "LayerNorm", "GELU", "Dropout", "Dropout off", "TiedHead", "CausalSelfAttention", "MLP", "Block",
         "LoRALinear", "LoRALinear with dropout", "Bottleneck", "SequentialAdapter", "ParallelAdapter",
         "DropPrompt", "DoRALinear", "DoRALinear, norm followed", "DoRALinear with dropout",
         "ScaledOutput", "ScaledInput", "NF4Linear"]  # fmt: skip


def run(layer, inputs, seed=3):
    """(y, d_inputs, gradients) under the loss Σ w ⊙ y with random w."""
    layer.zero_grad()
    y, backward = layer(*inputs)
    d_inputs = backward(np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype))
    return y, as_tuple(d_inputs), gradients(layer)


def right(errors):
    """All below 1e-6; but b_k has no gradient (softmax takes no notice of it), and there the loss only rounds."""
    return all(error < (1e-4 if path.endswith("k_proj.bias") else 1e-6) for path, error in errors.items())


# Gradients


@every_layer
def test_gradients_are_those_of_finite_differences(name, rng):
    layer, inputs = specimen(name)
    errors = gradcheck_layer(layer, inputs, rng)
    trained = {path for path, p in layer.named_parameters() if p.requires_grad}
    floats = {f"input {i}" for i, a in enumerate(inputs) if a.dtype.kind == "f"}
    assert errors.keys() == trained | floats
    assert right(errors), errors


@every_layer
def test_every_gradient_is_away_from_zero(name):
    """Else the check above would compare nothing with nothing."""
    _, d_inputs, grads = run(*specimen(name))
    for path, grad in grads.items():
        assert (abs(grad).max() > 1e-6) != path.endswith("k_proj.bias"), path
    assert all(abs(dx).max() > 1e-6 for dx in d_inputs if dx is not None)


@few
@given(lead=st.lists(sizes, max_size=3), d_in=sizes, d_out=sizes)
def test_linear_takes_any_leading_axes(lead, d_in, d_out):
    rng = np.random.default_rng(0)
    layer = off_start(Linear(d_in, d_out, rng))
    assert right(gradcheck_layer(layer, (rng.normal(size=(*lead, d_in)),), rng))


@few
@given(lead=st.lists(sizes, min_size=1, max_size=3), d=st.integers(1, 9))
def test_layer_norm_takes_any_shape(lead, d):
    rng = np.random.default_rng(0)
    layer = off_start(LayerNorm(d))
    assert right(gradcheck_layer(layer, (rng.normal(size=(*lead, d)),), rng))


@few
@given(N=sizes, T=sizes, more=st.integers(0, 3), H=sizes, K=sizes)
def test_attention_takes_any_shape(N, T, more, H, K):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(N, n, H * K)) for n in (T, T + more, T + more))
    assert right(gradcheck_layer(Attention(H), (q, k, v), rng))


@few
@given(N=sizes, T=sizes, H=sizes, K=sizes)
def test_self_attention_takes_any_shape(N, T, H, K):
    rng = np.random.default_rng(0)
    layer = off_start(CausalSelfAttention(H * K, H, rng))
    assert right(gradcheck_layer(layer, (rng.normal(size=(N, T, H * K)),), rng))


@few
@given(N=sizes, T=sizes, V=st.integers(1, 6), masked=st.booleans(), dloss=st.sampled_from([1.0, -0.25]))
def test_cross_entropy_gradient(N, T, V, masked, dloss):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(N, T, V)), rng.integers(0, V, (N, T))
    mask = rng.random((N, T)) < 0.5 if masked else None
    if masked:
        mask[0, 0] = True
    _, backward = cross_entropy(logits, targets, mask)
    dlogits = backward(dloss)
    assert dlogits.shape == logits.shape
    if masked:
        assert not dlogits[~mask].any()
    error = directional_error(lambda: dloss * cross_entropy(logits, targets, mask)[0], logits, dlogits, rng, 1e-5)
    assert error < 1e-6


# What is computed


def test_attention_is_causal_and_its_first_keys_are_seen_by_all(rng):
    q, k, v = rng.normal(size=(1, 3, 4)), rng.normal(size=(1, 5, 4)), rng.normal(size=(1, 5, 4))
    o, _ = Attention(2)(q, k, v)
    for s in range(5):
        nudged = v.copy()
        nudged[:, s] += 1
        changed = (Attention(2)(q, k, nudged)[0] != o).any(axis=(0, 2))
        assert list(changed) == [s <= t + 2 for t in range(3)]


def test_attention_by_the_book(rng):
    """One head, one query at a time, in the words of eq. 1."""
    q, k, v = rng.normal(size=(3, 2, 4, 6))
    expected = np.zeros_like(q)
    for n, h, t in np.ndindex(2, 2, 4):
        K = slice(3 * h, 3 * h + 3)
        z = k[n, : t + 1, K] @ q[n, t, K] / 3**0.5
        expected[n, t, K] = np.exp(z) / np.exp(z).sum() @ v[n, : t + 1, K]
    assert np.allclose(Attention(2)(q, k, v)[0], expected, rtol=1e-13)


def test_layer_norm_by_the_book(rng):
    x, layer = rng.normal(size=(3, 4)) * [[1e-3], [1], [10]], off_start(LayerNorm(4))
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    assert np.allclose(layer(x)[0], expected * layer.weight.data + layer.bias.data, rtol=1e-12)


def test_no_token_sees_a_later_one(model, ids):
    logits, _ = model(ids)
    for t in range(1, ids.shape[1]):
        assert np.allclose(model(ids[:, :t])[0], logits[:, :t], rtol=1e-12, atol=1e-14)


def test_cross_entropy_by_the_book():
    logits, targets = np.log([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]), np.array([[0, 2]])
    assert np.isclose(cross_entropy(logits, targets)[0], -(np.log(0.5) + np.log(0.1)) / 2)
    assert np.isclose(cross_entropy(logits, targets, np.array([[1, 0]]))[0], -np.log(0.5))


def test_targets_under_a_zero_of_the_mask_may_be_anything(rng):
    logits, mask = rng.normal(size=(1, 3, 4)), np.array([[1, 0, 1]])
    loss, backward = cross_entropy(logits, np.array([[1, 2, 3]]), mask)
    ignored, backward_ignored = cross_entropy(logits, np.array([[1, -100, 3]]), mask)
    assert loss == ignored
    assert np.array_equal(backward(), backward_ignored())


def test_nothing_overflows_at_large_numbers():
    with np.errstate(all="raise", under="ignore"):
        assert np.allclose(softmax(np.array([1e4, 0.0, -1e4])), [1, 0, 0])
        y, slope = gelu(np.array([-50.0, 0.0, 50.0]))
        loss, backward = cross_entropy(np.array([[[1e4, 0.0, -1e4]]]), np.array([[1]]))
    assert np.allclose(y, [0, 0, 50])
    assert np.allclose(slope, [0, 0.5, 1])
    assert loss == 1e4
    assert np.allclose(backward(), [[[1, -1, 0]]])


def test_dropout_keeps_the_mean_and_is_off_in_eval(rng):
    x, layer = np.ones((200, 500)), Dropout(0.3, rng)
    y, _ = layer(x)
    assert set(np.unique(y)) == {0, 1 / 0.7}
    assert abs(y.mean() - 1) < 0.01
    assert not np.array_equal(layer(x)[0], y)
    assert np.array_equal(layer.eval()(x)[0], x)


def test_a_row_used_twice_gets_both_gradients(rng):
    layer = Embedding(3, 2, rng)
    _, backward = layer(np.array([[1, 1, 0]]))
    backward(np.array([[[1.0, 2.0], [10.0, 20.0], [5.0, 5.0]]]))
    assert np.array_equal(layer.weight.grad, [[5, 5], [11, 22], [0, 0]])


# Precision


@every_layer
def test_float32_stays_float32_and_agrees_with_float64(name):
    y64, dx64, grads64 = run(*specimen(name))
    layer, inputs = specimen(name, "float32")
    y, dx, grads = run(layer, inputs)
    assert grads.keys() == grads64.keys()
    pairs = {"y": (y, y64)} | {path: (grads[path], grads64[path]) for path in grads}
    pairs |= {f"dx {i}": pair for i, pair in enumerate(zip(dx, dx64, strict=True)) if pair[0] is not None}
    for what, (single, double) in pairs.items():
        assert single.dtype == np.float32, what
        assert double.dtype == np.float64, what
        assert abs(single - double).max() < 1e-4 * max(abs(double).max(), 1e-2), what


def test_float32_loss_stays_float32(rng):
    logits, targets, mask = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, (2, 3)), np.array([[1, 0, 1], [1, 1, 0]])
    loss64, backward64 = cross_entropy(logits, targets, mask)
    loss, backward = cross_entropy(logits.astype("float32"), targets, mask)
    assert type(loss) is float
    assert abs(loss - loss64) < 1e-6
    assert backward().dtype == backward(0.5).dtype == np.float32
    assert abs(backward() - backward64()).max() < 1e-6


@pytest.mark.parametrize("settings", [{"r": np.int64(2)}, {"alpha": np.float64(3)}, {"dropout": np.float64(0.2)}],
                         ids=str)  # fmt: skip
def test_numbers_of_numpy_among_the_settings_do_not_up_cast(settings, rng):
    layer = LoRALinear(Linear(4, 3, rng, dtype="float32"), **({"r": 2, "alpha": 3, "dropout": 0} | settings), rng=rng)
    y, backward = layer(np.ones((2, 4), "float32"))
    assert y.dtype == backward(y).dtype == layer.delta().dtype == np.float32


# Closures


@every_layer
def test_two_forwards_then_two_backwards(name):
    layer, first = specimen(name)
    second = tuple(a[::-1].copy() * (1.5 if a.dtype.kind == "f" else 1) for a in first)
    _, dx_1, grads_1 = run(layer, first, seed=3)
    _, dx_2, grads_2 = run(layer, second, seed=4)
    layer.zero_grad()
    y_1, backward_1 = layer(*first)
    y_2, backward_2 = layer(*second)
    dx = as_tuple(backward_1(np.random.default_rng(3).normal(size=y_1.shape)))
    dx += as_tuple(backward_2(np.random.default_rng(4).normal(size=y_2.shape)))
    for ours, theirs in zip(dx, dx_1 + dx_2, strict=True):
        assert np.array_equal(ours, theirs)
    for path, grad in gradients(layer).items():
        assert np.allclose(grad, grads_1[path] + grads_2[path], rtol=1e-12, atol=1e-14), path


@pytest.mark.parametrize("name", ONE_INPUT)
def test_frozen_layers_pass_the_same_dx_through_and_keep_no_gradient(name):
    layer, inputs = specimen(name)
    _, (dx,), _ = run(layer, inputs)
    if layer.named_parameters():
        layer.requires_grad_(False)
    _, (dx_frozen,), grads = run(layer, inputs)
    assert np.array_equal(dx_frozen, dx)
    assert grads == {}
    assert all(p.grad is None for _, p in layer.named_parameters())


@pytest.mark.parametrize("name", ["MLP", "CausalSelfAttention", "Block", "GPT2", "LoRALinear", "SequentialAdapter",
                                  "ReparametrisedPrefix", "DoRALinear", "DoRALinear, norm followed",
                                  "ScaledOutput", "ScaledInput"])  # fmt: skip
def test_each_parameter_can_be_trained_alone(name):
    """Whatever else is frozen, its gradient is the same."""
    layer, inputs = specimen(name)
    y, _, grads = run(layer, inputs)
    dy = np.random.default_rng(3).normal(size=y.shape)
    for path, grad in grads.items():
        layer.requires_grad_(False).requires_grad_(True, path)
        _, backward = layer(*inputs)
        backward(dy)
        assert np.array_equal(gradients(layer)[path], grad), path


def test_half_of_a_prefix_can_be_trained_alone():
    layer, inputs = specimen("PrefixAttention")
    _, _, grads = run(layer, inputs)
    for path in ("P_k", "P_v"):
        layer.requires_grad_(False).requires_grad_(True, path)
        assert np.array_equal(run(layer, inputs)[2][path], grads[path]), path


# What is kept


def is_kept(layer, x):
    """Does backward keep x alive?"""
    x = x.copy()
    alive = weakref.ref(x)
    y, backward = layer(x)
    del x, y
    gc.collect()
    kept = alive() is not None
    assert callable(backward)
    return kept


@pytest.mark.parametrize("kind", [Linear, TiedHead])
def test_x_is_kept_only_while_the_weight_is_trained(kind, rng):
    layer, x = Linear(4, 4, rng), rng.normal(size=(2, 4))
    layer = TiedHead(layer.weight) if kind is TiedHead else layer
    assert is_kept(layer, x)
    layer.requires_grad_(False)
    assert not is_kept(layer, x)


@pytest.mark.parametrize(("train", "kept"), [("AB", True), ("A", True), ("B", False)])
def test_lora_keeps_x_only_for_the_gradient_of_A(train, kept, rng):
    base = Linear(4, 3, rng).requires_grad_(False)
    assert is_kept(LoRALinear(base, 2, 4, 0.0, rng, train), rng.normal(size=(2, 4))) == kept


def test_a_linear_with_only_its_bias_trained_keeps_no_x(rng):
    layer = Linear(4, 3, rng).requires_grad_(False, "weight")
    assert not is_kept(layer, rng.normal(size=(2, 4)))


def test_inference_keeps_no_activations(model, ids):
    at_rest = activations(model)
    _, backward = model.requires_grad_(False)(ids)
    assert activations(model) == at_rest == []
    assert activations(backward) == []
    assert activations(model.requires_grad_(True)(ids)[1]) != []


def test_blocks_below_the_lowest_trained_keep_no_activations(ids):
    """The forward of a model with its lowest block frozen keeps half of what both blocks would."""
    kept = []
    for block in (0, 1):
        model = get_peft_model(tiny_model(), LoRA(r=2, targets=f"h.{block}.attn.q_proj"))
        kept.append(sum(array.nbytes for array in activations(model(ids)[1])))
    assert kept[1] < 0.6 * kept[0]


@pytest.fixture
def visited(monkeypatch):
    """The ids of all modules whose backward was called."""
    called, call = set(), Module.__call__

    def recording(self, *inputs):
        y, backward = call(self, *inputs)

        def recorded(*args, **kwargs):
            called.add(id(self))
            return backward(*args, **kwargs)

        return y, recorded

    monkeypatch.setattr(Module, "__call__", recording)
    return called


def paths_visited(model, ids, visited):
    y, backward = model(ids)
    backward(np.ones_like(y))
    return {path for path, node in model.walk() if id(node) in visited}


def test_backward_ends_with_the_lowest_trained_block(model, ids, visited):
    get_peft_model(model, LoRA(r=2, targets=f"h.{CONFIG.n_layer - 1}.mlp.c_proj"))
    paths = paths_visited(model, ids, visited)
    assert paths >= {"lm_head", "ln_f", "h.1", "h.1.mlp", "h.1.mlp.c_proj", "h.1.ln_1"}
    assert not [path for path in paths if path.startswith(("h.0", "wte", "wpe"))]


def test_backward_of_a_frozen_model_goes_nowhere(model, ids, visited):
    model.requires_grad_(False)
    assert paths_visited(model, ids, visited) == set()


def test_backward_reaches_the_embeddings_when_they_are_trained(model, ids, visited):
    model.requires_grad_(False).requires_grad_(True, "wpe.*")
    assert paths_visited(model, ids, visited) == {path for path, node in model.walk() if isinstance(node, Module)}
