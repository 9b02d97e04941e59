"""What a model costs: parameters, multiplications, bytes kept for backward, bytes of optimizer state."""

from typing import NamedTuple

import numpy as np

from ..methods.adapter import ParallelAdapter, SequentialAdapter
from ..methods.lora import LoRALinear
from ..methods.prefix import PrefixAttention, ReparametrisedPrefix
from ..methods.prompt import SoftPrompt
from ..model.module import Module, Parameter, Wrapper, innermost, lowest_trained

# ---- parameters


class Row(NamedTuple):
    """One parameter: its path, shape, number of entries, and whether it is trained."""

    path: str
    shape: tuple
    size: int
    trained: bool


def parameter_table(model):
    """A Row for each parameter, a tied one once."""
    return [Row(path, p.data.shape, p.data.size, p.requires_grad) for path, p in model.named_parameters()]


def count_parameters(model):
    """(trained, all) numbers in the model."""
    rows = parameter_table(model)
    return sum(row.size for row in rows if row.trained), sum(row.size for row in rows)


def print_parameters(model):
    """Print the table, trained parameters marked, and the totals."""
    rows = parameter_table(model)
    width = max(len(row.path) for row in rows)
    for row in rows:
        shape = " × ".join(map(str, row.shape))
        print(f"{row.path:{width}}  {shape:>12}  {row.size:>11,}  {'trained' if row.trained else 'frozen'}")
    trained, total = count_parameters(model)
    print(f"{'trained':{width}}  {'':12}  {trained:>11,}  {trained / total:.2%} of {total:,}")


# ---- bytes kept between forward and backward


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


def wrappers(node):
    """The wrappers around a layer, outermost first."""
    while isinstance(node, Wrapper):
        yield node
        node = node.base


def lengths(model, T):
    """(T, S): queries with a soft prompt's rows, and keys with a prefix's too."""
    T += sum(len(w.P.data) for w in wrappers(model.wte) if isinstance(w, SoftPrompt))
    core = next(node for path, node in model.walk() if path.endswith(".core"))
    return T, T + sum(len(w.prefix()[0]) for w in wrappers(core) if isinstance(w, PrefixAttention))


def keeps_input(node):
    """True if a Linear, or a LoRA around it, keeps x for its backward."""
    return innermost(node).weight.requires_grad or any(
        w.A.requires_grad and not (w.training and w.dropout.p) for w in wrappers(node) if isinstance(w, LoRALinear)
    )


def predicted_saved(model, N, T):
    """{what: bytes} that the model keeps for backward, from the formulas of its layers; compare with saved_bytes.

    For each token of a block: x̂ and 1/σ of two LayerNorms, 2 (D + 1); q, D; slope of gelu, F; for each key k and v, 2 D;
    for each pair p, H.  A Linear adds its input only while its weight, or a LoRA's A, is trained.
    """
    real, (T, S) = N * T, lengths(model, T)  # a soft prompt's rows are gone before ln_f
    M, D = N * T, model.config.n_embd
    first, size = first_trained(model), np.dtype(model.config.dtype).itemsize
    counts = dict.fromkeys(["LayerNorm", "q, k, v", "attention p", "gelu slope", "inputs of trained matrices"], 0)
    counts["inside the method"] = 0
    for block in model.h[first:]:
        block = innermost(block)
        attn, mlp = innermost(block.attn), innermost(block.mlp)
        F = innermost(mlp.c_fc).weight.data.shape[1]
        counts["LayerNorm"] += 2 * M * (D + 1)
        counts["q, k, v"] += M * D + 2 * N * S * D
        counts["attention p"] += innermost(attn.core).n_head * N * T * S
        counts["gelu slope"] += M * F
        beside_attn, beside_mlp = (reads_input(part) for part in (block.attn, block.mlp))
        inputs = [
            D * (beside_attn or any(keeps_input(n) for n in (attn.q_proj, attn.k_proj, attn.v_proj))),
            D * keeps_input(attn.o_proj), D * (beside_mlp or keeps_input(mlp.c_fc)), F * keeps_input(mlp.c_proj),
        ]  # fmt: skip
        counts["inputs of trained matrices"] += M * sum(inputs)
    for _, node in model.walk():
        if isinstance(node, LoRALinear):
            d_in, r = node.A.data.shape
            dropped = (1 + node.A.requires_grad) * d_in if node.training and node.dropout.p else 0
            counts["inside the method"] += M * (r * node.B.requires_grad + dropped)
        if isinstance(node, SequentialAdapter):
            m, reads_output = node.adapter.up.weight.data.shape[0], not isinstance(node, ParallelAdapter)
            counts["inside the method"] += M * (2 * m + D * reads_output)
        if isinstance(node, ReparametrisedPrefix):
            counts["inside the method"] += node.encoder.E.data.size
    if first <= len(model.h):
        counts["LayerNorm"] += real * (D + 1)
    counts["inputs of trained matrices"] += real * D * model.lm_head.weight.requires_grad
    return {what: number * size for what, number in counts.items()} | {"token ids": 8 * (real + T)}


def reads_input(part):
    """True if a parallel adapter keeps what the part reads."""
    return any(isinstance(w, ParallelAdapter) for w in wrappers(part))


def first_trained(model):
    """The number of the first layer of [*h, ln_f, lm_head] that backward reaches."""
    if model.wte.trains() or model.wpe.trains():
        return 0
    return lowest_trained([*model.h, model.ln_f, model.lm_head])


# ---- multiplications


def step_flops(model, N, T):
    """{"forward", "dx", "dW"}: floating-point operations of the matrix products of one step (a multiply-add is two).

    A trained layer costs three products of the same size: y = x W, dx = dy Wᵀ, dW = xᵀ dy.  A frozen one saves dW, a
    third; below the lowest trained parameter dx is saved too.
    """
    real, (T, S) = N * T, lengths(model, T)
    M, D, V = N * T, model.config.n_embd, model.config.vocab_size
    first, embeds = first_trained(model), model.wte.trains() or model.wpe.trains()
    flops = {"forward": 0, "dx": 0, "dW": 0}
    for i, block in enumerate(model.h):
        lowest = i == first and not embeds
        block = innermost(block)
        attn, mlp = innermost(block.attn), innermost(block.mlp)
        attn_trains = block.attn.trains() or block.ln_1.trains()
        reaches_attn = i >= first and (not lowest or attn_trains)
        for name in ("q_proj", "k_proj", "v_proj"):
            count_linear(flops, getattr(attn, name), M, dx=reaches_attn and not lowest)
        below_o = any(part.trains() for part in (attn.q_proj, attn.k_proj, attn.v_proj, attn.core, block.ln_1))
        reaches_core = reaches_attn and (not lowest or below_o)
        count_linear(flops, attn.o_proj, M, dx=reaches_core)
        flops["forward"] += 4 * N * T * S * D
        flops["dx"] += 8 * N * T * S * D * reaches_core
        below_c_fc = not lowest or attn_trains or block.ln_2.trains()
        count_linear(flops, mlp.c_fc, M, dx=i >= first and below_c_fc)
        count_linear(flops, mlp.c_proj, M, dx=i >= first and (below_c_fc or mlp.c_fc.trains()))
        for part, below in ((block.attn, block.ln_1.trains()), (block.mlp, below_c_fc), (model.h[i], False)):
            for w in (w for w in wrappers(part) if isinstance(w, SequentialAdapter)):
                reads_output = not isinstance(w, ParallelAdapter)
                count_linear(flops, w.adapter.down, M, dx=not lowest or below or (reads_output and w.base.trains()))
                count_linear(flops, w.adapter.up, M, dx=True)
    head = 2 * real * D * V
    flops["forward"] += head
    flops["dx"] += head * (first <= len(model.h))
    flops["dW"] += head * model.lm_head.weight.requires_grad
    return flops


def count_linear(flops, node, M, dx):
    """Add what one Linear, with its LoRAs, costs for M tokens."""
    W = innermost(node).weight
    flops["forward"] += 2 * M * W.data.size
    flops["dx"] += 2 * M * W.data.size * dx
    flops["dW"] += 2 * M * W.data.size * W.requires_grad
    for lora in (w for w in wrappers(node) if isinstance(w, LoRALinear)):
        A, B = lora.A, lora.B
        flops["forward"] += 2 * M * (A.data.size + B.data.size)
        flops["dx"] += 2 * M * (B.data.size + A.data.size * dx)
        flops["dW"] += 2 * M * (A.data.size * A.requires_grad + B.data.size * B.requires_grad)


# ---- optimizer


def optimizer_bytes(model, slots=2):
    """Bytes of optimizer state, `slots` arrays for each trained parameter (AdamW has two: m and v)."""
    return slots * sum(p.data.nbytes for _, p in model.named_parameters() if p.requires_grad)
