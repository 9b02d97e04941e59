"""What goes wrong around the command line: files that are there already, readers that are gone, full disks, odd terminals,
signals, text that is none.  Nothing of it may cost what was trained, or pass in silence."""

import errno
import io
import os
import re
import resource
import shlex
import signal
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from minipeft import (
    GPT2,
    METHODS,
    GPT2Config,
    LoRA,
    Method,
    files,
    generate,
    get_peft_model,
    load_adapter,
    load_base,
    save_adapter,
)
from minipeft.__main__ import COMMANDS, main
from minipeft.commands import finetune
from minipeft.commands.output import spelled
from minipeft.commands.settings import explained
from minipeft.commands.text import lost
from minipeft.files import NotWritten, read_npz, write_npz
from minipeft.interop import load_gpt2
from minipeft.methods.wrapper import wrappers_of
from minipeft.training import read_text

SHORT = ("--steps", "3", "--length", "40")  # of a finetune that is over at once
OURS = Path(__file__).resolve().parents[1]
# minipeft as a process of its own; a base that it pretrains for a step is measured on few sequences
COMMAND = "import sys, runpy, minipeft.training.bases as bases; bases.MEASURED = 4; sys.argv[0] = 'minipeft'; "
COMMAND += "runpy.run_module('minipeft', run_name='__main__')"
posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell, signals and limits as POSIX has them")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run("tour", ...) -> (exit status, stdout, stderr), in a folder with my.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text(read_text("climate")[:4000], encoding="utf-8")

    def run(*argv):
        capsys.readouterr()
        try:
            status = main([str(arg) for arg in argv])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def shell(run, tmp_path):
    """shell("finetune my.txt | true") -> the finished process, minipeft put before it; every status in its last line."""

    def shell(command, **environment):
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHONUNB", "PYTHONIO", "LC_"))
        }
        env |= {"PYTHONPATH": str(OURS), "LANG": "C.UTF-8"} | environment
        program = "-m minipeft" if not command.startswith("pretrain") else f"-c {shlex.quote(COMMAND)}"
        whole = f"{shlex.quote(sys.executable)} {program} {command}\necho ${{PIPESTATUS[0]}} >status"
        done = subprocess.run(
            ["bash", "-c", whole], cwd=tmp_path, env=env, capture_output=True, timeout=300, check=False
        )
        done.returncode = int((tmp_path / "status").read_text())
        return done

    return shell


def tree(folder):
    """{path: content} of all files below a folder, hidden ones, too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def adapter(path, **settings):
    """An adapter for the English base in a file."""
    model = get_peft_model(load_base("english", "float32"), LoRA(**settings))
    rng = np.random.default_rng(0)
    for name, p in model.named_parameters():
        if name.endswith(".B"):
            p.data[...] = rng.normal(0, 0.1, p.data.shape)
    save_adapter(model, path)


def load(path):
    return read_npz(path, "adapter")[1]


# ---- 1: what is there already


@pytest.fixture
def things(run, tmp_path):
    """A file of every kind that minipeft writes, and some that it does not."""
    adapter("adapter.npz", r=2)
    write_npz("base.npz", {"kind": "base", "config": {}}, {"x": np.zeros(3)})
    write_npz("checkpoint.npz", {"kind": "checkpoint", "step": 3, "settings": {"steps": 3}}, {"x": np.zeros(3)})
    (tmp_path / "thesis.npz").write_text("three years of work")
    np.savez(tmp_path / "numbers.npz", x=np.zeros(3), header=np.zeros(3))
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n and a face")
    (tmp_path / "symbols.md").write_text("# My notes on symbols\n")
    (tmp_path / "mygpt2").mkdir()
    (tmp_path / "mygpt2" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "mygpt2" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "link.npz").symlink_to("thesis.npz")
    return tmp_path


FOREIGN = [
    "finetune my.txt --steps 1 --out thesis.npz",
    "finetune my.txt --steps 1 --out numbers.npz",
    "finetune my.txt --steps 1 --out base.npz",
    "finetune my.txt --steps 1 --out checkpoint.npz",
    "finetune my.txt --steps 1 --out photo.png",
    "finetune my.txt --steps 1 --out link.npz",
    "finetune my.txt --steps 1 --checkpoint adapter.npz --out new.npz",
    "finetune my.txt --steps 1 --checkpoint thesis.npz --resume",
    "tour --steps 1 --out photo.png",
    "pretrain symbols --steps 1",
    "import there --to thesis.npz",
    "import there --to base.npz",
    "export adapter.npz --to mygpt2",
    "export adapter.npz --to .",
    "export adapter.npz --to new --base-to mygpt2",
    "export thesis.npz --to new --base-to mygpt2",
    "export adapter.npz --to same --base-to ./same",
    "export thesis.npz --to new --base-to new-base",
    "export adapter.npz --to thesis.npz/new",
]


@pytest.mark.parametrize("command", FOREIGN)
def test_nothing_of_somebody_else_is_written_over(command, run, things):
    pytest.importorskip("safetensors")
    if " there " in command:
        assert run("export", "adapter.npz", "--to", "there")[0] == 0
    before = tree(things)
    status, out, err = run(*command.split())
    assert status == 1
    assert len(err.splitlines()) == 1  # found before any work began
    assert "trains " not in out
    assert tree(things) == before


@posix
@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device"])
@pytest.mark.parametrize(
    "command",
    ["finetune my.txt --steps 1 --out {}", "finetune my.txt --steps 1 --checkpoint {}", "tour --steps 1 --out {}.png"],
)
def test_a_device_or_a_pipe_is_no_place_for_a_file(command, kind, run, tmp_path):
    """As root, renaming a file to /dev/null would take /dev/null away from the whole machine."""
    name = "here.png" if ".png" in command else "here"
    if kind == "device":
        try:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # another /dev/null
        except PermissionError:
            pytest.skip("only root makes devices")
    elif kind == "pipe":
        os.mkfifo(name)
    else:
        os.symlink("/dev/null", name)
    status, _, err = run(*command.format("here").split())
    assert status == 1
    assert "is a device or a pipe" in err
    assert not (tmp_path / name).is_file()


@pytest.mark.usefixtures("few")
def test_what_the_same_command_wrote_is_written_over(run, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "empty.npz").touch()  # as mktemp makes it
    for words in [
        ("finetune", "my.txt", *SHORT, "--out", "empty.npz"),
        ("finetune", "my.txt", *SHORT, "--checkpoint", "run.npz"),
        ("export", "adapter.npz", "--to", "there", "--base-to", "base"),
        ("import", "there", "--to", "empty.npz"),
        ("pretrain", "symbols", "--steps", 1),
    ]:
        for _ in range(2):
            assert run(*words)[0] == 0, words
    assert len(load("empty.npz")) == len(load("adapter.npz"))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written_in_each_format_and_known_again(suffix, tmp_path):
    from minipeft.commands.tour_figure import tour_figure
    from minipeft.files import FileError

    step = {"val_step": [0, 1], "trained": 100, "share": 0.1}
    rows = [{"label": "LoRA", "bits": [3.0, 2.0], **step}, {"label": "full", "bits": [3.0, 1.0], **step}]
    path = tmp_path / f"figure.{suffix}"
    for _ in range(2):
        tour_figure(rows, 3.0, path)
    path.write_bytes(b"\x89PNG of somebody else")
    with pytest.raises(FileError, match="nothing is written over it"):
        tour_figure(rows, 3.0, path)


def test_a_run_that_has_not_ended_is_not_begun_again_over_its_checkpoint(run, tmp_path):
    assert run("finetune", "my.txt", *SHORT, "--checkpoint", "run.npz")[0] == 0
    header, arrays = read_npz("run.npz", "checkpoint")
    write_npz("run.npz", header | {"step": 2}, arrays)
    before = tree(tmp_path)
    status, _, err = run("finetune", "my.txt", *SHORT, "--checkpoint", "run.npz")
    assert status == 1
    assert "run.npz holds a run that was stopped at step 2 of 3" in err
    assert "--resume" in err
    assert tree(tmp_path) == before


def test_an_export_is_written_only_when_all_of_it_is_known_to_be_right(run, tmp_path):
    pytest.importorskip("safetensors")
    assert run("finetune", "my.txt", *SHORT, "--method", "adapter", "--m", 2)[0] == 0
    before = tree(tmp_path)
    status, out, err = run("export", "adapter.npz", "--to", "there", "--base-to", "base")
    assert status == 1
    assert "save_adapter(model, path) keeps it in minipeft's own format" in err  # peft has no such adapters
    assert out == ""
    assert tree(tmp_path) == before


def test_the_exported_base_is_the_base_without_the_adapter(run):
    pytest.importorskip("safetensors")
    adapter("adapter.npz", r=2)
    assert run("export", "adapter.npz", "--to", "there", "--base-to", "base")[0] == 0
    assert "Princeton University" in Path("base", "LICENSES.md").read_text(encoding="utf-8")
    ours, theirs = load_base("english", "float32"), load_gpt2("base")
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert np.array_equal(p.data, q.data)


def test_a_link_is_followed_and_the_rights_of_a_file_stay(run, tmp_path):
    adapter("old.npz", r=2)
    os.chmod("old.npz", 0o600)
    os.symlink("old.npz", "link.npz")
    assert run("finetune", "my.txt", *SHORT, "--out", "link.npz", "--r", 3)[0] == 0
    assert os.path.islink("link.npz")
    assert next(iter(load("old.npz").values())).shape[1] == 3
    assert os.stat("old.npz").st_mode & 0o777 == 0o600


def test_a_write_protected_adapter_stays(run, tmp_path, monkeypatch):
    adapter("old.npz", r=2)
    before, access = tree(tmp_path), os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and Path(path).name != "old.npz"
    )  # root may all
    status, _, err = run("finetune", "my.txt", *SHORT, "--out", "old.npz")
    assert status == 1
    assert "write-protected" in err
    assert tree(tmp_path) == before


def test_the_course_is_not_copied_through_links_or_half(run, tmp_path, monkeypatch):

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "00_start_here.ipynb").symlink_to("../outside.ipynb")
    status, _, err = run("lessons", "one", "--no-open")
    assert status == 1
    assert "already has 00_start_here.ipynb" in err
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "exercises").write_text("mine")
    before = tree(tmp_path)
    assert "exercises is a file" in run("lessons", "two", "--no-open")[2]
    written = []

    def until_full(path, *mode, **options):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return open(path, *mode, **options)

    monkeypatch.setattr("minipeft.commands.lessons.open", until_full, raising=False)
    (tmp_path / "three" / "exercises").mkdir(parents=True)
    before = tree(tmp_path)
    for place in ("three", "four/course"):
        status, _, err = run("lessons", place, "--no-open")
        assert status == 1
        assert f"05_cut_the_rank.ipynb cannot be written: {os.strerror(errno.ENOSPC)}" in err
        assert len(written) == 5
        written.clear()
        assert (tmp_path / "three" / "exercises").is_dir()
        assert not (tmp_path / "four").exists()
    assert run("lessons", "", "--no-open")[2].strip().endswith("DIR is empty: say where the course goes")
    assert tree(tmp_path) == before


# ---- 2: nobody reads the output


LOST = [  # what becomes of the output, the status
    ("2>/dev/null | true", 141),
    ("2>&1 | head -1", 141),
    ("2>&1 | true", 141),
    ("2>&- >/dev/null", 0),
    (">&- 2>&-", 0),
    (">/dev/full", 1),
    ("2>/dev/full >/dev/null", 1),
    (">/dev/full 2>&1", 1),
]


@posix
@pytest.mark.parametrize(
    ("where", "status", "unbuffered"), [*((*lost, "") for lost in LOST), *((*lost, "1") for lost in LOST[::3])]
)
def test_what_was_trained_is_saved_whatever_becomes_of_the_output(where, status, unbuffered, shell, tmp_path):
    done = shell(f"finetune my.txt {' '.join(SHORT)} {where}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == status
    assert load(tmp_path / "adapter.npz")
    assert not list(tmp_path.glob(".*"))
    if where == ">/dev/full":
        assert b"could not all be written: No space left on device; saved: adapter.npz" in done.stderr
    else:
        assert b"Traceback" not in done.stderr + done.stdout


@posix
@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("tour --methods lora --steps 1", "tour.png"),
        ("pretrain symbols --steps 1", "symbols.md"),
        ("export given.npz --to there", "there/adapter_config.json"),
        ("import given --to new.npz", "new.npz"),
        ("lessons course --no-open", "course/00_start_here.ipynb"),
    ],
)
def test_every_command_that_saves_does_so_without_a_reader(command, made, shell, tmp_path):
    if "given" in command:
        pytest.importorskip("safetensors")
        adapter("given.npz", r=2)
        assert main(["export", "given.npz", "--to", "given"]) == 0
    for where, status in [(">/dev/full", 1), ("2>&1 | true", 141)]:
        done = shell(f"{command} {where}")
        assert done.returncode == status
        assert (tmp_path / made).stat().st_size
        assert b"Traceback" not in done.stderr
        if "lessons" in command or "tour" in command:
            break  # the first copies to a new folder only, the other takes long


@posix
@pytest.mark.parametrize("command", ["--help", "generate --help", "generate --length 20", "inspect given.npz"])
def test_a_command_that_only_prints_fails_where_it_cannot(command, shell):
    adapter("given.npz", r=2)
    done = shell(f"{command} >/dev/full")
    assert done.returncode == 1
    assert b"could not all be written: No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = shell(f"{command} | true")
    assert (done.returncode, done.stderr) == (0, b"")  # the reader has seen enough


@posix
def test_a_file_takes_no_number_of_a_closed_stream(shell, tmp_path):
    """With stdout closed, the next file that is opened would be number 1, and what a library prints go into it."""
    code = "import os; from minipeft.commands.output import Output; o = Output().__enter__(); "
    code += "open('opened', 'w'); os.write(1, b'stray'); os.write(2, b'stray')"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code}" >&- 2>&-'],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(OURS)},
    )
    assert done.returncode == 0
    assert (tmp_path / "opened").read_text() == ""


def test_bench_ends_when_nobody_reads_on(run, monkeypatch, capsys):
    from minipeft.commands import bench

    turns = []
    monkeypatch.setattr(bench, "TORCH", ("a_module_that_nobody_has",))
    monkeypatch.setattr(bench, "measure_apart", lambda *words: turns.append(words) or {"ms": 1.0, "peak_mb": 1.0})
    monkeypatch.setattr(bench, "print_row", lambda *words: turns.append("row"))
    monkeypatch.setattr(bench, "unread", lambda: True)
    assert run("bench", "--turns", 1)[0] == 0
    assert turns.count("row") == 1


# ---- 4: text is decoded as a whole

WORDS = "the sea is rising and the ice is melting away while warm air holds more and more water"


def word_pieces():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([WORDS] * 9, trainer)
    return tokenizer


def meta_space():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([WORDS] * 9, trainer)
    return tokenizer


def plain_pairs():
    """Byte-pair encoding on characters without a token for the unknown: what it does not know, it leaves out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.train_from_iterator([WORDS] * 9, trainers.BpeTrainer(vocab_size=60, show_progress=False))
    return tokenizer


def byte_pairs():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder, letters = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([WORDS] * 9, trainer)
    return tokenizer


@pytest.fixture
def gpt2(run):
    """gpt2(tokenizer) -> the tokenizer of a new folder "gpt2" with a random model."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors")
    from minipeft.interop import save_gpt2

    def gpt2(tokenizer):
        save_gpt2(GPT2(GPT2Config(tokenizer.get_vocab_size(), 32, 16, 2, 2, "float32")), "gpt2")
        tokenizer.save("gpt2/tokenizer.json")
        return tokenizer

    return gpt2


TOKENIZERS = pytest.mark.parametrize("make", [word_pieces, meta_space, plain_pairs, byte_pairs])
GREEDY = ("--temperature", 0, "--length", 12)


def continued(tokenizer, prompt):
    """(the text that the model sees of a prompt, the text with the likeliest 12 tokens after it)."""
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids[-16:]
    whole = generate(load_gpt2("gpt2"), [ids], 12)[0].tolist()
    return tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(whole, skip_special_tokens=False)


@TOKENIZERS
@pytest.mark.parametrize("prompt", ["the sea", "the sea ", "warm air"])
def test_what_is_written_reads_as_one_text_with_its_prompt(make, prompt, run, gpt2):
    tokenizer = gpt2(make())
    status, out, _ = run("generate", "--base", "gpt2", "--prompt", prompt, *GREEDY)
    assert status == 0
    *notes, written = out.split("better leave it out.\n")
    assert written == continued(tokenizer, prompt)[1] + "\n"
    assert not notes or prompt.endswith(" ")


@TOKENIZERS
def test_after_a_long_prompt_too(make, run, gpt2):
    tokenizer, prompt = gpt2(make()), f"{WORDS} {WORDS} {WORDS}"
    seen, whole = continued(tokenizer, prompt)
    status, out, _ = run("generate", "--base", "gpt2", "--prompt", prompt, *GREEDY)
    assert status == 0
    assert out.splitlines()[1] == prompt + whole.removeprefix(seen)


@TOKENIZERS
@pytest.mark.parametrize("lines", ["\n", " "], ids=["lines", "one line"])
def test_the_samples_of_finetune_read_so_too(make, lines, run, gpt2, tmp_path):
    """Of one long line the end is held out, wherever that is in a word."""
    tokenizer, text = gpt2(make()), f"{WORDS}{lines}" * 41
    (tmp_path / "my.txt").write_text(text)
    status, out, _ = run("finetune", "my.txt", "--base", "gpt2", "--steps", 1, "--length", 8)
    assert status == 0
    words = shlex.split(out.splitlines()[-1])
    prompt = words[words.index("--prompt") + 1]
    assert prompt in text  # no ## before it, and no word without its space
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids[-16:]
    for name, model in [("before", load_gpt2("gpt2")), ("after", load_adapter(load_gpt2("gpt2"), "adapter.npz"))]:
        whole = generate(model, [ids], 40, 0.7, rng=np.random.default_rng(0))[0].tolist()
        new = tokenizer.decode(whole, skip_special_tokens=False).removeprefix(tokenizer.decode(ids))
        assert f"{name:6} | {' '.join((prompt + new).split())}\n" in out


# ---- 5: what is shown of more


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(("r", "end"), [(16, "  and 8 smaller"), (3, "")])
def test_inspect_measures_every_array_and_shows_the_beginning_of_each_spectrum(r, end, rslora, run):
    adapter("a.npz", r=r, rslora=rslora)
    _, out, _ = run("inspect", "a.npz")
    assert "singular values (the 8 largest at most)\n" in out
    layers = wrappers_of(load_adapter(load_base("english", "float32"), "a.npz"))
    assert layers
    for path, layer in layers:
        for name, p in layer.own_parameters():
            shape = "{} × {}".format(*p.data.shape)
            p.data = p.data.astype(np.float64)
            row = f"{path}.{name}  {shape:>12}  {np.linalg.norm(p.data):9.4f}  {abs(p.data).max():9.4f}\n"
            assert row in out
        values = np.linalg.svd(layer.delta(), compute_uv=False)
        shown = "  ".join(f"{value:.3f}" for value in values[: min(r, 8)])
        assert f"  {np.linalg.norm(layer.delta()):9.4f}  {r:4}  {shown}{end}\n" in out.partition(f"\n{path} ")[2]


def test_inspect_measures_what_a_run_that_went_wrong_has_left(run):
    model = get_peft_model(load_base("english", "float32"), LoRA(r=2, alpha=4))
    for _, layer in wrappers_of(model):
        for _, p in layer.own_parameters():
            p.data[...] = 1e25  # its square is no float32
    save_adapter(model, "large.npz")
    status, out, err = run("inspect", "large.npz")
    assert (status, err) == (0, "")
    assert out.count("       128 × 2  1.600e+26  1.000e+25\n") == out.count(" × 2 ") > 0  # √256 · 1e25
    assert "  5.120e+52     1  5.12e+52\n" in out  # s · 2 · 1e50 · √(128 · 128), with s = 2
    assert "inf" not in out


def test_a_fingerprint_that_is_cut_says_so(run):
    adapter("a.npz", r=2)
    assert f"fingerprint {read_npz('a.npz', 'adapter')[0]['base'][:16]} ...\n" in run("inspect", "a.npz")[1]


def test_a_prompt_of_which_the_model_sees_the_end_says_so(run):
    _, out, _ = run("generate", "--prompt", "the sea" + " the sea" * 59, "--length", 3)
    assert re.match(r"The prompt has \d\d\d tokens; the model sees the last 64 of them", out)
    assert "sees the last" not in run("generate", "--prompt", "the sea " * 8, "--length", 3)[1]


def test_a_held_out_text_of_which_the_beginning_is_measured_says_so(run, tmp_path):
    (tmp_path / "long.txt").write_text(read_text("climate")[:12_000], encoding="utf-8")
    _, out, _ = run("finetune", "long.txt", "--steps", 1, "--length", 2)
    assert "held-out text (its first 512 of " in out
    assert "held-out text: " in run("finetune", "my.txt", *SHORT)[1]


def test_more_strange_letters_than_are_shown_are_counted():
    said = lost(Counter(dict.fromkeys("αβγδεζηθικλμ", 9)))
    assert "(108 in all): " in said
    assert "'θ' (9) and 4 others" in said


# ---- 7: text that is none


CHINESE = "海水正在变暖，冰川正在融化。\n"
NONE = [  # the bytes, and what is said of them
    (("the sea is warm. " * 90).encode("utf-16-le"), "1530 NUL characters, which are in no text; it may be UTF-16"),
    (("the sea is warm. " * 90).encode("utf-16-be"), "it may be UTF-16, saved without its mark: save it as UTF-8"),
    (("the sea is warm. " * 90).encode("utf-32-le"), "NUL characters"),
    (("the sea is warm. " * 90).encode("utf-16"), "is UTF-16, as its first two bytes say; save it as UTF-8"),
    (b"the sea \0 is warm. " * 90, "90 NUL characters, which are in no text; it may be no text"),
    (("the s\ufffda is warm. " * 90).encode(), "does not know 8% of the letters in"),
]


@pytest.mark.parametrize(("content", "message"), NONE, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_is_no_text_to_the_base_is_not_trained_on(content, message, run, tmp_path):
    (tmp_path / "odd.txt").write_bytes(content)
    status, out, err = run("finetune", "odd.txt", *SHORT)
    assert status == 1
    assert message in err
    assert "trains " not in out
    assert not (tmp_path / "adapter.npz").exists()
    status, out, _ = run("finetune", "odd.txt", *SHORT, "--allow-unknown")
    assert (status == 0) == ("does not know" in message)  # a NUL is refused in any case
    assert ("trains " in out) == (status == 0)


@pytest.mark.parametrize(
    ("text", "status"), [("the sea is warm. " * 19 + "\ufffd" * 10 + " ", 0), ("the sea " + "\ufffd" * 4 + " ", 1)]
)
def test_a_few_strange_letters_are_no_reason(text, status, run, tmp_path):
    (tmp_path / "odd.txt").write_text(text * 60, encoding="utf-8")
    assert run("finetune", "odd.txt", *SHORT)[0] == status


@pytest.mark.parametrize(
    ("make", "text", "message"),
    [
        (word_pieces, "zebras queue quietly", "does not know 100% of the letters"),
        (word_pieces, "[UNK] [UNK]", "does not know 100% of the letters"),
        (word_pieces, CHINESE, "does not know 100% of the letters"),
        (meta_space, CHINESE, "does not know 100% of the letters"),
        (plain_pairs, CHINESE, "does not know 100% of the letters"),
        (plain_pairs, "the sea 海海海海", "does not know 40% of the letters"),
        (byte_pairs, "the s\ufffda", "does not know 17% of the letters"),
        (byte_pairs, CHINESE, None),
        (byte_pairs, "the sea is [UNK] warm <|endoftext|>", None),
        (word_pieces, "the sea is rising", None),
        (meta_space, "the sea is\u00a0rising ", None),
    ],
)
def test_what_a_tokenizer_does_not_know_counts_too(make, text, message, run, gpt2, tmp_path):
    gpt2(make())
    (tmp_path / "odd.txt").write_text(f"{text}\n" * 90, encoding="utf-8")
    command = ("finetune", "odd.txt", "--base", "gpt2", "--steps", 1, "--length", 2)
    status, out, err = run(*command)
    assert (status == 0) == (message is None)
    if message is not None:
        assert message in err
        assert "Not known to the tokenizer, and lost (" in out
        assert "does not know" not in run(*command, "--allow-unknown")[2]


def test_a_tokenizer_without_a_word_for_the_unknown_ends_in_one_line(run, gpt2, tmp_path):
    from tokenizers import Tokenizer, models

    gpt2(Tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]")))
    (tmp_path / "odd.txt").write_text("c" * 900)
    for command in ("finetune odd.txt --base gpt2", "generate --prompt c --base gpt2"):
        status, _, err = run(*command.split())
        assert status == 1
        assert "the tokenizer cannot encode this text" in err
    gpt2(word_pieces())
    assert "the prompt is empty" in run("generate", "--prompt", "", "--base", "gpt2")[2]


@pytest.mark.parametrize("file", ["/dev/null", "/dev/zero", ".", "no.txt"])
def test_what_is_no_file_with_a_text(file, run, tmp_path):
    status, _, err = run("finetune", file)
    assert status == 1
    assert file in err
    assert len(err.splitlines()) == 1


# ---- 8: terminals that do not know every letter


@pytest.fixture
def terminal(run, monkeypatch):
    """terminal(encoding)(command) -> (exit status, stdout, stderr), both as bytes, as such a terminal gets them."""

    def terminal(encoding, errors="strict"):
        def show(*words):
            out, err = (io.TextIOWrapper(io.BytesIO(), encoding, kind) for kind in (errors, "backslashreplace"))
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", out)
                patch.setattr(sys, "stderr", err)
                status, _, _ = run(*words)
            return status, out.buffer.getvalue(), err.buffer.getvalue()

        return show

    return terminal


ENCODINGS = pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-16", "cp437"])


@ENCODINGS
def test_every_help_and_inspect_show_in_every_terminal(encoding, terminal):
    adapter("given.npz", r=2)
    show = terminal(encoding)
    for words in [["--help"], ["inspect", "given.npz"], *([name, "--help"] for name in COMMANDS)]:
        status, out, err = show(*words)
        assert (status, err) == (0, b""), words
        assert len(out) > 100, words
        assert "\\u" not in out.decode(encoding), words  # our own words are put in letters that it knows
    if encoding == "ascii":
        assert b"dW = s A B" in show("inspect", "given.npz")[1]
        assert b"sqrt r" in show("finetune", "--help")[1]
    assert "ΔW = s A B" in terminal("utf-8")("inspect", "given.npz")[1].decode()


@ENCODINGS
def test_names_and_texts_of_the_user_show_too(encoding, terminal, tmp_path):
    show, odd = terminal(encoding), os.fsdecode(b"odd\xff.txt")
    (tmp_path / "Δ√.txt").write_text((tmp_path / "my.txt").read_text() + "Δ√", encoding="utf-8")
    (tmp_path / odd).write_text((tmp_path / "my.txt").read_text())
    for status, *words in [
        (0, "finetune", "Δ√.txt", *SHORT, "--out", "Ωя.npz"),
        (0, "generate", "--adapter", "Ωя.npz", "--length", 9, "--prompt", "Ωmega √ 海"),
        (0, "inspect", "Ωя.npz"),
        (0, "finetune", odd, *SHORT, "--out", "odd\udcff.npz"),
        (0, "inspect", "odd\udcff.npz"),
        (1, "inspect", "√я.npz"),
        (1, "inspect", "odd\udcfe.npz"),
        (1, "finetune", "Δя.txt"),
        (1, "finetune", "Δ√.txt", "--out", "Δя/Ω.npz"),
        (1, "finetune", "Δ√.txt", "--targets", "√я"),
        (1, "tour", "--out", "Δя"),
        (2, "pretrain", "√я"),
        (2, "finetune", "Δ√.txt", "--r", "√я"),
    ]:
        got, _, err = show(*words)
        assert got == status, (words, err)
        if status and encoding != "utf-16":
            assert b"\\u044f" in err or b"\\udcfe" in err, words  # no letter of a name is lost
    first = show("inspect", "Ωя.npz")[1].decode(encoding)
    assert first.startswith({"utf-16": "Ωя.npz", "cp437": "Ω\\u044f.npz"}.get(encoding, "\\u03a9\\u044f.npz"))


@posix
@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda settings: " ".join(settings.values()),
)
def test_python_started_in_such_a_terminal(settings, shell, tmp_path):
    (tmp_path / "Δ.npz").write_text("no adapter")
    for command, status in [("finetune --help", 0), ("inspect Δ.npz", 1)]:
        done = shell(command, **settings)
        assert done.returncode == status
        assert b"Traceback" not in done.stderr


# ---- 11: a full disk


def full(folder, monkeypatch):
    """Whatever is written to the folder ends with a full disk, when half of it is written."""
    savez = files.savez

    def half(file, **arrays):
        if Path(file.name).parent == Path(folder).resolve():
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savez(file, **arrays)

    monkeypatch.setattr(files, "savez", half)


def test_an_adapter_that_finds_no_place_goes_to_another(run, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "a.npz").write_text("here is something already")
    assert run("finetune", "my.txt", *SHORT, "--out", "expected.npz")[0] == 0
    full("full", monkeypatch)
    status, out, err = run("finetune", "my.txt", *SHORT, "--out", "full/a.npz")
    place = tmp_path / "a-2.npz"
    assert status == 1
    assert f"full/a.npz could not be written: No space left on device; it is in {place} instead" in err
    assert f"--adapter {place}" in out
    assert all((load(place)[name] == array).all() for name, array in load("expected.npz").items())
    assert not list((tmp_path / "full").iterdir())
    assert run("generate", "--adapter", place, "--length", 3)[0] == 0


def test_the_temporary_folder_is_next(run, tmp_path, monkeypatch):
    for name in ("temporary", "home"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv({"temporary": "TMPDIR", "home": "HOME"}[name], str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    full(tmp_path, monkeypatch)
    for there, name in [("temporary/a.npz", "a.npz"), ("temporary/a-2.npz", "a.npz")]:
        status, _, err = run("finetune", "my.txt", *SHORT, "--out", name)
        assert status == 1
        assert str(tmp_path / there) in err
        assert load(tmp_path / there)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "temporary")
    run("finetune", "my.txt", *SHORT, "--out", "a.npz")
    assert load(tmp_path / "home" / "a.npz")


def test_a_folder_that_is_gone_when_training_ends(run, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    real = finetune.fit

    def fit(*args, **options):
        history = real(*args, **options)
        (tmp_path / "gone").rmdir()
        return history

    monkeypatch.setattr(finetune, "fit", fit)
    status, _, err = run("finetune", "my.txt", *SHORT, "--out", "gone/a.npz")
    assert status == 1
    assert "there is no folder" in err
    assert f"it is in {tmp_path / 'a.npz'} instead" in err
    assert load("a.npz")


def test_a_checkpoint_that_cannot_be_written_costs_no_training(run, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    full("full", monkeypatch)
    status, _, err = run("finetune", "my.txt", *SHORT, "--checkpoint", "full/run.npz")
    assert status == 1
    assert "full/run.npz could not be written" in err
    assert "as it was after step 3 of 3, the adapter is in adapter.npz" in err
    assert load("adapter.npz")


@pytest.mark.usefixtures("few")
def test_a_base_that_finds_no_place_goes_to_another(run, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    full("full", monkeypatch)
    status, _, err = run("pretrain", "symbols", "--steps", 1, "--to", "full")
    assert status == 1
    assert f"it is in {tmp_path / 'symbols.npz'} instead" in err
    assert len(read_npz("symbols.npz", "base")[1]) > 9


def test_an_imported_adapter_too(run, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    adapter("given.npz", r=2)
    assert run("export", "given.npz", "--to", "given")[0] == 0
    (tmp_path / "full").mkdir()
    full("full", monkeypatch)
    status, _, err = run("import", "given", "--to", "full/new.npz")
    assert status == 1
    assert "new.npz instead" in err
    assert load("new.npz").keys() == load("given.npz").keys()


@pytest.mark.usefixtures("few")
def test_a_card_that_cannot_be_written_is_named(run, tmp_path, monkeypatch):
    def full(path, *args):
        raise NotWritten(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr("minipeft.training.bases.replacing", full)  # of the card; the base is written by write_npz
    status, _, err = run("pretrain", "symbols", "--steps", 1)
    assert status == 1
    assert "symbols.md could not be written: No space left on device; saved: symbols.npz" in err


@posix
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (f"finetune my.txt {' '.join(SHORT)} --out new.npz", "new.npz"),
        ("pretrain symbols --steps 1", "symbols.npz"),
        ("export given.npz --to there", "there"),
        ("import given --to new.npz", "new.npz"),
    ],
)
def test_a_limit_on_files_is_reported_with_the_path(command, name, shell, tmp_path):
    """No file may be longer than 4 kB here, so there is no other folder either."""
    if "given" in command:
        pytest.importorskip("safetensors")
        adapter("given.npz", r=2)
        assert main(["export", "given.npz", "--to", "given"]) == 0
    before = tree(tmp_path)
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {COMMAND}"
    env = os.environ | {"PYTHONPATH": str(OURS), "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{name} could not be written: " in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    assert tree(tmp_path) == before


# ---- 12: what a killed process leaves; folders that may not be written to


def killed_while_writing(tmp_path, name):
    """A process that is killed in the middle of writing `name`, and the part that it leaves."""
    code = f"""
import os, signal
from minipeft import files
def half(file, **arrays):
    file.write(b"half"); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
files.savez = half
files.write_npz({name!r}, {{"kind": "adapter"}}, {{}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(OURS)})
    assert done.returncode == -signal.SIGKILL
    (part,) = tmp_path.glob(".*.part")
    return part


@posix
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "command",
    [
        ("finetune", "my.txt", *SHORT),
        ("pretrain", "symbols", "--steps", 1),
        ("tour", "--methods", "lora", "--steps", 1),
        ("export", "adapter.npz", "--to", "."),
    ],
)
def test_the_part_of_a_killed_process_goes_with_the_next_file(command, run, tmp_path):
    if command[0] == "export":
        pytest.importorskip("safetensors")
        (tmp_path / "elsewhere").mkdir()
        adapter("elsewhere/adapter.npz", r=2)
        (tmp_path / "my.txt").unlink()
        (tmp_path / "here").mkdir()
        part = killed_while_writing(tmp_path / "here", "adapter_model.safetensors")
        assert run("export", "elsewhere/adapter.npz", "--to", "here")[0] == 0
    else:
        part = killed_while_writing(tmp_path, "another.npz")
        assert run(*command)[0] == 0
    assert not part.exists()


@posix
def test_parts_that_somebody_still_writes_stay(run, tmp_path):
    from minipeft import parts

    ours, sleeper = os.getpid(), subprocess.Popen(["sleep", "100"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    started = parts.started(sleeper.pid)
    host = parts.HOST
    stay = [
        f".a.npz.{sleeper.pid}-{started}@{host}.part",  # at work now
        f".a.npz.{sleeper.pid}-0@{host}.part",  # where the system does not say when it began
        f".a.npz.{gone.pid}-{started}@another-machine.part",  # of a folder that two machines share
        f".a.npz.{ours}-{parts.started(ours)}@{host}.part",
        ".adapter.npz.part", ".movie.mkv.99.part", "a.npz.99-1@x.part", f".adapter.npz.{gone.pid}.part",  # others'
    ]  # fmt: skip
    go = [
        f".a.npz.{gone.pid}-{started}@{host}.part",
        f".a.npz.{sleeper.pid}-{started - 1}@{host}.part",  # the number was given out again
    ]
    old = ".adapter.npz.99999999.part"  # a number that no process has
    for name in [*stay, *go, old]:
        (tmp_path / name).write_text("half")
    os.utime(old, (1e9, 1e9))  # of an older version, which did not say on which machine: it has to be old
    try:
        assert run("finetune", "my.txt", *SHORT)[0] == 0
    finally:
        sleeper.kill()
        sleeper.wait()
    left = {path.name for path in tmp_path.iterdir()}
    assert set(stay) <= left
    assert not {*go, old} & left


@posix
def test_a_long_name_has_a_part_too(run, tmp_path):
    name = "é" * 120 + ".npz"  # 244 bytes of 255
    assert run("finetune", "my.txt", *SHORT, "--out", name)[0] == 0
    assert load(name)


@pytest.mark.parametrize(
    "command",
    [
        "pretrain symbols --steps 1 --to {}",
        "finetune my.txt --steps 1 --out {}/a.npz",
        "finetune my.txt --steps 1 --checkpoint {}/a.npz",
        "tour --steps 1 --out {}/tour.png",
        "import given --to {}/a.npz",
        "export given.npz --to {}/there",
        "export given.npz --to there --base-to {}/base",
        "lessons {}/course --no-open",
    ],
)
@pytest.mark.parametrize("how", ["denied", "/proc"])
def test_a_folder_that_may_not_be_written_to_is_found_before_the_work(command, how, run, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    adapter("given.npz", r=2)
    assert run("export", "given.npz", "--to", "given")[0] == 0
    (tmp_path / "denied").mkdir()
    if how == "denied":  # root may write everywhere
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "denied" and access(path, mode))
    elif not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    before = tree(tmp_path)
    status, out, err = run(*command.format(how).split())
    assert status == 1
    assert "may not be written to" in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert tree(tmp_path) == before


# ---- signals


@pytest.fixture
def signalled(monkeypatch):
    """signalled(number, step, times): the signal comes while the batch of that step is drawn."""

    def signalled(number, step, times=1):
        real, drawn = finetune.text_batches, []

        def text_batches(*args):
            batches = real(*args)

            def batch(rng):
                drawn.append(rng)
                if len(drawn) == step:
                    for _ in range(times):
                        os.kill(os.getpid(), number)
                return batches(rng)

            batch.digest = "the same"  # so that it is not asked for a batch to know it by
            return batch

        monkeypatch.setattr(finetune, "text_batches", text_batches)

    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, default) for number, default in defaults.items()}  # a shell may ignore some
    yield signalled
    for number, former in before.items():
        signal.signal(number, former if former is not None else signal.SIG_DFL)


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_step_and_saves_what_is_trained(name, status, run, tmp_path, signalled):
    adapter("adapter.npz", r=2)
    before, handlers = tree(tmp_path), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signalled(getattr(signal, name), step=2)
    got, _, err = run("finetune", "my.txt", "--steps", 40, "--length", 40, "--out", "adapter.npz")
    assert got == status
    assert "as it was after step 2 of 40, the adapter is in adapter.interrupted.npz" in err
    after = tree(tmp_path)
    assert load("adapter.interrupted.npz")
    assert after.pop("adapter.interrupted.npz")
    assert after == before  # a whole adapter is not written over by a part of one
    assert run("generate", "--adapter", "adapter.interrupted.npz", "--length", 3)[0] == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@posix
def test_what_a_signal_saves_are_the_weights_after_that_step(run, signalled):
    assert run("finetune", "my.txt", *SHORT, "--out", "whole.npz", "--checkpoint", "run.npz")[0] == 0
    signalled(signal.SIGTERM, step=3)
    status, _, err = run("finetune", "my.txt", *SHORT)
    assert status == 143
    assert "the training had ended, the adapter is in adapter.npz" in err
    assert all((load("adapter.npz")[name] == array).all() for name, array in load("whole.npz").items())


@posix
@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_a_signal_that_comes_twice_is_one(name, run, signalled):
    """A terminal that is closed sends one to the process and one to its group."""
    signalled(getattr(signal, name), step=2, times=3)
    status, _, _err = run("finetune", "my.txt", "--steps", 40, "--length", 40)
    assert status == 128 + getattr(signal, name)
    assert load("adapter.interrupted.npz")


@posix
@pytest.mark.parametrize("steps", [3, 40])
def test_a_signal_while_the_adapter_is_saved_waits(steps, run, signalled, monkeypatch):
    real = finetune.save_adapter

    def save_adapter(model, path):
        os.kill(os.getpid(), signal.SIGTERM)
        real(model, path)

    monkeypatch.setattr(finetune, "save_adapter", save_adapter)
    signalled(signal.SIGTERM, step=3)
    status, _, _ = run("finetune", "my.txt", "--steps", steps, "--length", 40)
    assert status == 143
    assert load("adapter.npz" if steps == 3 else "adapter.interrupted.npz")


@posix
@pytest.mark.parametrize("step", [1, 2])
def test_the_second_ctrl_c_does_not_wait(step, run, tmp_path, signalled, monkeypatch):
    monkeypatch.setattr("minipeft.commands.signals.AT_ONCE", 0)
    signalled(signal.SIGINT, step, times=2)
    before = tree(tmp_path)
    status, _, err = run("finetune", "my.txt", "--steps", 40, "--length", 40)
    assert status == 130
    assert "interrupted" in err
    assert tree(tmp_path) == before


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("call", range(6))
def test_a_signal_while_handlers_are_put_in_or_taken_out_ends_in_one_line(call, name, run, monkeypatch):
    """After each of the three that are put in, and of the three that are put back: no traceback, and all are back."""
    number, real, calls = getattr(signal, name), signal.signal, []

    def stopped_by_default(signum, frame):  # SIGTERM and SIGHUP would end the tests
        raise KeyboardInterrupt

    def install(which, handler):
        former = real(which, handler)
        calls.append(which)
        if len(calls) == call + 1:
            os.kill(os.getpid(), number)
        return former

    before = {which: real(which, stopped_by_default) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        monkeypatch.setattr(signal, "signal", install)
        status, _, err = run("inspect", "adapter.npz")
        assert status in (130, 128 + number)
        assert err.strip().splitlines()[-1].endswith(": interrupted")
        assert len(calls) == 2 * len(set(calls))  # as many put back as were put in
        assert all(signal.getsignal(which) is stopped_by_default for which in before)
    finally:
        monkeypatch.undo()
        for which, former in before.items():
            real(which, former)


@posix
def test_nohup_is_respected(run, signalled):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signalled(signal.SIGHUP, step=2)
        assert run("finetune", "my.txt", *SHORT)[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
@pytest.mark.parametrize("command", ["pretrain symbols", "tour", "generate --length 3"])
def test_every_command_ends_by_a_signal_in_one_line(command, run, tmp_path, monkeypatch):
    def stopped(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal should have ended it")

    module = command.split()[0]
    name = {"pretrain": "pretrain", "tour": "load_base", "generate": "write"}[module]
    monkeypatch.setattr(f"minipeft.commands.{module}.{name}", stopped)
    before = tree(tmp_path)
    status, _, err = run(*command.split())
    assert status == 143
    assert f"minipeft {module}: interrupted" in err
    assert ("nothing was written" in err) == (module == "pretrain")
    assert tree(tmp_path) == before


# ---- flags from the methods


@dataclass
class Odd(Method):
    """A method with a setting of every kind.

    kinds: how many kinds,
        in two lines
    scale: what is 100% right.  often: whether often
    seed: of its own projections

    Raises:   nothing
    """

    kinds: Literal["one", "two"] = "two"
    level: Literal[1, 2] = 1
    scale: float = 0.5
    often: bool = True
    seed: int = 7
    at_most: int | None = None
    targets: str | tuple = ("a", "b")
    r: float = 2.5
    note: str = ""

    name = "odd"


@pytest.fixture
def odd(monkeypatch):
    """method(*flags) -> what those flags make of the method Odd, whose flags stand beside those of the others."""
    import argparse

    from minipeft.commands import settings

    monkeypatch.setitem(settings.METHODS, "odd", Odd)

    def method(*flags, name="odd"):
        parser = argparse.ArgumentParser()
        finetune.add_arguments(parser)
        return settings.method_of(parser.parse_args(["my.txt", "--method", name, *flags]))

    return method


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_a_flag_and_has_its_line_in_the_docstring(name, odd, capsys):
    """`name: text`, each on a line of its own in the docstring of the dataclass; --help prints the text."""
    assert odd(name=name) == METHODS[name]()
    with pytest.raises(SystemExit):
        odd("--help")
    out = " ".join(capsys.readouterr().out.split())
    texts = explained(METHODS[name])
    assert [field for field in METHODS[name].__dataclass_fields__ if not texts.get(field)] == []
    for field, text in texts.items():
        assert f"--{field.replace('_', '-')}" in out, field
        assert spelled(text) in out, field


def test_the_help_of_a_flag_is_made_of_type_default_and_line(odd, capsys):
    with pytest.raises(SystemExit):
        odd("--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "odd: how many kinds, in two lines (default: two)" in out
    assert "odd: what is 100% right (default: 0.5)" in out
    assert "odd: whether often (default: on)" in out
    assert "--method-seed" in out
    assert re.search(r"lora[\w, ]*: rank \(default: 8\);.* odd \(default: 2\.5\)", out)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("--kinds one", {"kinds": "one"}),
        ("--level 2", {"level": 2}),
        ("--scale 1e-3", {"scale": 1e-3}),
        ("--no-often", {"often": False}),
        ("--often", {"often": True}),
        ("--method-seed 9", {"seed": 9}),
        ("--seed 9", {}),
        ("--at-most 3", {"at_most": 3}),
        ("--at-most none", {"at_most": None}),
        ("--targets *.c_fc", {"targets": "*.c_fc"}),
        ("--targets a,b,c", {"targets": ("a", "b", "c")}),
        ("--r 1.5", {"r": 1.5}),
        ("--note here", {"note": "here"}),
    ],
)
def test_a_flag_has_the_type_of_its_field(flags, settings, odd):
    assert odd(*flags.split()) == Odd(**settings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--kinds three", "--kinds: invalid choice: 'three'"),
        ("--scale high", "--scale: must be a number, not 'high'"),
        ("--at-most 1.5", "--at-most: must be a whole number, not '1.5'"),
        ("--r x", "--r: must be a whole number, not 'x'"),
    ],
)
def test_a_flag_of_another_type_is_refused(flags, message, odd, capsys):
    with pytest.raises(SystemExit) as stop:
        odd(*flags.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_methods_that_share_a_flag_read_it_each_in_its_own_way(odd):
    assert odd("--r", "4") == Odd(r=4.0)
    assert odd("--r", "4", name="lora") == LoRA(r=4)
    with pytest.raises(ValueError, match=r"--r of lora must be a whole number, not '1\.5'"):
        odd("--r", "1.5", name="lora")
    with pytest.raises(ValueError, match=r"lora has no --kinds, --method-seed; it has: --r, --alpha, .*--rslora"):
        odd("--kinds", "one", "--method-seed", "3", name="lora")
    with pytest.raises(ValueError, match="full has no --r; it has: no settings"):
        odd("--r", "4", name="full")


def test_workers_are_handed_to_the_training(run, monkeypatch):
    asked, real = [], finetune.fit

    def fit(model, batches, steps, optimizer, workers=1, **options):
        asked.append(workers)
        return real(model, batches, steps, optimizer, **options)

    monkeypatch.setattr(finetune, "fit", fit)
    assert run("finetune", "my.txt", *SHORT)[0] == 0
    assert run("finetune", "my.txt", *SHORT, "--workers", 3)[0] == 0
    assert asked[0] >= 1
    assert asked[1] == 3
    status, _, err = run("finetune", "my.txt", "--workers", 0)
    assert status == 2
    assert "--workers: must be at least 1, not 0" in err


# ---- files that are no adapters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h.0.attn.q_proj.A": np.array(["text"])}, "something other than finite numbers"),
        ({"h.0.attn.q_proj.A": np.full((96, 2), np.nan, "float32")}, "something other than finite numbers"),
        ({"h.0.attn.q_proj.A": np.zeros((96, 3), "float32")}, "its arrays and the settings of its LoRA do not fit"),
        ({"alpha": "high"}, "do not fit"),
        ({"r": 0}, "do not fit"),
    ],
)
def test_inspect_of_what_makes_no_sense_ends_in_one_line(change, message, run):
    adapter("a.npz", r=2)
    header, arrays = read_npz("a.npz", "adapter")
    for name, value in change.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            header["methods"][0]["settings"][name] = value
    write_npz("a.npz", header, arrays)
    status, _, err = run("inspect", "a.npz")
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1
