"""docs/questions.md and docs/teaching.md are held to the lessons: sections exist, and quoted numbers stand in them."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))}
ROWS = [
    line
    for line in (ROOT / "docs" / "questions.md").read_text("utf-8").splitlines()
    if re.match(r"\| [\d, ]+ \|", line)
]
TEACHING = (ROOT / "docs" / "teaching.md").read_text("utf-8")


def words(text):
    return " ".join(text.replace("*", "").split())


def content(number):
    """What a reader of the lesson sees: text and stored outputs, white space joined."""
    cells = nbformat.read(LESSONS[number].with_suffix(".ipynb"), 4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    texts += [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]
    return words("\n".join(texts))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_each_answer_stands_in_its_lesson(row):
    _, _, _, where, answer, _ = (part.strip() for part in row.split("|"))
    cited = re.findall(r"\[(\d\d)\]\(\.\./notebooks/([\w.]+)\)([^;\[]*)", f"{where}")
    for number, file, sections in cited:
        assert LESSONS[number].name == file
        headings = re.findall(r"^#+ (.*)$", LESSONS[number].read_text("utf-8"), re.M)
        for section in re.findall(r"\*(.+?)\*", sections):
            assert section in headings, f"lesson {number} has no section {section!r}; it has {headings}"
    if not answer.startswith("lesson"):
        seen = " ".join(content(number) for number, _, _ in cited)
        for number in re.findall(r"`([^`]+)`", answer):
            assert words(number) in seen, f"{number!r} does not stand in the lessons cited"


def test_every_lesson_answers_something_and_is_taught():
    answered = "".join(ROWS)
    for number, path in LESSONS.items():
        assert f"({'../notebooks/' + path.name})" in answered
        section = re.search(rf"^## {number}\b.*?(?=^## |\Z)", TEACHING, re.M | re.S)
        assert section, f"docs/teaching.md has no section on lesson {number}"
        for part in ("Objectives", "Time", "Prerequisites", "Common mistakes"):
            assert f"**{part}" in section.group(), f"{part} of lesson {number} is missing in docs/teaching.md"
