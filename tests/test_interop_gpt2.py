"""Real GPT-2 folders: transformers' files give transformers' logits here, and ours give ours there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minipeft import GPT2Config, LoRA, PrefixTuning, cross_entropy, get_peft_model, merge
from minipeft.interop import load_gpt2, load_tokenizer, save_gpt2
from minipeft.interop.gpt2_files import layout, without_weights
from minipeft.interop.tokenizer import decode, encode

WHY = "needs torch and transformers: pip install minipeft[hf-test]"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)
safetensors = pytest.importorskip("safetensors.numpy", reason=WHY)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = [  # V, positions, D, layers, heads
    (64, 32, 32, 2, 4),
    (17, 8, 12, 1, 1),
    (101, 20, 24, 3, 6),
]


def torch_gpt2(shape=SHAPES[0], seed=0, **settings):
    """A GPT2LMHeadModel at random, away from its zeros and ones."""
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    torch.manual_seed(seed)
    ends = {"bos_token_id": None, "eos_token_id": None}
    config = transformers.GPT2Config(**dict(zip(names, shape, strict=True)), **ends, **settings)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape)
    return model


def torch_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()


def torch_loss(model, ids):
    """The mean loss of the next token; transformers' own would round the logits to float32 first."""
    logits = model(torch.tensor(ids[:, :-1])).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())


def some_ids(shape=SHAPES[0], N=2):
    return np.random.default_rng(1).integers(0, shape[0], (N, shape[1]))


def distance(ours, theirs):
    assert ours.dtype == theirs.dtype
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture
def folder(tmp_path):
    torch_gpt2().save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename(folder, change):
    """Save the tensors of a folder again under the names change(name), None leaving one out."""
    arrays = safetensors.load_file(folder / "model.safetensors")
    arrays = {change(name): array for name, array in arrays.items() if change(name)}
    safetensors.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return arrays


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_their_folder_gives_their_logits_here(tmp_path, shape, dtype):
    theirs, ids = torch_gpt2(shape), some_ids(shape)
    theirs.save_pretrained(tmp_path)
    model = load_gpt2(tmp_path, dtype)
    assert model.config == GPT2Config(*shape, dtype=dtype)
    assert not model.trains()
    assert distance(model(ids)[0], torch_logits(theirs.to(getattr(torch, dtype)), ids)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_our_folder_gives_our_logits_there(tmp_path, shape, dtype):
    torch_gpt2(shape).save_pretrained(tmp_path / "theirs")
    model, ids = load_gpt2(tmp_path / "theirs", dtype), some_ids(shape)
    save_gpt2(model, tmp_path / "ours")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").train()  # no dropout of theirs acts
    assert distance(torch_logits(theirs, ids), model(ids)[0]) <= TOLERANCE[dtype]


def test_every_gradient_of_the_model_is_theirs(folder):
    theirs, model, ids = torch_gpt2().double(), load_gpt2(folder, "float64").requires_grad_(True), some_ids()
    logits, back_model = model(ids[:, :-1])
    loss, back_loss = cross_entropy(logits, ids[:, 1:])
    back_model(back_loss())
    output = torch_loss(theirs, ids)
    output.backward()
    assert loss == pytest.approx(output.item(), rel=1e-12)
    ours = dict(model.named_parameters())
    for name, (_, paths) in layout(model.config).items():
        grad = np.concatenate([ours[path].grad for path in paths], axis=-1)
        expected = theirs.get_parameter(f"transformer.{name}").grad.numpy()
        assert np.abs(grad - expected).max() <= 1e-10 * np.abs(expected).max(), name


def test_saved_loaded_and_saved_again_is_the_same_file(folder, tmp_path):
    save_gpt2(load_gpt2(folder), tmp_path / "once")
    save_gpt2(load_gpt2(tmp_path / "once"), tmp_path / "twice")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    before = safetensors.load_file(folder / "model.safetensors")
    after = safetensors.load_file(tmp_path / "once" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    config, tensors = sorted((tmp_path / "once").iterdir())
    assert (config.name, tensors.name) == ("config.json", "model.safetensors")
    assert config.stat().st_mode == tensors.stat().st_mode  # whoever may read one may read the other


def test_shards_are_read_as_one_model(folder, tmp_path):
    theirs = torch_gpt2()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    ids = some_ids()
    assert np.array_equal(load_gpt2(tmp_path / "shards")(ids)[0], load_gpt2(folder)(ids)[0])


def test_the_names_and_masks_of_the_first_gpt2_are_known(folder):
    """The file on the Hub has no "transformer." and carries each layer's causal mask."""
    ids = some_ids()
    before = load_gpt2(folder)(ids)[0]
    arrays = rename(folder, lambda name: name.removeprefix("transformer."))
    masks = {f"h.{i}.attn.bias": np.tri(32, dtype="float32")[None, None] for i in range(2)}
    head = {"lm_head.weight": arrays["wte.weight"].copy(), "h.0.attn.masked_bias": np.array(-1e4, "float32")}
    safetensors.save_file(arrays | masks | head, folder / "model.safetensors")
    assert np.array_equal(load_gpt2(folder)(ids)[0], before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("block", [1, 100, 1000])
def test_a_model_read_in_many_blocks_is_the_same(tmp_path, monkeypatch, dtype, block):
    """A real model has arrays of many blocks; these are so small that each would be one."""
    torch_gpt2().to(getattr(torch, dtype)).save_pretrained(tmp_path)
    whole = load_gpt2(tmp_path)
    monkeypatch.setattr("minipeft.interop.tensors.BLOCK", block)
    for (path, p), (_, q) in zip(load_gpt2(tmp_path).named_parameters(), whole.named_parameters(), strict=True):
        assert np.array_equal(p.data, q.data), path


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(tmp_path, dtype):
    theirs, ids = torch_gpt2().to(getattr(torch, dtype)), some_ids()
    theirs.save_pretrained(tmp_path)
    assert distance(load_gpt2(tmp_path)(ids)[0], torch_logits(theirs.float(), ids)) <= 1e-5


def test_a_merged_lora_is_saved_as_a_plain_model(folder, tmp_path):
    model, ids = get_peft_model(load_gpt2(folder, "float64"), LoRA(r=2, targets="*")), some_ids()
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data += 0.1
    with pytest.raises(ValueError, match=r"carries LoRALinear.*merge"):
        save_gpt2(model, tmp_path / "out")
    save_gpt2(merge(model), tmp_path / "out")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert distance(torch_logits(theirs, ids), model(ids)[0]) <= 1e-10


def test_the_loaded_model_works_under_any_method(folder):
    model, ids = load_gpt2(folder), some_ids()[:, :20]
    logits, backward = get_peft_model(model, PrefixTuning(m=4))(ids)
    backward(np.ones_like(logits))
    assert logits.dtype == np.float32
    assert np.abs(model.h[0].attn.core.P_k.grad).max() > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("n_inner", 100),
        ("model_type", "gpt_neo"),
        ("n_head", 5),
        ("n_layer", "two"),
        ("vocab_size", 65),
        ("n_positions", None),
        ("num_attention_heads", 8),  # transformers would follow this one, and no shape shows it
        ("num_hidden_layers", 1),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(folder, field, value):
    edit(folder / "config.json", **{field: value})
    named = {"vocab_size": "wte.weight has shape"}.get(field, field)
    with pytest.raises(ValueError, match=named):
        load_gpt2(folder)


def test_other_refusals_say_what_is_wrong(folder, tmp_path):
    with pytest.raises(ValueError, match="dtype must be"):
        load_gpt2(folder, "float16")
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_gpt2(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file; a folder"):
        load_gpt2(folder / "config.json")
    arrays = rename(folder, lambda name: name)
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"] + 1
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head.weight differs from wte.weight"):
        load_gpt2(folder)
    arrays = rename(folder, lambda name: None if "lm_head" in name else name)
    arrays["wte.weight"] = arrays["transformer.wte.weight"].copy()
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match="stands twice"):
        load_gpt2(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickle"):
        load_gpt2(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model.safetensors"):
        load_gpt2(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*config.json"):
        load_gpt2(folder)


def test_the_index_of_shards_must_be_true(folder, tmp_path):
    torch_gpt2().save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    index = tmp_path / "shards" / "model.safetensors.index.json"
    sound = json.loads(index.read_text())["weight_map"]
    first = next(iter(sound))

    def refused(places, match, error=ValueError):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(error, match=match):
            load_gpt2(tmp_path / "shards")

    other = next(shard for shard in sound.values() if shard != sound[first])
    refused(sound | {first: other}, "disagree about " + first)
    refused({name: shard for name, shard in sound.items() if name != first}, "disagree about " + first)
    refused(sound | {first: "../outside.safetensors"}, "not a file of this folder")
    gone = {name: shard.replace("00001-of", "00009-of") for name, shard in sound.items()}
    refused(gone, "no file", FileNotFoundError)
    refused(None, "no weight_map")
    with pytest.raises(ValueError, match="choose another folder"):
        save_gpt2(load_gpt2(folder), tmp_path / "shards")


def test_a_name_goes_through_the_hub(folder, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason=WHY)
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    assert load_gpt2("openai-community/gpt2").config.n_embd == 32
    assert asked == ["openai-community/gpt2"]


def test_offline_is_one_clear_sentence(tmp_path):
    code = "from minipeft.interop import load_gpt2\ntry: load_gpt2('gpt2')\nexcept FileNotFoundError as e: print(e)"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    pytest.importorskip("huggingface_hub", reason=WHY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert "no folder 'gpt2'" in done.stdout
    assert "path of a downloaded GPT-2 folder" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("library", ["safetensors", "tokenizers", "huggingface_hub"])
def test_a_missing_library_is_named_with_the_remedy(folder, tmp_path, monkeypatch, library):
    model = load_gpt2(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    act = {
        "safetensors": lambda: save_gpt2(model, tmp_path / "out"),
        "tokenizers": lambda: load_tokenizer(folder),
        "huggingface_hub": lambda: load_gpt2("gpt2"),
    }[library]
    with pytest.raises(ImportError, match=rf'{library}, which is not installed: pip install "minipeft\[hf\]"'):
        act()


def test_nothing_of_torch_is_imported(folder):
    code = (
        "import sys\nfrom minipeft.interop import load_gpt2, save_gpt2\n"
        f"save_gpt2(load_gpt2({str(folder)!r}), {str(folder.parent / 'out')!r})\n"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


STATUS = Path("/proc/self/status")  # getrusage would also count the process that started this one
PEAK = f"""
import sys
from minipeft.interop import load_gpt2
import numpy.random
def peak():
    return next(int(line.split()[1]) * 1024 for line in open({str(STATUS)!r}) if line.startswith("VmHWM"))
before = peak()
model = load_gpt2(sys.argv[1])
weights = sum(p.data.nbytes for _, p in model.named_parameters())
print(before, peak(), weights)
"""
SIZES = {
    "wide table": (GPT2Config(50257, 1024, 256, 4, 4, "float32"), 1.3, True),
    "124M": (GPT2Config(50257, 1024, 768, 12, 12, "float32"), 1.3, "MINIPEFT_124M" in os.environ),
}


@pytest.mark.skipif(not STATUS.exists(), reason="the peak memory of a process is asked of Linux")
@pytest.mark.parametrize("size", SIZES)
def test_loading_needs_little_more_memory_than_the_weights(tmp_path, size):
    config, most, run = SIZES[size]
    if not run:
        pytest.skip("half a gigabyte on the disk: set MINIPEFT_124M=1 to run it")
    model, rng = without_weights(config), np.random.default_rng(0)
    parameters = dict(model.named_parameters())
    for shape, paths in layout(config).values():
        for path in paths:
            parameters[path].data = rng.standard_normal((*shape[:-1], shape[-1] // len(paths)), dtype="float32")
    save_gpt2(model, tmp_path)
    del model, parameters
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    before, peak, weights = map(int, done.stdout.split())
    assert peak - before > 0.9 * weights  # it is this process that was measured
    print(f"{size}: peak {peak / weights:.3f} x the weights, {(peak - before) / weights:.3f} above the start")
    assert (peak - before) / weights < most
    if size == "124M":
        assert peak / weights < most


# Tokenizers


TEXT = "Warm air holds more water. " * 20 + "Ice melts and the sea rises. " * 20


def train_tokenizer(folder, V=64):
    tokenizers = pytest.importorskip("tokenizers", reason=WHY)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT], tokenizers.trainers.BpeTrainer(vocab_size=V, show_progress=False))
    tokenizer.enable_truncation(5)  # what load_tokenizer must take off again
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_a_tokenizer_gives_all_of_the_text(tmp_path):
    train_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert decode(tokenizer, encode(tokenizer, TEXT).ids) == TEXT
    assert len(encode(tokenizer, "ice").ids) < 9


def test_special_tokens_are_not_added_and_not_hidden(tmp_path):
    train_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.add_special_tokens(["<|end|>"])
    end = tokenizer.token_to_id("<|end|>")
    around = pytest.importorskip("tokenizers").processors.TemplateProcessing(
        "<|end|> $A", special_tokens=[("<|end|>", end)]
    )
    tokenizer.post_processor = around
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert encode(tokenizer, "Ice").ids == tokenizer.encode("Ice").ids[1:]
    assert decode(tokenizer, [*encode(tokenizer, "Ice").ids, end]) == "Ice<|end|>"


def test_a_tokenizer_that_is_missing_or_damaged_says_so(tmp_path):
    pytest.importorskip("tokenizers", reason=WHY)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json.*merges.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)
