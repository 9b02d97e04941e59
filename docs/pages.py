"""What the site is made of: docs/build.py calls write(), and Sphinx reads what it has written."""

import ast
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import annotate
import reference

ROOT = Path(__file__).resolve().parents[1]
DOCS = {  # the pages of docs/, in the order of the navigation
    "using": "Use it", "questions": "Questions people ask", "instruments": "Instruments",
    "huggingface": "Hugging Face", "peft-files": "Files of peft", "speed": "Speed", "data": "Data", "design": "Design",
    "teaching": "Teaching", "contributing": "Contributing",
}  # fmt: skip


@dataclass
class Lesson:
    number: str
    stem: str  # of its files
    title: str
    minutes: int
    needs: list  # numbers of other lessons
    about: str  # its first paragraph

    @property
    def address(self):
        return f"notebooks/{self.stem}"


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def lessons():
    """All lessons, with what their first paragraphs say of them.  Raises: ValueError for one that says no minutes"""
    found = []
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        text = prose(path)
        title = re.match(r"# (.*)", text)
        minutes = re.search(r"\b(\d+) minutes", text)
        if not title or not minutes:
            raise ValueError(f"{path.name} needs a title, `# NN. ...`, and the words `NN minutes`")
        needs = re.search(r"(?:You need|Needs:?) ([^\n]*?)(?:\.(?=\s|$)|\n)", text + "\n")
        numbers = re.findall(r"\b\d\d\b", needs[1]) if needs and "lesson" in needs[1] else []
        about = next((p for p in text.split("\n\n")[1:] if not p.startswith(("#", "```"))), "")
        found.append(Lesson(path.name[:2], path.stem, title[1], int(minutes[1]), sorted(set(numbers)), about))
    return found


def write(src, extra):
    """All sources of the site into `src`, what is only copied into `extra`."""
    course = lessons()
    addresses = {lesson.number: lesson.address for lesson in course}
    files = {}
    for lesson in course:
        files[f"notebooks/{lesson.stem}.ipynb"] = notebook(lesson, course)
        for kind in ("exercises", "solutions"):
            if (ROOT / "notebooks" / kind / f"{lesson.stem}.ipynb").exists():
                files[f"notebooks/{kind}/{lesson.stem}.ipynb"] = beside(lesson, kind)
    for module in annotate.modules():
        files[annotate.address(module) + ".rst"] = annotate.page(module, addresses)
    for file in sorted({file for file, *_ in annotate.tests()}):
        page = annotate.test_page(file)
        files[f"source/tests/{file[:-3]}.rst"] = page.replace("raw:: html\n\n", f"raw:: html\n\n   {tested(file)}\n", 1)
    files["source/index.rst"] = source_index()
    for name in DOCS:
        file = ROOT / "CONTRIBUTING.md" if name == "contributing" else ROOT / "docs" / f"{name}.md"
        files[f"docs/{name}.md"] = document(file.read_text(encoding="utf-8"), DOCS[name])
    files |= {f"reference/{name}": text for name, text in reference.pages(src / "reference", addresses).items()}
    files |= {"index.md": home(course, src / "reference"), "course.md": course_map(course)}
    for name, text in files.items():
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_text(text, encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, src / "docs")
    for path in sorted((ROOT / "notebooks").rglob("[0-9][0-9]_*.ipynb")):
        target = extra / "download" / path.relative_to(ROOT / "notebooks")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "solutions":
            text = json.dumps(solved(json.loads(path.read_text(encoding="utf-8"))), indent=1, ensure_ascii=False)
            target.write_text(text + "\n", encoding="utf-8")
        else:
            shutil.copy(path, target)


# Lessons


def read_notebook(path, up):
    """A notebook for myst-nb: alt text where it looks for it, set-up folded, files of the source as links."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output.get("metadata", {}).get("image/png", {}).get("alt")
                if not alt:
                    raise ValueError(f"{path.name}: a figure has no alt text")
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        if cell["cell_type"] == "markdown":
            cell["source"] = linked("".join(cell["source"]), up)
        elif "Opened alone, in Colab?" in "".join(cell["source"]):
            cell["metadata"]["tags"] = sorted({*cell["metadata"].get("tags", []), "hide-input"})
            cell["metadata"].setdefault("mystnb", {}).update(
                code_prompt_show="Show the imports", code_prompt_hide="Hide the imports"
            )
    return notebook


def linked(text, up):
    """`minipeft/methods/lora.py` in a text, where it is not a link yet, as a link to its annotated page."""

    def link(match):
        module = match[1].replace("/", ".")
        return f"[{match[0]}]({up}{annotate.address(module)}.rst)" if module in annotate.modules() else match[0]

    return re.sub(r"(?<!\[)`minipeft/([\w/]+)\.py`(?!\])", link, text)


def below(lesson, by_number):
    """The numbers of all lessons that stand before one: those that it needs, and what these need."""
    needs = {n for n in lesson.needs if n in by_number}
    return needs.union(*(below(by_number[n], by_number) for n in needs))


def notebook(lesson, course):
    content = read_notebook(ROOT / "notebooks" / f"{lesson.stem}.ipynb", "../")
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = without_files("".join(cell["source"]))
    by_number = {other.number: other for other in course}
    needs = ", ".join(f'<a href="{by_number[n].stem}.html">{n}</a>' for n in lesson.needs if n in by_number)
    behind = sorted(below(lesson, by_number) - set(lesson.needs))
    further = ", ".join(f'<a href="{by_number[n].stem}.html">{n}</a>' for n in behind)
    needs += f", and these {further}" * bool(behind)
    items = [
        f"<li>{lesson.minutes} minutes</li>",
        f"<li>needs lesson{'s' * (len(lesson.needs) > 1)} {needs}</li>" * bool(needs),
    ]
    for kind in ("exercises", "solutions"):
        if (ROOT / "notebooks" / kind / f"{lesson.stem}.ipynb").exists():
            items.append(f'<li><a href="{kind}/{lesson.stem}.html">{kind.capitalize()}</a></li>')
    items.append(
        f'<li><a class="download" href="../download/{lesson.stem}.ipynb" download>Download the notebook</a></li>'
    )
    items.append('<li><a href="../course.html">Map</a></li>')
    bar = f'<ul class="bar">{"".join(items)}</ul>'
    first = content["cells"][0]
    title, _, rest = "".join(first["source"]).partition("\n")
    first["source"] = f"{title}\n\n{bar}\n{rest}"
    return json.dumps(content)


def without_files(text):
    """What is a file on GitHub is a page here.  And what comes next stands under each page."""
    text = re.sub(r"\[exercises/[^\]]*\]\(exercises/", "[a notebook of their own](exercises/", text)
    text = re.sub(r"\[solutions/[^\]]*\]\(solutions/", "[another](solutions/", text)
    return re.sub(r"(?:^- | )Next: [^\n]*$", "", text, flags=re.MULTILINE)


def beside(lesson, kind):
    """The exercises of a lesson, or their solutions."""
    content = read_notebook(ROOT / "notebooks" / kind / f"{lesson.stem}.ipynb", "../../")
    if kind == "solutions":
        content = solved(content)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            text = re.sub(r" ?Lesson: \[[^\]]*\]\([^)]*\)\.", "", "".join(cell["source"]))  # the bar has it
            cell["source"] = re.sub(
                r"^(## .*) \((\w+, \d+ min\w*)\)$", r'\1\n\n<p class="minutes">\2</p>', text, flags=re.MULTILINE
            )
    items = [f'<li><a href="../{lesson.stem}.html">Lesson {lesson.number}</a></li>']
    for other in ("exercises", "solutions"):
        here = other == kind
        to = f'<a href="../{other}/{lesson.stem}.html">{other.capitalize()}</a>'
        items.append(f"<li>{f'<b>{other.capitalize()}</b>' if here else to}</li>")
    file = f"../../download/{kind}/{lesson.stem}.ipynb"
    load = f'<li><a class="download" href="{file}" download>Download the notebook</a></li>'
    first = content["cells"][0]
    title, _, rest = "".join(first["source"]).partition("\n")
    first["source"] = f'{title}\n\n<ul class="bar">{"".join([*items, load])}</ul>\n{rest}'
    end = f'<ul class="bar end">{"".join(items)}<li><a href="../../course.html">Map of the course</a></li></ul>'
    content["cells"].append({"cell_type": "markdown", "id": "end", "metadata": {}, "source": end})
    content["metadata"]["orphan"] = True
    return json.dumps(content)


def solved(content):
    """Solutions for who reads them: without the marks of make_exercises.py, and with a first sentence of their own."""
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = re.sub(r"^ *# (?:SOLUTION|END|BLANK.*)(?:\n|$)", "", text, flags=re.MULTILINE)
            text = re.sub(r"  # ANSWER.*$", "", text, flags=re.MULTILINE)
        else:
            text = re.sub(r"<!-- (?:SOLUTION|END) -->\n?", "", text)
            text = re.sub(r"\s+Answer first, then run the next\s+cell\.", "", text)
        cell["source"] = text
    title, introduction, *rest = content["cells"][0]["source"].split("\n\n")
    if introduction.startswith("Each exercise"):  # which is said to who solves them
        introduction = (
            "The exercises with the answers filled in, and what each check says of them. An open question has no check."
        )
    content["cells"][0]["source"] = "\n\n".join([title, introduction, *rest])
    return content


def tiers(course):
    """Lessons by the length of the longest way to them: [[those that need nothing], ...]."""
    depth, by_number = {}, {lesson.number: lesson for lesson in course}
    for lesson in course:  # what a lesson needs stands before it
        depth[lesson.number] = 1 + max((depth[n] for n in lesson.needs if n in depth), default=-1)
    return [[by_number[n] for n in depth if depth[n] == level] for level in range(max(depth.values()) + 1)]


def short(lesson):
    return re.sub(r"^\d\d\. ", "", lesson.title)


def plain(text):
    """Markdown without its marks."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text.replace("**", "").replace("`", ""))


def course_map(course):
    """What needs what, as boxes in rows, each with its links; and the list."""
    leads = {lesson.number: [o.number for o in course if lesson.number in o.needs] for lesson in course}
    stems = {lesson.number: lesson.stem for lesson in course}

    def links(numbers):
        return ", ".join(f'<a href="notebooks/{stems[n]}.html">{n}</a>' for n in numbers if n in stems)

    rows = []
    for tier in tiers(course):
        boxes = []
        for lesson in tier:
            needs = f'<span class="edge">needs {links(lesson.needs)}</span>' if lesson.needs else ""
            to = f'<span class="edge">leads to {links(leads[lesson.number])}</span>' if leads[lesson.number] else ""
            boxes.append(
                f'<li>{needs}<a class="title" href="notebooks/{lesson.stem}.html"><b>{lesson.number}</b> {short(lesson)}</a>'
                f'<span class="minutes">{lesson.minutes} minutes</span>{to}</li>'
            )
        rows.append(f'<ul class="tier">{"".join(boxes)}</ul>')
    listed = []
    for lesson in course:
        needs = f"needs {links(lesson.needs)}" if lesson.needs else "needs nothing"
        about = plain(" ".join(lesson.about.split()))
        facts = f'<p class="minutes">{lesson.minutes} minutes · {needs}</p>'
        listed.append(f"### [{lesson.title}]({lesson.address}.ipynb)\n\n{facts}\n\n{about}")
    newline = "\n"
    return f"""# The course

{len(course)} lessons, {sum(lesson.minutes for lesson in course) / 60:.0f} hours of reading in all, and exercises.
In the map, each lesson stands below what it needs. Lesson 00 shows everything once,
without the reasons; from 01 on nothing is taken on trust.

<div class="map">{"".join(rows)}</div>

## All lessons

{(newline * 2).join(listed)}

Exercises, and their solutions, are at the end of each lesson. To run the lessons instead of reading them,
`pip install -e ".[lessons]"` in a clone, then `minipeft lessons DIR` copies them to a folder of yours. Whoever teaches
finds times and common mistakes [here](docs/teaching.md).
"""


# The rest


def width_of(png):
    """Of a picture, in pixels, as its file says."""
    return int.from_bytes(png.read_bytes()[16:20], "big")


def home(course, drawings):
    """The first page.  What was written before and after stands in README.md, and is taken from there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.search(r"(Before and after.*?)\n\n```text\n(.*?)```\n\n(.*?)\n\n!\[", readme, re.DOTALL)
    if not said:
        raise ValueError("README.md has no text before and after, followed by a picture")
    before, samples, after = said.groups()
    pairs = []
    for pair in samples.strip().split("\n\n"):
        lines = re.findall(r"^(\w+) {2,}(.*(?:\n +.*)*)", pair, re.MULTILINE)
        pairs.append("".join(f"<dt>{who}</dt><dd>{' '.join(text.split())}</dd>" for who, text in lines))
    listed = "\n".join(f"notebooks/{lesson.stem}" for lesson in course)
    documents = "\n".join(f"{title} <docs/{name}>" for name, title in DOCS.items())
    first, by_file = course[0], {lesson.stem[3:]: lesson for lesson in course}

    def to(lesson, words):
        return f'<a href="{lesson.address}.html">{words}</a>'

    four = "\n".join(  # two and two, of which those beside one another are about as high
        f'<div style="--w: {width_of(drawings / f"{name}.png")}">\n\n**{to(by_file[lesson], words)}**\n\n'
        f"![{reference.drawn(name)[0].alt}](reference/{name}.png)\n\n</div>"
        for name, words, lesson in (
            ("lora", "LoRA", "write_lora"),
            ("prefix", "Prefix tuning", "write_a_prefix"),
            ("adapter", "Adapters", "put_in_an_adapter"),
            ("prompt", "Prompt tuning", "tune_a_prompt"),
        )
    )
    begin = [
        (first, short(first).split(":")[0]),
        (by_file["write_lora"], "LoRA"),
        (by_file["put_in_an_adapter"], "Adapters"),
        (by_file["write_a_prefix"], "Prefix tuning"),
        (by_file["tune_a_prompt"], "Prompt tuning"),
    ]
    timed = "\n".join(f"<li>{to(lesson, words)}, {lesson.minutes} minutes</li>" for lesson, words in begin)
    folder = "docs/huggingface.md#one-text-one-command"
    own = f'`pip install -q -e ".[hf]"`, then `minipeft finetune FILE.txt --base FOLDER`: [what the folder needs]({folder})'
    return f"""---
hide-toc: true
---
# minipeft

<p class="lead">Parameter-efficient fine-tuning that you can read: a small GPT-2 in NumPy, its forward and backward
written by hand. LoRA, adapters, prefix tuning and their relatives are put into it one by one, each with its equations
beside its code.</p>

<ul class="doors">
<li><h2><a href="course.html">Take the course</a></h2>
<p>{len(course)} lessons, from one derivative to your own adapter. Begin at the beginning, or with a method:</p>
<ul>
{timed}
</ul></li>
<li><h2><a href="source/index.html">Read the source</a></h2>
<p>Each equation stands beside its code, each gradient beside its backward:</p>
<ul>
<li><a href="source/methods/lora.html">lora.py</a>, LoRA</li>
<li><a href="source/methods/lora.html#py-LoRALinear.path">the gradients of A and B</a></li>
<li><a href="source/methods/adapter.html">adapter.py</a>, <a href="source/methods/prefix.html">prefix.py</a></li>
<li><a href="source/model/attention.html">attention.py</a>, of the model</li>
<li><a href="source/index.html">all modules</a></li>
</ul></li>
<li><h2><a href="#use-it">Use it</a></h2>
<p>One command teaches the model a text of yours; what it has learned is one small file:</p>
<ul>
<li><a href="#use-it">one command to try it</a></li>
<li><a href="docs/using.html">a text of yours</a>, step by step</li>
<li><a href="docs/huggingface.html#one-text-one-command">LoRA on your own GPT-2</a></li>
<li><a href="reference/methods.html">all methods side by side</a></li>
<li><a href="docs/questions.html">questions people ask</a>, such as
<a href="docs/questions.html#why-a-random-and-b-zero-not-the-reverse-or-both-random">why B starts at zero</a></li>
</ul></li>
</ul>

## Before and after

{before.partition("Before and after, with ")[2][:1].upper()}{before.partition("Before and after, with ")[2][1:]}

<dl class="samples">{'</dl><dl class="samples">'.join(pairs)}</dl>

{after}

## Four methods in one block

Grey is frozen, blue is trained. [All methods](reference/methods.rst), each with its drawing and its equation.

<div class="four">
{four}
</div>

## Use it

In a clone of this project, with Python 3.10 or newer. This sets up, and fine-tunes the shipped model on a new text by five
methods:

```sh
{re.search(r"^    (python3 -m venv .*minipeft tour)$", readme, re.MULTILINE)[1]}
```

Then, after `. .venv/bin/activate`:

| | |
|---|---|
| LoRA on a text of yours | `minipeft finetune FILE.txt` |
| LoRA on your own GPT-2 folder | {own} |
| an adapter to `peft`, and back | `minipeft export`, `minipeft import` |
| in Python | [a program](docs/using.md#in-python); [the functions](reference/index.rst), one example each |
| how do I ...? | [questions people ask](docs/questions.md) |

```{{toctree}}
:hidden:
:caption: Lessons
:maxdepth: 1

Map of the course <course>
{listed}
```
```{{toctree}}
:hidden:
:caption: Source and reference
:maxdepth: 1

The source, annotated <source/index>
reference/index
reference/methods
reference/commands
```
```{{toctree}}
:hidden:
:caption: More
:maxdepth: 1

{documents}
```
"""


def tested(file):
    """The bar of a page of tests: the modules from which they import."""
    tree, found = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "minipeft":
            home = node.module.partition(".")[2]
            homes = [home] if home in annotate.modules() else [annotate.home_of(home, a.name) for a in node.names]
            found += [module for module in homes if module]
    own = file.removeprefix("test_").removesuffix(".py")
    found = sorted(set(found), key=lambda module: (module.rpartition(".")[2] != own, module))
    links = [f'<a href="../../{annotate.address(m)}.html">{m.rpartition(".")[2]}.py</a>' for m in found]
    about = f"<li>Tests of {', '.join(links)}</li>" * bool(links)
    return f'<ul class="bar">{about}<li><a href="../index.html">All of the source</a></li></ul>'


def source_index():
    """The modules in groups, each with the first sentence of its docstring."""
    setter = annotate.Typesetter()
    out = ["The source, annotated\n=====================\n"]
    out.append(
        "What each module says of itself, its equations typeset, stands beside its code; the gradients beside the "
        "backward that computes them. Names are links to where they are defined; under each class are "
        "the tests that hold it. Begin with "
        ":doc:`methods/lora`, or with :doc:`model/module`, the contract of all layers.\n"
    )
    groups = {**annotate.FOLDERS, "": "Writing text"}
    for folder, title in groups.items():
        names = [m for m in annotate.modules() if m.rpartition(".")[0] == folder]
        out.append(f"{title}\n{'-' * len(title)}\n")
        for module in names:
            about = annotate.first_sentence(module)
            out.append(f":doc:`{module.replace('.', '/')}`\n   {setter.text(about)}\n")
        entries = "\n".join(f"   {m.rpartition('.')[2]}.py <{m.replace('.', '/')}>" for m in names)
        out.append(f".. toctree::\n   :hidden:\n\n{entries}\n")
    return "\n".join(out)


def document(text, title):
    """A page of docs/: its links lead to pages of the site."""
    text = (
        text.replace("](docs/", "](")
        .replace("](CONTRIBUTING.md", "](contributing.md")
        .replace("](../CONTRIBUTING.md", "](contributing.md")
    )
    text = re.sub(r"\]\(((?:\.\./)?notebooks/[\w/]+)\.md", r"](\1.ipynb", text)
    text = re.sub(r"\[([^\]]+)\]\(\.\./(?:minipeft|tests|README)[^)]*\)", r"\1", text)
    return linked(text, "../")
