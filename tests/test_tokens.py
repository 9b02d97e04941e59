"""Byte-level BPE: by hand, against a slower way of saying it, and against Hugging Face tokenizers."""

import doctest
import hashlib
import json
import random
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minipeft.files import FileError
from minipeft.training import read_text, tokens, words
from minipeft.training.tokenizer_json import BYTES, CHARACTERS
from minipeft.training.tokens import Tokens, bytes_to_ids, learn_merges, merge
from minipeft.training.words import split

SCRIPTS = (
    "Съешь ещё этих мягких французских булок, да выпей чаю. Съешь ещё! Γαζίες καὶ μυρτιὲς δὲν θὰ βρῶ πιὰ στὸ χρυσαφὶ.\n"
    "いろはにほへと ちりぬるを 天地玄黃 宇宙洪荒 日月 日月 ½ ²³ Ⅷ ٣٤ नमस्ते दुनिया नमस्ते 👩‍👩‍👧‍👦 👍🏽 naïve café\u0301\n"
    "\x00\x1c\x1d  \t\x85\u3000\xa0x_y__z 1_000 don't we'll I'd 'tis it''s 'S 're\u2019s \U00031350\U00031351a \U00010d40\n"
)
ODD = st.sampled_from(
    list("  \n\t\x0b\x1c\x1f\x85\xa0\u1680\u200b\u2028\u3000\u180e\ufeff'’stmdrevlaST19_-.٣²½Ⅷ一é\u0301ßж\U00031350")
)
TEXTS = st.one_of(
    st.text(),
    st.text(ODD),
    st.lists(
        st.one_of(st.sampled_from(list(split(SCRIPTS))), st.text(ODD, max_size=3), st.characters(codec="utf-8"))
    ).map("".join),
)
SMALL = st.dictionaries(st.text("ab c", max_size=8), st.integers(0, 5), max_size=6)  # words on which ties are common


@pytest.fixture(scope="module")
def trained():
    return Tokens.train(read_text("conversation") + 3 * SCRIPTS, 700)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    trained.save(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    """The same file, opened by Hugging Face tokenizers."""
    return pytest.importorskip("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("module", [tokens, words])
def test_the_examples_of_the_docstrings_are_true(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed


# Words


@given(TEXTS)
def test_words_side_by_side_are_the_text(text):
    assert "".join(split(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world", ["Hello", " world"]),
        ("I'm we'll DON'T 'tis", ["I", "'m", " we", "'ll", " DON", "'", "T", " '", "tis"]),
        ("a1b22 3", ["a", "1", "b", "22", " 3"]),
        ("a   b\n\n c \n", ["a", "  ", " b", "\n\n", " c", " \n"]),
        ("x²½Ⅷ٣一", ["x", "²½Ⅷ٣", "一"]),  # numbers of every kind; 一 means one, but is a letter
        ("cafe\u0301s", ["cafe", "\u0301", "s"]),  # a mark is no letter
        ("a_b\x1cc", ["a", "_", "b", "\x1c", "c"]),  # neither letters nor spaces, whatever `re` says
        ("a\u3000\x85b", ["a", "\u3000", "\x85", "b"]),
        ("\U00031350a\U00010d40", ["\U00031350a", "\U00010d40"]),  # of Unicode 15 and 16
        ("", []),
    ],
)
def test_a_text_is_cut_as_gpt2_cuts_it(text, expected):
    assert list(split(text)) == expected


@pytest.mark.skipif(
    tuple(map(int, unicodedata.unidata_version.split("."))) > (16, 0, 0),
    reason="knows letters that came after Unicode 16",
)
def test_letters_and_numbers_are_those_of_unicode_16_under_every_python():
    """So a text has the same tokens everywhere; the numbers are those of the test below."""
    kinds = bytearray(0x110000)
    for kind, letter in ((1, "L"), (2, "N")):
        for run in words.ranges(letter):
            for first, last in zip(run[::3], run[2::3], strict=True):
                kinds[ord(first) : ord(last) + 1] = [kind] * (ord(last) - ord(first) + 1)
    assert (kinds.count(1), kinds.count(2)) == (141028, 1911)
    assert hashlib.sha256(kinds).hexdigest().startswith("f8f427506a276010")


def test_every_character_stands_in_the_words_of_hugging_face():
    ByteLevel = pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel
    cut = ByteLevel(add_prefix_space=False).pre_tokenize_str
    for start in [*range(0, 0xD800, 64), *range(0xE000, 0x110000, 64)]:
        around = "a{c}1{c}!{c} {c}  {c}\n{c}'s{c}e" if start < 0x34000 else "a{c}1"  # no letters there, nor numbers
        text = "".join(around.format(c=chr(i)) for i in range(start, start + 64))
        assert [text[i:j] for _, (i, j) in cut(text)] == list(split(text)), hex(start)


# Training


def test_ten_words_by_hand():
    """(a, b) 7 times, then (space, ab) 6 times, then two pairs 3 times: (220, 66) comes before (257, 66)."""
    text = "ab ab ab ab abc abc abc c c c"
    assert Tokens.train(text, 260).vocab[256:] == [b"ab", b" ab", b" c", b" abc"]
    a, b, c, space = (BYTES.index(ord(char)) for char in "abc ")
    assert (c, space) == (66, 220)
    assert list(Tokens.train(text, 260).merges) == [(a, b), (space, 256), (space, c), (257, c)]
    with pytest.raises(ValueError, match="V = 261 is too large: after 260 tokens, each word of the text is one token"):
        Tokens.train(text, 261)


def test_of_pairs_as_frequent_the_lowest_ids_come_first():
    for counts in ({"cd": 1, "ab": 1, "ac": 1}, {"ac": 1, "ab": 1, "cd": 1}):
        assert Tokens.train(counts, 259).vocab[256:] == [b"ab", b"ac", b"cd"]
    assert Tokens.train({" a": 1, "za": 1}, 258).vocab[256:] == [b"za", b" a"]  # the space is byte 32, but token 220


def test_a_pair_does_not_overlap_itself():
    counts = {"aaaaa": 1, "aaaa": 1}
    assert learn_merges(counts, 258) == [(64, 64), (256, 256)]
    assert Tokens.train(counts, 258).encode_word("aaaaaaa") == [257, 256, 64]


def count_anew(counts, V):
    """The rule, word for word: count all pairs, merge the most frequent one everywhere, and again."""
    text, merges = {tuple(bytes_to_ids(word)): n for word, n in counts.items()}, []
    for new in range(256, V):
        pairs = Counter()
        for ids, n in text.items():
            for pair in pairwise(ids):
                pairs[pair] += n
        if not any(pairs.values()):
            return merges
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        text = {tuple(merge(list(ids), merges[-1], new)): n for ids, n in text.items()}
    return merges


@given(SMALL)
def test_counting_only_what_changes_comes_to_the_same(counts):
    merges = count_anew(counts, 270)
    assert learn_merges(counts, 256 + len(merges)) == merges
    assert Tokens(merges).vocab_size == 256 + len(merges)  # no two of them make the same token


@given(SMALL)
def test_training_gives_the_merges_of_hugging_face(counts):
    models, trainers = (pytest.importorskip(f"tokenizers.{name}") for name in ("models", "trainers"))
    tokenizers = pytest.importorskip("tokenizers")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = [f"{word}\n" for word, n in counts.items() for _ in range(n)]
    reference = tokenizers.Tokenizer(models.BPE())
    reference.pre_tokenizer = level
    merges = count_anew(Counter(word for line in text for word in split(line)), 270)
    V = 256 + len(merges)
    reference.train_from_iterator(text, trainers.BpeTrainer(vocab_size=V, initial_alphabet=level.alphabet()))
    found = json.loads(reference.to_str())["model"]
    ids = found["vocab"]
    assert [(ids[left], ids[right]) for left, right in found["merges"]] == merges


def test_a_text_and_the_counts_of_its_words_give_the_same(trained):
    assert Tokens.train(Counter(split(read_text("conversation") + 3 * SCRIPTS)), 700).merges == trained.merges
    assert Tokens.train("", 256).vocab == [bytes([byte]) for byte in BYTES]


@pytest.mark.parametrize(
    ("text", "V", "message"),
    [
        ("some text", 255, "at least 256, one for each byte, not 255"),
        ("some text", 300.0, "whole number of at least 256, one for each byte, not 300.0"),
        ("", 257, "V = 257 is too large: after 256 tokens"),
        ({"ab": -1}, 257, "times as whole numbers of at least 0"),
        ({b"ab": 1}, 257, "words as text"),
        ("ab\ud800", 257, "half of a surrogate pair"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(text, V, message):
    with pytest.raises(ValueError, match=message):
        Tokens.train(text, V)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([(0, 256)], "token 256 is made of two tokens in 0 ... 255, not of 0 and 256"),
        ([(0, 1), (-1, 256)], "token 257 is made of two tokens in 0 ... 256, not of -1 and 256"),
        ([(0, 1), (0, 1)], "make b'!\"', which is a token before them"),
        ([(0, 0), (0, 256), (256, 0)], "make b'!!!', which"),
    ],
)
def test_merges_that_cannot_be_are_refused(merges, message):
    with pytest.raises(ValueError, match=message):
        Tokens(merges)


# Encoding and decoding


@given(TEXTS)
@example("")
@example("\x00")
@example("".join(map(chr, range(0xD7F0, 0xD800))) + "\ue000\uffff\U0010ffff")
def test_every_text_comes_back(trained, text):
    ids = trained.encode(text)
    assert ids.dtype == int
    assert ids.ndim == 1
    assert trained.decode(ids) == text
    assert b"".join(trained.vocab[i] for i in ids) == text.encode()


@given(TEXTS)
def test_encoding_is_to_make_all_merges_in_their_order(trained, text):
    expected = []
    for word in split(text):
        ids = bytes_to_ids(word)
        for pair, new in trained.merges.items():
            ids = merge(ids, pair, new)
        expected += ids
    assert trained.encode(text).tolist() == expected


@settings(max_examples=1000)
@given(TEXTS)
def test_a_text_has_the_tokens_of_hugging_face(trained, theirs, text):
    assert trained.encode(text).tolist() == theirs.encode(text).ids


def test_every_character_has_the_tokens_of_hugging_face(trained, theirs):
    for start in [*range(0, 0xD800, 64), *range(0xE000, 0x110000, 64)]:
        text = "".join(map(chr, range(start, start + 64)))
        assert trained.encode(text).tolist() == theirs.encode(text).ids, hex(start)


@given(st.lists(st.integers(0, 699)))
@example([BYTES.index(byte) for byte in b"\xf0\x9f\x91\xed\xa0\x80\xc3(\xff\xe2\x82"])
def test_any_ids_have_the_text_of_hugging_face(trained, theirs, ids):
    assert trained.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@given(st.binary())
def test_any_bytes_can_be_spelled(trained, data):
    assert trained.decode([BYTES.index(byte) for byte in data]) == data.decode(errors="replace")


def test_a_word_that_comes_again_has_the_same_tokens(trained, monkeypatch):
    text = read_text("conversation") + SCRIPTS
    one_by_one = [i for word in split(text) for i in trained.encode_word(word)]
    assert trained.encode(text).tolist() == one_by_one
    assert trained.encode(text + text).tolist() == trained.encode(text).tolist() + trained.encode(text).tolist()
    monkeypatch.setattr(tokens, "CACHE", 3)  # nearly every word drops out before it comes again
    assert trained.encode(text).tolist() == one_by_one


LONG = "".join(random.Random(0).choices("etaoinshrdlu", k=100_000))


def test_a_word_of_100_000_letters_is_encoded_and_learned_from(trained):
    for word in (LONG, "a" * 100_001, " " * 100_001, "é" * 50_001):
        assert trained.decode(trained.encode(word)) == word
    assert learn_merges({LONG: 1}, 280) == learn_merges({LONG: 2}, 280)
    assert learn_merges({"a" * 100_001: 1}, 259) == [(64, 64), (256, 256), (257, 257)]


def test_a_word_of_100_000_letters_has_the_tokens_of_hugging_face(trained, theirs):
    assert trained.encode(LONG).tolist() == theirs.encode(LONG).ids


@pytest.mark.parametrize("text", ["\ud800", "ab \udfff c", "\udc00\ud800"])
def test_half_of_a_surrogate_pair_is_refused(trained, text):
    with pytest.raises(ValueError, match=r"'\\ud[8cf][0f][0f]' is half of a surrogate pair, which is no character"):
        trained.encode(text)


@pytest.mark.parametrize("ids", [[700], [-1], [0, 999], [1.5], [True], ["a"], None])
def test_what_is_no_token_has_no_text(trained, ids):
    with pytest.raises(ValueError, match=r"ids of tokens are integers in 0 ... 699"):
        trained.decode(ids)


@pytest.mark.parametrize("text", [b"bytes", None, 3, ["a"]])
def test_only_text_can_be_encoded(trained, text):
    with pytest.raises(TypeError):
        trained.encode(text)


# The file


def test_the_characters_of_the_bytes_are_gpt2s():
    assert sorted(BYTES) == list(range(256))
    assert CHARACTERS == sorted(CHARACTERS)
    assert all(char.isprintable() and not char.isspace() for char in CHARACTERS if char != "\xad")
    assert [CHARACTERS[BYTES.index(ord(char))] for char in " \n!é"[:3]] == ["Ġ", "Ċ", "!"]
    assert (CHARACTERS[0], CHARACTERS[220]) == ("!", "Ġ")
    ByteLevel = pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel
    assert set(CHARACTERS) == set(ByteLevel.alphabet())


def test_a_saved_file_gives_the_same_tokens(trained, folder):
    loaded = Tokens.load(folder / "tokenizer.json")
    assert loaded.merges == trained.merges
    assert loaded.vocab == trained.vocab
    assert list(folder.iterdir()) == [folder / "tokenizer.json"]


def test_the_file_is_the_one_that_hugging_face_would_write(folder, theirs):
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == theirs.to_str(pretty=True)


def test_a_file_trained_by_hugging_face_is_read(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.ByteLevelBPETokenizer()
    text = read_text("conversation") + 3 * SCRIPTS
    made.train_from_iterator([text], 500, min_frequency=1, show_progress=False)
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokens.load(tmp_path / "tokenizer.json")
    assert loaded.merges == Tokens.train(text, 500).merges
    assert loaded.encode(text).tolist() == made.encode(text).ids


def test_an_exported_base_is_a_folder_that_transformers_opens(trained, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("safetensors")
    from minipeft.interop import save_gpt2
    from minipeft.model import GPT2, GPT2Config

    folder = tmp_path / "base"
    save_gpt2(GPT2(GPT2Config(trained.vocab_size, 32, 8, 1, 2)), folder)
    trained.save_folder(folder, 32)
    text = f" Hello  world, it's {SCRIPTS}"
    ids = trained.encode(text).tolist()
    for opened in (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")),
    ):
        assert opened.encode(text, verbose=False) == ids
        assert opened.decode(ids) == text
        assert len(opened) == trained.vocab_size
    again = transformers.AutoTokenizer.from_pretrained(folder)
    assert again.model_max_length == 32
    again.save_pretrained(tmp_path / "again")
    assert Tokens.load(tmp_path / "again" / "tokenizer.json").merges == trained.merges


def test_a_folder_that_would_give_other_tokens_is_not_written_to(trained, tmp_path):
    (tmp_path / "added_tokens.json").write_text("{}")
    with pytest.raises(FileError, match=r"holds added_tokens.json of another tokenizer: choose another folder"):
        trained.save_folder(tmp_path, 32)
    with pytest.raises(FileError, match=r"added_tokens.json is a file; a folder is written here"):
        trained.save_folder(tmp_path / "added_tokens.json", 32)
    assert [path.name for path in tmp_path.iterdir()] == ["added_tokens.json"]


def test_a_file_is_written_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text("the old one")

    def fail(file):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        trained.save(path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]
    for place, message in (
        (tmp_path, "is a folder; a file is to be written"),
        (tmp_path / "no" / "t", "there is no folder"),
    ):
        with pytest.raises(FileError, match=message):
            trained.save(place)


@pytest.fixture
def damaged(folder, tmp_path):
    """Write the file again with some of its fields changed: {"model.vocab": value}."""

    def write(changes):
        found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for field, value in changes.items():
            *parts, name = field.split(".")
            place = found
            for part in parts:
                place = place[part]
            if value is KeyError:
                del place[name]
            else:
                place[name] = value(place[name]) if callable(value) else value
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        return path

    return write


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPECIAL = {"id": 700, "content": "<|endoftext|>", "special": True}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "2.0"),
        ("truncation", {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}),
        ("padding", {"strategy": "BatchLongest", "pad_id": 0}),
        ("added_tokens", [SPECIAL]),
        ("normalizer", {"type": "NFC"}),
        ("pre_tokenizer.type", "Metaspace"),
        ("pre_tokenizer.add_prefix_space", True),
        ("pre_tokenizer.use_regex", False),
        ("pre_tokenizer.behavior", "Isolated"),
        ("post_processor", {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}),
        ("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 2]}),
        ("decoder.type", "WordPiece"),
        ("model.type", "WordPiece"),
        ("model.type", KeyError),
        ("model.dropout", 0.1),
        ("model.unk_token", "<unk>"),
        ("model.continuing_subword_prefix", "##"),
        ("model.end_of_word_suffix", "</w>"),
        ("model.fuse_unk", True),
        ("model.byte_fallback", True),
        ("model.ignore_merges", True),
        ("model.max_input_chars_per_word", 100),
    ],
)
def test_a_setting_that_is_not_done_here_is_refused_by_name(damaged, field, value):
    with pytest.raises(FileError, match=rf"changed.json: {field} is .*; for byte-level BPE as in GPT-2 it must be"):
        Tokens.load(damaged({field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.merges": lambda merges: [" ".join(pair) for pair in merges]},  # as files were before 2024
        {"model.continuing_subword_prefix": "", "model.end_of_word_suffix": ""},
        {"model.byte_fallback": KeyError, "model.ignore_merges": KeyError, "pre_tokenizer.use_regex": KeyError},
        {"post_processor": LEVEL | {"trim_offsets": False}},
        {"decoder.add_prefix_space": True, "decoder.use_regex": False, "pre_tokenizer.trim_offsets": False},
        {"model.vocab": lambda vocab: dict(sorted(vocab.items()))},  # the order in the file means nothing
    ],
)
def test_another_way_to_say_the_same_is_read(damaged, trained, changes):
    path = damaged(changes)
    assert Tokens.load(path).merges == trained.merges
    tokenizers = pytest.importorskip("tokenizers")
    assert tokenizers.Tokenizer.from_file(str(path)).encode(SCRIPTS).ids == trained.encode(SCRIPTS).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": KeyError}, "model.type is None"),
        ({"decoder": None}, "decoder.type is None"),
        ({"model": "BPE"}, "model.type is None"),
        ({"model": []}, "model.type is None"),
        ({"model.vocab": KeyError}, "model.vocab must be an object of tokens and ids, and model.merges a list"),
        ({"model.merges": {}}, "model.vocab must be an object of tokens and ids, and model.merges a list"),
        ({"model.merges": lambda m: [*m[:3], "Ġ"]}, "model.merges has 'Ġ', which is no pair of tokens"),
        ({"model.merges": lambda m: [*m[:3], ["a", "b", "c"]]}, r"\['a', 'b', 'c'\], which is no pair of tokens"),
        ({"model.merges": lambda m: [[1, 2]]}, r"model.merges has \[1, 2\], which is no pair of tokens"),
        ({"model.merges": lambda m: [7]}, r"model.merges has 7, which is no pair of tokens"),
        ({"model.merges": lambda m: m[::-1]}, "no merge before it makes these tokens"),
        ({"model.merges": lambda m: [*m, m[5]]}, "model.merges makes .* twice"),
        ({"model.merges": lambda m: m[:-1]}, "in model.vocab is 699, not None; the bytes must come first"),
        ({"model.vocab": lambda v: v | {"!": 1, '"': 0}}, "the id of '!' in model.vocab is 1, not 0"),
        (
            {"model.vocab": lambda v: v | {"<|endoftext|>": 700}},
            "the id of '<|endoftext|>' in model.vocab is 700, not None",
        ),
        (
            {"model.vocab": lambda v: {k: i for k, i in v.items() if k != "Ġ"}},
            "the id of 'Ġ' in model.vocab is None, not 220",
        ),
        ({"model.vocab": lambda v: {k: str(i) for k, i in v.items()}}, "the id of '!' in model.vocab is '0', not 0"),
    ],
)
def test_a_damaged_file_is_refused_by_name(damaged, changes, message):
    with pytest.raises(FileError, match=f"changed.json: .*{message.replace('|', '[|]')}"):
        Tokens.load(damaged(changes))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON: it is damaged, cut short, or something else"),
        (b"\x80\x04\x95", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"version": "1.0", "version": "1.0"}', "the name 'version' stands twice"),
        (b"[]", "is a list, where an object of names and values is needed"),
        (b"{}", "model.type is None; for byte-level BPE as in GPT-2 it must be 'BPE'"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path, data, message):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(FileError, match=message):
        Tokens.load(tmp_path / "tokenizer.json")


def test_a_file_that_is_cut_short_or_not_there_is_refused(tmp_path, folder):
    whole = (folder / "tokenizer.json").read_bytes()
    for end in np.linspace(0, len(whole) - 1, 20).astype(int):
        (tmp_path / "short.json").write_bytes(whole[:end])
        with pytest.raises(FileError, match=r"short.json is not JSON: it is damaged, cut short, or something else"):
            Tokens.load(tmp_path / "short.json")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.json"):
        Tokens.load(tmp_path / "none.json")
    with pytest.raises(FileError, match=r"is not a file but a folder: the file tokenizer.json is needed"):
        Tokens.load(tmp_path)


@pytest.mark.parametrize("kind", ["WordPiece", "WordLevel", "Unigram"])
def test_other_tokenizers_of_hugging_face_are_refused(tmp_path, kind):
    tokenizers = pytest.importorskip("tokenizers")
    model = getattr(tokenizers.models, kind)([("a", 0.0)] if kind == "Unigram" else {"a": 0})
    tokenizers.Tokenizer(model).save(str(tmp_path / "other.json"))
    with pytest.raises(FileError, match=f"model.type is '{kind}'; .* it must be 'BPE'"):
        Tokens.load(tmp_path / "other.json")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    bpe.save(str(tmp_path / "other.json"))
    with pytest.raises(FileError, match=r"pre_tokenizer.type is 'Metaspace'; .* it must be 'ByteLevel'"):
        Tokens.load(tmp_path / "other.json")
