"""The instruments are right: gradient checks that find bugs, a ledger that agrees with what is measured."""

import numpy as np
import pytest
from specimens import tiny_model

from minipeft import GPT2, FullFineTuning, GPT2Config, LoRA, Stack, cross_entropy, get_peft_model
from minipeft.lab import ledger
from minipeft.lab.gradcheck import gradcheck, gradcheck_layer
from minipeft.methods import METHODS, Adapter, PrefixTuning, PromptTuning
from minipeft.model import Linear
from minipeft.training import AdamW

CONFIG = GPT2Config(vocab_size=23, n_positions=32, n_embd=16, n_layer=3, n_head=2)
METHODS_TO_COUNT = [
    *(method() for method in METHODS.values()),
    LoRA(2, targets="*.c_*"), LoRA(2, targets="*"), LoRA(2, train="A"), LoRA(2, train="B"), LoRA(2, dropout=0.1),
    LoRA(2, dropout=0.1, train="B"), LoRA(2, targets="h.1.mlp.c_proj"), LoRA(2, targets="h.2.attn.o_proj"),
    Adapter(3, kind="parallel"), Adapter(3, "h.[0-9]"), Adapter(3, "h.1.mlp"), PrefixTuning(3, reparametrise=True),
    Stack((PrefixTuning(2), Adapter(3, "*.mlp", "parallel"), LoRA(2))),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS_TO_COUNT, ids=str)
def test_predicted_bytes_are_the_measured_ones(method, dtype):
    model = get_peft_model(GPT2(GPT2Config(23, 32, 16, 3, 2, dtype)), method)
    _, backward = model(np.zeros((3, 11), int))
    predicted = ledger.predicted_saved(model, 3, 11)
    assert ledger.saved_bytes(backward) == sum(predicted.values())


def test_an_inference_keeps_only_the_ids():
    model = GPT2(CONFIG).requires_grad_(False)
    _, backward = model(np.zeros((3, 11), int))
    assert ledger.saved_bytes(backward) == 8 * (3 * 11 + 11)


class CountedArray(np.ndarray):
    """An array that counts the multiply-adds of its matrix products."""

    flops = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(x) if isinstance(x, CountedArray) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) if isinstance(x, CountedArray) else x for x in out)
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            CountedArray.flops += 2 * result.size * plain[0].shape[-1]
        return result.view(CountedArray) if isinstance(result, np.ndarray) else result


def count_flops(model, ids):
    """Multiply-adds of the matrix products of one forward and backward, counted as they happen."""
    for _, p in model.named_parameters():
        p.data = p.data.view(CountedArray)
    CountedArray.flops = 0
    logits, backward = model(ids)
    forward = CountedArray.flops
    _, back_loss = cross_entropy(np.asarray(logits), ids)
    backward(back_loss().view(CountedArray))
    return forward, CountedArray.flops - forward


@pytest.mark.parametrize("method", [m for m in METHODS_TO_COUNT if "reparametrise=True" not in str(m)], ids=str)
def test_predicted_flops_are_the_counted_ones(method):
    model = get_peft_model(GPT2(CONFIG), method)
    flops = ledger.step_flops(model, 2, 7)
    forward, backward = count_flops(model, np.zeros((2, 7), int))
    assert forward == flops["forward"]
    assert backward == flops["dx"] + flops["dW"]


def test_a_lora_step_is_about_two_thirds_of_a_full_one():
    full = get_peft_model(GPT2(CONFIG), FullFineTuning())
    lora = get_peft_model(GPT2(CONFIG), LoRA(r=1))
    ratio = sum(ledger.step_flops(lora, 4, 8).values()) / sum(ledger.step_flops(full, 4, 8).values())
    assert 0.6 < ratio < 0.75


def test_the_table_lists_every_parameter_once(capsys):
    model = get_peft_model(GPT2(CONFIG), LoRA(r=2, targets="h.0.mlp.c_fc"))
    ledger.print_parameters(model)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.named_parameters()) + 1
    assert any("h.0.mlp.c_fc.A" in line and "16 × 2" in line and "trained" in line for line in lines)
    assert lines[-1].split()[:2] == ["trained", "160"]
    assert ledger.count_parameters(model) == (160, sum(row.size for row in ledger.parameter_table(model)))


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
