"""A folder of peft as a method sees it: the matrices that its names mean, the targets that its config selects."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..files import FileError
from ..model.module import innermost
from .gpt2_files import MATRICES, layout, matrix_shapes
from .peft_strict import CONFIG, PREFIX, check_tensors, of_kind, whole_number


class Matrix(NamedTuple):
    """A matrix of transformers and what stands for it here: one Linear, or q, k and v, whose columns lie side by side."""

    name: str  # "h.0.attn.c_attn"
    shape: tuple  # (d_in, d_out), here (D, 3 D)
    paths: tuple  # "h.0.attn.q_proj", "h.0.attn.k_proj", "h.0.attn.v_proj"
    nodes: tuple  # what is at these paths: a Linear, or what a method put around it


class PeftFolder:
    """What to_peft and from_peft are given besides the model.  All names are transformers' without "transformer.".

    config:   adapter_config.json as a dict (empty in to_peft, which returns one)
    method:   the class of the method;  methods: those in the model (to_peft)
    wrappers: the classes that this method puts in
    notes:    {key: text} of the tensors' file that peft does not look at, to be set in to_peft and read in from_peft
    """

    def __init__(self, model, method, wrappers, methods=(), config=None, tensors=None, notes=None):
        self.model, self.method, self.wrappers, self.methods = model, method, wrappers, methods
        self.config, self.tensors, self.notes = config or {}, tensors or {}, notes or {}

    def matrices(self):
        """{name: Matrix} of all that a method can be put on, in the order of the layers."""
        found, shapes = {}, matrix_shapes(self.model.config)
        for i in range(self.model.config.n_layer):
            for matrix, parts in MATRICES.items():
                paths = tuple(f"h.{i}.{part}" for part in parts)
                nodes = tuple(self.model.get_submodule(path) for path in paths)
                found[f"h.{i}.{matrix}"] = Matrix(f"h.{i}.{matrix}", shapes[matrix], paths, nodes)
        return found

    def base(self):
        """{name: (shape, our paths)} of every array of the base: "h.0.attn.c_attn.bias": ((3 D,), [q's, k's, v's])."""
        return layout(self.model.config)

    def join(self, name):
        """An array of the base as transformers has it, its parts side by side, whatever is wrapped around them."""
        parts = []
        for path in self.base()[name][1]:
            layer, _, kind = path.rpartition(".")
            parts.append(getattr(innermost(self.model.get_submodule(layer)), kind).data)
        return np.concatenate(parts, axis=-1)

    def cut(self, name, array):
        """{our path: part} of such an array."""
        paths = self.base()[name][1]
        return dict(zip(paths, np.split(array, len(paths), axis=-1), strict=True))

    def read(self, expected):
        """{name: array} for {name: shape}: the tensors of the file, which must be these and no others.

        Raises: FileError that names the first that is missing, unknown, of another shape, or holds no finite numbers
        """
        check_tensors(self.tensors, {key(name): shape for name, shape in expected.items()})
        return {name: self.tensors[key(name)].read(self.model.config.dtype) for name in expected}

    def whole(self, field):
        """A field of the config that must be a whole number of at least 1.  Raises: FileError that names it."""
        return whole_number(self.config, field)

    def short(self, names):
        """Names for target_modules: "h.0.x", "h.1.x", ... as "x" where all layers have an x."""
        return shorten(names, self.model.config.n_layer, "{}")

    def globs(self, paths):
        """Our paths as globs for `targets`, such as "*.attn.q_proj"."""
        return tuple(shorten(paths, self.model.config.n_layer, "*.{}"))

    def selects(self, field, name):
        """Whether a field of the config, such as feedforward_modules, selects this matrix or layer, by peft's rules."""
        return hits(of_kind(self.config, field, (str, list)) or [], f"transformer.{name}")

    def targeted(self, names, default):
        """Those of `names` that peft would adapt, by its own rules for target_modules and what narrows it.

        default: what a config without target_modules means.

        Raises: FileError where another module of the model is selected, or none of these
        """
        config, n_layer = self.config, self.model.config.n_layer
        targets = of_kind(config, "target_modules", (str, list)) or list(default)
        if targets == "all-linear":
            targets = list(MATRICES)
        modules = {f"transformer.{name.rpartition('.')[0]}" for name in self.base()} | {"lm_head"}
        if odd := [name for name in sorted(modules - {f"transformer.{name}" for name in names}) if hits(targets, name)]:
            here = f"{self.method.__name__} here goes on {leaves(names)} only"
            raise FileError(f"{CONFIG}: target_modules includes {odd[0]}; {here}")
        found = [name for name in names if hits(targets, f"transformer.{name}")]
        found = [name for name in found if not self.selects("exclude_modules", name)]
        layers = of_kind(config, "layers_to_transform", (int, list))
        if layers not in (None, []) and not isinstance(targets, str):
            layers, pattern = layers if isinstance(layers, list) else [layers], config.get("layers_pattern")
            if pattern not in (None, "", [], "h", ["h"]):
                raise FileError(f"{CONFIG}: layers_pattern is {pattern!r}; the layers of GPT-2 are named 'h'")
            if odd := [i for i in layers if i not in range(n_layer)]:
                raise FileError(f"{CONFIG}: layers_to_transform names layer {odd[0]!r}; there are 0 ... {n_layer - 1}")
            found = [name for name in found if f"transformer.{name}" in targets or layer_of(name) in layers]
        if not found:
            raise FileError(f"{CONFIG}: target_modules {targets!r} matches none of {leaves(names)}")
        return found


def key(name):
    """A name in the file of tensors: what is part of the GPT-2 has a prefix, what belongs to no layer has none."""
    if name.split(".")[0] in ("h", "wte", "wpe", "ln_f"):
        return f"{PREFIX}transformer.{name}"
    return name


def layer_of(name):
    """The number in "h.0.attn.c_attn"; None for what stands outside the layers."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "h" else None


def leaf(name):
    """The part of a name that all layers share: "h.0.attn.c_attn" is an attn.c_attn."""
    return name.split(".", 2)[2] if name.startswith("h.") else name


def leaves(names):
    return ", ".join(dict.fromkeys(map(leaf, names)))


def shorten(names, n_layer, pattern):
    """The names "h.0.x", "h.1.x", ... as one, pattern.format("x"), where all layers have an x; others as they are."""
    count = Counter(leaf(name) for name in names if name.startswith("h."))
    whole = [pattern.format(one) for one, n in count.items() if n == n_layer]
    return whole + [name for name in names if count[leaf(name)] != n_layer or leaf(name) == name]


def hits(targets, name):
    """A string is a regular expression for the whole name; a list holds names, or the ends of names after a dot."""
    if isinstance(targets, str):
        return regex(targets, name)
    return any(name == target or name.endswith(f".{target}") for target in targets)


def regex(pattern, name):
    try:
        return bool(re.fullmatch(pattern, name))
    except (re.error, TypeError) as error:
        raise FileError(f"{CONFIG}: {pattern!r} is not a regular expression ({error})") from error
