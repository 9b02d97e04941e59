"""What the tests look at: a tiny model, every layer with inputs that fit it, every method, and a look into closures."""

import inspect
import re
from copy import deepcopy
from dataclasses import fields
from typing import Literal, get_args, get_origin

import numpy as np

from minipeft import (
    GPT2,
    METHODS,
    Adapter,
    FullFineTuning,
    GPT2Config,
    LoRA,
    PrefixTuning,
    PromptTuning,
    Stack,
    Wrapper,
    get_peft_model,
)
from minipeft.files import read_npz, write_npz
from minipeft.lab.gradcheck import loss_of  # noqa: F401 (the tests take it from here)
from minipeft.methods import IA3, DoRA
from minipeft.methods.adapter import Bottleneck, ParallelAdapter, SequentialAdapter
from minipeft.methods.dora import DoRALinear
from minipeft.methods.ia3 import ScaledInput, ScaledOutput
from minipeft.methods.lora import LoRALinear
from minipeft.methods.nf4 import NF4Linear
from minipeft.methods.prefix import PrefixAttention, PrefixEncoder, ReparametrisedPrefix, ShiftedPositions
from minipeft.methods.prompt import DropPrompt, SoftPrompt
from minipeft.methods.saving import own_arrays
from minipeft.model import (
    GELU,
    MLP,
    Attention,
    Block,
    CausalSelfAttention,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    Parameter,
    TiedHead,
)

CONFIG = GPT2Config(vocab_size=13, n_positions=16, n_embd=8, n_layer=2, n_head=2)


def variants(method):
    """{label: method} of a method class: its defaults, and what its fields allow beside them."""
    found = {method.name: method()}
    for field in fields(method):
        values = get_args(field.type) if get_origin(field.type) is Literal else ()
        values = (True, False) if field.type is bool else values
        values = {"dropout": (0.3,), "r": (3,)}.get(field.name, values)  # the models of these tests are 8 wide
        found |= {f"{method.name}-{field.name}-{v}": method(**{field.name: v}) for v in values if v != field.default}
    return found


# Every method with its defaults and variants, so that a new one is tested as soon as METHODS names it; then combinations.
CASES = {label: one for method in METHODS.values() for label, one in variants(method).items()} | {
    "lora-A": LoRA(r=2, train="A"),
    "lora-B": LoRA(r=2, train="B"),
    "lora-small": LoRA(r=3, alpha=6, dropout=0.3),
    "lora-targets": LoRA(r=2, targets=("*.o_proj", "*.c_fc", "h.1.mlp.c_proj")),
    "ia3-twice": IA3(targets=("*.mlp.c_proj", "*.q_proj"), feedforward=("*.c_proj", "*.q_proj")),
    "adapter-parallel": Adapter(m=3, kind="parallel", targets="*.mlp"),
    "adapter-mlp": Adapter(m=3, targets="*.mlp"),
    "adapter-block": Adapter(m=3, targets="h.*[0-9]"),
    "prefix-net": PrefixTuning(m=3, reparametrise=True),
    "stack": Stack((PrefixTuning(m=3), Adapter(m=2, kind="parallel", targets="*.mlp"), LoRA(r=2, targets="*"))),
    "stack-scaled": Stack((DoRA(r=2), LoRA(r=2, targets="*.c_proj"), IA3(), IA3(targets="*.q_proj", feedforward=()))),
    "stack-net": Stack((LoRA(r=2, dropout=0.2), PrefixTuning(m=2, reparametrise=True), PromptTuning(m=2))),
    "stack-full": Stack((FullFineTuning(), Adapter(m=2))),
    "stack-twice": Stack((PrefixTuning(m=2), PromptTuning(m=1), Adapter(m=2), PrefixTuning(m=1), PromptTuning(m=2),
                          Adapter(m=3, targets=("h.1", "*.mlp")))),
}  # fmt: skip


def counted(method, config):
    """How many numbers the docstring of a method says that it trains: "Trains:   r (d_in + d_out) numbers for each target".

    Alternatives stand between semicolons, "r d_in numbers for each target, if train is A"; the last that holds counts.
    A sum may go over several settings: "d_out numbers for each target and d_in numbers for each of feedforward".
    """
    about = inspect.getdoc(method).split("Trains:")[1]  # getdoc: Python 3.13 takes the indentation away by itself
    text = " ".join(re.split(r"\n\s*\n|\n[A-Z][\w ]*:", about)[0].split())
    chosen = [one for one in re.split(r"[;.] ?", text) if one and holds(one, method)][-1]
    names = {"V": config.vocab_size, "D": config.n_embd, "F": 4 * config.n_embd, "H": config.n_head}
    names |= {name: value for name, value in (vars(config) | vars(method)).items() if type(value) in (int, float)}
    return sum(counted_term(term, names, method, config) for term in chosen.split(" and "))


def counted_term(term, names, method, config):
    formula, each, setting = re.match(r"(.*?) numbers?( for each (?:target|of (\w+)))?", term).groups()
    if not each:
        return evaluated(formula, names)
    model, total = GPT2(config), 0
    globs = getattr(method, setting or "targets")
    paths = model.wrap(globs, lambda layer: Noted(layer), kind=(Linear, CausalSelfAttention, MLP, Block))
    for path in paths:
        layer = model.get_submodule(path).base
        sizes = dict(zip(("d_in", "d_out"), layer.shape, strict=True)) if isinstance(layer, Linear) else {}
        total += evaluated(formula, names | sizes)
    return total


class Noted(Wrapper):
    def forward(self, *inputs):
        return self.base(*inputs)


def holds(alternative, method):
    name, _, value = alternative.partition(", if ")[2].partition(" is ")
    return not name or str(getattr(method, name)) == (value or "True")


def evaluated(formula, names):
    """A formula as it is written in a docstring: 12 D² + 13 D."""
    python = formula.replace("²", "**2").replace("−", "-")
    python = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", python)
    return eval(python, {"__builtins__": {}}, names)  # of our own docstrings


PEFT = [name for name, method in CASES.items() if not get_peft_model(GPT2(CONFIG), method).peft[0].kept]


def off_start(model, seed=5, scale=0.3):
    """Move every parameter, biases and LoRA's B too, to where nothing is zero; return the model."""
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        p.data += rng.normal(0, scale, p.data.shape).astype(p.data.dtype)
    return model


def off_start_of_added(model, scale=0.3):
    """Move what is trained, and nothing else; return the model."""
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += np.random.default_rng(p.data.size).normal(0, scale, p.data.shape)
    return model


def tiny_model(config=CONFIG, seed=0):
    return off_start(GPT2(config, seed))


def tiny_batch(config=CONFIG, N=3, T=6):
    """ids, targets (N, T), and a mask with zeros in it."""
    rng = np.random.default_rng(2)
    ids, targets = rng.integers(0, config.vocab_size, (2, N, T))
    mask = rng.random((N, T)) < 0.6
    mask[0, :2] = True, False
    return ids, targets, mask


def tiny_peft(case, seed=3):
    """A tiny model with this method in it, away from its own start too; the base is the same as tiny_model()."""
    model = get_peft_model(tiny_model(), CASES[case], seed)
    saved = {id(array) for array in own_arrays(model).values()}
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        if p.requires_grad or id(p.data) in saved:  # what a seed gives again, and no file holds, stays
            p.data += rng.normal(0, 0.3, p.data.shape)
    return model


def tiny_base_parameters(model):
    """(path, parameter) of the base alone, by the base's own paths."""
    paths = {path for path, _ in GPT2(CONFIG).named_parameters()}
    named = [(path.replace(".base", ""), p) for path, p in model.named_parameters()]
    return [(path, p) for path, p in named if path in paths]


def tiny_base_stored(model):
    """(path, array) of what the base's own layers hold outside Parameters, by the base's own paths."""
    paths = {path for path, _ in GPT2(CONFIG).walk()}
    layers = [(path.replace(".base", ""), node) for path, node in model.walk()
              if isinstance(node, Module) and not isinstance(node, Wrapper)]  # fmt: skip
    return [(f"{path}.{name}", array) for path, node in layers if path in paths
            for name, array in node.stored_arrays().items()]  # fmt: skip


def gradients(model):
    """{path: gradient} of what is trained, copied."""
    return {path: p.grad.copy() for path, p in model.named_parameters() if p.requires_grad}


def snapshot(model):
    """All that must be the same again when something was tried and failed: layers, numbers, gradients, modes."""
    tree = [(path, id(node), getattr(node, "training", None)) for path, node in model.walk()]
    numbers = [(path, p.data.tobytes(), id(p.grad), p.requires_grad and p.grad.tobytes())
               for path, p in model.named_parameters()]  # fmt: skip
    return tree, numbers, model.training, list(getattr(model, "peft", []))


def rewrite(path, change):
    """Read an adapter's file, let change(header, arrays) work on both, and write it again."""
    header, arrays = read_npz(path, "adapter")
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(header, arrays)
    write_npz(path, header, arrays)


class SameMask(Dropout):
    """A dropout that draws the same mask every time."""

    def forward(self, x):
        self.rng.bit_generator.state = np.random.default_rng(7).bit_generator.state
        return super().forward(x)


def same_mask(lora):
    lora.dropout.__class__ = SameMask
    return lora


class Twice(Module):
    """y = layer(layer(x)): one layer, used twice in one pass."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        h, back_1 = self.layer(x)
        y, back_2 = self.layer(h)
        return y, lambda dy: back_1(back_2(dy))


N, T, S, D, H, V, m = 2, 3, 5, 4, 2, 7, 2
IDS = np.array([[1, 4, 1], [0, 6, 1]])  # 1 comes three times


def x(rng, *shape):
    return rng.normal(size=shape or (N, T, D))


def qkv(rng, T=T, S=S):
    return x(rng, N, T, D), x(rng, N, S, D), x(rng, N, S, D)


def small_gpt2(rng):
    return GPT2(GPT2Config(V, n_positions=5, n_embd=D, n_layer=2, n_head=H))


def dora(rng, dropout=0.0, **settings):
    """On a weight that is frozen, and a bias that is not."""
    return DoRALinear(Linear(D, 3, rng).requires_grad_(False, "weight"), 2, 3, dropout, rng, **settings)


# name: (the layer, its inputs), from a generator
LAYERS = {
    "Linear": lambda rng: (Linear(D, 3, rng), (x(rng),)),
    "Linear of a vector": lambda rng: (Linear(D, 3, rng), (x(rng, D),)),
    "Embedding": lambda rng: (Embedding(V, D, rng), (IDS,)),
    "LayerNorm": lambda rng: (LayerNorm(D), (x(rng),)),
    "GELU": lambda rng: (GELU(), (x(rng),)),
    "Dropout": lambda rng: (SameMask(0.4, rng), (x(rng),)),
    "Dropout off": lambda rng: (Dropout(0.4, rng).eval(), (x(rng),)),
    "TiedHead": lambda rng: (TiedHead(Parameter(x(rng, V, D))), (x(rng),)),
    "Attention S = T": lambda rng: (Attention(H), qkv(rng, T, T)),
    "Attention S > T": lambda rng: (Attention(H), qkv(rng)),
    "Attention T = 1": lambda rng: (Attention(H), qkv(rng, 1)),
    "CausalSelfAttention": lambda rng: (CausalSelfAttention(D, H, rng), (x(rng),)),
    "MLP": lambda rng: (MLP(D, rng), (x(rng),)),
    "Block": lambda rng: (Block(D, H, rng), (x(rng),)),
    "GPT2": lambda rng: (small_gpt2(rng), (IDS,)),
    "LoRALinear": lambda rng: (LoRALinear(Linear(D, 3, rng), 2, 3, 0.0, rng), (x(rng),)),
    "LoRALinear with dropout": lambda rng: (same_mask(LoRALinear(Linear(D, 3, rng), 2, 3, 0.4, rng)), (x(rng),)),
    "DoRALinear": lambda rng: (dora(rng), (x(rng),)),
    "DoRALinear, norm followed": lambda rng: (dora(rng, detach_norm=False), (x(rng),)),
    "DoRALinear with dropout": lambda rng: (same_mask(dora(rng, dropout=0.4)), (x(rng),)),
    "ScaledOutput": lambda rng: (ScaledOutput(Linear(D, 3, rng)), (x(rng),)),
    "ScaledInput": lambda rng: (ScaledInput(Linear(D, 3, rng)), (x(rng),)),
    "NF4Linear": lambda rng: (NF4Linear(Linear(D, 3, rng, 0.5)), (x(rng),)),
    "LoRALinear on NF4Linear": lambda rng: (
        LoRALinear(NF4Linear(Linear(D, 3, rng, 0.5)), 2, 3, 0.0, rng), (x(rng),)),
    "Bottleneck": lambda rng: (Bottleneck(D, m, rng), (x(rng),)),
    "SequentialAdapter": lambda rng: (SequentialAdapter(MLP(D, rng), Bottleneck(D, m, rng)), (x(rng),)),
    "ParallelAdapter": lambda rng: (ParallelAdapter(MLP(D, rng), Bottleneck(D, m, rng)), (x(rng),)),
    "PrefixAttention": lambda rng: (PrefixAttention(Attention(H), m, D, rng, "float64"), qkv(rng, T, T)),
    "ReparametrisedPrefix": lambda rng: (
        ReparametrisedPrefix(Attention(H), PrefixEncoder(m, D, rng, "float64"), D, rng, "float64"),
        qkv(rng, T, T),
    ),
    "SoftPrompt": lambda rng: (SoftPrompt(Embedding(V, D, rng), x(rng, m, D)), (IDS,)),
    "DropPrompt": lambda rng: (DropPrompt(LayerNorm(D), m), (x(rng),)),
    "ShiftedPositions": lambda rng: (ShiftedPositions(Embedding(V, D, rng), 2), (np.arange(T),)),
    "Linear twice": lambda rng: (Twice(Linear(D, D, rng)), (x(rng),)),
    "LayerNorm twice": lambda rng: (Twice(LayerNorm(D)), (x(rng),)),
    "Block twice": lambda rng: (Twice(Block(D, H, rng)), (x(rng),)),
    "LoRALinear twice": lambda rng: (Twice(LoRALinear(Linear(D, D, rng), 2, 3, 0.0, rng)), (x(rng),)),
}  # fmt: skip


def specimen(name, dtype="float64"):
    """(layer, inputs) off the start; in float32 the same numbers, rounded."""
    layer, inputs = LAYERS[name](np.random.default_rng(0))
    off_start(layer)
    if dtype == "float32":
        layer = to_float32(layer)
        inputs = tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in inputs)
    return layer, inputs


def to_float32(layer):
    layer = deepcopy(layer)
    for _, p in layer.named_parameters():
        p.data = p.data.astype("float32")
        p.grad = np.zeros_like(p.data) if p.requires_grad else None
    return layer


def as_tuple(d_inputs):
    return d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)


def reachable(root):
    """[(array, is it a parameter's or a layer's)] of all that a closure or an object keeps alive; gradients left out."""
    arrays, seen, todo = [], set(), [(root, False)]
    while todo:
        node, owned = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, np.ndarray):
            arrays.append((node, owned))
        elif isinstance(node, Parameter):
            todo.append((node.data, True))
        elif isinstance(node, (list, tuple)):
            todo += [(child, False) for child in node]
        elif isinstance(node, dict):
            todo += [(child, False) for child in node.values()]
        elif isinstance(node, Module):
            todo += [(child, isinstance(child, np.ndarray)) for child in vars(node).values()]
        elif hasattr(node, "__closure__"):
            todo += [(cell.cell_contents, False) for cell in node.__closure__ or ()]
            todo += [(child, False) for child in node.__defaults__ or ()]
        elif hasattr(node, "__self__"):
            todo.append((node.__self__, False))
    return arrays


def activations(root):
    """The float arrays kept alive that are no parameter's, nor a layer's own."""
    return [array for array, owned in reachable(root) if array.dtype.kind == "f" and not owned]
