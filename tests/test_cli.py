"""The command line as a user meets it: what it prints, writes and refuses."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minipeft.__main__ import COMMANDS, main, parse
from minipeft.commands import bench, finetune, tour
from minipeft.files import read_npz
from minipeft.interop.peft_methods import translation
from minipeft.lab.ledger import count_parameters
from minipeft.lab.memorised import copied
from minipeft.methods import METHODS, LoRA, load_adapter
from minipeft.methods.wrapper import wrappers_of
from minipeft.training import (
    evaluate,
    fit,
    load_base,
    load_tokens,
    read_text,
    split_lines,
    text_batches,
    text_windows,
    train_step,
)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run("tour", ...) -> (exit status, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(read_text("climate")[:4000], encoding="utf-8")
    return path


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert all(name in err for name in COMMANDS)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("--rank", "; did you mean --r?"), ("--lora-alpha=3", ""), ("-r", "; did you mean --r?"),
     ("--step", None), ("--metod", "; did you mean --method?"), ("--xyz", "")],
)  # fmt: skip
def test_an_unknown_option_is_answered_with_the_most_like(given, meant, capsys):
    if meant is None:  # argparse takes the beginning of a name
        assert parse(["finetune", "a.txt", given, "3"]).steps == 3
        return
    with pytest.raises(SystemExit):
        parse(["finetune", "a.txt", given, "3"])
    assert capsys.readouterr().err.splitlines()[-1].endswith(meant or "3")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "minipeft", "inspect", "nothing.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "minipeft inspect: there is no file nothing.npz"


def test_the_tour_trains_and_measures_on_different_sentences(run, tmp_path, monkeypatch):
    trained_on, told = [], []
    print_table = tour.print_table
    monkeypatch.setattr(tour, "read_text", lambda name: read_text(name)[:9000])
    monkeypatch.setattr(tour, "text_batches", lambda ids, T, N: trained_on.append(ids) or text_batches(ids, T, N))
    monkeypatch.setattr(tour, "print_table", lambda rows, *before: told.append(before) or print_table(rows, *before))
    status, out, _ = run("tour", "--steps", 4)
    assert status == 0
    tokens, base = load_tokens(), load_base("english", "float32")
    train, held_out = split_lines(read_text("climate")[:9000])
    assert [ids.tolist() for ids in trained_on] == 5 * [tokens.encode(train).tolist()]
    texts = held_out, read_text("conversation")[:9000]
    assert told == [tuple(tour.Text(text, tokens).bits(base) for text in texts)]
    for label in ("lora", "adapter", "prefix", "prompt", "full"):
        assert len([line for line in out.splitlines() if line.startswith(label + " ")]) == 2
    assert out.count("bitwise the same") == 5
    before, after = zip(
        *[line.split(" | ") for line in out.splitlines() if " | " in line and "it/s" not in line], strict=True
    )
    assert " ".join(before).split() != " ".join(after).split()
    assert max(map(len, out.splitlines())) <= 120
    assert (tmp_path / "tour.png").read_bytes().startswith(b"\x89PNG")


class Careless(LoRA):
    """Moves the base, which no method may."""

    def after_step(self, model, step, steps):
        model.wpe.weight.data[0] += 1


@pytest.mark.parametrize(("method", "base"), [(LoRA(r=2), "bitwise the same"), (Careless(r=2), "CHANGED")])
def test_a_row_of_the_tour_is_what_was_measured(method, base, monkeypatch):
    runs, tokens, text = [], load_tokens(), read_text("climate")[:3000]
    first, samples = text.splitlines()[0], iter([read_text("conversation")[:200], text[:200]])

    def noted(model, *words, **options):
        runs.append((model, fit(model, *words, **options)))
        return runs[0][1]

    monkeypatch.setattr(tour, "fit", noted)
    monkeypatch.setattr(tour, "write", lambda *words, **options: next(samples))
    new, old, args = tour.Text(text, tokens), tour.Text(first * 9, tokens), SimpleNamespace(steps=2, seed=0)
    row = tour.one_method("mine", method, "The", tokens.encode(text), new, old, args)
    ((model, history),) = runs
    assert row["base"] == base
    assert row["trained"] == sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
    assert row["share"] == row["trained"] / sum(p.data.size for _, p in load_base("english").named_parameters())
    assert (row["bits"][-1], row["old"]) == pytest.approx((new.bits(model), old.bits(model)))
    assert row["ms"] == 1000 * np.median(history.seconds)
    assert row["sample_after"].startswith(first)
    assert row["copied"] > 0.5 > copied(tokens.encode(row["sample_before"]), tokens.encode(text))[0]


ROW = {
    "label": "lora", "trained": 12345, "share": 0.0234, "bits": [9.0, 1.25], "old": 1.75, "copied": 0.25, "ms": 12.3,
    "activations": 3_140_000, "optimizer": 5600, "base": "bitwise the same",
    "sample_before": "The sea is what I said.", "sample_after": "The sea is warm, and the wind is cold.",
}  # fmt: skip
TABLE = """\
            trained   share  climate, held out     chats     by   ms a  activa-   optim-
            numbers           bits a character      lost  heart   step tions MB  izer kB  base
lora         12,345   2.34%    2.000 -> 1.250     +0.250    25%     12      3.1      5.6  bitwise the same
"""
SAMPLES = """\
      the base                    after training
lora  The sea is what I said.   | The sea is warm, and the
                                | wind is cold.
"""


def test_the_table_and_the_samples_of_the_tour(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    tour.print_table([ROW], 2.0, 1.5)
    assert capsys.readouterr().out.partition("\nchats lost:")[0] == TABLE
    tour.print_samples([ROW])
    assert capsys.readouterr().out == f"{SAMPLES}\n"


def test_each_prompt_of_the_tour_begins_a_held_out_sentence():
    held_out = split_lines(read_text("climate"))[1].splitlines()
    assert all(any(line.startswith(f"{prompt} ") for line in held_out) for prompt in tour.PROMPTS)
    assert len(set(tour.PROMPTS)) == len(tour.DEFAULT.split(","))


def test_the_tour_refuses_a_folder_that_is_not_there(run):
    status, _, err = run("tour", "--out", "nowhere/tour.png")
    assert status == 1
    assert "there is no folder" in err


@pytest.mark.parametrize(
    "settings",
    [
        ("lora", "--r", 2, "--alpha", 4, "--dropout", 0.1, "--targets", "*.c_fc"),
        ("lora", "--r", 3, "--train", "B", "--rslora"),
        ("lora", "--r", 2, "--targets", "*_proj,*.c_fc"),
        ("adapter", "--m", 4, "--kind", "parallel"),
        ("prefix", "--m", 2),
        ("prefix", "--m", 2, "--reparametrise"),
        ("prompt", "--m", 2),
        ("full",),
    ],
    ids=lambda settings: " ".join(map(str, settings)),
)
def test_finetune_saves_an_adapter_that_inspect_and_generate_read(run, text, settings):
    status, out, _ = run("finetune", text, "--method", *settings, "--steps", 4, "--length", 40, "--out", "a.npz")
    assert status == 0
    assert "held-out text:" in out
    assert "after  |" in out
    status, out, _ = run("inspect", "a.npz")
    assert status == 0
    assert f"method   {METHODS[settings[0]].__name__}(" in out
    assert ("ΔW = s A B" in out) == (settings[0] == "lora")
    status, out, _ = run("generate", "--adapter", "a.npz", "--prompt", "The sea", "--length", 150, "--seed", 3)
    assert status == 0
    assert out.startswith("The sea")
    assert len(load_tokens().encode(out)) == pytest.approx(152, abs=12)  # tokens may be written in more than one way


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_trained_looked_at_and_goes_to_peft_and_back_or_says_why_not(run, text, method):
    status, _, _ = run("finetune", text, "--method", method, "--steps", 2, "--length", 40, "--out", "a.npz")
    assert status == 0
    status, out, _ = run("inspect", "a.npz")
    assert status == 0
    arrays = read_npz("a.npz", "adapter")[1]
    rows = [line.split() for line in out.split("largest\n")[1].split("\n\n")[0].splitlines()]
    assert [row[0] for row in rows] == list(arrays)
    assert ("ΔW = s A B" in out) == issubclass(METHODS[method], LoRA)
    pytest.importorskip("safetensors", reason="writing for peft needs it: pip install minipeft[hf]")
    status, _, err = run("export", "a.npz", "--to", "there")
    said = translation(METHODS[method])
    brought = {type(w) for _, w in wrappers_of(load_adapter(load_base("english"), "a.npz"))}
    if said is None or not brought <= set(said.wrappers):
        assert status == 1
        assert "peft" in err
        assert "save_gpt2(model, path)" in err or "save_adapter(model, path)" in err
        return
    assert (status, err) == (0, "")
    status, out, _ = run("inspect", "there")
    assert status == 0
    assert ("ΔW = s A B" in out) == (said.types[0] == "LORA" and not said.variant.get("use_dora", False))
    status, out, _ = run("import", "there", "--base", "english", "--to", "b.npz")
    assert status == 0
    assert f"\ntrained: {sum(array.size for array in arrays.values()):,} numbers; base: english\n" in out
    ids = np.arange(40)[None] % 96
    (one, _), (other, _) = (load_adapter(load_base("english"), name)(ids) for name in ("a.npz", "b.npz"))
    assert abs(one - other).max() < 1e-4 * abs(one).max()
    assert abs(one - load_base("english")(ids)[0]).max() > 1e-3 * abs(one).max()


def test_finetune_improves_the_held_out_text_and_says_by_how_much(run, text, monkeypatch):
    trained_on, histories, tokens = [], [], load_tokens()

    def noted(*words, **options):
        histories.append(fit(*words, **options))
        return histories[0]

    monkeypatch.setattr(finetune, "text_batches", lambda ids, T, N: trained_on.append(ids) or text_batches(ids, T, N))
    monkeypatch.setattr(finetune, "fit", noted)
    _, out, _ = run("finetune", text, "--steps", 30, "--length", 60)
    train, held_out = (tokens.encode(part) for part in split_lines(text.read_text(encoding="utf-8")))
    assert [ids.tolist() for ids in trained_on] == [train.tolist()]
    base, tuned = load_base("english", "float32"), load_adapter(load_base("english", "float32"), "adapter.npz")
    before, after = (evaluate(model, text_windows(held_out, 60, 16)) for model in (base, tuned))
    best = before._replace(loss=min(histories[0].val_loss))
    its_step = histories[0].val_step[histories[0].val_loss.index(best.loss)]
    measured = tokens.decode(held_out[1 : before.tokens + 1])
    bits = [one.bits_a_character(measured) for one in (before, after, best)]
    assert bits[1] < bits[0] - 0.05
    said = "held-out text: {:.3f} -> {:.3f} bits a character, best of the run {:.3f} after {} steps\n"
    assert said.format(*bits, its_step) in out
    perplexity = [one.perplexity for one in (before, after, best)]
    assert "perplexity a token: {:.1f} -> {:.1f}, best of the run {:.1f}; ".format(*perplexity) in out
    trained = sum(array.size for array in read_npz("adapter.npz", "adapter")[1].values())
    total = trained + sum(p.data.size for _, p in base.named_parameters())
    assert f"\ntrains {trained:,} of {total:,} numbers ({trained / total:.2%})\n" in out


def test_finetune_writes_over_no_adapter_that_was_not_named(run, text):
    written = {}
    for i, name in enumerate(("adapter.npz", "adapter-2.npz", "adapter-3.npz")):
        out = run("finetune", text, "--steps", 1, "--length", 16, "--batch", 1, "--seed", i)[1]
        assert f"saved to {name}; use it with: minipeft generate --adapter {name}" in out
        written[name] = Path(name).read_bytes()
    assert all(Path(name).read_bytes() == data for name, data in written.items())


def test_finetune_takes_another_name_where_its_own_was_taken_meanwhile(run, text, monkeypatch):
    train = finetune.fit

    def meanwhile(*arguments, **options):
        Path("adapter.npz").write_bytes(b"of another run")
        return train(*arguments, **options)

    monkeypatch.setattr(finetune, "fit", meanwhile)
    assert "saved to adapter-2.npz" in run("finetune", text, "--steps", 1, "--length", 16, "--batch", 1)[1]
    assert Path("adapter.npz").read_bytes() == b"of another run"


def test_lines_that_are_not_trained_on_are_not_said_to_be(run, tmp_path):
    """Of a long paragraph and a few lines the last fifth is held out, whole lines or not; it begins with a whole word."""
    lines = read_text("climate").splitlines()
    path = tmp_path / "few.txt"
    path.write_text(" ".join(lines[:80]) + "\n" + "\n".join(lines[80:83]) + "\n", encoding="utf-8")
    status, out, _ = run("finetune", path, "--steps", 1, "--length", 100, "--batch", 1)
    assert status == 0
    assert "stand in the training part" not in out
    prompt = re.search(r"^before \| (\S+)", out, re.M)[1]
    assert prompt.strip(".,") in path.read_text("utf-8").replace(".", "").replace(",", "").split()


def test_a_shipped_text_goes_by_its_name_where_there_is_no_such_file(run, tmp_path):
    status, out, _ = run("finetune", "recipes", "--steps", 1, "--length", 16, "--batch", 1)
    assert status == 0
    assert "stand in the training part" not in out
    line = read_text("recipes").splitlines()[0]
    check = ("generate", "--prompt", line, "--length", 0, "--check", "recipes")
    assert "\n100% of it stands word for word in recipes" in run(*check)[1]
    (tmp_path / "recipes").write_text("Nothing of it stands here.\n")
    assert "\n0% of it stands word for word in recipes" in run(*check)[1]


def test_finetune_says_when_what_is_held_out_is_trained_on(run, text):
    text.write_text("The cat sat on the mat and slept.\n" * 90 + read_text("climate")[:4000], encoding="utf-8")
    out = run("finetune", text, "--steps", 1, "--length", 16, "--batch", 1)[1]
    share = re.search(r"(\d+)% of the held-out lines stand in the training part, too", out)
    held_out = split_lines(text.read_text("utf-8"))[1].splitlines()
    assert int(share[1]) == round(100 * sum(line.startswith("The cat sat") for line in held_out) / len(held_out))


def test_a_prompt_leaves_room_for_virtual_tokens(run):
    """Half of what they leave: 80 of 128 positions are the prefix's."""
    assert run("finetune", "climate", "--steps", 1, "--batch", 1, "--method", "prefix", "--m", 80)[0] == 0
    status, out, _ = run(
        "generate", "--adapter", "adapter.npz", "--length", 3, "--prompt", "I like to read books. " * 20
    )
    assert status == 0
    assert "the model sees the last 24 of them" in out


def test_finetune_goes_on_from_a_checkpoint(run, text):
    common = ("finetune", text, "--steps", 4, "--length", 40, "--checkpoint", "run.npz", "--resume")
    status, out, _ = run(*common)
    assert status == 0
    assert "there is no checkpoint run.npz yet" in out  # a misspelt name must not pass for a run that went on
    status, out, _ = run(*common, "--out", "b.npz")
    assert status == 0
    assert "no checkpoint" not in out
    one, two = read_npz("adapter.npz", "adapter")[1], read_npz("b.npz", "adapter")[1]
    assert all((one[name] == two[name]).all() for name in one)


def test_every_character_can_be_said_and_another_language_is_called_one(run, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text("The sea is 3π wide — and “deep”.\n" * 60, encoding="utf-8")
    status, out, _ = run("finetune", path, "--steps", 2, "--length", 40)
    assert status == 0
    assert "not" not in out.split("held-out")[0].lower()
    path.write_text("Съешь ещё этих мягких французских булок.\n" * 60, encoding="utf-8")
    status, out, _ = run("finetune", path, "--steps", 2, "--length", 40)
    assert status == 0
    assert re.search(r"takes 1\.\d\d tokens a character, English about 0\.3: .* knows only English", out)
    status, out, _ = run("generate", "--prompt", "Ω is", "--length", 5)
    assert status == 0
    assert out.startswith("Ω is")


def test_generate_says_what_was_learned_by_heart(run, tmp_path):
    (tmp_path / "text.txt").write_text("The sea is warm and the wind comes from the north today.\n")
    prompt = ("--prompt", "The sea is warm and the wind comes from the north", "--length", 1)
    status, out, _ = run("generate", *prompt, "--check", "text.txt")
    assert status == 0
    share = int(re.search(r"(\d+)% of it stands word for word in text.txt, in runs of 8 tokens or more", out)[1])
    assert share > 80
    assert out.splitlines()[-1].startswith("The sea is warm and the wind comes")
    (tmp_path / "other.txt").write_text("Nothing of it stands here.\n")
    assert "\n0% of it stands" in run("generate", *prompt, "--check", "other.txt")[1]
    (tmp_path / "short.txt").write_text(
        "The sea is warm.\nThe wind is cold.\n" * 2
    )  # copied are lines, not their order
    short = run("generate", "--prompt", "The sea is warm.\nThe wind is cold.\n", "--length", 1, "--check", "short.txt")
    assert "\n0% of it stands" in short[1]
    status, _, err = run("generate", *prompt, "--check", "none.txt")
    assert status == 1
    assert "none.txt cannot be read" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("finetune", "missing.txt"), "No such file"),
        (
            ("finetune", "fine.txt", "--base", "englsh"),
            "and no folder of that name; did you mean english?",
        ),
        (("finetune", "fine.txt", "--targets", "q_proj"), "did you mean '*.q_proj'?"),
        (("finetune", "fine.txt", "--lr", "0"), "--lr must be above 0, not 0"),
        (("finetune", "fine.txt", "--workers", 65, "--batch", 1), "workers must be at most 64, not 65"),
        (("finetune", "short.txt"), "has 11 tokens; it needs at least 678"),
        (("finetune", "latin.txt"), "is not UTF-8 text (byte 3)"),
        (("finetune", "fine.txt", "--method", "prefix", "--r", 4), "prefix has no --r; it has: --m, --reparametrise"),
        (("finetune", "fine.txt", "--r", 0), "r must be a whole number in 1"),
        (("finetune", "fine.txt", "--alpha", -1), "alpha must be a positive number"),
        (("finetune", "fine.txt", "--dropout", 1), "dropout must lie in [0, 1)"),
        (("finetune", "fine.txt", "--targets", "*.c_attn"), "'*.c_attn' matches nothing"),
        (("finetune", "fine.txt", "--targets", "*_proj,*.c_fk"), "'*.c_fk' matches nothing"),
        (
            ("finetune", "fine.txt", "--method", "prompt", "--m", 100, "--length", 112),
            "128 positions, and 100 of them go to virtual tokens; choose --length 28 or less",
        ),
        (("finetune", "fine.txt", "--length", 200), "the base has 128 positions; choose --length 128 or less"),
        (("finetune", "fine.txt", "--lr", "1e30", "--method", "full", "--steps", 9), "Likely causes"),
        (("finetune", "fine.txt", "--lr", "-1"), "--lr must be above 0"),
        (("finetune", "fine.txt", "--resume"), "--checkpoint FILE"),
        (("finetune", "fine.txt", "--out", "nowhere/a.npz"), "there is no folder"),
        (("finetune", "fine.txt", "--out", "."), "is a folder; a file is to be written"),
        (("finetune", "fine.txt", "--out", ""), "is a folder; a file is to be written"),
        (("finetune", "fine.txt", "--out", "./fine.txt"), "must be different files"),
        (("finetune", "fine.txt", "--checkpoint", "fine.txt"), "must be different files"),
        (("finetune", "fine.txt", "--checkpoint", "adapter.npz"), "must be different files"),
        (("finetune", "fine.txt", "--checkpoint", "nowhere/c.npz"), "there is no folder"),
        (("finetune", "fine.txt", "--method", "adapter", "--m", 10**15), "Unable to allocate"),
        (("bench", "--one", "lora", "huge"), "--one takes lora, full or torch, and a size"),
        (("bench", "--one", "lara", "tiny"), "--one takes lora, full or torch, and a size"),
        (("tour", "--out", "."), "is a folder"),
        (("tour", "--out", "figure"), "--out figure ends in none of them"),
        (("tour", "--out", "tour.xyz"), "--out tour.xyz ends in none of them"),
        (("generate", "--adapter", "fine.txt"), "is not a readable minipeft adapter"),
        (("generate", "--prompt", ""), "the prompt is empty"),
        (("generate", "--temperature", "-1"), "temperature must be 0"),
        (("generate", "--top-k", "2049"), "top_k must lie in"),
        (("generate", "--adapter", ""), "is not a file"),
        (("inspect", "fine.txt"), "is not a readable minipeft adapter"),
        (("pretrain", "symbols", "--to", "nowhere"), "there is no folder"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_input_ends_in_one_line(run, tmp_path, argv, message):
    (tmp_path / "short.txt").write_text("Thirty characters, no more ...")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 400)
    (tmp_path / "fine.txt").write_text(read_text("climate"))
    status, out, err = run(*argv)
    last = err.strip().splitlines()[-1]
    assert status == 1
    assert last.startswith(f"minipeft {argv[0]}: ")
    assert message in last
    assert "Traceback" not in err
    assert not ("--out" in argv and "trains " in out)  # a place that cannot be written to is found before training
    assert not (tmp_path / "adapter.npz").exists()
    assert (tmp_path / "fine.txt").read_text() == read_text("climate")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("finetune", "fine.txt", "--steps", "0"), "--steps: must be at least 1, not 0"),
        (("finetune", "fine.txt", "--steps", "1e3"), "--steps: invalid whole number value: '1e3'"),
        (("finetune", "fine.txt", "--batch", "0"), "--batch: must be at least 1, not 0"),
        (("finetune", "fine.txt", "--length", "-5"), "--length: must be at least 1, not -5"),
        (("finetune", "fine.txt", "--seed", "-1"), "--seed: must be at least 0, not -1"),
        (("generate", "--seed", "-1"), "--seed: must be at least 0, not -1"),
        (("generate", "--length", "-1"), "--length: must be at least 0, not -1"),
        (("generate", "--top-k", "0"), "--top-k: must be at least 1, not 0"),
        (("pretrain", "symbols", "--steps", "0"), "--steps: must be at least 1, not 0"),
        (("bench", "--turns", "0"), "--turns: must be at least 1, not 0"),
        (("bench", "--threads", "0"), "--threads: must be at least 1, not 0"),
        (("tour", "--steps", "0"), "--steps: must be at least 1, not 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_numbers_out_of_range_are_refused_at_once(capsys, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_option_that_is_not_there_is_answered_with_those_that_are(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--rank", "4"])
    assert stop.value.code == 2
    *usage, last = capsys.readouterr().err.splitlines()
    assert "--temperature" in " ".join(usage)
    assert last == "minipeft generate: error: unrecognized arguments: --rank 4"


@pytest.mark.parametrize(("lr", "worse"), [(1e9, True), (1e-3, False)])
def test_a_held_out_text_that_got_worse_is_called_so(lr, worse, run, text):
    status, out, _ = run("finetune", text, "--steps", 3, "--length", 40, "--lr", lr)
    assert status == 0
    times = 3 * 8 * 40 / len(load_tokens().encode(split_lines(text.read_text(encoding="utf-8"))[0]))
    hint = f"and has met each sentence {times:.0f} times: try fewer than --steps 3, or a smaller rate than --lr 1e+09\n"
    assert (f"it reads this text worse than before, {hint}" in out) is worse


def test_a_prompt_that_ends_with_a_space_is_told_that_it_should_not(run):
    notes = [run("generate", "--prompt", prompt, "--length", 3)[1] for prompt in ("The cat ", "The cat")]
    assert [note.startswith("The prompt ends with a space") for note in notes] == [True, False]


def test_a_greedy_text_is_the_same_each_time(run):
    texts = {run("generate", "--temperature", 0, "--length", 60, "--seed", seed)[1] for seed in (0, 1)}
    assert len(texts) == 1


@pytest.mark.usefixtures("few")
def test_pretrain_writes_base_and_card(run, tmp_path):
    status, out, _ = run("pretrain", "symbols", "--steps", 1)
    assert status == 0
    assert (tmp_path / "symbols.npz").exists()
    assert (tmp_path / "symbols.md").read_text(encoding="utf-8") in out


def test_an_interrupted_command_says_so(run, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("minipeft.commands.pretrain.pretrain", interrupt)
    status, _, err = run("pretrain", "symbols")
    assert status == 130
    assert "interrupted" in err


# ---- bench: what it measures, not how fast anything is


def test_bench_measures_each_contestant_in_its_own_process(run, monkeypatch):
    started = []

    def start(command, env, **options):
        started.append((command[command.index("--threads") :], env["OPENBLAS_NUM_THREADS"]))
        assert command[:4] == [sys.executable, "-m", "minipeft", "bench"]
        return subprocess.CompletedProcess(command, 0, '{"ms": 2.0, "peak_mb": 3.0}', "")

    monkeypatch.setattr(bench, "TORCH", ("a_module_that_nobody_has",))
    monkeypatch.setattr(bench.subprocess, "run", start)
    monkeypatch.delattr(bench, "measure")  # what would measure in this process
    status, out, _ = run("bench", "--sizes", "tiny", "gpt2", "--turns", 1, "--threads", 4)
    assert status == 0
    assert "minipeft is timed alone" in out
    expected = []
    for size, workers, blas in ("tiny", "1", "4"), ("gpt2", "4", "1"):
        for who in "lora", "full":
            expected.append((["--threads", "4", "--workers", workers, "--one", who, size], blas))
    assert started == expected
    bench.measure_apart("torch", "gpt2", 4, 4)
    assert started[-1][1] == "4"  # torch shares the batch out by itself


def test_a_row_of_bench_has_medians_of_the_turns_and_of_their_ratios(capsys):
    def turn(*numbers):
        return {who: {"ms": ms, "peak_mb": mb} for who, ms, mb in zip(("lora", "full", "torch"), *numbers, strict=True)}

    turns = [turn((3, 4, 30), (10, 40, 80)), turn((6, 10, 20), (20, 50, 20)), turn((9, 9, 10), (30, 60, 60))]
    bench.print_row("tiny", turns, True)
    bench.print_row("tiny", turns, False)
    with_torch, alone = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert with_torch == "tiny 6.0 20 9.0 50 20.0 60 0.75 0.30 0.50"
    assert alone == "tiny 6.0 20 9.0 50 - 0.75"


def test_bench_times_the_steps_after_the_warm_up(monkeypatch):
    clock, seconds = [0.0], iter([50, 60, 1, 3, 8])

    def step(*words):
        return lambda: lambda: clock.__setitem__(0, clock[0] + next(seconds))

    monkeypatch.setattr(bench, "numpy_step", step)
    monkeypatch.setitem(bench.WORK, "tiny", (2, 3))
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert bench.measure("lora", "tiny")["ms"] == 3000


@pytest.mark.parametrize(("who", "trained"), [("lora", 2 * 8 * (8 + 8)), ("full", 11 * 8 + 4 * 8 + 12 * 8**2 + 15 * 8)])
def test_a_bench_step_trains_what_it_says(who, trained, run, monkeypatch):
    seen = []

    def counted(model, *words, **options):
        seen.append(count_parameters(model)[0])
        return train_step(model, *words, **options)

    monkeypatch.setattr("minipeft.training.train_step", counted)
    monkeypatch.setitem(bench.SIZES, "tiny", (11, 4, 8, 2, 1, 2))
    monkeypatch.setitem(bench.WORK, "tiny", (1, 2))
    status, out, _ = run("bench", "--threads", 1, "--workers", 1, "--one", who, "tiny")
    assert status == 0
    assert set(json.loads(out)) == {"ms", "peak_mb"}
    assert seen == 3 * [trained]


def test_bench_says_which_contestant_failed(run, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    monkeypatch.setattr(bench, "TORCH", ("a_module_that_nobody_has",))
    status, _, err = run("bench", "--sizes", "tiny")
    assert status == 1
    assert "lora at size tiny failed" in err


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash for the pipe")
def test_a_reader_who_has_seen_enough_is_no_error():
    command = (
        f'"{sys.executable}" -m minipeft generate --length 2000 --temperature 0 | head -c 9; exit ${{PIPESTATUS[0]}}'
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
