"""The tokenizer of a model's folder: text to token ids and back."""

from os.path import lexists

import numpy as np

from ..files import FileError, check_readable
from .gpt2_files import find_folder
from .tensors import need


def load_tokenizer(path_or_name):
    """The tokenizer in the folder's tokenizer.json, or in the Hub's folder of this name: a tokenizers.Tokenizer.

    A length at which the file would cut texts, or up to which it would pad them, is taken off: cut text is lost in
    silence.

    Raises: FileNotFoundError; FileError if the file cannot be read or is damaged; ImportError without tokenizers
    """
    tokenizers = need("tokenizers")
    path = find_folder(path_or_name) / "tokenizer.json"
    if not lexists(path):
        raise FileNotFoundError(
            f"there is no tokenizer.json in {path.parent}; if there is a vocab.json with a merges.txt, this writes one: "
            'tokenizers.ByteLevelBPETokenizer("vocab.json", "merges.txt").save("tokenizer.json")'
        )
    check_readable(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise FileError(f"{path} is not a tokenizer: it is damaged or of an unknown kind ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer, text):
    """What a tokenizer makes of a text, without special tokens around it: .ids and .offsets.

    Raises: ValueError with its words
    """
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"the tokenizer cannot encode this text: {error}") from error


def decode(tokenizer, ids):
    """Token ids to text, special tokens included."""
    return tokenizer.decode([int(i) for i in np.asarray(ids).reshape(-1)], skip_special_tokens=False)
