"""tokenizer.json, the file of Hugging Face tokenizers: for the tokens of tokens.py, and for no others.

A token stands in it as a string, one character for each byte.  A byte that can be printed is its own character; the
other 68 are the characters from U+0100 on.  The space is the 33rd of these: " the" is written "Ġthe".  The bytes are
numbered in this order, too, as in GPT-2: "!" is 0, the space 220.
"""

import json
from os.path import isdir
from pathlib import Path

from ..files import FileError, check_place, read_json, replacing

PRINTED = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTES = PRINTED + [byte for byte in range(256) if byte not in PRINTED]  # id -> byte
CHARACTERS = [chr(byte) for byte in PRINTED] + [chr(256 + n) for n in range(256 - len(PRINTED))]  # id -> character

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ON = {  # the only settings of a file that may be on, and how: others would give other tokens
    "model.type": "BPE",
    "pre_tokenizer.type": "ByteLevel",
    "pre_tokenizer.use_regex": True,
    "decoder.type": "ByteLevel",
    "version": "1.0",
}
WITHOUT_EFFECT = {"decoder.add_prefix_space", "decoder.use_regex", "decoder.trim_offsets", "pre_tokenizer.trim_offsets"}
ALONE = [{"Sequence": {"id": "A", "type_id": 0}}]  # a text as it is, with no special tokens around it
OTHER_TOKENS = ("added_tokens.json", "special_tokens_map.json")  # transformers would add these to ours


MARK = b'"added_tokens": [],\n  "normalizer": null,\n  "pre_tokenizer": {\n    "type": "ByteLevel",\n    "add_prefix_space"'


def write_tokenizer(path, merges):
    """Write tokenizer.json, whole or not at all; merges: [(left, right), ...], ids.  It has MARK in its first lines."""
    names = list(CHARACTERS)
    for left, right in merges:
        names.append(names[left] + names[right])
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {name: i for i, name in enumerate(names)},
        "merges": [(names[left], names[right]) for left, right in merges],
    }
    write_json(path, {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": model,
    })  # fmt: skip


def write_tokenizer_folder(folder, merges, n_positions):
    """Write a folder that transformers opens: AutoTokenizer.from_pretrained(folder) gives the same ids.

    tokenizer_config.json names the class; by the model's type alone, transformers takes GPT-2's and adds an
    <|endoftext|> that the model does not know.

    Raises: FileError if the folder holds another tokenizer's special tokens, or nothing can be written there
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; a folder is written here")
    if others := [name for name in OTHER_TOKENS if (folder / name).exists()]:
        raise FileError(f"{folder} holds {others[0]} of another tokenizer: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    check_place(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": n_positions,
    })  # fmt: skip
    write_tokenizer(folder / "tokenizer.json", merges)  # last: until it is there, nothing can be opened


def write_json(path, found):
    with replacing(path) as file:
        file.write(json.dumps(found, indent=2, ensure_ascii=False).encode())


def read_merges(path):
    """The merges of a tokenizer.json, [(left, right), ...], ids.

    Raises: FileNotFoundError; FileError if it cannot be read or is no JSON, or that names the field that is damaged, or set
    to what is not done here
    """
    if isdir(path):
        raise FileError(f"{path} is not a file but a folder: the file tokenizer.json is needed")
    found = read_json(path)
    check_settings(path, found)
    vocab, merges = found["model"].get("vocab"), found["model"].get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise FileError(f"{path}: model.vocab must be an object of tokens and ids, and model.merges a list")
    ids, pairs = {character: i for i, character in enumerate(CHARACTERS)}, []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge  # "Ġ t" in older files
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise FileError(f"{path}: model.merges has {merge!r:.80}, which is no pair of tokens")
        if not ids.keys() >= set(pair):
            raise FileError(f"{path}: model.merges has {merge!r:.80}, but no merge before it makes these tokens")
        if (name := "".join(pair)) in ids:
            raise FileError(f"{path}: model.merges makes {name!r:.80} twice")
        pairs.append((ids[pair[0]], ids[pair[1]]))
        ids[name] = len(ids)
    for name in [*ids, *vocab]:
        if vocab.get(name) != ids.get(name):
            raise FileError(
                f"{path}: the id of {name!r:.80} in model.vocab is {vocab.get(name)!r:.20}, not {ids.get(name)}; the bytes "
                "must come first, in GPT-2's order, then one token for each merge, and no others"
            )
    return pairs


def check_settings(path, found):
    """Refuse a file that says more than encode and decode do.  A field that is false, empty or missing is off."""
    on = {"pre_tokenizer.use_regex": True}  # unless the file says otherwise
    for part, value in found.items():
        if part == "post_processor" and changes_no_id(value):
            continue
        if part in ("model", "pre_tokenizer", "decoder") and isinstance(value, dict):
            on |= {f"{part}.{name}": value[name] for name in value if name not in ("vocab", "merges")}
        else:
            on[part] = value
    for name in [*ON, *on]:
        if name not in WITHOUT_EFFECT and (on.get(name) or None) != ON.get(name):
            must = f"must be {ON[name]!r}" if name in ON else "must be off"
            raise FileError(f"{path}: {name} is {on.get(name)!r:.80}; for byte-level BPE as in GPT-2 it {must}")


def changes_no_id(processor):
    """True for what only says where in the text a token stands, or puts a text together with no special tokens."""
    kind = processor.get("type") if isinstance(processor, dict) else None
    return kind == "ByteLevel" or (kind == "TemplateProcessing" and processor.get("single") == ALONE)
