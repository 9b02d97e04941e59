"""The contract, and the tree of layers that keeps it.

    # forward hands you its own backward ...
    y, backward = layer(x)
    # ... which returns d(input), and adds
    # to .grad of whatever is trained
    dx = backward(dy)

A layer holds only its parameters.  What backward needs from forward lives in the closure and nowhere else, so one
layer may run forward many times before any backward, and an inference keeps no activations.

Shape letters, here and everywhere:  N batch, T tokens (queries), S keys (S ≥ T), D model width, H heads, K head
width, F feed-forward width, V vocabulary, r rank, m bottleneck width or number of learned rows.
"""

from contextlib import contextmanager
from fnmatch import fnmatchcase

import numpy as np


class Parameter:
    """An array and, while it is trained, the gradient of the loss with respect to it.

    While it is frozen there is no gradient buffer: .grad is None, p.grad += g is a TypeError from Python itself, and
    p.add_grad(g) does nothing.
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
        if flag and not self.data.flags.c_contiguous:  # a transposed array, say: optimizers update flat views
            self.data = np.ascontiguousarray(self.data)
        if flag != self.requires_grad:
            self.grad = np.zeros(self.data.shape, self.data.dtype) if flag else None

    def add_grad(self, gradient, *arrays):
        """grad += gradient(*arrays), or an array.  While frozen, do nothing: the gradient is not even formed."""
        if self.grad is not None:
            self.grad += gradient(*arrays) if arrays else gradient

    def keep(self, x):
        """x while this parameter is trained, whose gradient will need x; None while it is frozen: x is let go."""
        return x if self.grad is not None else None

    def __repr__(self):
        return f"Parameter{self.data.shape} {self.data.dtype}, {'trained' if self.requires_grad else 'frozen'}"


class Module:
    """A tree of layers.  Attributes that are Parameters, Modules or lists of Modules are its branches; attributes that are
    arrays are numbers of its own that are never trained, a weight that is stored in another form."""

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
                yield from ((f"{name}.{i}", child) for i, child in enumerate(value) if isinstance(child, Module))

    def walk(self, start=""):
        """Every (path, module or parameter) below this one: ("h.0.attn.q_proj.weight", ...)."""
        for name, child in self.named_children():
            yield start + name, child
            if isinstance(child, Module):
                yield from child.walk(start + name + ".")

    def named_parameters(self):
        """Every (path, parameter), a tied one once, under its first name."""
        return self.named(Parameter)

    def named_modules(self):
        """Every (path, module) below this one; one that stands in several places once, under its first name."""
        return self.named(Module)

    def named(self, kind):
        first = {}
        for path, node in self.walk():
            if isinstance(node, kind):
                first.setdefault(id(node), (path, node))
        return list(first.values())

    def stored_arrays(self):
        """{name: array} of the numbers that this layer holds outside Parameters."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def trains(self):
        """True if any parameter below has a gradient buffer."""
        return any(node.requires_grad for _, node in self.walk() if isinstance(node, Parameter))

    def requires_grad_(self, flag, pattern="*"):
        """Train (True) or freeze (False) every parameter whose path matches the glob `pattern`; return self."""
        named = self.named_parameters()
        matching = [parameter for path, parameter in named if fnmatchcase(path, pattern)]
        if not matching:
            raise ValueError(f"no parameter matches {pattern!r}; there are: {', '.join(path for path, _ in named)}")
        for parameter in matching:
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

    def matching(self, pattern, kind=object, brought=False):
        """The paths of the layers below that match.

        pattern: a glob, or several, over paths as they are or as they are in the bare base; `*` crosses dots
        kind: only layers of this class count
        brought: layers that came with what was put around another count, too

        A layer that was put around another has that one as its .base: kind looks through it, and no .base is matched
        itself.  What it brought besides (layers of its own) is no layer of the base, and is left alone.

        Raises: ValueError that lists what there is, when a glob matches nothing
        """
        there_is = [
            path
            for path, node in self.named_modules()
            if isinstance(innermost(node), kind)
            and not path.endswith(".base")
            and (brought or not self.is_brought(path))
        ]

        def fitting(glob):
            return {path for path in there_is if fnmatchcase(path, glob) or fnmatchcase(plain_path(path), glob)}

        found = set()
        for glob in several(pattern):
            if not (fits := fitting(glob)):
                listed = ", ".join(map(plain_path, there_is)) or f"no {getattr(kind, '__name__', 'such layer')} at all"
                hint = f"; did you mean '*.{glob}'?" if fitting(f"*.{glob}") else ""
                raise ValueError(f"{glob!r} matches nothing that can be wrapped here{hint}; there is: {listed}")
            found |= fits
        return [path for path in there_is if path in found]

    def is_brought(self, path):
        """True if the layer at this path came with what was put around another."""
        names = path.split(".")
        above = [self.get_submodule(".".join(names[:i])) for i in range(len(names))]
        return any(name != "base" and isinstance(getattr(node, "base", None), Module)
                   for node, name in zip(above, names, strict=True))  # fmt: skip

    def wrap(self, pattern, around, kind=object, brought=False):
        """Put around(layer) in the place of every layer below that matches (see matching); return the paths."""
        paths = self.matching(pattern, kind, brought)
        for path in reversed(paths):  # inner ones first, so that the paths above them still hold
            self.set_submodule(path, around(self.get_submodule(path)))
        return paths


def several(targets):
    """The globs of a setting that holds one or several.  Raises: ValueError if it does not"""
    globs = [targets] if isinstance(targets, str) else targets
    if not isinstance(globs, (list, tuple)) or not globs or not all(isinstance(glob, str) for glob in globs):
        raise ValueError(f"targets must be a glob over paths, such as '*.[qv]_proj', or several; not {targets!r}")
    return globs


def innermost(layer):
    """What is under all that was put around it."""
    while isinstance(getattr(layer, "base", None), Module):
        layer = layer.base
    return layer


def plain_path(path):
    """A path as it is in the bare base, whatever stands around its layers: h.0.mlp.base.base.c_fc is h.0.mlp.c_fc."""
    return ".".join(part for part in path.split(".") if part != "base")


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


def chain(x, *layers, first=0):
    """y = (... ∘ g ∘ f)(x).  Its backward is the chain rule: the layers' backwards, last one first.

    Layers before number `first` run forward only: their closures, with the activations in them, are let go at once, and
    backward ends above them.
    """
    backwards = []
    for i, layer in enumerate(layers):
        x, back = layer(x)
        if i >= first:
            backwards.append(back)

    def backward(dy):
        for back in reversed(backwards):
            dy = back(dy)
        return dy

    return x, backward


def lowest_trained(layers):
    """The number of the first layer that trains anything, or how many there are if none does."""
    return next((i for i, layer in enumerate(layers) if layer.trains()), len(layers))
