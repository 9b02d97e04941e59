"""What a drawing of a model says in words: its alt text, made from the model as the drawing is."""

from ...methods.dora import DoRALinear
from ...methods.ia3 import ScaledInput, ScaledOutput
from ...methods.lora import LoRALinear
from ...methods.nf4 import NF4Linear
from ...methods.prefix import PrefixAttention, ShiftedPositions
from ...methods.prompt import DropPrompt, SoftPrompt
from ...methods.vera import VeRALinear
from ...methods.wrapper import Beside, Wrapper
from ...model.module import Parameter, plain_path
from ..ledger import count_parameters
from .shapes import untypeset


def listed(names):
    """a, b and c; each once."""
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last


def many(n, thing):
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def sizes(named):
    return ", ".join(f"{name} {' × '.join(map(str, p.data.shape))}" for name, p in named)


def blocks_in_words(numbers, n):
    """each of 4 blocks · block 3 · blocks 0 to 2 · blocks 0 and 2"""
    if len(numbers) == n:
        return f"each of {n} blocks" if n > 1 else "the one block"
    if len(numbers) == 1:
        return f"block {numbers[0]}"
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"blocks {numbers[0]} to {numbers[-1]}"
    return f"blocks {listed(map(str, numbers))}"


def brought(node):
    """What a wrapper brings, in words."""
    own = node.own_parameters()
    if isinstance(node, VeRALinear):
        return f"VeRA of rank {node.A.data.shape[1]}, its matrices A and B frozen and shared, two vectors trained,"
    if isinstance(node, LoRALinear):
        name = type(node).__name__
        name = {"LoRALinear": "LoRA", "DoRALinear": "DoRA"}.get(name, name)
        frozen = [letter for letter in "AB" if not getattr(node, letter).requires_grad]
        but = f", {frozen[0]} frozen," if len(frozen) == 1 else ", frozen," if frozen else ""
        more = ", and a length m for each column," if isinstance(node, DoRALinear) else ""
        return f"{name} of rank {node.A.data.shape[1]}{but}{more}"
    if isinstance(node, (ScaledOutput, ScaledInput)):
        return f"a vector that scales the {'output' if isinstance(node, ScaledOutput) else 'input'}"
    if isinstance(node, PrefixAttention):
        how = ", written by a network," if hasattr(node, "encoder") else ""
        m = len(node.encoder.E.data if how else node.P_k.data)
        return f"a prefix of {many(m, 'key')} and {many(m, 'value')}{how}"
    if isinstance(node, SoftPrompt):
        return f"a prompt of {many(len(node.P.data), 'row')}"
    if isinstance(node, ShiftedPositions):
        return f"positions that start at {node.offset}"
    if isinstance(node, DropPrompt):
        return f"{many(node.m, 'row')} dropped"
    if hasattr(getattr(node, "adapter", None), "down"):
        where = "beside" if isinstance(node, Beside) else "after"
        return f"adapters of width {node.adapter.down.shape[1]} {where}"
    return type(node).__name__ + (f" ({sizes(own)})" if own else "")


LINKS = {PrefixAttention: "in", SoftPrompt: "before", ShiftedPositions: "in", DropPrompt: "before"}


def place(path):
    """(number of the block or None, name inside it) of a path, whatever stands around it."""
    parts = plain_path(path).split(".")
    if parts[0] != "h":
        return None, ".".join(parts)
    names = [part for part in parts[2:] if part not in ("attn", "mlp")] or parts[2:] or ["the whole block"]
    return int(parts[1]), {"core": "attention", "attn": "attention", "mlp": "the MLP"}.get(names[-1], " ".join(names))


def grouped(found, n):
    """Phrases from {words: [(block, place)]}: what, on which layers, of which blocks."""
    out = []
    for words, places in found.items():
        by_block = {}
        for block, name in places:
            by_block.setdefault(block, []).append(name)
        alike = {}
        for block, names in by_block.items():
            alike.setdefault(tuple(dict.fromkeys(names)), []).append(block)
        for names, blocks in alike.items():
            where = "" if blocks == [None] else f" of {blocks_in_words(sorted(blocks), n)}"
            out.append(f"{words} {listed(names)}{where}")
    return out


def described(model, kinds, amounts=None, block=None):
    """The alt text of draw(model)."""
    n = len(model.h)
    if block is not None:
        start = f"Block {block} of {n}"
    elif len(kinds) > 1:
        start = f"{len(kinds)} transformer blocks side by side, {'; '.join(blocks_in_words(kind, n) for kind in kinds)}"
    else:
        start = f"A transformer block, the same in {blocks_in_words(range(n), n)}" if n > 1 else "A transformer block"
    extremes = extreme_changes(model, amounts, block) if amounts else ""
    return f"{start}: {COMMON} {contents(model, block)}{extremes}"


COMMON = "attention, then the MLP, each added to the stream. Frozen parts are grey, trained ones blue."


def contents(model, block=None):
    """What is put into a model and trained in it, in words."""
    n, wrapped, packed = len(model.h), {}, []
    visible = [(path, node) for path, node in model.walk() if block is None or place(path)[0] == block]
    for path, node in visible:
        if isinstance(node, Wrapper):
            wrapped.setdefault(linked(node), []).append(place(path))
        elif isinstance(node, NF4Linear):
            packed.append(place(path))
    phrases = grouped(wrapped, n) + (grouped({"4 bits a number in": packed}, n) if packed else [])
    phrases += own_numbers(model, visible, n)
    text, (trained, total) = "; ".join(phrases), count_parameters(model)
    text = text[:1].upper() + text[1:] + (". " if text else "")
    return text + (f"{trained:,} of {total:,} numbers are trained." if trained else "Nothing is trained.")


def linked(node):
    """What a wrapper brings, up to the name of the layer."""
    words = brought(node)
    if words.endswith((" after", " beside")):
        return words
    if isinstance(node, (ScaledOutput, ScaledInput)):
        return f"{words} of"
    return f"{words} {next((word for kind, word in LINKS.items() if isinstance(node, kind)), 'on')}"


def extreme_changes(model, amounts, block):
    """Where it changed most, and where least, for numbers that can be compared."""
    told, seen = "", {}
    for path, p in model.named_parameters():
        if id(p) in amounts and (block is None or place(path)[0] == block):
            share, text = amounts[id(p)]
            text = untypeset(text)
            sign = text.rpartition(" ")[0]
            number, name = place(path.rpartition(".")[0] if sign == "ΔW" else path)
            seen.setdefault(sign, []).append((share, text, name if number is None else f"{name} of block {number}"))
    for found in seen.values():
        (_, most, at), (_, least, there) = max(found), min(found)
        told += f" Most: {most}, {at}; least: {least}, {there}."
    return told


def own_numbers(model, visible, n):
    """Phrases for what is trained in the base's own layers."""
    added = {id(p) for _, node in model.walk() if isinstance(node, Wrapper) for _, p in node.own_parameters()}
    named = [(path, p) for path, p in visible if isinstance(p, Parameter) and id(p) not in added]
    if not any(p.requires_grad for _, p in named):
        return []
    if all(p.requires_grad for _, p in named):
        return ["all numbers of the base are trained"]
    phrases, found, whole = [], {}, []
    for i in sorted({place(path)[0] for path, _ in named} - {None}):
        if all(p.requires_grad for path, p in named if place(path)[0] == i):
            whole.append(i)
    if whole:
        phrases.append(f"all of {blocks_in_words(whole, n)} is trained")
    for path, p in named:
        block, name = place(path)
        if p.requires_grad and block not in whole:
            name, _, kind = name.replace(" ", ".").rpartition(".")
            norm = name.startswith("ln_")
            kind = {"bias": "shift of" if norm else "bias of", "weight": "gain of" if norm else "weight of"}.get(
                kind, kind
            )
            found.setdefault(kind, []).append((block, name))
    return phrases + grouped(found, n)
