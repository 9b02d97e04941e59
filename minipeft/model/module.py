"""The contract, and the tree of layers that keeps it.

    y, backward = layer(x)        # forward hands you its own backward ...
    dx = backward(dy)             # ... which returns d(input) and adds to .grad of whatever is trained

A layer holds only its parameters.  What backward needs from forward lives in the closure and nowhere else, so one
layer may run forward many times before any backward, and an inference keeps no activations.

Where nothing below a layer is trained, dx would be thrown away: backward(dy, need_dx=False) does not compute it.

Shape letters, here and everywhere:  N batch, T tokens (queries), S keys (S ≥ T), D model width, H heads, K head
width, F feed-forward width, V vocabulary, r rank, m bottleneck width or number of virtual tokens.
"""

from contextlib import contextmanager
from fnmatch import fnmatchcase

import numpy as np


class Parameter:
    """An array and, while it is trained, the gradient of the loss with respect to it.

    A frozen parameter has no gradient buffer: .grad is None, and adding to it is a TypeError from Python itself.
    """

    def __init__(self, data, requires_grad=True):
        self.data = np.asarray(data)
        if self.data.dtype not in (np.float32, np.float64):
            raise TypeError(f"a Parameter holds float32 or float64 numbers, not {self.data.dtype}")
        self.grad = None
        self.requires_grad = requires_grad

    @property
    def requires_grad(self):
        return self.grad is not None

    @requires_grad.setter
    def requires_grad(self, flag):
        if flag != self.requires_grad:
            self.grad = np.zeros(self.data.shape, self.data.dtype) if flag else None

    def __repr__(self):
        return f"Parameter{self.data.shape} {self.data.dtype}, {'trained' if self.requires_grad else 'frozen'}"


class Module:
    """A tree of layers.  Attributes that are Parameters, Modules or lists of Modules are its branches."""

    training = True

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def forward(self, *inputs):
        """Return (output, backward), where backward maps d(output) to d(inputs) and adds to .grad."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def named_children(self):
        for name, value in vars(self).items():
            if isinstance(value, (Module, Parameter)):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", child) for i, child in enumerate(value))

    def walk(self, prefix=""):
        """Every (path, module or parameter) below this one: ("h.0.attn.q_proj.weight", ...)."""
        for name, child in self.named_children():
            yield prefix + name, child
            if isinstance(child, Module):
                yield from child.walk(prefix + name + ".")

    def named_parameters(self):
        """Every (path, parameter), a tied one once, under its first name."""
        first = {}
        for path, node in self.walk():
            if isinstance(node, Parameter):
                first.setdefault(id(node), (path, node))
        return list(first.values())

    def trains(self):
        """True if any parameter below has a gradient buffer."""
        return any(node.requires_grad for _, node in self.walk() if isinstance(node, Parameter))

    def requires_grad_(self, flag, pattern="*"):
        """Train (True) or freeze (False) every parameter whose path matches the glob `pattern`; return self."""
        paths = [path for path, _ in self.named_parameters()]
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ValueError(f"no parameter matches {pattern!r}; there are: {', '.join(paths)}")
        for path, parameter in self.named_parameters():
            if fnmatchcase(path, pattern):
                parameter.requires_grad = flag
        return self

    def zero_grad(self):
        for _, parameter in self.named_parameters():
            if parameter.requires_grad:
                parameter.grad.fill(0)

    def train(self, mode=True):
        """Dropout acts (mode=True) or not (False), here and below; return self."""
        self.training = mode
        for _, node in self.walk():
            if isinstance(node, Module):
                node.training = mode
        return self

    def eval(self):
        return self.train(False)

    def get_submodule(self, path):
        node = self
        for name in path.split(".") if path else []:
            node = node[int(name)] if isinstance(node, list) else getattr(node, name)
        return node

    def set_submodule(self, path, module):
        parent, _, name = path.rpartition(".")
        parent = self.get_submodule(parent)
        if isinstance(parent, list):
            parent[int(name)] = module
        else:
            setattr(parent, name, module)

    def wrap(self, pattern, wrapper, kind=object):
        """Replace every submodule whose path matches by wrapper(submodule); return the paths.

        pattern: a glob, or several, over paths; `*` crosses dots.  kind: only modules of this class count, looking
        through what is already wrapped around them.  What lies inside a Wrapper (its .base) is never wrapped itself.

        Raises: ValueError that lists what there is, when a pattern matches nothing.
        """
        globs = [pattern] if isinstance(pattern, str) else pattern
        if not isinstance(globs, (list, tuple)) or not globs or not all(isinstance(glob, str) for glob in globs):
            raise ValueError(f"targets must be a glob over paths, such as '*.[qv]_proj', or several; not {pattern!r}")
        candidates = [path for path, node in self.walk()
                      if isinstance(node, Module) and isinstance(innermost(node), kind)
                      and not path.endswith(".base")]  # fmt: skip
        for glob in globs:
            if not any(fnmatchcase(path, glob) for path in candidates):
                there_is = ", ".join(candidates) or f"no {kind.__name__} at all"
                raise ValueError(f"{glob!r} matches nothing that can be wrapped here; there is: {there_is}")
        paths = [path for path in candidates if any(fnmatchcase(path, glob) for glob in globs)]
        for path in reversed(paths):  # inner ones first, so that the paths above them still hold
            self.set_submodule(path, wrapper(self.get_submodule(path)))
        return paths


class Wrapper(Module):
    """A layer put around another, its .base.  Unwrapping gives the base back, untouched."""

    virtual_tokens = 0  # positions that this wrapper takes from the context window
    only_at_start = False  # True: acts where the sequence begins, and no longer when a cached generation goes on
    cannot_fold = "it is not a change of one weight matrix"

    def __init__(self, base):
        self.base = base
        self.training = base.training

    def own_parameters(self):
        """(name, parameter) of what this wrapper adds: everything below it but the base."""
        return [(name, node) for name, node in self.named_parameters() if not name.startswith("base.")]

    def own_arrays(self):
        """{name: array} of what this wrapper needs to be saved."""
        return {name: parameter.data for name, parameter in self.own_parameters()}

    def fold(self):
        """The base layer with this wrapper's effect in its weights (a new layer; the base is left as it is)."""
        raise ValueError(f"{type(self).__name__} cannot be merged: {self.cannot_fold}")


@contextmanager
def evaluating(model):
    """with evaluating(model): ...   Dropout is off inside; afterwards each module is in the mode that it was in."""
    modules = [model, *(node for _, node in model.walk() if isinstance(node, Module))]
    modes = [(module, module.training) for module in modules]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def innermost(node):
    """What is under all wrappers."""
    while isinstance(node, Wrapper):
        node = node.base
    return node


def chain(x, *layers, first=0):
    """y = (... ∘ g ∘ f)(x).  Its backward is the chain rule: the layers' backwards, last one first.

    Where dx is not needed, it stops at the lowest layer that trains anything.  Layers before number `first` run forward
    only: their closures, with the activations in them, are dropped at once.
    """
    backwards = []
    for i, layer in enumerate(layers):
        x, backward = layer(x)
        backwards.append(backward if i >= first else None)

    def chain_rule(dy, need_dx=True):
        stop = 0 if need_dx else lowest_trained(layers)
        for i in reversed(range(stop, len(layers))):
            dy = backwards[i](dy, need_dx or i > stop)
        return dy if need_dx else None

    return x, chain_rule


def lowest_trained(layers):
    """The number of the first layer that trains anything, or how many there are if none does."""
    return next((i for i, layer in enumerate(layers) if layer.trains()), len(layers))
