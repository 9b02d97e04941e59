"""A module of minipeft as a page: what its docstrings say, typeset, beside the code that it is about.

The equations of gradients stand beside `backward`, the others beside `forward` (or `path`).  A name links to where it is
defined, on this page or another.
"""

import ast
import html
import re
from functools import cache
from pathlib import Path
from textwrap import dedent, indent

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Name
from typeset import Typesetter, cited

import minipeft
from minipeft import METHODS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "model": "The model: a small GPT-2, forward and backward",
    "methods": "The methods: what is put into the model",
    "training": "Training: steps, optimizers, data",
}
FORWARD = {"forward", "path"}
CODE = '<div class="highlight-python notranslate{}"><div class="highlight"><pre tabindex="0">{}</pre></div></div>'


@cache
def modules():
    """{"methods.lora": its tree} of every module that has a page."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / "minipeft" / folder).glob("*.py"))]
    files = [file for file in files if file.name != "__init__.py"] + [ROOT / "minipeft" / "generation.py"]
    names = [".".join(file.relative_to(ROOT / "minipeft").with_suffix("").parts) for file in files]
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in zip(names, files, strict=True)}


def source(module):
    return (ROOT / "minipeft" / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")


def address(module):
    """Of the page of a module, from the root of the site, without .html."""
    return "source/" + module.replace(".", "/")


def definitions(tree):
    """The nodes of what a module defines, by name."""
    return {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


@cache
def names_in(module):
    """{name: (module, where it is defined there)} for what can be linked in the code of a module."""
    found = {}
    package = module.split(".")[:-1]
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            home = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                if target := home_of(home, alias.name):
                    found[alias.asname or alias.name] = (target, alias.name)
    found |= {name: (module, name) for name in definitions(modules()[module])}
    return found


def home_of(home, name):
    """The module in which a name that is imported from `home`, a module or a package ("": minipeft), is defined."""
    if not home and name in minipeft.__all__:
        home = getattr(getattr(minipeft, name), "__module__", "").removeprefix("minipeft.")
    inside = [module for module in modules() if module == home or module.startswith(home + ".")]
    return next((module for module in inside if name in definitions(modules()[module])), None)


@cache
def everywhere():
    """{name: its only module} of classes and functions that are defined once."""
    homes = {}
    for module, tree in modules().items():
        for name in definitions(tree):
            homes.setdefault(name, []).append(module)
    return {name: home[0] for name, home in homes.items() if len(home) == 1}


def up(module):
    return "../" * address(module).count("/")


def link(module, target, name):
    return f"#py-{name}" if target == module else f"{up(module)}{address(target)}.html#py-{name}"


def listing(module, code):
    """Python as HTML, each name that is defined on one of the pages a link."""
    names, out, defines = names_in(module), [], False
    code = re.sub(r" +# (fmt: skip|noqa\b.*)$", "", code, flags=re.MULTILINE)  # said to the formatter, not to a reader
    tokens = list(PythonLexer(ensurenl=False, stripnl=False).get_tokens(code))
    for i, (kind, text) in enumerate(tokens):
        before = tokens[i - 1][1] if i else ""
        shown = html.escape(text, quote=False)
        if kind in Name and text in names and before != "." and not defines and not keyword(tokens, i):
            shown = f'<a href="{link(module, *names[text])}">{shown}</a>'
        defines = text in ("def", "class") or (defines and not text.strip())
        mark = STANDARD_TYPES.get(kind)
        out.append(
            "\n".join(f'<span class="{mark}">{s}</span>' if mark and s.strip() else s for s in shown.split("\n"))
        )
    return CODE.format("", "".join(map(wrapped, "".join(out).split("\n"))))


def wrapped(line):
    """A line of code that may be broken: what does not fit goes on four columns further in than the line begins."""
    begins = len(line) - len(line.lstrip(" "))
    return f'<span class="w{min(begins // 4, 5)}">{line}\n</span>'


def keyword(tokens, i):
    """Is this name the one of an argument, as in f(name=1)?"""
    return i + 1 < len(tokens) and tokens[i + 1][1] == "=" and i > 0 and tokens[i - 1][1] in ("(", " ", "\n")


@cache
def tests():
    """[(file, name of the test, line, {(module, name) that it uses})]"""
    found = []
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names, imported = imports(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                used = {names[n.id] for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in names}
                used |= {(imported[n.value.id], n.attr) for n in ast.walk(node) if isinstance(n, ast.Attribute)
                         and isinstance(n.value, ast.Name) and n.value.id in imported}  # fmt: skip
                found.append((file.name, node.name, node.lineno, used))
    return found


def imports(tree):
    """({name: (module, name there)}, {name: module}) of what a test takes from the modules that have a page."""
    names, imported = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minipeft":
            home = node.module.partition(".")[2]
            for alias in node.names:
                module = f"{home}.{alias.name}".removeprefix(".")
                if module in modules():
                    imported[alias.asname or alias.name] = module
                elif target := home_of(home, alias.name):
                    names[alias.asname or alias.name] = (target, alias.name)
    return names, imported


@cache
def specimens():
    """Names of the layers in tests/specimens.py, every one of which is checked against finite differences."""
    for node in ast.parse((ROOT / "tests" / "specimens.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            return {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
    raise ValueError("tests/specimens.py has no LAYERS")


def checked_by(module, name, methods=()):
    """[(file, test, line)]: the check by finite differences, where there is one, then tests that use what has this name."""
    gradient = [t for t in tests() if t[1] == "test_gradients_are_those_of_finite_differences"]
    general = [t for t in gradient if t[0] == "test_layers.py" and name in specimens()]
    general += [t for t in gradient if t[0] == "test_methods.py" and name in methods]
    folder, _, stem = module.rpartition(".")
    own = [f"test_{stem}.py", f"test_{folder}.py", *(["test_layers.py", "test_module.py"] if folder == "model" else [])]
    named = [t for t in tests() if (module, name) in t[3] and t not in general and (t[0] in own or about(t[1], name))]
    named.sort(key=lambda t: (not about(t[1], name), own.index(t[0]) if t[0] in own else len(own)))
    return [t[:3] for t in [*general, *named]]


def about(test, name):
    """Does the name of a test have this class or function in it, as words?"""
    return f"_{name.lower()}_" in f"{test.lower()}_"


def settings_of(module):
    """Names of the Methods (settings) that a module defines."""
    return {n.name for n in definitions(modules()[module]).values() if isinstance(n, ast.ClassDef)
            and any(isinstance(s, ast.FunctionDef) and s.name == "inject" for s in n.body)}  # fmt: skip


def links_to_tests(module, name, most=3):
    """The line under a class: which tests hold it."""
    found = checked_by(module, name, settings_of(module))[:most]
    if not found:
        return ""
    links = [
        f'<a href="{up(module)}source/tests/{file[:-3]}.html#L{line}">{words(test)}</a> ({file})'
        for file, test, line in found
    ]
    return f'<p class="tests">Tested: {"; ".join(links)}.</p>'


def words(test):
    return re.sub(r"(\w) s\b", r"\1's", test.removeprefix("test_").replace("_", " "))


def page(module, lessons):
    """The page of a module as reStructuredText.  lessons: {"06": address of its page}"""
    text, tree = source(module), modules()[module]
    tree = ast.parse(text)
    lines, at, places = text.splitlines(), 0, set()
    name = module.rpartition(".")[2] + ".py"

    def of_lesson(number):
        return f"{up(module)}{lessons[number]}.html" if number in lessons else None

    def of_name(name):
        target = (names_in(module).get(name) or (everywhere().get(name), name)) if name.isidentifier() else (None, name)
        return link(module, *target) if target[0] else None

    setter = Typesetter(of_lesson, of_name)
    out = [
        ":hide-toc:\n\n.. role:: raw-html(raw)\n   :format: html\n",
        f"{name}\n{'=' * len(name)}\n",
        head(module, text, lessons),
    ]

    def row(prose, end, name="", inside=""):
        nonlocal at
        code = dedent("\n".join(line for line in lines[at:end] if line is not None)).strip("\n")
        code = indent(code, inside)
        at = end
        if not code.strip() and not prose.strip():
            return
        if name and name not in places:
            places.add(name)
            out.append(f'.. raw:: html\n\n   <span class="anchor" id="py-{name}"></span>\n')
        prose = f".. container:: prose\n\n{indent(prose.strip() or '..', '   ')}"
        block = f"\n\n.. raw:: html\n\n{indent(listing(module, code), '   ')}" if code.strip() else ""
        out.append(f".. container:: ann\n\n{indent(prose + block, '   ')}\n")

    def doc(node):  # a docstring, which is taken out of the lines
        if found := ast.get_docstring(node):
            end = node.body[0].end_lineno
            end += end < len(lines) and lines[end] == ""
            span = slice(node.body[0].lineno - 1, end)
            lines[span] = [None] * len(lines[span])
        return found or ""

    def begin(node):
        return min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1

    nodes = list(definitions(tree).values())
    row(setter.rst(doc(tree), literal=True), begin(nodes[0]) if nodes else len(lines))
    for node in nodes:
        if any(
            line and not line.startswith("#") for line in lines[at : begin(node)]
        ):  # a comment alone goes with the next
            row("", begin(node))
        out.append(f".. _{module}.{node.name}:\n\n.. rst-class:: name\n\n{node.name}\n{'-' * len(node.name)}\n")
        out.append(f'.. raw:: html\n\n   <span class="anchor" id="py-{node.name}"></span>\n')
        said, functions = doc(node), [node]
        split = False
        if isinstance(node, ast.ClassDef):
            functions = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            split = bool(FORWARD & {n.name for n in functions})
            first = functions.pop(0) if functions and functions[0].name == "__init__" else None
            begins = setter.rst(doc(first)) if first else ""
            end = first.end_lineno if first else node.end_lineno
            tested = indent(links_to_tests(module, node.name), "   ")
            prose = "\n\n".join(filter(None, [setter.rst(said, lambda equation, split=split: not split), begins]))
            prose += f"\n\n.. raw:: html\n\n{tested}" if tested else ""
            row(prose, min([end, *(begin(n) for n in functions)]))
            said_of = said
        for n in functions:  # the equations of gradients stand beside backward, the others beside forward
            own = doc(n) if n is not node else said
            inner = [m.lineno - 1 for m in n.body if isinstance(m, ast.FunctionDef) and m.name == "backward"]
            if n is node:
                gradients = bool(inner)
                prose = setter.rst(own, lambda e, g=gradients: not (g and is_gradient(e)))
                back = setter.rst(own, is_gradient, prose=False) if gradients else ""
                if tested := indent(links_to_tests(module, node.name), "   "):
                    prose += f"\n\n.. raw:: html\n\n{tested}"
            else:
                mine = (
                    split
                    and n.name in FORWARD
                    and n.name == ((FORWARD & {m.name for m in functions} == FORWARD and "path") or n.name)
                )
                prose = "\n\n".join(filter(None, [
                    setter.rst(own), setter.rst(said_of, lambda e: not is_gradient(e), prose=False) if mine else "",
                ]))  # fmt: skip
                back = setter.rst(said_of, is_gradient, prose=False) if mine else ""
                if mine and not inner and back:
                    prose, back = f"{prose}\n\n{back}", ""
            row(prose, (inner or [n.end_lineno])[0], "" if n is node else f"{node.name}.{n.name}")
            if inner:
                name = f"{node.name}.backward" * (n.name in FORWARD or n is node)
                row(back, n.end_lineno, name, inside="    ")  # so that its return is not read as that of the row
    if at < len(lines):
        row("", len(lines))
    return "\n".join(out)


def is_gradient(equation):
    return bool(re.match(r"d[^ ]* (\+?=)|d[^ ]*\[\S+ \+=", equation))


def head(module, text, lessons):
    """The line under the title: papers, lessons, where it is."""
    papers = [
        f'<a href="https://arxiv.org/abs/{n}">{html.escape(p)} (arXiv:{n})</a>' for p, n in cited(prose_of(text)) if n
    ]
    numbers = sorted(
        {
            n
            for words in re.findall(r"[Ll]essons? ((?:\d\d(?:, | and | to |\b))+)", text)
            for n in re.findall(r"\d\d", words)
        }
    )
    taught = [f'<a href="{up(module)}{lessons[n]}.html">lesson {n}</a>' for n in numbers if n in lessons]
    rows = [f"<code>minipeft/{module.replace('.', '/')}.py</code>"]
    rows += [f"Derived in {', '.join(taught)}"] if taught else []
    rows += [f"Papers: {', '.join(papers)}"] if papers else []
    drawn = [
        f'<a href="{up(module)}reference/methods.html#method-{name}">{method.__name__}</a>'
        for name, method in METHODS.items()
        if method.__module__ == f"minipeft.{module}"
    ]
    rows += [f"Drawn, and counted: {', '.join(drawn)}"] if drawn else []
    body = "".join(f"<li>{row}</li>" for row in rows)
    return f'.. raw:: html\n\n   <ul class="bar">{body}</ul>\n'


def prose_of(text):
    """All docstrings of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))


def test_page(file):
    """A file of tests as a page: its code, each line with an anchor."""
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    shown, line = [], 1
    starts = {n.lineno for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}
    marked = "".join(
        f'<span class="{STANDARD_TYPES.get(kind, "")}">{html.escape(part, quote=False)}</span>' if part.strip() else part
        for kind, whole in PythonLexer().get_tokens(text) for part in re.split(r"(\n)", whole) if part
    )  # fmt: skip
    for line, code in enumerate(marked.splitlines(), 1):
        shown.append(f'<span id="L{line}">{code}</span>' if line in starts else code)
    body = indent("\n".join(shown), "   ").lstrip()
    title = f"tests/{file}"
    return (
        f":orphan:\n:hide-toc:\n\n{title}\n{'=' * len(title)}\n\n.. raw:: html\n\n"
        f"   {CODE.format(' tests-code', body)}\n"
    )


def first_sentence(module):
    text = " ".join((ast.get_docstring(modules()[module]) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.;])  ", text)[0].rstrip(";")
