"""Put something around a frozen layer: beside it, or after it.

A wrapper is a layer that stands in the place of another, its .base, and calls it.  Most of PEFT is one of two:

    class Beside(Wrapper):
        # y = base(x) + path(x)
        # LoRA, parallel adapters, VeRA
    class After(Wrapper):
        # y = u + path(u),  u = base(x)
        # sequential adapters

so that a method's file holds its path and nothing else.  A path is called like a layer, y, backward = path(x), and
chain(x, f, path) is path(f(x)), with the backwards in reverse.
"""

from contextlib import contextmanager

from ..model.module import Module, chain

wrap = Module.wrap  # wrap(model, targets, around, kind): put around(layer) in the place of every layer that matches


class CannotFold(ValueError):
    """What a wrapper does is not a change of one weight matrix."""


class Wrapper(Module):
    """A layer put around another, its .base.  Unwrapping gives the base back, untouched."""

    virtual_tokens = 0  # positions that this wrapper takes from the context window
    only_at_start = False  # True: acts where the sequence begins, and no longer when a cached generation goes on
    cannot_fold = "it is not a change of one weight matrix"
    held = None  # inside surrogate(model): its constants() as they were on the way in

    def __init__(self, base):
        self.base = base
        self.training = base.training

    @property
    def shape(self):
        """(d_in, d_out) of the Linear under all wrappers."""
        return self.base.shape

    @property
    def dtype(self):
        return self.base.dtype

    def own_parameters(self):
        """(name, parameter) of what this wrapper adds: everything below it but the base."""
        return [(name, node) for name, node in self.named_parameters() if not name.startswith("base.")]

    def own_arrays(self):
        """{name: array} of what this wrapper needs to be saved: all that it brought, unless a seed brings it again.

        What is computed from the base (an SVD, say) is saved, too: signs are open, and the base may have been trained.
        """
        return {name: parameter.data for name, parameter in self.own_parameters()}

    def constants(self):
        """What backward takes as a constant although it depends on what is trained (see surrogate); None: nothing."""

    def fold(self):
        """The base layer with this wrapper's effect in its weights (a new layer; the base is left as it is).

        Raises: CannotFold where there is no such layer
        """
        raise CannotFold(f"{type(self).__name__} cannot be merged: {self.cannot_fold}")


class Beside(Wrapper):
    """A path beside a frozen layer; both read x, and what they write is added.

        y = base(x) + path(x)
        dx = back_base(dy) + back_path(dy):  x went two ways, so two gradients add

    Shapes:   x (..., d_in), y (..., d_out)
    """

    @staticmethod
    def dropout(x):
        """What x goes through before the path: nothing, unless a subclass puts a Dropout here."""
        return x, lambda dy: dy

    def path(self, x):
        """(path(x), its backward)"""
        raise NotImplementedError(f"{type(self).__name__} has no path")

    def forward(self, x):
        y, back_base = self.base(x)
        p, back_path = chain(x, self.dropout, self.path)

        def backward(dy):
            return back_base(dy) + back_path(dy)

        return y + p, backward

    def fold(self):
        """The Linear with W + ΔW, where the path says what it adds to W, in delta()."""
        if not hasattr(self, "delta"):
            return super().fold()
        base = self.base.fold() if isinstance(self.base, Wrapper) else self.base
        return base.plus(self.delta())


class After(Wrapper):
    """A path after a frozen layer, around which what the layer wrote passes by.

        y = u + path(u),   u = base(x)
        du = dy + back_path(dy),   dx = back_base(du)

    Shapes:   x, u, y (N, T, D)
    """

    def path(self, u):
        """(path(u), its backward)"""
        raise NotImplementedError(f"{type(self).__name__} has no path")

    def forward(self, x):
        u, back_base = self.base(x)
        p, back_path = self.path(u)

        def backward(dy):
            du = dy + back_path(dy)
            return back_base(du)

        return u + p, backward


def wrappers_of(model):
    """(path, wrapper) of every wrapper in the model, outer ones before what they stand around."""
    return [(path, node) for path, node in model.walk() if isinstance(node, Wrapper)]


@contextmanager
def surrogate(model):
    """with surrogate(model): ...   Inside, the model computes the function whose derivative its backward is.

    For most methods that is what the model computes anyway.  DoRA's backward, however, takes its norms as constants,
    although they depend on A and B: no finite difference of the loss agrees with it.  In here the norms are really held,
    and it does.
    """
    wrappers = [node for node in (model, *(node for _, node in model.walk())) if isinstance(node, Wrapper)]
    before = [wrapper.held for wrapper in wrappers]
    try:
        for wrapper in wrappers:
            wrapper.held = wrapper.constants()
        yield model
    finally:
        for wrapper, held in zip(wrappers, before, strict=True):
            wrapper.held = held


def virtual_tokens(model):
    """The positions that methods take from the context window."""
    return sum(node.virtual_tokens for _, node in wrappers_of(model))
