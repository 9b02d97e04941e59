"""Damaged folders: each is refused with a message of its own, and the model stays as it was."""

import json

import numpy as np
import pytest
from specimens import tiny_model

from minipeft import LoRA, PrefixTuning, PromptTuning, get_peft_model
from minipeft.interop import export_peft, import_peft, load_gpt2, save_gpt2
from minipeft.methods import fingerprint

pytest.importorskip("safetensors", reason="needs safetensors: pip install minipeft[hf-test]")

METHODS = {"lora": LoRA(r=2, targets=("*.[qv]_proj", "*.c_fc")), "prefix": PrefixTuning(m=3), "prompt": PromptTuning(3)}
P = "base_model.model.transformer."
A, B = P + "h.0.mlp.c_fc.lora_A.weight", P + "h.0.mlp.c_fc.lora_B.weight"


def sound(kind, folder):
    """A folder without damage."""
    if kind == "gpt2":
        save_gpt2(tiny_model(), folder)
    else:
        model, rng = get_peft_model(tiny_model(), METHODS[kind]), np.random.default_rng(5)
        for _, p in model.named_parameters():
            if p.requires_grad:  # the base stays what it was, or export_peft refuses
                p.data += rng.normal(0, 0.1, p.data.shape)
        export_peft(model, folder)
    return folder


def load(kind, folder):
    return load_gpt2(folder) if kind == "gpt2" else import_peft(tiny_model(), folder)


def take_apart(path):
    """(header, numbers) of a safetensors file."""
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def put_together(path, header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def weights(folder):
    return next(folder.glob("*model.safetensors"))


def cut(size):
    """The file without its end."""
    return lambda folder: weights(folder).write_bytes(weights(folder).read_bytes()[:size])


def header_length(n):
    return lambda folder: weights(folder).write_bytes(n.to_bytes(8, "little") + weights(folder).read_bytes()[8:])


def header_text(change):
    def damage(folder):
        header, numbers = take_apart(weights(folder))
        put_together(weights(folder), change(json.dumps(header)).encode("latin-1"), numbers)

    return damage


def entry(name, **changes):
    """One line of the header otherwise; changes are values, or functions of the value that was there."""

    def damage(folder):
        header, numbers = take_apart(weights(folder))
        for field, value in changes.items():
            header[name][field] = value(header[name][field]) if callable(value) else value
        put_together(weights(folder), header, numbers)

    return damage


def moved(by):
    return lambda places: [place + by for place in places]


def numbers(change):
    def damage(folder):
        header, data = take_apart(weights(folder))
        put_together(weights(folder), header, change(data))

    return damage


def number(value, dtype):
    """One number of the array that the file ends with is another."""
    return numbers(lambda data: data[: -np.dtype(dtype).itemsize] + np.array(value, dtype).tobytes())


def names(change):
    """The same arrays under the names change(name)."""

    def damage(folder):
        header, data = take_apart(weights(folder))
        metadata = {"__metadata__": header.pop("__metadata__")}
        put_together(weights(folder), metadata | {change(name): line for name, line in header.items()}, data)

    return damage


def swapped(one, other):
    return names(lambda name: {one: other, other: one}.get(name, name))


def without(part):
    """The arrays whose name has this part are gone, the others are side by side again."""

    def damage(folder):
        header, data = take_apart(weights(folder))
        kept, rest = {}, b""
        for name, line in header.items():
            if name != "__metadata__" and part not in name:
                begin, end = line["data_offsets"]
                kept[name] = line | {"data_offsets": [len(rest), len(rest) + end - begin]}
                rest += data[begin:end]
        put_together(weights(folder), kept, rest)

    return damage


def config(*gone, **changes):
    def damage(folder):
        path = next(folder.glob("*config.json"))
        found = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({field: value for field, value in found.items() if field not in gone}))

    return damage


def config_text(text):
    return lambda folder: next(folder.glob("*config.json")).write_text(text)


def renamed(old, new):
    def damage(folder):
        (folder / new).parent.mkdir(exist_ok=True)
        (folder / old).rename(folder / new)

    return damage


WTE, LN = "transformer.wte.weight", "transformer.h.0.ln_1.weight"
CASES = {  # name: (what is damaged, how, a part of the message)
    "empty file": ("gpt2", cut(0), "has 0 bytes, where 8 and a header of 0 are"),
    "five bytes": ("lora", cut(5), "has 5 bytes, where 8 and a header"),
    "truncated header": ("gpt2", cut(100), "cut short, or no safetensors file: it has 100 bytes, where 8 and a header of"),
    "huge header length": ("gpt2", header_length(2**63), "a header of 9223372036854775808 are announced"),
    "long header length": ("lora", header_length(10**7), "a header of 10000000 are announced"),
    "header of something else": ("gpt2", header_text(lambda text: "\xff" + text[1:]), "header is not JSON"),
    "header a list": ("gpt2", header_text(lambda text: "[]"), "header is a list"),
    "a name twice": (
        "gpt2", header_text(lambda text: text.replace("h.1.ln_1.bias", "h.1.ln_2.bias")),
        "the name 'transformer.h.1.ln_2.bias' stands twice",
    ),
    "no offsets": ("gpt2", entry(WTE, data_offsets=None), f"entry for {WTE} has no sound"),
    "negative offsets": ("gpt2", entry(LN, data_offsets=[-8, 0]), f"entry for {LN} has no sound"),
    "true as a size": ("gpt2", entry(LN, shape=[True, 8]), r"no sound .*\[True, 8\]"),
    "unknown dtype": ("gpt2", entry(WTE, dtype="F8_E4M3"), "of F8_E4M3 is not read: .* numbers of F64, F32, F16, BF16"),
    "another shape than bytes": ("gpt2", entry(WTE, shape=[13, 9]), "takes 936 bytes"),
    "overlapping offsets": ("gpt2", entry(LN, data_offsets=moved(-8)), f"{LN} overlaps"),
    "a gap": ("gpt2", entry(LN, data_offsets=moved(8)), f"{LN} leaves a gap"),
    "truncated numbers": ("gpt2", cut(-10), "cut short: its arrays end at"),
    "bytes too many": ("gpt2", numbers(lambda data: data + b"123"), "3 bytes after its last array"),
    "NaN": ("gpt2", number(np.nan, "<f8"), "wte.weight holds NaN"),
    "beyond float32": ("gpt2", number(1e200, "<f8"), "beyond float32"),
    "infinity in an adapter": ("lora", number(np.inf, "<f8"), "lora_B.weight holds infinity"),
    "integers": ("lora", entry(A, dtype="I64"), "of I64 is not read: .* numbers of F64"),
    "swapped keys": ("lora", swapped(A, B), r"lora_A.weight has shape \(32, 2\) where \(2, 8\) is needed"),
    "swapped keys of the base": (
        "gpt2", swapped("transformer.h.0.mlp.c_fc.weight", "transformer.h.0.mlp.c_proj.weight"), "config.json asks for",
    ),
    "transposed": ("lora", entry(A, shape=[8, 2]), r"\(8, 2\) where \(2, 8\) is needed: it is transposed"),
    "a layer of the base missing": ("gpt2", without("h.1."), "lacks 12 of 28 tensors: h.1.ln_1.weight"),
    "a layer missing": ("lora", without("h.1."), "4 of 8 tensors that adapter_config.json asks for are missing"),
    "one half of a pair missing": ("lora", without("h.1.mlp.c_fc.lora_B"), "1 of 8 tensors"),
    "no prefix": ("lora", names(lambda name: name.removeprefix("base_model.model.")), "lacks the prefix base_model"),
    "an unknown key": ("lora", config(target_modules=["mlp.c_fc"], rank_pattern={}, alpha_pattern={}, r=2),
                       "4 tensors are unknown, .*c_attn"),
    "an unknown key of the base": ("gpt2", config(n_layer=1), "a GPT-2 of this config does not have: h.1"),
    "wrong rank": ("lora", config(r=3), r"has shape \(4, 8\) where \(3, 8\)"),
    "no rank": ("lora", config("r"), "r must be a whole number of at least 1, not None"),
    "no alpha": ("lora", config("lora_alpha"), "lora_alpha must be a positive number, not None"),
    "alpha zero": ("lora", config(lora_alpha=0), "lora_alpha must be a positive number, not 0"),
    "dropout of one": ("lora", config(lora_dropout=1.0), "lora_dropout must lie in"),
    "alpha for nobody": ("lora", config(alpha_pattern={"c_fcc": 3}), "alpha_pattern names 'c_fcc'"),
    "not a regular expression": ("lora", config(target_modules="(c_fc"), "not a regular expression"),
    "a list for a table": ("lora", config(alpha_pattern=["c_fc"]), r"alpha_pattern is \['c_fc'\], which makes no sense"),
    "a number for targets": ("lora", config(target_modules=3), "target_modules is 3, which makes no sense"),
    "targets of another model": ("lora", config(target_modules=["q_proj"]), "matches none of attn.c_attn"),
    "a layer that is not there": ("lora", config(layers_to_transform=[5]), "names layer 5"),
    "layers of another name": ("lora", config(layers_to_transform=[0], layers_pattern="layers"), "layers_pattern"),
    "another task": ("lora", config(task_type="SEQ_CLS"), "task_type is 'SEQ_CLS'; this model"),
    "a field of tomorrow": ("lora", config(use_magic=True), "use_magic is True, which changes the adapter"),
    "kind of tomorrow": ("lora", config(peft_type="MAGIC"), "peft_type is 'MAGIC'"),
    "no kind": ("lora", config("peft_type"), "peft_type is None"),
    "prefix without task_type": ("prefix", config("task_type"), "task_type is None"),
    "prompt for another task": ("prompt", config(task_type="SEQ_2_SEQ_LM"), "task_type is 'SEQ_2_SEQ_LM'; this model"),
    "prefix of another length": ("prefix", config(num_virtual_tokens=4), r"\(3, 32\) where \(4, 32\)"),
    "prompt without its length": ("prompt", config("num_virtual_tokens"), "num_virtual_tokens must be a whole"),
    "prompt too long": ("prompt", config(num_virtual_tokens=16), r"\(3, 8\) where \(16, 8\)"),
    "prefix for other layers": ("prefix", config(num_layers=3), "num_layers is 3; for this model it must be 2"),
    "prompt for another width": ("prompt", config(token_dim=4), "token_dim is 4"),
    "prefix read as a prompt": ("prefix", config(peft_type="PROMPT_TUNING"), r"\(3, 32\) where \(3, 8\)"),
    "a prompt under another name": ("prompt", names(lambda name: P + name), "prompt_embeddings first; peft"),
    "config cut short": ("gpt2", config_text('{"model_type": "gp'), "config.json is not JSON"),
    "adapter config cut short": ("lora", config_text("{"), "adapter_config.json is not JSON"),
    "config a list": ("gpt2", config_text("[]"), "config.json is a list"),
    "no config": ("lora", renamed("adapter_config.json", "a.json"), "no adapter_config.json in"),
    "a named adapter": ("lora", renamed("adapter_config.json", "mine/adapter_config.json"), "names of their own: mine"),
    "no tensors": ("lora", renamed("adapter_model.safetensors", "x"), "no file .*adapter_model.safetensors"),
    "a pickle": ("lora", renamed("adapter_model.safetensors", "adapter_model.bin"), "adapter_model.bin, a pickle"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["gpt2", *METHODS])
def test_the_sound_folder_loads(tmp_path, kind):
    load(kind, sound(kind, tmp_path))


def refusal(name, folder):
    """(the message, the model after it), for one case."""
    kind, damage, _ = CASES[name]
    damage(sound(kind, folder))
    model = None if kind == "gpt2" else tiny_model()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_gpt2(folder) if kind == "gpt2" else import_peft(model, folder)
    return str(caught.value), model


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_folder_is_refused(tmp_path, name):
    message, model = refusal(name, tmp_path)
    assert pytest.raises(ValueError, match=CASES[name][2]).matches(ValueError(message)), message
    assert "Traceback" not in message
    if model:
        assert fingerprint(model) == fingerprint(tiny_model())
        assert not getattr(model, "peft", ())
        assert all(p.requires_grad for _, p in model.named_parameters())


def test_no_two_messages_are_the_same(tmp_path):
    seen = {}
    for i, name in enumerate(CASES):
        folder = tmp_path / str(i)
        message = refusal(name, folder)[0].replace(str(folder), "")
        assert seen.setdefault(message, name) == name


def test_a_folder_left_half_way_is_not_loadable(tmp_path, monkeypatch):
    """Writing over an adapter fails between its two files: what is left has no config."""
    import os

    sound("lora", tmp_path)
    first, replace = (tmp_path / "adapter_model.safetensors").read_bytes(), os.replace

    def fails_at_the_config(source, target):
        if "config" in str(target):
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr("minipeft.interop.tensors.os.replace", fails_at_the_config)
    with pytest.raises(OSError, match="no space"):
        sound("prefix", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_model.safetensors"]
    assert (tmp_path / "adapter_model.safetensors").read_bytes() != first
    with pytest.raises(FileNotFoundError, match=r"no adapter_config.json"):
        load("lora", tmp_path)


def test_a_failed_write_leaves_the_old_folder(tmp_path, monkeypatch):
    import safetensors.numpy

    sound("lora", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(safetensors.numpy, "save_file", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sound("prefix", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; a folder is written here"):
        sound("lora", tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        import_peft(tiny_model(), tmp_path / "nowhere")
