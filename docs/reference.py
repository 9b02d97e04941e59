"""The reference: public names from their docstrings, the methods with their drawings, the commands from their own help."""

import contextlib
import html
import inspect
import io
import os
import re
from functools import cache
from textwrap import indent

import annotate
from examples import EXAMPLES
from typeset import Typesetter, escaped, mathematics
from typeset import equations as equations_of

import minipeft
from minipeft.__main__ import COMMANDS
from minipeft.__main__ import parse as parse_command
from minipeft.interop.peft_methods import translation
from minipeft.lab import count_parameters
from minipeft.lab.diagram import draw
from minipeft.lab.methods_table import sentence, trains

GROUPS = {
    "model": "The model", "model.functional": "Mathematics without parameters", "methods": "Methods",
    "training": "Training", "generation": "Writing text", "lab.gradcheck": "Checking gradients", "lab.ledger": "Counting",
}  # fmt: skip
ROLE = ".. role:: raw-html(raw)\n   :format: html\n"


def pages(folder, lessons):
    """{name of the file: its text}; drawings are saved into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    setter = Typesetter(lambda number: f"../{lessons[number]}.html" if number in lessons else None, address_of)
    return {"index.rst": index(setter), "methods.rst": methods(setter, folder), "commands.rst": commands()}


def address_of(name):
    module = annotate.home_of("", name) or annotate.everywhere().get(name)
    return f"../{annotate.address(module)}.html#py-{name}" if module else None


def title(text, line="="):
    return f"{text}\n{line * len(text)}\n"


def index(setter):
    out = [ROLE, title("Public names")]
    out.append(
        "What ``from minipeft import ...`` brings. Every name has an example, and a test runs it. Those of the model, the "
        "methods, training and writing are linked to their annotated source.\n"
    )
    for home, heading in GROUPS.items():
        out.append(title(heading, "-"))
        for name in sorted(minipeft.PUBLIC[home].split(), key=str.lower):
            out.append(entry(setter, name, getattr(minipeft, name)))
    return "\n".join(out)


def entry(setter, name, thing):
    """A public name: how it is called, what its docstring says, its public methods, its example."""
    out = [title(name, "~")]
    kind = "class" if inspect.isclass(thing) else "function"
    source = address_of(name)
    if callable(thing):
        where = f' <a class="source" href="{source}">{kind}, annotated source</a>' if source else ""
        out.append(raw(f'<p class="signature"><code>{html.escape(signature(name, thing))}</code>{where}</p>'))
        out.append(setter.rst(inspect.getdoc(thing) or ""))
    else:
        out.append("The methods by their names: a dict of classes, in the order of :doc:`methods`.")
    if inspect.isclass(thing):
        rows = []
        for key, value in vars(thing).items():
            doc = (
                inspect.getdoc(value)
                if inspect.isfunction(value) and not key.startswith("_") and value.__doc__
                else None
            )
            if doc:
                rows.append(f"``{signature(key, value)}``\n{indent(setter.rst(doc), '   ')}")
        if rows:
            out.append("\n\n".join(rows))
    out.append(".. code-block:: pycon\n\n" + indent(EXAMPLES[name].strip(), "   "))
    return "\n\n".join(out) + "\n"


class Named:
    """A default, which is shown as its name if it is a function or a class: not as an address, another in each build."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return getattr(self.value, "__name__", repr(self.value))


def raw(text):
    return ".. raw:: html\n\n" + indent(text, "   ")


def signature(name, thing):
    """As it is called, without annotations."""
    call = inspect.signature(thing)
    kept = [
        p.replace(annotation=p.empty, default=Named(p.default) if p.default is not p.empty else p.empty)
        for p in call.parameters.values()
        if p.name != "self"
    ]
    return f"{name}{call.replace(parameters=kept, return_annotation=inspect.Signature.empty)}"


# Methods


def equations(method):
    """[(class, its equations)]: those forward of the layers in the module of a method, and all that stand in its own class.

    Raises: ValueError where there are none
    """
    module = method.__module__.removeprefix("minipeft.")
    settings, nodes = annotate.settings_of(module), annotate.definitions(annotate.modules()[module]).values()
    found = []
    for node in nodes:
        if isinstance(node, annotate.ast.ClassDef) and (node.name not in settings or node.name == method.__name__):
            doc, own = annotate.ast.get_docstring(node) or "", node.name in settings
            pieces = equations_of(doc, lambda equation, own=own: own or not annotate.is_gradient(equation))
            found += [(node.name, pieces)] if pieces else []
    if not found:
        raise ValueError(f"{method.__name__} has no equation: write one into its docstring, or into that of its layer")
    return found


def peft_name(method):
    files = translation(method)
    return " or ".join(f"``{name}``" for name in files.types) if files else "none"


@cache
def drawn(name):
    """(Picture, numbers trained, numbers in all) of a method in the base `english`, as a user gets it who sets nothing."""
    from minipeft import METHODS, get_peft_model, load_base

    model = get_peft_model(load_base("english", "float32"), METHODS[name]())
    return (draw(model), *count_parameters(model))


def methods(setter, folder):
    """One section a method: what it trains, where it acts, its equation, its drawing."""
    from minipeft import METHODS

    out = [ROLE, title("All methods")]
    out.append(
        "Made from the methods themselves. Grey is frozen, blue is trained, in one block of the base ``english``, with the "
        "settings a user gets who sets nothing. What is hatched is frozen, too: weights in 4 bits in QLoRA, numbers drawn "
        "at random in VeRA.\n"
    )
    out.append(table(METHODS))
    for name, method in METHODS.items():
        picture, trained, total = drawn(name)
        picture.save(folder / f"{name}.png", dpi=110)
        module = method.__module__.removeprefix("minipeft.")
        start = "the base" if method.identity_at_init else "not the base"
        about = [
            f"- It trains {setter.text(trains(method))}: here {trained:,} of {total:,}, {trained / total:.2%}.",
            f"- At the start it is {start}; it can{'' if method.merges else 'not'} be merged into the weights.",
            f"- On the command line: ``--method {name}``. In Hugging Face's peft: {peft_name(method)}.",
            f"- :doc:`{module.rpartition('.')[2]}.py, annotated </{annotate.address(module)}>`",
        ]
        out += [
            f".. _method-{name}:\n",
            title(f"{method.__name__}", "-"),
            setter.text(sentence(method)) + ".\n",
            "\n".join(about),
            "",
        ]
        for layer, rows in equations(method):
            out += [f"``{layer}``:", ""] if layer != method.__name__ else []
            out += [f"{math}\n" for math in mathematics(rows, setter.text)]
        alt, width = " ".join(picture.alt.split()), width_of(folder / f"{name}.png")
        # an image with a width is linked to its file, where a phone can show it larger
        out.append(f".. image:: {name}.png\n   :alt: {alt}\n   :class: drawing\n   :width: {width}px\n")
    return "\n".join(out)


def table(methods):
    rows = ["   * - method\n     - it trains\n     - acts on\n     - starts as\n     - merges\n     - in peft"]
    for name, method in methods.items():
        targets = getattr(method(), "targets", None)
        targets = (targets,) if isinstance(targets, str) else targets
        acts = ", ".join(unbroken(target) for target in targets) if targets else "the model"
        cells = [f":ref:`{method.__name__} <method-{name}>`", Typesetter().text(trains(method)), acts]
        cells += [
            "the\u00a0base" if method.identity_at_init else "not\u00a0the\u00a0base",
            "yes" if method.merges else "no",
            peft_name(method),
        ]
        rows.append("\n".join(f"   {'* ' if not i else '  '}- {cell}" for i, cell in enumerate(cells)))
    return ".. list-table::\n   :header-rows: 1\n   :widths: auto\n\n" + "\n".join(rows) + "\n"


def width_of(png):
    """Of a PNG, in pixels: the first number of its first chunk."""
    return int.from_bytes(png.read_bytes()[16:20], "big")


# Commands


def commands():
    out = [ROLE, title("The command line")]
    out.append("Each command's own help.\n")
    for name, about in {"": "", **COMMANDS}.items():
        out.append(title(f"minipeft {name}".strip(), "-"))
        if about:
            out.append(f"To {about}." + "\n")
        out += [part_of_help(part) + "\n" for part in re.split(r"\n{2,}", help_of(name))]
    return "\n".join(out)


def part_of_help(part):
    """What argparse prints between two empty lines: the usage, a list of options under its heading, or a paragraph."""
    first, *rest = part.splitlines()
    if first.startswith("usage: "):
        usage = re.sub(r"\n +", "\n    ", part)
        usage = re.sub(r".{30}[^,\n]*,(?=\w.{9})", r"\g<0>\n        ", usage)  # a choice of many
        return ".. code-block:: text\n\n" + indent(usage, "   ")
    if not first.endswith(":") or not all(line.startswith("  ") for line in rest):
        return options_in(" ".join(part.split()))
    entries = []
    for line in rest:
        deep, name, text = re.fullmatch(r"( +)(\S.*?)(?: {2,}(\S.*))?", line).groups()
        if len(deep) <= 4:
            entries.append([name, text or ""])
        else:
            entries[-1][1] += " " + line.strip()
    listed = [f"``{name}``\n   {options_in(text.strip())}" for name, text in entries if text]
    return "\n".join([f"{first}\n", *listed])


def options_in(text):
    """Text with its options as code: two hyphens would become a dash."""
    pieces = re.split(r"(?<![\w-])(--[a-z][\w-]*)", text)
    return "".join(unbroken(piece) if i % 2 else escaped(piece) for i, piece in enumerate(pieces))


def unbroken(code):
    """A few letters of code that stay on one line, without a link."""
    shown = html.escape(code)
    return rf'\ :raw-html:`<code class="docutils literal notranslate" style="white-space: nowrap">{shown}</code>`\ '


def help_of(name):
    """What `minipeft NAME --help` prints, on a screen of 66 columns: its usage fits on a phone."""
    before, printed = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "66"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            parse_command([*([name] if name else []), "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    if not printed.getvalue().strip():
        raise ValueError(f"minipeft {name} --help printed nothing")
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue().rstrip())
