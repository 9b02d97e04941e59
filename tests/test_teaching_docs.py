"""docs/questions.md and docs/teaching.md are held to the lessons: sections exist, and numbers stand in them."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))}
QUESTIONS = dict(re.findall(r"^### (.*)\n\n((?:(?!##).*\n)+)",
    (ROOT / "docs" / "questions.md").read_text("utf-8").partition("## Elsewhere")[0], re.M))  # fmt: skip
ENDS = re.compile(r" \((?:Lesson |(?=Not in a lesson; ))(\[\d\d\]\(.*|Not .*)\)$", re.M)  # of a part of an answer
PARTS = [part for text in QUESTIONS.values() for part in zip(*[iter(ENDS.split(text.rstrip())[:-1])] * 2, strict=True)]
ANSWERS = [(part, where) for part, where in PARTS if not where.startswith("Not in a lesson; ")]
TEACHING = (ROOT / "docs" / "teaching.md").read_text("utf-8")


NUMBER = r"(?<![\w.,-])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-\d+)?%?(?!\w)"


def words(text):
    return " ".join(text.replace("*", "").replace("−", "-").split())


def stands_in(quoted, text):
    """Whether the text says it, and not within a longer number: 8.5% does not stand in 28.5%."""
    return re.search(rf"(?<![\w.,]){re.escape(quoted)}(?![.,]?\d)", text) is not None


@pytest.mark.parametrize("number", ["28.5%", "8.51%", "8.5", "1,8.5%", "0.8.5%"])
def test_a_number_stands_there_whole(number):
    assert not stands_in("8.5%", f"It is {number}.")
    assert stands_in("8.5%", f"It is {number}, or 8.5%, or so.")


def content(number, sections=()):
    """What a reader of the lesson, or of these sections of it, sees: text and stored outputs, white space joined."""
    texts, section = [], None
    for cell in nbformat.read(LESSONS[number].with_suffix(".ipynb"), 4).cells:
        if cell.cell_type == "markdown":
            parts = re.split(r"^#+ (.*)$", cell.source, flags=re.M)  # text, heading, text, heading, text ...
            for heading, text in zip([section, *parts[1::2]], parts[::2], strict=True):
                section = heading
                texts.append((section, text))
        for output in cell.get("outputs", []):
            texts += [(section, output.get("text", "")), (section, output.get("data", {}).get("text/plain", ""))]
    return words("\n".join(text for section, text in texts if not sections or section in sections))


def missing(answer, seen):
    """What an answer says and its lesson does not: code, quotations, numbers, and numbers in this order: 1, 2 and 3."""
    answer = words(re.sub(r"\]\([^)]*\)|Lesson \d\d, |[Ss]ection \d+|exercise \d", "]", answer))
    said = re.findall(r"`([^`]+)`|\"([^\"]+)\"", answer)
    plain = re.sub(r"`[^`]+`", "", answer)
    absent = [text for pair in said for text in pair if text and not stands_in(text, seen)]
    absent += [number for number in re.findall(NUMBER, plain) if not stands_in(number, seen)]
    for row in re.findall(rf"{NUMBER}(?:, {NUMBER})* and {NUMBER}|\({NUMBER}(?: {NUMBER})+\)", plain):
        numbers = [rf"(?<![\w.,]){re.escape(number)}(?![.,]?\d)" for number in re.findall(NUMBER, row)]
        absent += [row] * (not re.search(r"[^\d]{1,40}".join(numbers), seen))
    return absent


@pytest.mark.parametrize(
    ("answer", "absent"),
    [
        ('It has 28.5%, from `fit`, "for three" (1.87, 1.93 and −1.89).', []),
        ("It has 28.6%.", ["28.6%"]),
        ("It has 8.5%.", ["8.5%"]),
        ("It has 1.89.", []),
        ("Of 1,024 it has 87.", ["1,024", "87"]),
        ("It has 1.93, 1.87 and −1.89.", ["1.93, 1.87 and -1.89"]),
        ("It has 28.5% (1.93 1.87 −1.89).", ["(1.93 1.87 -1.89)"]),
        ('It is `fits`, "for four".', ["fits", "for four"]),
        ("Lesson 07, here: [it](https://a.org/42) is so (section 11, exercise 5).", []),
    ],
)
def test_what_does_not_stand_in_the_lesson_is_found(answer, absent):
    assert missing(answer, words("By fit, for three: 28.5% and (1.87 1.93 -1.89), of 11,024.")) == absent


def test_every_answer_names_its_lesson():
    page = (ROOT / "docs" / "questions.md").read_text("utf-8").partition("## Elsewhere")[0]
    assert len(QUESTIONS) == page.count("\n### ")
    for question, text in QUESTIONS.items():
        assert not ENDS.split(text.rstrip())[-1], f"{question}: its last paragraph names no lesson"
        assert any(where in text for _, where in ANSWERS), f"{question}: no part of its answer names a lesson"


@pytest.mark.parametrize(("answer", "where"), ANSWERS, ids=[answer.strip()[:40] for answer, _ in ANSWERS])
def test_each_answer_stands_in_its_lesson(answer, where):
    cited = re.findall(r"\[(\d\d)\]\(\.\./notebooks/([\w.]+)\)([^;\[]*)", where)
    cited = {number: (file, re.findall(r"\*(.+?)\*", sections)) for number, file, sections in cited}
    assert cited
    for number, (file, sections) in cited.items():
        assert LESSONS[number].name == file
        headings = re.findall(r"^#+ (.*)$", LESSONS[number].read_text("utf-8"), re.M)
        for section in sections:
            assert section in headings, f"lesson {number} has no section {section!r}; it has {headings}"
    seen = " ".join(content(number, sections) for number, (_, sections) in cited.items())
    where = f"lesson {', '.join(cited)}, {'; '.join(name for _, names in cited.values() for name in names)}"
    assert not missing(answer, seen), f"docs/questions.md says what does not stand in {where}"


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_answers_something_and_is_taught(number):
    assert f"({'../notebooks/' + LESSONS[number].name})" in "".join(where for _, where in ANSWERS)
    section = re.search(rf"^## {number}\b.*?(?=^## |\Z)", TEACHING, re.M | re.S)
    assert section, f"docs/teaching.md has no section on lesson {number}"
    section = section.group()
    for part in ("Objectives", "Time", "Prerequisites", "Common mistakes"):
        assert f"**{part}" in section, f"{part} of lesson {number} is missing in docs/teaching.md"
    reading, exercising = map(int, re.search(r"\*\*Time\*\*: (\d+) minutes; exercises (\d+)\.", section).groups())
    assert re.search(rf"\b{reading} minutes", content(number))
    solved = LESSONS[number].parent / "solutions" / LESSONS[number].name
    minutes = re.findall(r"^## .*\((?:easy|medium|hard), (\d+) minutes\)$", solved.read_text("utf-8"), re.M)
    assert exercising == sum(map(int, minutes))
    assert re.findall(r"\| (?:easy|medium|hard), (\d+) min \|", content(number)) == minutes
    for quoted in re.findall(r"\d+(?:\.\d+)?%|\b\d\.\d+", section):
        assert stands_in(quoted, content(number)), (
            f"docs/teaching.md quotes {quoted}, which does not stand in lesson {number}"
        )


def test_hours_of_a_path_are_the_sums_of_its_lessons():
    times = {number: (int(reading), int(exercising)) for number, reading, exercising in
             re.findall(r"^## (\d\d) .*?\*\*Time\*\*: (\d+) minutes; exercises (\d+)\.", TEACHING, re.M | re.S)}  # fmt: skip
    paths = re.findall(r"^\| .+ \| (.*\d\d) \| (\d+):(\d\d) \| (\d+):(\d\d) \|$", TEACHING, re.M)
    assert len(times) == len(LESSONS)
    assert len(paths) == 5
    before = []
    for lessons, *hours in paths:
        before = re.findall(r"\d\d", lessons) if "the same" not in lessons else before + re.findall(r"\d\d", lessons)
        reading, exercising = (sum(times[number][i] for number in before) for i in (0, 1))
        read_hours, read_minutes, all_hours, all_minutes = map(int, hours)
        assert (60 * read_hours + read_minutes, 60 * all_hours + all_minutes) == (reading, reading + exercising), (
            lessons
        )
