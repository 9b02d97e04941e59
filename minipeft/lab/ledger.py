"""What a model costs, counted and not derived: parameters, multiplications, bytes kept for backward and by optimizers.

with counting() as flops:                  # every matrix product in the block, whoever wrote the layer
    logits, backward = model(ids)
print(flops.total, saved_bytes(backward))
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..model.layers import Linear
from ..model.module import Module, Parameter
from .table import Table


class Row(NamedTuple):
    """One parameter: its path, shape, number of entries, and whether it is trained."""

    path: str
    shape: tuple
    size: int
    trained: bool


def parameter_table(model):
    """A Row for each parameter, a tied one once; then for each weight that a Linear stores in another form."""
    rows = [Row(path, p.data.shape, p.data.size, p.requires_grad) for path, p in model.named_parameters()]
    linears = [(path, node) for path, node in model.walk() if isinstance(node, Linear) and node.stored_arrays()]
    return rows + [Row(f"{path}.weight", one.shape, one.shape[0] * one.shape[1], False) for path, one in linears]


def count_parameters(model):
    """(trained, all) numbers in the model."""
    rows = parameter_table(model)
    return sum(row.size for row in rows if row.trained), sum(row.size for row in rows)


def saved_arrays(*backwards):
    """The arrays that backward functions hold in their closures, parameters left out, each block of memory once."""
    found, seen, parameters, todo = {}, set(), set(), list(backwards)
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            while isinstance(thing.base, np.ndarray):  # a view keeps the whole array alive
                thing = thing.base
            found[id(thing)] = thing
        elif isinstance(thing, Parameter):
            parameters.add(id(thing.data))
        elif isinstance(thing, Module):
            parameters |= {id(p.data) for _, p in thing.named_parameters()}
        elif isinstance(thing, (list, tuple)):
            todo += thing
        elif getattr(thing, "__closure__", None):
            todo += [cell.cell_contents for cell in thing.__closure__]
    return [array for key, array in found.items() if key not in parameters]


def saved_bytes(*backwards):
    """Bytes that backward functions keep alive: what a forward pass costs in memory, measured."""
    return sum(array.nbytes for array in saved_arrays(*backwards))


class Flops:
    """The matrix products of a block: .products holds (rows, inner, columns) of each, .total their operations.

    A product of (a, b) and (b, c) is a b c multiplications and as many additions: 2 a b c operations.
    """

    def __init__(self):
        self.products = []

    @property
    def total(self):
        return sum(2 * a * b * c for a, b, c in self.products)


class Counted(np.ndarray):
    """An array that notes the matrix products it takes part in; what is computed from it is Counted, too."""

    counters = ()  # the Flops of all `counting` blocks that are open now

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in inputs]
        if out is not None:
            settings["out"] = tuple(x.view(np.ndarray) if isinstance(x, Counted) else x for x in out)
        result = getattr(ufunc, method)(*plain, **settings)
        if ufunc is np.matmul:
            note(*plain)
        return counted(result) if out is None else out[0] if len(out) == 1 else out

    def __array_function__(self, function, types, inputs, settings):
        if function is np.dot:
            note(*(np.asarray(x) for x in inputs))
        return counted(super().__array_function__(function, types, inputs, settings))


def note(a, b):
    """A product, batched or not: the rows of a batch are counted together."""
    a, b = np.atleast_2d(a), b if b.ndim > 1 else b[:, None]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    for flops in Counted.counters:
        flops.products.append((int(np.prod(batch, dtype=int)) * a.shape[-2], a.shape[-1], b.shape[-1]))


def counted(result):
    if isinstance(result, (tuple, list)):
        return type(result)(counted(one) for one in result)
    return result.view(Counted) if isinstance(result, np.ndarray) else result


@contextmanager
def counting():
    """with counting() as flops: ...   Count the matrix products that parameters, and what is computed from them, take part
    in; afterwards flops.total is their number of operations.  Products are a @ b, np.matmul and np.dot; not einsum.

    Inside, a Parameter hands out its array as Counted: numbers, layers and results are the same, a little slower.
    """
    flops = Flops()
    if not Counted.counters:
        Parameter.data = property(
            lambda parameter: parameter.__dict__["data"].view(Counted),
            lambda parameter, array: parameter.__dict__.update(data=np.asarray(array)),
        )
    Counted.counters += (flops,)
    try:
        yield flops
    finally:
        Counted.counters = tuple(one for one in Counted.counters if one is not flops)
        if not Counted.counters:
            del Parameter.data


def optimizer_bytes(model):
    """Bytes of AdamW's state: two numbers, m and v, for each trained one."""
    return 2 * sum(p.data.nbytes for _, p in model.named_parameters() if p.requires_grad)


def products(models, ids=None):
    """A Table of the operations in matrix products, a token: forward, backward, and both beside those of the first model.

    Counted while the model runs, one pass forward and one back; a model of which nothing is trained runs no backward.

    models: {label: model}, or a model.  ids (N, T): what they read; zeros as long as 16 tokens, if not given.
    """
    models = models if isinstance(models, dict) else {"model": models}
    rows, first = [], None
    for label, model in models.items():
        read = np.zeros((1, min(16, model.config.n_positions // 2)), int) if ids is None else np.atleast_2d(ids)
        forward, backward = operations(model, read)
        both = (forward + backward) / read.size
        first = both if first is None else first
        rows.append((label, forward / read.size, backward / read.size if backward else None, both / first - 1))
    names = ["", "forward", "backward", "both, against the first"]
    formats = {"forward": ",.0f", "backward": ",.0f", names[3]: "+.1%"}
    columns = slice(None) if len(rows) > 1 else slice(3)
    return Table(
        names[columns], [row[columns] for row in rows], "operations a token in matrix products", formats=formats
    )


def operations(model, ids):
    """(forward, backward): operations in the matrix products of one pass each; gradients are left as they were."""
    kept = [(p, p.grad.copy()) for _, p in model.named_parameters() if p.requires_grad]
    with counting() as forward:
        logits, backward = model(ids)
    with counting() as back:
        if kept:
            backward(np.ones_like(logits))
    for p, grad in kept:
        p.grad[...] = grad
    return forward.total, back.total
