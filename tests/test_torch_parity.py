"""The same numbers as torch: logits, loss and every gradient, of GPT-2 alone, with LoRA and with a prefix."""

import numpy as np
import pytest
from parity import fill, load, under

from minipeft import GPT2, GPT2Config, LoRA, PrefixTuning, cross_entropy, get_peft_model

WITH = {"": None, "lora/": LoRA(r=3, alpha=5), "prefix/": PrefixTuning(m=4)}


@pytest.fixture(scope="module")
def torchs():
    return load("torch_arrays.npz")


def run(torchs, prefix):
    """(model, logits, loss) with torch's weights in it, after one backward."""
    model = GPT2(GPT2Config(vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=2))
    fill(model, under("weight/", torchs))
    if WITH[prefix]:
        fill(get_peft_model(model, WITH[prefix]), under(prefix + "weight/", torchs))
    logits, back_model = model(torchs["ids"])
    loss, back_loss = cross_entropy(logits, torchs["targets"], torchs["mask"])
    back_model(back_loss())
    return model, logits, loss


def same(ours, theirs):
    return np.shape(ours) == np.shape(theirs) and np.abs(ours - theirs).max() < 1e-10 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("prefix", WITH)
def test_logits_and_loss(torchs, prefix):
    _, logits, loss = run(torchs, prefix)
    assert same(logits, torchs[prefix + "logits"])
    assert same(loss, torchs[prefix + "loss"])


@pytest.mark.parametrize("prefix", WITH)
def test_every_gradient(torchs, prefix):
    model, _, _ = run(torchs, prefix)
    ours = {path: p.grad for path, p in model.named_parameters() if p.requires_grad}
    theirs = under(prefix + "grad/", torchs)
    assert ours.keys() == theirs.keys()
    for path, grad in ours.items():
        assert same(grad, theirs[path]), path
        assert path.endswith("k_proj.bias") or np.abs(theirs[path]).max() > 1e-4, path


def test_the_arrays_are_a_hard_case(torchs):
    """A mask with zeros, biases that are not zero, and three different sets of logits."""
    assert 0 < torchs["mask"].mean() < 1
    assert all(array.all() for path, array in under("weight/", torchs).items() if path.endswith("bias"))
    assert not same(torchs["lora/logits"], torchs["logits"])
    assert not same(torchs["prefix/logits"], torchs["logits"])
