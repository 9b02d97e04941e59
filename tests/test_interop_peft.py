"""Adapters to peft and from peft: the same logits, the same gradients, and a no where there is no counterpart."""

import argparse
import itertools
import json
from copy import deepcopy

import numpy as np
import pytest

from minipeft import (
    Adapter,
    FullFineTuning,
    LoRA,
    PrefixTuning,
    PromptTuning,
    Stack,
    cross_entropy,
    generate,
    get_peft_model,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from minipeft.commands import export, import_
from minipeft.interop import export_peft, import_peft, load_gpt2, load_tokenizer, save_gpt2
from minipeft.interop.peft_files import peft_contents
from minipeft.interop.tokenizer import decode, encode
from minipeft.methods.lora import LoRALinear
from minipeft.training import AdamW, fit, text_batches

WHY = "needs torch, transformers and peft: pip install minipeft[hf-test]"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)
peft = pytest.importorskip("peft", reason=WHY)
safetensors = pytest.importorskip("safetensors.numpy", reason=WHY)
from test_interop_gpt2 import TEXT, distance, some_ids, torch_gpt2, torch_logits, torch_loss, train_tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj")
METHODS = {
    "q and v": LoRA(r=4),
    "everything": LoRA(r=5, alpha=7, targets="*"),
    "rank-stabilised": LoRA(r=3, alpha=5, rslora=True, targets=("*.[qkvo]_proj", "*.c_fc")),
    "with dropout": LoRA(r=2, dropout=0.3, targets="*.c_proj"),
    "only A": LoRA(r=3, train="A"),
    "only B": LoRA(r=3, train="B"),
    "one layer": LoRA(r=2, alpha=4, targets="h.1.*"),
    "fused rank above D": LoRA(r=20, targets="*.[qkv]_proj"),
    "ranks by layer": Stack(
        (
            LoRA(r=2, targets="h.0.mlp.c_fc"),
            LoRA(r=5, alpha=7, targets=("h.1.mlp.c_fc", "h.1.attn.q_proj")),
            LoRA(r=3, alpha=20, targets=("h.1.attn.v_proj", "h.0.attn.o_proj")),
        )
    ),
    "prefix": PrefixTuning(m=5),
    "prefix by a network": PrefixTuning(m=3, reparametrise=True),
    "prompt": PromptTuning(m=4),
}


@pytest.fixture(scope="module")
def theirs():
    return torch_gpt2().double()


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    theirs.save_pretrained(tmp_path_factory.mktemp("base"))
    return tmp_path_factory.getbasetemp() / "base0"


@pytest.fixture
def base(folder):
    return load_gpt2(folder, "float64")


def in_peft(theirs, path):
    """The exported adapter in peft, on a copy of the base.

    peft makes virtual tokens in float32 whatever the base is: they are loaded once more after .double().
    """
    model = peft.PeftModel.from_pretrained(deepcopy(theirs), path).double().eval()
    peft.set_peft_model_state_dict(model, peft.load_peft_weights(str(path)))
    return model


def logits_in_peft(theirs, path, T):
    return torch_logits(in_peft(theirs, path), some_ids()[:, :T])[:, -T:]  # peft keeps the logits of a soft prompt


def trained(model, method, steps=3):
    """The model after a few large steps of fit, from a point where no factor is zero."""
    get_peft_model(model, method)
    rng = np.random.default_rng(3)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.2, p.data.shape).astype(p.data.dtype)
    ids = some_ids()[:, :21]
    fit(model, [(ids[:, :-1], ids[:, 1:])], steps, AdamW(model, lr=0.05), progress=False)
    return model.eval()


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_adapter_gives_the_same_logits_in_peft(base, folder, theirs, tmp_path, name):
    ids = some_ids()[:, :20]
    model = trained(base, METHODS[name])
    ours = model(ids)[0]
    export_peft(model, tmp_path)
    assert distance(ours, logits_in_peft(theirs, tmp_path, 20)) <= 1e-10
    assert distance(ours, torch_logits(theirs, ids)) > 1e-2
    back = import_peft(load_gpt2(folder, "float64"), tmp_path).eval()
    assert distance(back(ids)[0], ours) <= 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_the_same_in_float32(folder, tmp_path, name):
    ids = some_ids()[:, :20]
    model = trained(load_gpt2(folder), METHODS[name])
    export_peft(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(torch_gpt2(), tmp_path).eval()
    assert distance(model(ids)[0], torch_logits(theirs, ids)[:, -20:]) <= 1e-5


@pytest.mark.parametrize("name", ["prefix", "prefix by a network", "prompt"])
def test_virtual_tokens_write_the_same_text_in_peft(folder, tmp_path, name):
    """Without its cache: with it, peft 0.21 writes what its own logits do not say."""
    model, ids = trained(load_gpt2(folder), METHODS[name]), some_ids()[:, :6]
    export_peft(model, tmp_path)
    there = peft.PeftModel.from_pretrained(torch_gpt2(), tmp_path).eval()
    settings = {"do_sample": False, "use_cache": False, "pad_token_id": 0, "max_new_tokens": 12}
    theirs = there.generate(input_ids=torch.tensor(ids), **settings)
    assert np.array_equal(theirs[:, -12:].numpy(), generate(model, ids, 12)[:, -12:])


SUBSETS = [names for n in range(1, 7) for names in itertools.combinations(LINEARS, n)]


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_lora_on_any_subset_of_the_projections(base, theirs, tmp_path, names):
    model = get_peft_model(base, LoRA(r=2, alpha=3, targets=tuple(f"*.{name}" for name in names)))
    rng = np.random.default_rng(1)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.3, p.data.shape)
    export_peft(model, tmp_path)
    assert distance(model(some_ids())[0], logits_in_peft(theirs, tmp_path, 32)) <= 1e-10


def test_a_rank_for_each_of_twelve_layers(tmp_path):
    """Names are patterns to peft: h.1 must not be taken for h.11."""
    theirs = torch_gpt2((20, 16, 24, 12, 2)).double()
    theirs.save_pretrained(tmp_path / "base")
    stack = [LoRA(r=i + 1, alpha=2 * i + 3, targets=(f"h.{i}.mlp.c_fc", f"h.{i}.attn.k_proj")) for i in range(12)]
    model, ids = get_peft_model(load_gpt2(tmp_path / "base", "float64"), Stack(tuple(stack))), some_ids((20, 16))
    rng = np.random.default_rng(1)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += rng.normal(0, 0.3, p.data.shape)
    export_peft(model, tmp_path / "adapter")
    assert distance(model(ids)[0], torch_logits(in_peft(theirs, tmp_path / "adapter"), ids)) <= 1e-10
    back = import_peft(load_gpt2(tmp_path / "base", "float64"), tmp_path / "adapter")
    assert distance(back(ids)[0], model(ids)[0]) <= 1e-12


def test_pairs_on_q_k_v_become_one_of_rank_n_r(base, tmp_path):
    model = trained(base, LoRA(r=4, alpha=6, targets=("*.[qv]_proj", "*.c_fc")))
    export_peft(model, tmp_path, base_name="gpt2")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 12, "gpt2")
    assert config["rank_pattern"] == {"h.0.mlp.c_fc": 4, "h.1.mlp.c_fc": 4}
    assert config["alpha_pattern"] == {"h.0.mlp.c_fc": 6, "h.1.mlp.c_fc": 6}
    assert config["target_modules"] == ["attn.c_attn", "mlp.c_fc"]
    arrays = safetensors.load_file(tmp_path / "adapter_model.safetensors")
    key, attn = "base_model.model.transformer.h.0.attn.c_attn.lora_{}.weight", model.h[0].attn
    A, B = (arrays[key.format(letter)].T for letter in "AB")
    assert np.array_equal(A, np.hstack([attn.q_proj.A.data, attn.v_proj.A.data]))
    assert np.array_equal(B[:4, :32], attn.q_proj.B.data)
    assert np.array_equal(B[4:, 64:], attn.v_proj.B.data)
    assert not B[:, 32:64].any()
    assert not B[4:, :32].any()


@pytest.mark.parametrize("name", METHODS)
def test_exported_imported_and_exported_again_is_the_same(base, folder, tmp_path, name):
    export_peft(trained(base, METHODS[name]), tmp_path / "once")
    back = import_peft(load_gpt2(folder, "float64"), tmp_path / "once").eval()
    export_peft(back, tmp_path / "twice")
    once, twice = (safetensors.load_file(tmp_path / step / "adapter_model.safetensors") for step in ("once", "twice"))
    assert once.keys() == twice.keys()
    if name != "ranks by layer":  # there two scales in one matrix become one
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()
    save_adapter(back, tmp_path / "adapter.npz")
    again = load_adapter(load_gpt2(folder, "float64"), tmp_path / "adapter.npz").eval()
    assert np.array_equal(again(some_ids()[:, :20])[0], back(some_ids()[:, :20])[0])


def test_pairs_come_back_as_they_were(base, folder, tmp_path):
    model = trained(base, LoRA(r=4, alpha=6, targets="*.[qv]_proj"))
    export_peft(model, tmp_path)
    back = import_peft(load_gpt2(folder, "float64"), tmp_path)
    assert back.peft[0].method == LoRA(r=4, alpha=6, targets=("*.attn.q_proj", "*.attn.v_proj"))
    for path, p in model.named_parameters():
        assert np.array_equal(dict(back.named_parameters())[path].data, p.data)


# From peft


CONFIGS = {
    "c_attn": peft.LoraConfig(r=4, lora_alpha=6),
    "all": peft.LoraConfig(r=3, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"]),
    "all-linear": peft.LoraConfig(r=3, target_modules="all-linear", lora_dropout=0.1),
    "mlp": peft.LoraConfig(r=3, target_modules=["mlp.c_proj"], init_lora_weights="gaussian"),
    "EVA": peft.LoraConfig(r=4, init_lora_weights="eva", eva_config=peft.EvaConfig()),
    "MiCA": peft.LoraConfig(r=4, init_lora_weights="mica", ensure_weight_tying=True),
    "orthogonal": peft.LoraConfig(r=4, target_modules=["c_fc"], init_lora_weights="orthogonal"),
    "regex": peft.LoraConfig(r=2, target_modules=r".*\.h\.1\..*c_(attn|fc)"),
    "excluded": peft.LoraConfig(r=2, target_modules=["c_attn", "c_proj"], exclude_modules=["mlp.c_proj"]),
    "one layer": peft.LoraConfig(r=2, target_modules=["c_attn"], layers_to_transform=[1], layers_pattern="h"),
    "one layer and a full name": peft.LoraConfig(
        r=2, target_modules=["c_attn", "transformer.h.0.mlp.c_fc"], layers_to_transform=1
    ),
    "rsLoRA": peft.LoraConfig(r=5, lora_alpha=3, use_rslora=True, target_modules=["c_attn", "attn.c_proj"]),
    "patterns": peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["c_attn", "c_fc"], rank_pattern={"h.1.mlp.c_fc": 2, "c_attn": 3},
        alpha_pattern={r"h\.0\..*": 5},
    ),
    "rank above the width": peft.LoraConfig(r=40, lora_alpha=7, target_modules=["c_attn", "c_fc", "mlp.c_proj"]),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=4),
    "P-tuning": peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=16),
    "prefix": peft.PrefixTuningConfig(num_virtual_tokens=5),
    "prefix by a network": peft.PrefixTuningConfig(num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=8),
}  # fmt: skip


def saved_by_peft(theirs, config, path):
    """A peft model with nothing at zero, saved; the config is copied, since peft writes into it."""
    torch.manual_seed(1)
    config = deepcopy(config)
    config.task_type = "CAUSAL_LM"
    model = peft.get_peft_model(deepcopy(theirs).float(), config)  # some of peft's inits know no float64
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p += 0.2 * torch.randn_like(p) if "lora" in name else 0
    model = model.double().eval()
    model.save_pretrained(path)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_that_peft_saved_gives_the_same_logits_here(base, folder, theirs, tmp_path, name):
    there = saved_by_peft(theirs, CONFIGS[name], tmp_path)
    ids = some_ids()[:, :20]
    expected = torch_logits(there, ids)[:, -20:]
    model = import_peft(base, tmp_path).eval()
    assert distance(model(ids)[0], expected) <= 1e-10
    assert distance(expected, torch_logits(theirs, ids)) > 1e-2
    save_adapter(model, tmp_path / "adapter.npz")
    again = load_adapter(load_gpt2(folder, "float64"), tmp_path / "adapter.npz").eval()
    assert np.array_equal(again(ids)[0], model(ids)[0])
    before = {path: p.data.copy() for path, p in load_gpt2(folder, "float64").named_parameters()}
    assert all(np.array_equal(p.data, before[path]) for path, p in unwrap(model).named_parameters())


def torch_twin(theirs):
    """The torch model with its c_attn taken apart, so that peft can put a LoRA on q, k and v by themselves."""

    class Fused(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            for name, W, b in zip(LINEARS, conv.weight.data.chunk(3, 1), conv.bias.data.chunk(3), strict=False):
                linear = torch.nn.Linear(*W.shape, dtype=W.dtype)
                linear.weight.data, linear.bias.data = W.T.contiguous(), b.clone()
                setattr(self, name, linear)

        def forward(self, x):
            return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)

    twin = deepcopy(theirs)
    for block in twin.transformer.h:
        block.attn.c_attn = Fused(block.attn.c_attn)
    return twin


@pytest.mark.parametrize("rslora", [False, True])
def test_every_gradient_of_lora_on_separate_projections_is_peft_s(base, theirs, rslora):
    targets = ["q_proj", "k_proj", "v_proj", "attn.c_proj", "c_fc", "mlp.c_proj"]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_rslora=rslora)
    twin, ids = peft.get_peft_model(torch_twin(theirs), config), some_ids()
    model = get_peft_model(base, LoRA(r=3, alpha=5, targets="*", rslora=rslora))
    layers = {path: node for path, node in model.walk() if isinstance(node, LoRALinear)}
    rng, pairs = np.random.default_rng(0), []
    for path, layer in layers.items():
        there = path.replace("attn.", "attn.c_attn.").replace("c_attn.o_proj", "c_proj")
        there = twin.base_model.model.transformer.get_submodule(there)
        for ours, weight in ((layer.A, there.lora_A.default.weight), (layer.B, there.lora_B.default.weight)):
            ours.data[...] = rng.normal(0, 0.3, ours.data.shape)
            weight.data = torch.tensor(ours.data.T.copy())
            pairs.append((ours, weight))
    logits, back_model = model(ids[:, :-1])
    loss, back_loss = cross_entropy(logits, ids[:, 1:])
    back_model(back_loss())
    expected = torch_loss(twin, ids)
    expected.backward()
    assert len(pairs) == 24
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for ours, weight in pairs:
        assert distance(ours.grad, weight.grad.numpy().T) <= 1e-10


def test_a_fused_pair_shares_its_A_and_trains_as_in_peft(base, theirs, tmp_path):
    there = saved_by_peft(theirs, CONFIGS["c_attn"], tmp_path)
    model, ids = import_peft(base, tmp_path), some_ids()
    attn = model.h[0].attn
    assert attn.q_proj.A is attn.k_proj.A is attn.v_proj.A
    assert sum(p.data.size for _, p in model.named_parameters() if p.requires_grad) == 2 * 4 * (32 + 96)
    logits, back_model = model(ids[:, :-1])
    back_model(cross_entropy(logits, ids[:, 1:])[1]())
    pair = there.base_model.model.transformer.h[0].attn.c_attn
    for p in (pair.lora_A.default.weight, pair.lora_B.default.weight):
        p.requires_grad_(True)
    torch_loss(there, ids).backward()
    B = np.hstack([attn.q_proj.B.grad, attn.k_proj.B.grad, attn.v_proj.B.grad])
    assert distance(attn.q_proj.A.grad, pair.lora_A.default.weight.grad.numpy().T) <= 1e-10
    assert distance(B, pair.lora_B.default.weight.grad.numpy().T) <= 1e-10
    fit(model, [(ids[:, :-1], ids[:, 1:])], 2, AdamW(model, lr=0.01), progress=False)
    export_peft(model, tmp_path / "on")  # still one pair of rank 4
    assert safetensors.load_file(tmp_path / "on" / "adapter_model.safetensors")[
        "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
    ].shape == (4, 32)
    assert distance(model(ids)[0], logits_in_peft(theirs, tmp_path / "on", 32)) <= 1e-10


def test_an_adapter_that_was_never_trained_can_be_trained_here(base, folder, theirs, tmp_path):
    """Its B is zero: no row says to which part it belongs, and all three parts keep the pair."""
    peft.get_peft_model(deepcopy(theirs), peft.LoraConfig(r=4, task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    model, ids = import_peft(base, tmp_path), some_ids()[:, :20]
    assert np.array_equal(model(ids)[0], load_gpt2(folder, "float64")(ids)[0])
    attn = model.h[1].attn
    assert attn.q_proj.A is attn.k_proj.A is attn.v_proj.A
    assert attn.q_proj.A.data.shape == (32, 4)
    assert attn.q_proj.A.data.any()


def test_the_smallest_config_that_peft_loads_is_enough(base, tmp_path):
    export_peft(trained(base, LoRA(r=2, targets="*.[qkv]_proj")), tmp_path)
    expected = base(some_ids())[0]
    minimal = {"peft_type": "LORA", "r": 6, "lora_alpha": 48}
    (tmp_path / "adapter_config.json").write_text(json.dumps(minimal))
    assert distance(import_peft(unwrap(base), tmp_path)(some_ids())[0], expected) <= 1e-12


# Refused


@pytest.mark.parametrize(
    ("method", "match"),
    [
        (Adapter(m=2), "no counterpart for Adapter: save_adapter"),
        (Stack((LoRA(r=2), Adapter(m=2))), "no counterpart for Adapter: save_adapter"),
        (Stack((PrefixTuning(m=2), LoRA(r=2))), r"one method; .*\(LoRA, PrefixTuning\): save_adapter"),
        (Stack((PrefixTuning(m=2), PrefixTuning(m=3))), "two"),
        (Stack((PromptTuning(m=2), PromptTuning(m=3))), "two soft prompts"),
        (Stack((LoRA(r=2, dropout=0.1), LoRA(r=2, targets="*.c_fc"))), "one lora_dropout"),
        (FullFineTuning(), "save_gpt2"),
        (None, "nothing to export"),
    ],
)
def test_what_peft_cannot_hold_is_refused(base, tmp_path, method, match):
    if method:
        get_peft_model(base, method)
    with pytest.raises(ValueError, match=match):
        export_peft(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_that_an_adapter_cannot_hold(base, tmp_path):
    get_peft_model(base, LoRA(r=2)).requires_grad_(True, "*ln_1*")
    with pytest.raises(ValueError, match=r"weights of the base are trained, h.0.ln_1.weight"):
        export_peft(base, tmp_path / "out")
    base.requires_grad_(False)
    with pytest.raises(ValueError, match="before merge"):
        export_peft(merge(base), tmp_path / "out")
    with pytest.raises(ValueError, match="unwrap"):
        import_peft(base, tmp_path)


def test_an_adapter_on_a_base_that_was_changed_is_refused(base, folder, tmp_path):
    """peft would put it on the base as it was, and compute other logits."""
    get_peft_model(base, LoRA(r=2)).requires_grad_(True, "*ln_1*")
    base.h[0].ln_1.weight.data += 0.1
    with pytest.raises(ValueError, match=r"base was changed.*save_gpt2"):
        export_peft(base.requires_grad_(False), tmp_path / "out")
    tuned = trained(load_gpt2(folder, "float64"), FullFineTuning())
    with pytest.raises(ValueError, match=r"FullFineTuning, which changed the base itself.*save_gpt2"):
        export_peft(trained(tuned, LoRA(r=2)), tmp_path / "out")
    tuned = trained(load_gpt2(folder, "float64"), FullFineTuning()).requires_grad_(False)
    with pytest.raises(ValueError, match="FullFineTuning, which changed the base itself"):
        export_peft(tuned, tmp_path / "out")
    prefix = trained(load_gpt2(folder, "float64"), PrefixTuning(m=2))
    prefix.wpe = prefix.wpe.base
    with pytest.raises(ValueError, match="wpe does not shift"):
        export_peft(prefix, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_and_an_adapter_do_not_share_a_folder(base, tmp_path):
    """There transformers puts the adapter on the model, and its logits are no longer the base's."""
    save_gpt2(base, tmp_path / "model")
    export_peft(get_peft_model(base, LoRA(r=2)), tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds a model"):
        export_peft(base, tmp_path / "model")
    with pytest.raises(ValueError, match="holds an adapter"):
        save_gpt2(unwrap(base), tmp_path / "adapter")
    assert len(list(tmp_path.glob("*/*config.json"))) == 2


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (peft.LoraConfig(r=2, bias="all"), "bias is 'all'"),
        (peft.LoraConfig(r=2, lora_bias=True), "lora_bias"),
        (peft.LoraConfig(r=2, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
        (peft.LoraConfig(r=2, modules_to_save=["ln_f"]), "modules_to_save"),
        (peft.LoraConfig(r=2, trainable_token_indices=[1, 2]), "trainable_token_indices"),
        (peft.LoraConfig(r=2, target_modules=["c_attn", "wte"]), "wte"),
        (peft.AdaLoraConfig(init_r=3, target_r=2, total_step=10), "ADALORA"),
        (peft.LNTuningConfig(modules_to_save=["wte"]), "modules_to_save"),
        (peft.VeraConfig(r=4, bias="all"), "bias is 'all'"),
        (peft.FourierFTConfig(n_frequency=10), "FOURIERFT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_peft_saved_without_a_counterpart_here_is_refused(base, theirs, tmp_path, config, match):
    saved_by_peft(theirs, config, tmp_path)
    before = base(some_ids())[0]
    with pytest.raises(ValueError, match=match):
        import_peft(base, tmp_path)
    assert not getattr(base, "peft", ())
    assert np.array_equal(base(some_ids())[0], before)


# The command line, and the whole way


def command(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.run(parser.parse_args([str(word) for word in words]))


def test_export_and_import_on_the_command_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained(load_gpt2(folder), LoRA(r=2, targets="*.[qv]_proj"))
    save_adapter(model, "adapter.npz")
    command(export, "adapter.npz", "--to", "there", "--base", folder, "--base-to", "base")
    command(import_, "there", "--to", "back.npz")  # the folder names the base that it was written beside
    command(import_, "there", "--base", folder)
    assert "PeftModel.from_pretrained" in capsys.readouterr().out
    theirs = transformers.GPT2LMHeadModel.from_pretrained("base")
    there = torch_logits(peft.PeftModel.from_pretrained(theirs, "there").eval(), some_ids())
    assert distance(model(some_ids())[0], there) <= 1e-5
    for name in ("back.npz", "there.npz"):
        back = load_adapter(load_gpt2(folder), name)
        assert np.array_equal(back(some_ids())[0], model(some_ids())[0])


def test_a_folder_can_be_looked_at_without_a_model(base, theirs, tmp_path):
    model = trained(base, LoRA(r=3, targets=("*.v_proj", "*.c_fc")))
    export_peft(model, tmp_path / "lora")
    settings, arrays, deltas = peft_contents(tmp_path / "lora")
    assert settings["peft_type"] == "LORA"
    assert len(arrays) == 8
    assert np.allclose(deltas["h.1.mlp.c_fc"], model.h[1].mlp.c_fc.delta())
    assert np.allclose(deltas["h.1.attn.c_attn"][:, 64:], model.h[1].attn.v_proj.delta())
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config | {"rank_pattern": [2]}))
    with pytest.raises(ValueError, match="rank_pattern"):
        peft_contents(tmp_path / "lora")
    saved_by_peft(theirs, peft.IA3Config(), tmp_path / "ia3")
    settings, arrays, deltas = peft_contents(tmp_path / "ia3")
    assert settings["peft_type"] == "IA3"
    assert len(arrays) == 4
    assert deltas == {}


def test_the_whole_way_from_a_text_to_the_same_words_in_torch(tmp_path):
    """A folder and its tokenizer -> LoRA trained here -> exported -> torch goes on with the same greedy text."""
    shape = (64, 48, 32, 2, 4)
    torch_gpt2(shape).save_pretrained(tmp_path / "gpt2")
    train_tokenizer(tmp_path / "gpt2")
    model, tokenizer = load_gpt2(tmp_path / "gpt2"), load_tokenizer(tmp_path / "gpt2")
    get_peft_model(model, LoRA(r=8, alpha=32, targets="*"))
    history = fit(
        model, text_batches(np.array(encode(tokenizer, TEXT).ids), 24, 8), 150, AdamW(model, lr=1e-2), progress=False
    )
    assert history.loss[-1] < 0.5 * history.loss[0]
    prompt = np.array(encode(tokenizer, "Warm air").ids)
    ours = decode(tokenizer, generate(model, prompt[None], 24)[0])
    assert ours.startswith("Warm air holds more water")
    export_peft(model, tmp_path / "adapter")

    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "gpt2")
    there = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = words("Warm air", return_tensors="pt").input_ids
    assert ids.tolist() == [prompt.tolist()]
    theirs = there.generate(input_ids=ids, max_new_tokens=24, do_sample=False, pad_token_id=0)
    assert words.decode(theirs[0]) == ours
