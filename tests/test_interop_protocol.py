"""A method that exists only here goes to peft and back: what its class says is enough.

The five are the ways in which a file of peft can differ from LoRA's: vectors beside A and B, other matrices than ours,
arrays that all layers share, arrays of the base itself, and two methods under one peft_type.  They run forward only.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import minipeft
from minipeft import (
    GPT2,
    METHODS,
    GPT2Config,
    LoRA,
    Method,
    PrefixTuning,
    Stack,
    Wrapper,
    get_peft_model,
    load_adapter,
    save_adapter,
)
from minipeft.files import FileError
from minipeft.interop import export_peft, import_peft, load_gpt2
from minipeft.methods.lora import LoRALinear
from minipeft.model import Parameter
from minipeft.model.layers import Linear
from minipeft.model.module import innermost

WHY = "needs torch, transformers and peft: pip install minipeft[hf-test]"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)
peft = pytest.importorskip("peft", reason=WHY)
safetensors = pytest.importorskip("safetensors.numpy", reason=WHY)
from test_interop_gpt2 import distance, some_ids, torch_gpt2, torch_logits  # noqa: E402
from test_interop_peft import in_peft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


# Vectors beside A and B, and a field that tells the file from LoRA's


def column_norms(linear):
    return np.linalg.norm(linear.weight.data, axis=0)


class NormedPair(LoRALinear):
    """y = b + m / ‖W + s A B‖ · (x W + s x A B), column by column (Liu et al., 2024)."""

    peft_columns = {"lora_magnitude_vector": ("m", column_norms)}

    def __init__(self, base, r, alpha, rng):
        super().__init__(base, r, alpha, 0.0, rng)
        self.m = Parameter(column_norms(base))

    def forward(self, x):
        V = self.base.weight.data + self.delta()
        return x @ V * (self.m.data / np.linalg.norm(V, axis=0)) + self.base.bias.data, None


@dataclass
class Normed(Method):
    r: int = 4
    alpha: float = 8
    dropout: float = 0.0
    targets: str | tuple = "*.[qv]_proj"
    by: str = "rows"

    name = "normed"
    peft_type, peft_variant, peft_wrappers = "LORA", {"use_dora": True}, (NormedPair,)
    peft_settings = {"by": "columns"}

    def inject(self, model, rng):
        model.wrap(self.targets, lambda base: NormedPair(base, self.r, self.alpha, rng), kind=Linear)


# Other places than there: a scale on k, v and the inside of the MLP


class Scaled(Wrapper):
    """y = l ⊙ base(x)"""

    def __init__(self, base, width):
        super().__init__(base)
        self.l = Parameter(np.ones(width))

    def forward(self, x):
        return self.base(x)[0] * self.l.data, None


@dataclass
class Scaling(Method):
    targets: str | tuple = ("*.attn.[kv]_proj", "*.mlp.act")

    name = "scaling"
    peft_type, peft_wrappers = "IA3", (Scaled,)
    peft_fields = ("target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "init_ia3_weights")

    def inject(self, model, rng):
        D = model.config.n_embd
        model.wrap(
            self.targets, lambda base: Scaled(base, base.weight.data.shape[1] if isinstance(base, Linear) else 4 * D)
        )

    @staticmethod
    def to_peft(model, folder):
        arrays, inside = {}, []
        for name, matrix in folder.matrices().items():
            if any(isinstance(node, Scaled) for node in matrix.nodes):
                ones = np.ones(matrix.shape[1] // len(matrix.nodes))
                parts = [node.l.data if isinstance(node, Scaled) else ones for node in matrix.nodes]
                arrays[f"{name}.ia3_l"] = np.concatenate(parts)[:, None]
            elif name.endswith("mlp.c_proj") and isinstance(act := model.get_submodule(act_of(name)), Scaled):
                arrays[f"{name}.ia3_l"] = act.l.data[None]
                inside.append(name)
        names = [key.removesuffix(".ia3_l") for key in arrays]
        return {"target_modules": folder.short(names), "feedforward_modules": folder.short(inside)}, arrays

    @classmethod
    def from_peft(cls, model, folder):
        matrices, shapes, arrays = folder.matrices(), {}, {}
        for name in folder.targeted(matrices, ("c_attn", "mlp.c_proj")):
            d_in, d_out = matrices[name].shape
            shapes[f"{name}.ia3_l"] = (1, d_in) if folder.selects("feedforward_modules", name) else (d_out, 1)
        for key, l in folder.read(shapes).items():
            name = key.removesuffix(".ia3_l")
            paths = [act_of(name)] if len(l) == 1 else matrices[name].paths
            arrays |= {f"{path}.l": part for path, part in zip(paths, np.split(l.ravel(), len(paths)), strict=True)}
        return cls(folder.globs([path.removesuffix(".l") for path in arrays])), arrays


def act_of(name):
    return name.removesuffix("c_proj") + "act"


# Arrays that all layers share


class Drawn(Wrapper):
    """y = base(x) + b ⊙ ((d ⊙ x A) B) with frozen A and B (Kopiczko et al., 2024)."""

    def __init__(self, base, r, rng):
        super().__init__(base)
        d_in, d_out = base.weight.data.shape
        self.A, self.B = (Parameter(rng.normal(size=shape), False) for shape in ((d_in, r), (r, d_out)))
        self.d, self.b = Parameter(np.full(r, 0.1)), Parameter(np.zeros(d_out))

    def forward(self, x):
        return self.base(x)[0] + x @ self.A.data * self.d.data @ self.B.data * self.b.data, None


@dataclass
class Drawing(Method):
    r: int = 4
    targets: str | tuple = "*.[qkv]_proj"

    name = "drawing"
    peft_type, peft_wrappers = "VERA", (Drawn,)
    peft_fields = ("r", "target_modules", "d_initial", "vera_dropout", "projection_prng_key", "save_projection",
                   "fan_in_fan_out", "bias", "init_weights")  # fmt: skip

    def inject(self, model, rng):
        model.wrap(self.targets, lambda base: Drawn(base, self.r, rng), kind=Linear)

    @staticmethod
    def to_peft(model, folder):
        matrices = {name: matrix for name, matrix in folder.matrices().items()
                    if any(isinstance(node, Drawn) for node in matrix.nodes)}  # fmt: skip
        r = folder.methods[0].r
        widest = [max(matrix.shape[side] for matrix in matrices.values()) for side in (0, 1)]
        A, B, arrays = np.zeros((r, widest[0])), np.zeros((widest[1], r)), {}
        for name, (_, (d_in, d_out), _, nodes) in matrices.items():
            A[:, :d_in] = nodes[0].A.data.T
            B[:d_out] = np.concatenate([node.B.data.T for node in nodes])
            arrays[f"{name}.vera_lambda_d"] = nodes[0].d.data
            arrays[f"{name}.vera_lambda_b"] = np.concatenate([node.b.data for node in nodes])
        arrays |= {"base_model.vera_A": A, "base_model.vera_B": B}
        return {"r": r, "target_modules": folder.short(matrices), "save_projection": True}, arrays

    @classmethod
    def from_peft(cls, model, folder):
        matrices, r = folder.matrices(), folder.whole("r")
        names = folder.targeted(matrices, ("c_attn",))
        widest = [max(matrices[name].shape[side] for name in names) for side in (0, 1)]
        shapes = {"base_model.vera_A": (r, widest[0]), "base_model.vera_B": (widest[1], r)}
        for name in names:
            shapes |= {f"{name}.vera_lambda_d": (r,), f"{name}.vera_lambda_b": (matrices[name].shape[1],)}
        found, arrays = folder.read(shapes), {}
        for name in names:
            (d_in, d_out), paths = matrices[name].shape, matrices[name].paths
            A, n = found["base_model.vera_A"][:, :d_in].T, len(paths)
            B, b = np.split(found["base_model.vera_B"][:d_out].T, n, 1), np.split(found[f"{name}.vera_lambda_b"], n)
            for path, B_j, b_j in zip(paths, B, b, strict=True):
                own = {"A": A, "B": B_j, "d": found[f"{name}.vera_lambda_d"], "b": b_j}
                arrays |= {f"{path}.{attribute}": array for attribute, array in own.items()}
        return cls(r, folder.globs([path for name in names for path in matrices[name].paths])), arrays


# Arrays of the base itself


@dataclass
class Norms(Method):
    """Train the LayerNorms."""

    name = "norms"
    peft_type, peft_fields = "LN_TUNING", ("target_modules", "exclude_modules")

    def inject(self, model, rng):
        model.requires_grad_(True, "*ln_*")

    @staticmethod
    def to_peft(model, folder):
        arrays = {there(name): folder.join(name) for name in folder.base() if "ln_" in name}
        return {"target_modules": ["ln_1", "ln_2", "ln_f"]}, arrays

    @classmethod
    def from_peft(cls, model, folder):
        layers = dict.fromkeys(name.rpartition(".")[0] for name in folder.base() if "ln_" in name)
        names = [f"{layer}.{kind}" for layer in folder.targeted(layers, ("ln_1", "ln_2", "ln_f"))
                 for kind in ("weight", "bias")]  # fmt: skip
        found, arrays = folder.read({there(name): folder.base()[name][0] for name in names}), {}
        for name in names:
            arrays |= folder.cut(name, found[there(name)])
        return cls(), arrays


def there(name):
    layer, _, kind = name.rpartition(".")
    return f"{layer}.ln_tuning_layers.{kind}"


@dataclass
class Biases(Method):
    """Train the biases; to peft this is a LoRA of rank 1 that is zero, with all biases."""

    name = "biases"
    peft_type, peft_variant = "LORA", {"bias": "all"}

    def inject(self, model, rng):
        model.requires_grad_(True, "*bias")

    @staticmethod
    def names(folder):
        """{name in the file: name in the base}"""
        biases = [name for name in folder.base() if name.endswith(".bias")]
        return {name.replace("c_attn.bias", "c_attn.base_layer.bias"): name for name in biases}

    @classmethod
    def to_peft(cls, model, folder):
        D, arrays = model.config.n_embd, {}
        for i in range(model.config.n_layer):
            pair = {"lora_A.weight": np.zeros((1, D)), "lora_B.weight": np.zeros((3 * D, 1))}
            arrays |= {f"h.{i}.attn.c_attn.{kind}": array for kind, array in pair.items()}
        arrays |= {there: folder.join(name) for there, name in cls.names(folder).items()}
        return {"r": 1, "lora_alpha": 1, "target_modules": ["c_attn"], "fan_in_fan_out": True}, arrays

    @classmethod
    def from_peft(cls, model, folder):
        D, names = model.config.n_embd, cls.names(folder)
        shapes = {there: folder.base()[name][0] for there, name in names.items()}
        for name in folder.targeted(folder.matrices(), ("c_attn",)):
            shapes |= {f"{name}.lora_A.weight": (1, D), f"{name}.lora_B.weight": (3 * D, 1)}
        found, arrays = folder.read(shapes), {}
        if any(array.any() for name, array in found.items() if name.endswith("lora_B.weight")):
            raise FileError("adapter_config.json: bias is 'all' beside a LoRA that is not zero")
        for there, name in names.items():
            arrays |= folder.cut(name, found[there])
        return cls(), arrays


MADE_UP = {
    "normed": (Normed(r=3), peft.LoraConfig(r=5, lora_alpha=3, use_dora=True, target_modules=["c_attn", "c_fc"])),
    "scaling": (
        Scaling(),
        peft.IA3Config(target_modules=["c_attn", "c_fc", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"]),
    ),
    "drawing": (None, peft.VeraConfig(r=6, target_modules=["c_attn", "mlp.c_proj", "c_fc"])),
    "norms": (Norms(), peft.LNTuningConfig()),
    "biases": (Biases(), peft.LoraConfig(r=1, bias="all", target_modules=["c_attn"])),
}


@pytest.fixture(scope="module")
def theirs():
    return torch_gpt2().double()


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    return save(theirs, tmp_path_factory.mktemp("base"))


def save(theirs, path):
    theirs.save_pretrained(path)
    return path


@pytest.fixture
def base(folder):
    return load_gpt2(folder, "float64")


@pytest.fixture(autouse=True)
def known():
    """METHODS with the made-up ones in it, as if each were a file in methods/, and without those that they resemble."""
    before = dict(METHODS)
    for name in ("dora", "ia3", "vera", "layernorm", "bitfit"):
        del METHODS[name]
    METHODS.update({method.name: method for method in (Normed, Scaling, Drawing, Norms, Biases)})
    yield
    METHODS.clear()
    METHODS.update(before)  # in its order, too


def moved(model):
    rng = np.random.default_rng(4)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.2, p.data.shape)
    return model


@pytest.mark.parametrize("name", [name for name, (method, _) in MADE_UP.items() if method])
def test_a_made_up_method_gives_the_same_logits_in_peft_and_comes_back(base, folder, theirs, tmp_path, name):
    model = moved(get_peft_model(base, MADE_UP[name][0]))
    ours = model(some_ids())[0]
    export_peft(model, tmp_path / "once")
    assert distance(ours, torch_logits(in_peft(theirs, tmp_path / "once"), some_ids())) <= 1e-10
    assert distance(ours, torch_logits(theirs, some_ids())) > 1e-2
    back = import_peft(load_gpt2(folder, "float64"), tmp_path / "once")
    assert type(back.peft[0].method) is type(MADE_UP[name][0])
    assert distance(back(some_ids())[0], ours) <= 1e-12
    export_peft(back, tmp_path / "twice")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


@pytest.mark.parametrize("name", MADE_UP)
def test_what_peft_saved_gives_the_same_logits_in_a_made_up_method(base, folder, theirs, tmp_path, name):
    torch.manual_seed(2)
    config = MADE_UP[name][1]
    config.task_type = "CAUSAL_LM"
    there = peft.get_peft_model(torch_gpt2().double(), config).double()
    with torch.no_grad():
        for path, p in there.named_parameters():
            if p.requires_grad and not (name == "biases" and "lora" in path):
                p += 0.2 * torch.randn_like(p)
    there.save_pretrained(tmp_path / "there")
    model = import_peft(base, tmp_path / "there")
    assert type(model.peft[0].method).name == name
    expected = torch_logits(there.eval(), some_ids())
    assert distance(model(some_ids())[0], expected) <= 1e-10
    assert distance(expected, torch_logits(theirs, some_ids())) > 1e-3
    export_peft(model, tmp_path / "again")
    assert distance(torch_logits(in_peft(theirs, tmp_path / "again"), some_ids()), expected) <= 1e-10
    if name != "norms" and name != "biases":  # load_adapter builds the method anew and fills in what it put in
        save_adapter(model, tmp_path / "adapter.npz")
        again = load_adapter(load_gpt2(folder, "float64"), tmp_path / "adapter.npz")
        assert np.array_equal(again(some_ids())[0], model(some_ids())[0])


def test_a_part_without_the_method_is_left_out_again(base, folder, tmp_path):
    """k has no pair here; in peft's file it has a magnitude, which is the norm of its own columns."""
    model = moved(get_peft_model(base, Normed(r=3, targets="*.[qv]_proj")))
    export_peft(model, tmp_path)
    back = import_peft(load_gpt2(folder, "float64"), tmp_path)
    assert back.peft[0].method == Normed(r=3, alpha=8, targets=("*.attn.q_proj", "*.attn.v_proj"), by="columns")
    arrays = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    key = "base_model.model.transformer.h.0.attn.c_attn.lora_magnitude_vector"
    arrays[key][40] += 0.5  # a column of k: now it needs one
    expected = arrays[key].copy()
    safetensors.save_file(arrays, tmp_path / "adapter_model.safetensors")
    other = import_peft(load_gpt2(folder, "float64"), tmp_path)
    attn = other.h[0].attn
    assert np.array_equal(np.concatenate([p.m.data for p in (attn.q_proj, attn.k_proj, attn.v_proj)]), expected)
    assert isinstance(innermost(other.h[1].attn.k_proj), Linear)
    assert not isinstance(other.h[1].attn.k_proj, Wrapper)


def test_of_one_peft_type_the_variant_is_taken_that_says_most(base, folder, tmp_path, monkeypatch):
    export_peft(moved(get_peft_model(base, LoRA(r=2))), tmp_path / "lora")
    export_peft(moved(get_peft_model(load_gpt2(folder, "float64"), Normed(r=2))), tmp_path / "normed")
    assert isinstance(import_peft(load_gpt2(folder), tmp_path / "lora").peft[0].method, LoRA)
    assert isinstance(import_peft(load_gpt2(folder), tmp_path / "normed").peft[0].method, Normed)
    monkeypatch.delitem(METHODS, "normed")
    with pytest.raises(
        FileError, match=r"use_dora is True, which changes the adapter .* load_gpt2 reads the whole model"
    ):
        import_peft(load_gpt2(folder), tmp_path / "normed")


@dataclass
class Faster(LoRA):
    """A LoRA that is trained otherwise, and is LoRA in its file."""

    name = "faster"


def test_a_subclass_that_changes_no_layer_is_written_as_what_it_is_and_read_as_lora(
    base, folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(METHODS, "faster", Faster)
    model = moved(get_peft_model(base, Stack((Faster(r=2), LoRA(r=3, targets="*.c_fc")))))
    export_peft(model, tmp_path)
    back = import_peft(load_gpt2(folder, "float64"), tmp_path)
    assert {type(method) for method in back.peft[0].method.methods} == {LoRA}
    assert distance(back(some_ids())[0], model(some_ids())[0]) <= 1e-12


def test_the_method_in_the_docs_runs(base, folder, theirs, tmp_path, monkeypatch):
    page = (Path(minipeft.__file__).parents[1] / "docs" / "peft-files.md").read_text(encoding="utf-8")
    (listing,) = [block.split("```")[0] for block in page.split("```python\n") if block.startswith("class Scaling")]
    names = {"Method": Scaling, "Scaled": Scaled, "np": np}  # to_peft and from_peft are the listing's, the rest is ours
    exec(listing, names)
    monkeypatch.setitem(METHODS, "scaling", names["Scaling"])
    model = moved(get_peft_model(base, names["Scaling"]("*.attn.[kv]_proj")))
    export_peft(model, tmp_path)
    assert distance(model(some_ids())[0], torch_logits(in_peft(theirs, tmp_path), some_ids())) <= 1e-10
    back = import_peft(load_gpt2(folder, "float64"), tmp_path)
    assert type(back.peft[0].method) is names["Scaling"]
    assert distance(back(some_ids())[0], model(some_ids())[0]) <= 1e-12


# Strictness comes with the protocol


def exported(method, folder, path, **changes):
    export_peft(moved(get_peft_model(load_gpt2(folder, "float64"), method)), path)
    config = json.loads((path / "adapter_config.json").read_text()) | changes
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def refused(base, path, match):
    with pytest.raises(ValueError, match=match):
        import_peft(base, path)
    assert not getattr(base, "peft", ())
    assert not any(isinstance(node, Wrapper) for _, node in base.walk())


def test_a_field_that_the_method_does_not_name_is_refused(base, folder, tmp_path):
    refused(base, exported(Scaling(), folder, tmp_path, use_magic=3), "use_magic is 3, which changes the adapter")
    refused(base, exported(Norms(), folder, tmp_path / "b", modules_to_save=["wte"]), "modules_to_save is")


def test_a_tensor_that_the_method_does_not_ask_for_is_refused(base, folder, tmp_path):
    refused(
        base, exported(Scaling(), folder, tmp_path, target_modules=["c_attn"]), r"unknown, .*h.0.mlp.c_proj.ia3_l first"
    )
    refused(
        base, exported(Scaling(), folder, tmp_path, feedforward_modules=[]), r"\(1, 128\) where \(32, 1\) is needed"
    )
    refused(base, exported(Norms(), folder, tmp_path / "b", target_modules=["ln_1"]), r"unknown, .*h.0.ln_2")
    refused(
        base,
        exported(Norms(), folder, tmp_path / "c", target_modules=["c_attn"]),
        "includes transformer.h.0.attn.c_attn",
    )
    refused(
        base, exported(Norms(), folder, tmp_path / "c", target_modules=["nothing"]), "matches none of ln_1, ln_2, ln_f"
    )
    refused(
        base, exported(Normed(r=2), folder, tmp_path / "d", use_dora=False), "unknown, .*lora_magnitude_vector first"
    )


def test_a_method_that_forgets_or_invents_an_array_does_not_pass(base, folder, tmp_path, monkeypatch):
    exported(Scaling(), folder, tmp_path)
    whole = Scaling.from_peft.__func__

    def changed(change):
        def from_peft(cls, model, folder):
            method, arrays = whole(cls, model, folder)
            return method, change(arrays)

        monkeypatch.setattr(Scaling, "from_peft", classmethod(from_peft))

    changed(lambda arrays: {path: array for path, array in arrays.items() if not path.startswith("h.0.mlp")})
    refused(base, tmp_path, r"h.0.mlp.act.l has no counterpart in the file")
    changed(lambda arrays: arrays | {"h.0.mlp.act.x": np.ones(3)})
    refused(base, tmp_path, r"h.0.mlp.act.x \(3,\) has no place in this model, where it is not there")
    changed(lambda arrays: arrays | {"h.0.mlp.act.l": np.ones(3)})
    refused(base, tmp_path, r"h.0.mlp.act.l \(3,\) has no place in this model, where it is \(128,\)")


def test_what_a_method_did_not_put_in_is_not_left_out_in_silence(base, tmp_path):
    model = moved(get_peft_model(base, Scaling()))
    model.wrap("*.q_proj", lambda q: LoRALinear(q, 2, 4, 0.0, np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"file of Scaling has no place for this model's LoRALinear"):
        export_peft(model, tmp_path / "a")
    with pytest.raises(ValueError, match=r"one method; .* \(PrefixTuning, Scaling\)"):
        export_peft(get_peft_model(GPT2(model.config), Stack((Scaling(), PrefixTuning(m=2)))), tmp_path / "a")
    with pytest.raises(ValueError, match=r"one method; .* \(LoRA, Normed\)"):
        export_peft(get_peft_model(GPT2(model.config), Stack((Normed(), LoRA(targets="*.c_fc")))), tmp_path / "a")
    bare = get_peft_model(GPT2(GPT2Config(13, 8, 8, 1, 2)), LoRA(r=2, targets="*.q_proj"))
    bare.h[0].attn.q_proj = bare.h[0].attn.q_proj.base
    with pytest.raises(ValueError, match="nothing is wrapped around"):
        export_peft(bare, tmp_path / "a")
    assert not (tmp_path / "a").exists()
