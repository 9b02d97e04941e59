"""minipeft against arrays that peft_runs.py wrote: logits, loss and every gradient.  torch is not needed."""

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from minipeft import GPT2, GPT2Config, cross_entropy, get_peft_model
from minipeft.model import Dropout


class Drawn(Dropout):
    """A dropout that has drawn already: M stays M."""

    def __init__(self, M):
        self.p, self.rng, self.M = 0.5, None, M

    def forward(self, x):
        return self.M * x, lambda dy: self.M * dy


def load(name):
    with np.load(Path(__file__).with_name(name)) as npz:
        return dict(npz)


def under(prefix, arrays):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def base_of(arrays):
    """A GPT2 with the weights of the arrays in it."""
    base = under("weight/", arrays)
    D, layers = base["wte.weight"].shape[1], {path.split(".")[1] for path in base if path.startswith("h.")}
    model = GPT2(GPT2Config(len(base["wte.weight"]), len(base["wpe.weight"]), D, len(layers), 2))
    fill(model, base)
    return model


def in_minipeft(arrays, method):
    """The same with the method in it, and the arrays' values in what it trains."""
    model = get_peft_model(base_of(arrays), method)
    fill(model, under("own/", arrays))
    for path, M in under("dropped/", arrays).items():
        model.get_submodule(path).dropout = Drawn(M)
    return model


def fill(model, weights):
    trained = {path: p for path, p in model.named_parameters() if p.requires_grad}
    assert weights.keys() == trained.keys()
    for path, p in trained.items():
        assert p.data.shape == weights[path].shape, path
        p.data[...] = weights[path]


def distance(ours, theirs):
    """The largest difference, relative to the largest of theirs."""
    assert np.shape(ours) == np.shape(theirs)
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def differences(arrays, method):
    """{what: distance} of logits, loss and every gradient."""
    model = in_minipeft(arrays, method)
    logits, back_model = model(arrays["ids"])
    loss, back_loss = cross_entropy(logits, arrays["targets"], arrays["mask"])
    back_model(back_loss())
    grads, theirs = {path: p.grad for path, p in model.named_parameters() if p.requires_grad}, under("grad/", arrays)
    matched = {glob: [path for path in grads if fnmatchcase(path, glob)] for glob in theirs}
    assert sorted(path for paths in matched.values() for path in paths) == sorted(grads)
    found = {"logits": distance(logits, arrays["logits"]), "loss": distance(loss, arrays["loss"])}
    return found | {glob: distance(sum(grads[path] for path in matched[glob]), grad) for glob, grad in theirs.items()}
