"""The instruments are right: gradient checks that find bugs, a ledger that agrees with what is measured."""

from contextlib import nullcontext

import numpy as np
import pytest
from specimens import loss_of, tiny_batch, tiny_model

from minipeft import (
    GPT2,
    METHODS,
    FullFineTuning,
    GPT2Config,
    LoRA,
    Parameter,
    PromptTuning,
    counting,
    cross_entropy,
    get_peft_model,
    train_step,
)
from minipeft.lab import ledger
from minipeft.lab.gradcheck import gradcheck, gradcheck_layer
from minipeft.model import Linear
from minipeft.training import AdamW

CONFIG = GPT2Config(vocab_size=23, n_positions=32, n_embd=16, n_layer=3, n_head=2)
N, T, V, D, L = 2, 7, 23, 16, 3
M = N * T  # tokens in a batch


def test_an_inference_keeps_nothing():
    model = GPT2(CONFIG).requires_grad_(False)
    _, backward = model(np.zeros((N, T), int))
    assert ledger.saved_bytes(backward) == 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_bytes_kept_for_lora_are_those_of_its_layers(dtype):
    """For each token of a block x̂ and 1/σ of two LayerNorms, q, k, v, slope of gelu, p; and what LoRA keeps: x and s h."""
    model = get_peft_model(GPT2(GPT2Config(V, 32, D, L, 2, dtype)), LoRA(r=2, targets="*.[qv]_proj"))
    _, backward = model(np.zeros((N, T), int))
    block = M * (2 * (D + 1) + 3 * D + 4 * D) + N * 2 * T * T + M * (D + 2 * 2)
    final = M * (D + 1)
    assert ledger.saved_bytes(backward) == np.dtype(dtype).itemsize * (L * block + final)


def test_the_products_of_a_plain_model_are_those_of_the_formula():
    """Two operations for each entry of a matrix and token, 4 N T S D for attention; backward is twice forward."""
    model, ids = get_peft_model(GPT2(CONFIG), FullFineTuning()), np.zeros((N, T), int)
    with counting() as forward:
        logits, backward = model(ids)
    assert forward.total == 2 * M * (12 * D * D * L + V * D) + 4 * N * T * T * D * L
    with counting() as back:
        backward(np.ones_like(logits))
    assert back.total == 2 * forward.total
    assert type(model.h[0].attn.q_proj.weight.data) is np.ndarray
    assert all(type(p.grad) is np.ndarray for _, p in model.named_parameters())


@pytest.mark.parametrize("train", ["AB", "A", "B"])
def test_the_products_of_lora_are_those_of_the_formula(train):
    """No dW of the base; of A and B three each, like any trained matrix, less what is frozen."""
    plain, lora = (
        GPT2(CONFIG).requires_grad_(False),
        get_peft_model(GPT2(CONFIG), LoRA(r=2, targets="*.c_fc", train=train)),
    )
    ids, pair = np.zeros((N, T), int), 2 * M * 2 * (D + 4 * D) * L
    with counting() as alone:
        plain(ids)
    with counting() as forward:
        logits, backward = lora(ids)
    assert forward.total == alone.total + pair
    with counting() as back:
        backward(np.ones_like(logits))
    dx = 2 * M * (12 * D * D * L + V * D) + 8 * N * T * T * D * L
    dA, dB = 2 * M * 2 * D * L, 2 * M * 2 * 4 * D * L
    assert back.total == dx + pair + dA * ("A" in train) + dB * ("B" in train)


def test_a_lora_step_is_about_two_thirds_of_a_full_one():
    totals = []
    for method in (LoRA(r=1), FullFineTuning()):
        model = get_peft_model(GPT2(CONFIG), method)
        with counting() as flops:
            train_step(model, (np.zeros((4, 8), int), np.zeros((4, 8), int)), AdamW(model))
        totals.append(flops.total)
    assert 0.6 < totals[0] / totals[1] < 0.75


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_counting_changes_no_number(method):
    results = []
    for block in (counting, nullcontext):
        model = get_peft_model(tiny_model(), method())
        with block():
            losses = [train_step(model, tiny_batch(), AdamW(model))[0] for _ in range(2)]
        results.append((losses, [p.data.tobytes() for _, p in model.named_parameters()]))
    assert results[0] == results[1]


def test_counting_inside_counting_and_products_of_ones_own():
    W = Parameter(np.ones((3, 4)))
    with counting() as outer:
        np.ones((2, 3)) @ W.data
        with counting() as inner:
            np.dot(np.ones((5, 3)), W.data)
        np.ones(3) @ W.data
        W.data @ np.ones(4)
    assert inner.products == [(5, 3, 4)]
    assert outer.products == [(2, 3, 4), (5, 3, 4), (1, 3, 4), (3, 4, 1)]
    W.data @ np.ones(4)
    assert len(outer.products) == 4


def test_the_table_lists_every_parameter_once():
    model = get_peft_model(GPT2(CONFIG), LoRA(r=2, targets="h.0.mlp.c_fc"))
    rows = ledger.parameter_table(model)
    assert [row.path for row in rows] == [path for path, _ in model.named_parameters()]
    assert ("h.0.mlp.c_fc.A", (16, 2), 32, True) in rows
    assert ledger.count_parameters(model) == (160, sum(row.size for row in rows))


def test_optimizer_bytes_are_those_of_adamw():
    model = get_peft_model(GPT2(CONFIG), LoRA(r=2))
    assert ledger.optimizer_bytes(model) == AdamW(model).nbytes()


@pytest.mark.parametrize("name", ["weight", "bias", "input 0"])
def test_gradcheck_finds_a_planted_bug(name, rng, monkeypatch):
    layer, x = Linear(4, 3, rng, std=1.0), rng.normal(size=(2, 4))
    assert max(gradcheck_layer(layer, (x,), rng).values()) < 1e-6
    right = layer.forward

    def wrong(x):
        y, backward = right(x)

        def backward_with_bug(dy):
            dx = backward(dy)
            for parameter, itself in (("weight", layer.weight), ("bias", layer.bias)):
                if name == parameter:
                    itself.grad *= 1.01
            return 1.01 * dx if name == "input 0" else dx

        return y, backward_with_bug

    monkeypatch.setattr(layer, "forward", wrong)
    errors = gradcheck_layer(layer, (x,), rng)
    assert {key for key, error in errors.items() if error > 1e-3} == {name}


@pytest.mark.parametrize("bend", [300, 3000])
@pytest.mark.parametrize("wrong", [0.0, 1e-5])
def test_gradcheck_of_a_bent_loss(wrong, bend, rng):
    """Where the third derivative is large the plain difference is off by more than a right gradient may be."""
    p = Parameter(rng.normal(size=5))

    def loss():
        value = np.exp(bend * p.data).sum()

        def backward():
            p.add_grad(bend * np.exp(bend * p.data) * (1 + wrong))

        return value, backward

    p.data[:] = rng.uniform(-5 / bend, 5 / bend, size=5)
    error = gradcheck(loss, [p], rng)["0"]
    assert error > 5e-6 if wrong else error < 1e-8


def test_gradcheck_leaves_the_weights_alone_and_wants_something_trained(batch, rng):
    ids, targets, mask = batch
    model = get_peft_model(tiny_model(), PromptTuning(m=2))
    before = {path: p.data.copy() for path, p in model.named_parameters()}

    def loss():
        logits, back_model = model(ids)
        value, back_loss = cross_entropy(logits, targets, mask)
        return value, lambda: back_model(back_loss())

    assert gradcheck(loss, model.named_parameters(), rng).keys() == {"wte.P"}
    assert gradcheck(loss, [model.wte.P], rng)["0"] < 1e-6
    assert all((p.data == before[path]).all() for path, p in model.named_parameters())
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(loss, model.requires_grad_(False).named_parameters(), rng)


def test_gradcheck_of_a_model_with_a_batch_needs_no_closure():
    model = get_peft_model(
        tiny_model(), LoRA(r=2, dropout=0.3), start={"*.B": lambda shape, rng: rng.normal(0, 0.3, shape)}
    )
    errors = gradcheck(model, tiny_batch())
    assert errors.keys() == gradcheck(loss_of(model, tiny_batch()), model.named_parameters()).keys()
    assert max(errors.values()) < 1e-6
