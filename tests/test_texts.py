"""The two texts written for this project, a sentence a line: their form, their variety, and what is held out."""

import re
from collections import Counter

import pytest

from minipeft.training import read_text, split_lines

#       name: (least sentences, least and most words in one, least openings common to both parts)
TEXTS = {"climate": (1250, 8, 20, 12), "recipes": (450, 6, 18, 8)}


def words(line):
    return re.findall(r"[a-z0-9']+", line.lower())


def opening(line, n):
    return " ".join(words(line)[:n])


def near_duplicates(lines, limit=0.75):
    """Pairs of lines that share `limit` or more of their words: intersection over union."""
    sets = [frozenset(words(line)) for line in lines]
    return [
        (lines[i], lines[j])
        for i in range(len(sets))
        for j in range(i)
        # the union is at least the larger set, so sets of very different size need no look
        if limit * max(len(sets[i]), len(sets[j])) <= min(len(sets[i]), len(sets[j]))
        and len(sets[i] & sets[j]) >= limit * len(sets[i] | sets[j])
    ]


@pytest.fixture(scope="module", params=TEXTS)
def text(request):
    return request.param, read_text(request.param)


def test_near_duplicates_finds_one():
    lines = ["Warm air rises above the land.", "Cold rain falls on hills.", "Warm air rises above the sea."]
    assert near_duplicates(lines, 0.7) == [(lines[2], lines[0])]
    assert near_duplicates(lines) == []


def test_each_line_is_one_plain_sentence_of_moderate_length(text):
    name, text = text
    least, shortest, longest, _ = TEXTS[name]
    assert text.endswith(".\n")
    lines = text.splitlines()
    assert len(lines) >= least
    wrong = [
        line
        for line in lines
        if not re.fullmatch(r"[A-Z][A-Za-z0-9,;:'. -]*\.", line)
        or "  " in line
        or re.search(r"\. |\.\.| [,.;:]", line)
        or not shortest <= len(line.split()) <= longest
    ]
    assert wrong == []
    assert text.isascii()


def test_no_line_stands_twice_or_nearly_so(text):
    lines = text[1].splitlines()
    assert len(set(lines)) == len(lines)
    assert near_duplicates(lines) == []


def test_lines_begin_in_many_ways(text):
    lines = text[1].splitlines()
    for n, share in ((1, 0.06), (2, 0.015)):
        often, times = Counter(opening(line, n) for line in lines).most_common(1)[0]
        assert times <= share * len(lines), often


def test_the_held_out_lines_begin_as_training_lines_do(text):
    name, text = text
    train, held_out = (Counter(opening(line, 2) for line in part.splitlines()) for part in split_lines(text))
    assert sum(times >= 3 and held_out[pair] >= 2 for pair, times in train.items()) >= TEXTS[name][3]


# the start of a word each, so that ice is not found in price but cloud in cloudy
TOPICS = (
    "air cloud rain storm wind summer winter sun ocean coast ice snow river drought soil forest fire farm bird fish "
    "cit(y|ies) heat power carbon model measure|record past\\b|ancient|ago\\b|centur flood mountain desert plant"
)


@pytest.mark.parametrize("topic", TOPICS.split())
def test_every_topic_of_the_climate_text_is_in_both_parts(topic):
    lines = read_text("climate").splitlines()
    found = [bool(re.search(rf"\b({topic})", line.lower())) for line in lines]
    assert sum(found) >= 15
    assert 0.12 <= sum(found[4::5]) / sum(found) <= 0.28
