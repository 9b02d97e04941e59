"""Files that are not what their name says: each message says what is there instead, and what to do."""

import builtins
import io
import json
import os

import numpy as np
import pytest
from specimens import tiny_model

from minipeft import LoRA, get_peft_model, load_adapter, save_adapter
from minipeft.__main__ import main
from minipeft.files import FileError, read_npz
from minipeft.interop import export_peft, import_peft, load_gpt2, load_tokenizer, save_gpt2
from minipeft.training.tokens import Tokens

pytest.importorskip("safetensors", reason="needs safetensors: pip install minipeft[hf-test]")

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146e1c2e5c6c7c9a0b1\nsize 548105171\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with one of each: gpt2/, there/ (an adapter of peft), adapter.npz and tokens.json."""
    monkeypatch.chdir(tmp_path)
    save_gpt2(tiny_model(), "gpt2")
    (tmp_path / "gpt2" / "tokenizer.json").write_text("{}")
    model = get_peft_model(tiny_model(), LoRA(r=2))
    save_adapter(model, "adapter.npz")
    export_peft(model, "there", base_name="gpt2")
    Tokens().save("tokens.json")
    return tmp_path


READERS = {
    "gpt2/config.json": lambda: load_gpt2("gpt2"),
    "gpt2/model.safetensors": lambda: load_gpt2("gpt2"),
    "gpt2/tokenizer.json": lambda: load_tokenizer("gpt2"),
    "there/adapter_config.json": lambda: import_peft(tiny_model(), "there"),
    "there/adapter_model.safetensors": lambda: import_peft(tiny_model(), "there"),
    "adapter.npz": lambda: load_adapter(tiny_model(), "adapter.npz"),
    "tokens.json": lambda: Tokens.load("tokens.json"),
}
every_reader = pytest.mark.parametrize("name", READERS)


def message(act, kind=FileError):
    """What the error says, in one line."""
    with pytest.raises(kind) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def read(name):
    if name.endswith("tokenizer.json"):
        pytest.importorskip("tokenizers", reason="needs tokenizers: pip install minipeft[hf-test]")
    return message(READERS[name])


@every_reader
def test_a_pointer_of_git_lfs_is_known(here, name):
    (here / name).write_text(POINTER)
    said = read(name)
    assert said.startswith(f"{name} is a Git LFS pointer")
    assert "git lfs pull" in said
    assert "damaged" not in said


@every_reader
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")], ids=repr
)
def test_what_the_system_does_not_let_be_read_is_not_called_damaged(here, name, error, monkeypatch):
    whole = io.open

    def refuses(path, *args, **kwargs):
        if str(path).endswith(name):
            raise error
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuses)
    monkeypatch.setattr(io, "open", refuses)
    assert read(name) == f"{name} cannot be read: {error.strerror}"


@pytest.mark.parametrize("name", ["gpt2/model.safetensors", "there/adapter_model.safetensors", "adapter.npz"])
def test_a_disk_that_fails_in_the_middle(here, name, monkeypatch):
    """The first bytes come, and an input/output error after them."""
    whole = io.open

    class Failing(io.FileIO):
        def readinto(self, buffer):
            return self.fail() if self.tell() >= 64 else super().readinto(buffer)

        def read(self, size=-1):
            return self.fail() if self.tell() >= 64 else super().read(size)

        def fail(self):
            raise OSError(5, "Input/output error")

    def fails(path, mode="r", *args, **kwargs):
        return Failing(path) if str(path).endswith(name) and mode == "rb" else whole(path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", fails)
    monkeypatch.setattr(io, "open", fails)
    said = read(name)
    assert said.startswith(name)
    assert said.endswith("cannot be read: Input/output error")


@every_reader
def test_a_folder_of_that_name(here, name):
    (here / name).unlink()
    (here / name).mkdir()
    assert f"{name} is not a file but a folder" in read(name)


@every_reader
def test_a_link_to_nothing(here, name):
    (here / name).unlink()
    (here / name).symlink_to("blobs-elsewhere")
    if name.endswith("tokenizer.json"):
        pytest.importorskip("tokenizers", reason="needs tokenizers: pip install minipeft[hf-test]")
    said = message(READERS[name], FileNotFoundError)
    assert said == f"{name} is a link to blobs-elsewhere, which is not there"


def test_a_name_that_is_too_long_is_the_systems_word():
    name = "a" * 300 + ".npz"
    assert message(lambda: read_npz(name, "adapter")) == f"{name} cannot be read: File name too long"


def test_a_file_that_becomes_shorter_while_it_is_read(here):
    from minipeft.interop.tensors import read_tensors

    tensors, _ = read_tensors(here / "gpt2" / "model.safetensors")
    os.truncate("gpt2/model.safetensors", 2000)
    said = message(lambda: [tensor.read() for tensor in tensors.values()])
    assert "it became shorter while it was read" in said


def test_an_adapter_that_asks_for_more_memory_than_there_is_is_not_only_called_damaged(here, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError("Unable to allocate 3.5 TiB")

    monkeypatch.setattr(np, "load", no_memory)
    assert "there is not the memory that it asks for" in message(READERS["adapter.npz"])


@pytest.mark.parametrize("name", ["there/adapter_config.json", "gpt2/config.json", "tokens.json"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_name_that_stands_twice_in_json_is_refused(here, name, depth):
    """Python takes the last of two and drops the first in silence; peft too."""
    text = (here / name).read_text()
    field = json.dumps(next(iter(json.loads(text))))
    twice = ["{" + field + ": 1, " + text.strip()[1:], '{"x": {"a": 1, "b": 2, "a": 3}, ' + text.strip()[1:]]
    (here / name).write_text(twice[depth])
    assert f"{name}: the name {[json.loads(field), 'a'][depth]!r} stands twice" in read(name)


# What belongs to another command


def command(capsys, *words):
    """What a command that fails says, in one line."""
    assert main([str(word) for word in words]) == 1
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert not out
    return err


def test_a_folder_of_peft_in_the_place_of_an_adapter_file(here, capsys):
    for words in [
        ("generate", "--adapter", "there"),
        ("export", "there", "--to", "out", "--base", "gpt2"),
        ("generate", "--adapter", "there/adapter_model.safetensors"),
        ("inspect", "there/adapter_config.json"),
    ]:
        assert "`minipeft import there` makes an adapter file of it" in command(capsys, *words), words


def test_a_base_in_the_place_of_an_adapter_and_an_adapter_in_the_place_of_a_base(here, capsys):
    assert "it is a base, `--base gpt2`" in command(capsys, "generate", "--adapter", "gpt2")
    assert "it is a base, `--base gpt2`" in command(capsys, "generate", "--adapter", "gpt2/model.safetensors")
    assert "--base gpt2" in command(capsys, "import", "gpt2")
    assert "`minipeft import there`" in command(capsys, "export", "adapter.npz", "--to", "out", "--base", "there")
    assert "--adapter" in command(capsys, "export", "adapter.npz", "--to", "out", "--base", "adapter.npz")
    assert "--adapter, takes minipeft's own files" in command(capsys, "import", "adapter.npz")
    assert "its folder" in command(capsys, "import", "there/adapter_config.json")


def test_a_base_path_of_another_machine_is_named_with_its_file_and_the_remedy(here, capsys):
    path = here / "there" / "adapter_config.json"
    config = json.loads(path.read_text())

    def said(name, *words):
        path.write_text(json.dumps(config | {"base_model_name_or_path": name}))
        return command(capsys, "import", "there", *words)

    elsewhere = said("/elsewhere/models/gpt2")
    for part in ("there/adapter_config.json", "base_model_name_or_path", "there is no folder /elsewhere/models/gpt2"):
        assert part in elsewhere
    assert "--base" in elsewhere
    (here / "llama").mkdir()
    (here / "llama" / "config.json").write_text('{"model_type": "llama"}')
    of_another_kind = said("llama")
    assert "there/adapter_config.json names 'llama'" in of_another_kind
    assert "only 'gpt2' can be loaded; --base says" in of_another_kind
    unnamed = said(None)
    assert "has no base_model_name_or_path, and english was taken" in unnamed
    assert "--base says" in unnamed
    assert "base_model_name_or_path" not in said("gpt2", "--base", "nowhere/at/all")
    path.write_text(json.dumps(config | {"base_model_name_or_path": "elsewhere"}))
    assert main(["import", "there", "--base", "gpt2"]) == 0


def test_a_full_disk_is_one_line_that_names_the_folder(here, monkeypatch):
    """The library has an error of its own for it, which is neither a ValueError nor an OSError."""
    import safetensors.numpy

    save_file = safetensors.numpy.save_file

    def full(arrays, path, metadata):
        save_file(arrays, path, metadata=metadata)
        os.truncate(path, 64)
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    before = sorted(path.name for path in (here / "there").iterdir())
    said = message(lambda: export_peft(get_peft_model(tiny_model(), LoRA(r=3)), "there"), OSError)
    assert said.startswith("there could not be written: ")
    assert "No space left on device" in said
    assert sorted(path.name for path in (here / "there").iterdir()) == before
    import_peft(tiny_model(), "there")
