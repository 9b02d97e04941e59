"""Symbols, text and the base models that come with the package."""

import re
from importlib import resources

import numpy as np
import pytest

from minipeft import GPT2, FullFineTuning, get_peft_model
from minipeft.files import FileError, read_npz, write_npz
from minipeft.methods.prefix import ShiftedPositions
from minipeft.model.module import evaluating
from minipeft.training import (
    TASKS,
    Evaluation,
    Tokens,
    base_names,
    bases,
    evaluate,
    load_base,
    load_tokens,
    pretrain,
    read_text,
    split_lines,
    symbols_batch,
    symbols_batches,
    text_batches,
    text_windows,
)
from minipeft.training.bases import CONFIGS, AnyStart, exact_at_starts, plain_english, read_base, train_symbols
from minipeft.training.data import COPY, PAD, SEP, TABLE, chance_batch, new_sequences, pretraining_batches

CARD = resources.files("minipeft").joinpath("data", "english.md").read_text(encoding="utf-8")
RULES = {
    "copy": lambda x: x,
    "reverse": lambda x: x[::-1],
    "plus": lambda x: [(s + 1) % 16 for s in x],
    "near": lambda x: [(s + 1) % 16 for s in x],
    "map": lambda x: [TABLE[s] for s in x],
    "swap": lambda x: [*x[5:], *x[:5]],
    "perm": lambda x: [TABLE[s] for s in reversed(x)],
}


@pytest.mark.parametrize("task", TASKS)
def test_a_sequence_is_task_x_sep_y(task, rng):
    ids, targets, mask = symbols_batch(task, rng, n=5, pad=3)
    assert ids.shape == targets.shape == mask.shape == (5, 20)
    assert (ids[:, 1:] == targets[:, :-1]).all()
    assert (ids[:, :3] == PAD).all()
    assert (ids[:, 3] == TASKS[task][0]).all()
    assert (ids[:, 12] == SEP).all()
    assert mask.sum() == 5 * 8
    for row, y in zip(ids[:, 4:12], targets[mask].reshape(5, 8), strict=True):
        assert list(y) == list(RULES[task](list(row)))


def test_letters_by_chance_stand_where_those_of_copy_stand(rng):
    ids, targets, mask = chance_batch(rng, 400)
    assert (ids[:, 0] == COPY).all()
    assert (ids[:, 9] == SEP).all()
    assert (ids[:, 1:] == targets[:, :-1]).all()
    assert np.array_equal(mask, symbols_batch("copy", rng, 400)[2])
    share = np.mean(targets[:, -8:] == ids[:, 1:9])
    assert abs(share - 1 / 16) < 5 * (1 / 16 / 3200) ** 0.5  # five standard deviations
    assert set(targets[mask]) == set(range(16))


def test_new_sequences_are_the_same_each_time():
    (first,), (again,), (others,) = new_sequences("map", 9), new_sequences("map", 9), new_sequences("map", 9, seed=8)
    assert all(map(np.array_equal, first, again))
    assert len(first[0]) == 9
    assert not np.array_equal(first[0], others[0])


def test_the_new_tasks_stand_under_the_copy_token_and_an_unknown_one_is_refused(rng):
    assert {name for name, (token, _) in TASKS.items() if token == COPY} == {"copy", "near", "map", "swap", "perm"}
    assert sorted(TABLE) == list(range(16))
    assert not (TABLE == np.arange(16)).any()
    with pytest.raises(ValueError, match="no task 'sort'; there are: copy, reverse"):
        symbols_batch("sort", rng)


def test_batches_follow_their_generator():
    stream = symbols_batches("map", 4)
    one, two = stream(np.random.default_rng(1)), stream(np.random.default_rng(1))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    ids, _, mask = pretraining_batches(np.random.default_rng(0), n=12)
    assert mask.sum() == 8 * len(ids)
    assert len(set(ids[ids >= COPY]) - {SEP, PAD}) == 3


def test_the_shipped_tokens_say_every_text(rng):
    tokens = load_tokens()
    assert tokens.vocab_size == load_base("english").config.vocab_size == 2048
    for text in ("Warm air holds more water.", "café – “ok”…\r\n\ttab", "π 水 🙂 \0", ""):
        assert tokens.decode(tokens.encode(text)) == text
    with pytest.raises(ValueError, match="the base symbols reads no text"):
        load_tokens("symbols")
    with pytest.raises(ValueError, match="no base 'french'"):
        load_tokens("french")


@pytest.mark.parametrize("cut", [text_batches, text_windows])
def test_a_text_is_its_ids_and_its_stretches_have_a_length(cut):
    ids = load_tokens().encode("Warm air holds more water.")
    for wrong in ("Warm air holds more water.", ids * 1.0, np.stack([ids, ids]), None):
        with pytest.raises(TypeError, match="a text is given as its token ids"):
            cut(wrong, 5)
    for T, n in ((0, 4), (-1, 4), (5.0, 4), (None, 4), (5, 0), (5, -1), (5, 2.0)):
        with pytest.raises(ValueError, match="must be whole numbers of at least 1"):
            cut(ids, T, n)
    assert cut(ids.tolist(), 5)


def test_windows_predict_each_token_once():
    ids = np.arange(1, 24)
    windows = text_windows(ids, T=5, n=2)
    assert [x.shape for x, _ in windows] == [(2, 5), (2, 5), (1, 2)]
    assert list(np.concatenate([targets.ravel() for _, targets in windows])) == list(range(2, 24))
    assert all((targets - x == 1).all() for x, targets in windows)
    assert [x.shape for x, _ in text_windows(ids[:11], T=5, n=2)] == [(2, 5)]
    with pytest.raises(ValueError, match="at least 2"):
        text_windows(ids[:1], 5)


def test_random_stretches_lie_in_the_text(rng):
    ids, targets = text_batches(np.arange(8), T=7, n=3)(rng)
    assert (ids == np.arange(7)).all()
    assert (targets == np.arange(1, 8)).all()
    with pytest.raises(ValueError, match="has 7 tokens; stretches of 7 need at least 8"):
        text_batches(np.arange(7), T=7)


def test_the_split_loses_nothing():
    climate = read_text("climate")
    train, held_out = split_lines(climate)
    assert sorted((train + held_out).splitlines()) == sorted(climate.splitlines())
    assert len(held_out.splitlines()) == len(climate.splitlines()) // 5


def test_bits_a_character_do_not_depend_on_the_tokens():
    """Spelled in bytes, a text has more tokens of fewer bits: the sum over the text is what counts."""
    scores = Evaluation(loss=2 * np.log(2), accuracy=0.0, exact=0.0, tokens=30)
    assert scores.bits_a_character("x" * 60) == pytest.approx(1.0)
    assert scores._replace(loss=np.log(2), tokens=60).bits_a_character("x" * 60) == pytest.approx(1.0)
    assert scores.perplexity == pytest.approx(4.0)


# ---- bases


def test_the_base_names():
    assert base_names() == ["english", "symbols"]
    with pytest.raises(ValueError, match="no base 'french'; there are: english, symbols"):
        load_base("french")
    with pytest.raises(ValueError, match="no base 'french'"):
        pretrain("french", ".")


SKILLS = ("copy", "reverse", "plus")


def test_symbols_knows_its_three_tasks_and_no_new_one():
    model = load_base("symbols", "float32")
    exact = {task: evaluate(model, [symbols_batch(task, np.random.default_rng(7), 300)]).exact for task in TASKS}
    assert all(exact[task] >= 0.99 for task in SKILLS)
    assert all(exact[task] == 0 for task in TASKS if task not in SKILLS)


@pytest.mark.parametrize("start", range(17))
def test_symbols_knows_them_at_every_start_behind_padding_and_moved_with_nothing_in_front(start):
    model = load_base("symbols", "float32")
    for task in SKILLS:
        assert evaluate(model, [symbols_batch(task, np.random.default_rng(7), 100, pad=start)]).exact >= 0.99
    model.wpe = ShiftedPositions(model.wpe, start)
    for task in SKILLS:
        assert evaluate(model, [symbols_batch(task, np.random.default_rng(7), 100)]).exact >= 0.99


def test_symbols_is_trained_at_every_start():
    starts = set()
    for seed in range(60):
        ids, _, mask = pretraining_batches(np.random.default_rng(seed))
        assert ids.shape in ((48, 17), (48, 33))
        assert (mask.sum(1) == 8).all()
        starts |= set((mask.argmax(1) - 9).tolist()) if ids.shape[1] == 33 else set()
        assert ids.shape[1] == 33 or (mask.argmax(1) == 9).all()
    assert starts == set(range(17))


def test_a_start_is_drawn_in_training_alone_and_where_the_tokens_have_room():
    model = GPT2(CONFIGS["symbols"])
    table, model.wpe = model.wpe.weight.data, AnyStart(model.wpe, seed=0)
    for length, last in ((17, 16), (33, 0)):
        drawn = set()
        for _ in range(300):
            y, _ = model.wpe(np.arange(length))
            drawn.add(model.wpe.offset)
            assert (y == table[model.wpe.offset : model.wpe.offset + length]).all()
        assert drawn == set(range(last + 1))
    with evaluating(model):
        assert (model.wpe(np.arange(17))[0] == table[:17]).all()


def test_training_symbols_moves_its_positions_and_leaves_them_as_they_stood():
    model = get_peft_model(GPT2(CONFIGS["symbols"]), FullFineTuning())
    wpe, before = model.wpe, model.wpe.weight.data.copy()
    assert len(train_symbols(model, 3, {"seed": 0, "progress": False}).loss) == 3
    assert model.wpe is wpe
    assert (wpe.weight.data[:33] != before[:33]).any()


def test_the_measurement_of_the_card_sees_lost_positions_both_ways():
    model = load_base("symbols", "float32")
    model.wpe.weight.data[20:] = model.wpe.weight.data[3]  # lost there: the end of a sequence from start 4 on
    padded, moved = exact_at_starts(model, "copy", np.random.default_rng(1), 50)
    assert len(padded) == len(moved) == 17
    assert padded[0] == moved[0] == 1
    assert max(padded[8:]) < 1
    assert max(moved[8:]) < 1


def test_english_reads_conversations_better_than_climate_and_as_its_card_says():
    model, tokens = load_base("english", "float32"), load_tokens()

    def bits(text):
        ids = tokens.encode(text)
        return evaluate(model, text_windows(ids, 128)).bits_a_character(text)

    chat, climate = bits(read_text("conversation")), bits(read_text("climate"))
    assert chat < 1.55 < 1.7 < climate
    stated = float(re.search(r"([\d.]+) bits a character", CARD).group(1))
    assert stated <= 1.42
    assert bits(plain_english()[1]) == pytest.approx(stated, abs=2e-3)


def test_half_a_unit_of_rounding_is_all_that_float16_costs(monkeypatch):
    monkeypatch.setattr(bases, "plain_english", lambda: ("Warm air. " * 30, "Cold air. " * 30))
    monkeypatch.setattr(Tokens, "train", lambda text, size: load_tokens())
    monkeypatch.setattr(bases, "fit", lambda *arguments, **options: None)  # what is stored is the start
    model, start = GPT2(CONFIGS["english"]), GPT2(CONFIGS["english"])
    assert bases.pretrain_english(model, 1, {})[1] == "float16"
    for (path, p), (_, before) in zip(model.named_parameters(), start.named_parameters(), strict=True):
        stored = p.data.astype("float16")
        assert np.array_equal(stored, p.data), path
        assert (np.abs(p.data - before.data) <= np.spacing(np.abs(stored)).astype("f4") / 2).all(), path


def test_a_base_is_the_same_in_both_precisions():
    one, two = load_base("english"), load_base("english", "float32")
    for (path, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert a.data.dtype == np.float64
        assert b.data.dtype == np.float32
        assert (a.data == b.data).all(), path


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["symbols", "english"])
def test_pretraining_writes_a_base_its_card_and_its_tokens(tmp_path, name):
    card = pretrain(name, tmp_path, steps=2, progress=False)
    tokens = [f"{name}.json"] if name == "english" else []
    licences = ["LICENSES.md"] if name == "english" else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [*licences, *tokens, f"{name}.md", f"{name}.npz"]
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8") == card
    assert all(word in card for word in ("Seed 0", "2 steps", "Python 3.", "NumPy"))
    assert name == "symbols" or "a warm-up of 1 steps" in card  # and not of the 500 of a whole run
    assert read_base(tmp_path / f"{name}.npz").config.vocab_size == CONFIGS[name].vocab_size
    if tokens:
        assert (
            Tokens.load(tmp_path / "english.json").vocab == load_tokens().vocab
        )  # the shipped ones are from this text
        assert "LICENSES.md" in card
        assert "Princeton University" in (tmp_path / "LICENSES.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("few")
def test_pretraining_again_gives_the_same_bytes_and_goes_on_from_a_checkpoint(tmp_path):
    for folder in ("one", "two", "half"):
        (tmp_path / folder).mkdir()
    for folder in ("one", "two"):
        pretrain("symbols", tmp_path / folder, steps=6, progress=False)
    one, two = (tmp_path.joinpath(folder, "symbols.npz").read_bytes() for folder in ("one", "two"))
    assert one == two
    pretrain("symbols", tmp_path / "half", steps=6, progress=False, checkpoint=tmp_path / "c")
    assert tmp_path.joinpath("half", "symbols.npz").read_bytes() == one
    assert tmp_path.joinpath("c").exists()
    pretrain("symbols", tmp_path / "half", steps=6, progress=False, checkpoint=tmp_path / "c")  # nothing is left to do
    assert tmp_path.joinpath("half", "symbols.npz").read_bytes() == one


@pytest.mark.parametrize("name", ["english.npz", "english.json", "english.md", "LICENSES.md"])
def test_pretraining_leaves_other_peoples_files_alone(tmp_path, name):
    (tmp_path / name).write_text('{"version": "1.0", "mine": true}')
    with pytest.raises(FileError, match=f"{name} exists and is not"):
        pretrain("english", tmp_path, steps=2, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# ---- files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, {"kind": "thing"}, {"x": np.arange(3)})

    def breaks(*args, **arrays):
        args[0].write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("minipeft.files.savez", breaks)
    with pytest.raises(OSError, match="disk full"):
        write_npz(path, {"kind": "thing"}, {"x": np.arange(4)})
    assert list(read_npz(path, "thing")[1]["x"]) == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_files_say_what_they_are(tmp_path):
    write_npz(tmp_path / "a", {"kind": "checkpoint"}, {})
    with pytest.raises(FileError, match="holds a minipeft checkpoint; what is needed is a minipeft adapter"):
        read_npz(tmp_path / "a", "adapter")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_npz(tmp_path / "b", "adapter")
    with pytest.raises(FileError, match="is not a file"):
        read_npz(tmp_path, "adapter")
