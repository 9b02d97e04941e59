"""The command line on a GPT-2 folder: one command fine-tunes it, others write with it, export, look at and import."""

import pytest
from test_interop_gpt2 import TEXT, torch_gpt2, train_tokenizer

from minipeft.__main__ import main
from minipeft.commands import finetune
from minipeft.interop import load_gpt2, load_tokenizer
from minipeft.training import AdamW, text_batches

peft = pytest.importorskip("peft", reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run("finetune", ...) -> (exit status, stdout, stderr), in a folder with gpt2/ and text.txt."""
    monkeypatch.chdir(tmp_path)
    torch_gpt2((64, 48, 32, 2, 4)).save_pretrained("gpt2")
    train_tokenizer(tmp_path / "gpt2")
    (tmp_path / "text.txt").write_text(TEXT.replace(". ", ".\n"), encoding="utf-8")

    def run(*argv):
        capsys.readouterr()
        status = main([str(arg) for arg in argv])
        return status, *capsys.readouterr()

    return run


def test_one_command_fine_tunes_a_downloaded_gpt2_on_a_text_file(run, tmp_path):
    status, out, _ = run("finetune", "text.txt", "--base", "gpt2", "--targets", "*", "--batch", 4, "--lr", 0.01)
    assert status == 0
    before, after = (
        float(word) for word in out.split("held-out text: ")[1].split(" bits a character")[0].split(" -> ")
    )
    assert after < before / 2
    assert "--base gpt2" in out.splitlines()[-1]

    greedy = ("generate", "--base", "gpt2", "--prompt", "Warm air", "--length", 8, "--temperature", 0)
    _, plain, _ = run(*greedy)
    status, ours, _ = run(*greedy, "--adapter", "adapter.npz")
    assert status == 0
    assert plain.startswith("Warm air")
    assert ours.startswith("Warm air holds more")

    status, out, _ = run("export", "adapter.npz", "--to", "there", "--base", "gpt2")
    assert status == 0
    assert "PeftModel.from_pretrained" in out
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained("gpt2"), "there").eval()
    words = transformers.AutoTokenizer.from_pretrained("gpt2")
    ids = words("Warm air", return_tensors="pt").input_ids
    theirs = theirs.generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert words.decode(theirs[0]) == ours.rstrip("\n")

    status, out, _ = run("inspect", "there")
    assert status == 0
    assert "peft_type LORA" in out
    assert "h.1.mlp.c_fc" in out
    status, _, _ = run("import", "there")
    assert status == 0
    assert run(*greedy, "--adapter", "there.npz")[1] == ours


def test_a_folder_is_trained_one_sequence_a_step_at_a_tenth_of_the_rate(run, monkeypatch):
    seen = []
    monkeypatch.setattr(finetune, "text_batches", lambda ids, T, N: seen.append((T, N)) or text_batches(ids, T, N))
    monkeypatch.setattr(finetune, "AdamW", lambda model, lr: seen.append(lr) or AdamW(model, lr))
    assert run("finetune", "text.txt", "--base", "gpt2", "--steps", 1)[0] == 0
    assert seen == [(32, 1), pytest.approx(1e-3)]


@pytest.mark.parametrize("method", ["adapter", "prefix", "prompt", "full"])
def test_methods_that_reach_other_layers_fine_tune_a_gpt2_folder(run, method):
    status, out, _ = run("finetune", "text.txt", "--base", "gpt2", "--steps", 3, "--method", method)
    assert status == 0
    assert "bits a character" in out
    assert run("generate", "--base", "gpt2", "--adapter", "adapter.npz", "--prompt", "Ice", "--length", 4)[0] == 0
    status, _, err = run("export", "adapter.npz", "--to", "there", "--base", "gpt2")
    assert status == (method in ("adapter", "full"))
    assert {"adapter": "save_adapter", "full": "save_gpt2"}.get(method, "") in err


def test_what_cannot_be_done_with_a_base_is_one_line(run, tmp_path, monkeypatch):
    for words, message in [
        (("finetune", "text.txt", "--base", "nowhere/at/all"), "there is no folder nowhere/at/all"),
        (("finetune", "text.txt", "--base", "symbols"), "the base symbols knows no text"),
        (("finetune", "text.txt", "--base", "gpt2", "--out", "gpt2"), "gpt2 is a folder; a file is to be written"),
        (("finetune", "text.txt", "--base", "gpt2", "--length", 400), "choose --length 48 or less"),
        (("generate", "--base", "gpt2", "--prompt", ""), "at least one token"),
        (("export", "nothing.npz", "--to", "there", "--base", "gpt2"), "there is no file nothing.npz"),
        (("import", "gpt2"), "adapter_config.json"),
        (("finetune", "text.txt", "--base", "gpt2", "--checkpoint", "nowhere/a.npz"), "there is no folder"),
        (("inspect", "gpt2"), "adapter_config.json"),
    ]:
        status, _, err = run(*words)
        assert status == 1, words
        assert message in err, words
        assert len(err.splitlines()) == 1, words
    assert run("finetune", "text.txt", "--base", "gpt2", "--steps", 1)[0] == 0
    assert run("export", "adapter.npz", "--to", "there", "--base", "gpt2")[0] == 0
    monkeypatch.setattr("os.access", lambda *_: False)
    for words in [
        ("finetune", "text.txt", "--base", "gpt2", "--steps", 1),
        ("finetune", "text.txt", "--base", "gpt2", "--steps", 1, "--checkpoint", "run.npz"),
        ("export", "adapter.npz", "--to", "there", "--base", "gpt2"),
        ("import", "there", "--base", "gpt2"),
    ]:
        status, out, err = run(*words)
        assert "may not be written to" in err, words
        assert (status, out, len(err.splitlines())) == (1, "", 1), words
    (tmp_path / "gpt2" / "tokenizer.json").unlink()
    assert "there is no tokenizer.json" in run("generate", "--base", "gpt2", "--prompt", "Ice")[2]


def test_an_adapter_without_a_sound_name_of_its_base_is_refused(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": 5}')
    (tmp_path / "there" / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    status, _, err = run("import", "there")
    assert status == 1
    assert "base_model_name_or_path is 5" in err


def test_a_tokenizer_of_another_model_is_refused(run, tmp_path):
    torch_gpt2((40, 48, 32, 2, 4)).save_pretrained("gpt2")
    assert load_tokenizer("gpt2").get_vocab_size() > load_gpt2("gpt2").config.vocab_size
    status, _, err = run("generate", "--base", "gpt2", "--prompt", "Ice")
    assert status == 1
    assert "the model knows 40" in err
