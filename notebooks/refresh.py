"""Re-run lessons: read NN_name.md, execute it, write NN_name.ipynb with its outputs and no noise.

    python notebooks/refresh.py            # everything
    python notebooks/refresh.py 04 05      # lessons 04 and 05, with their solutions and exercises

Exercises are cut out of solutions first (see make_exercises.py).  A second run changes nothing.
"""

import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))

import jupytext  # noqa: E402
import nbformat  # noqa: E402
from jupytext.config import load_jupytext_configuration_file  # noqa: E402
from make_exercises import exercises  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

KEEP = {"tags", "jupyter"}  # of a cell's metadata
PAIRING = load_jupytext_configuration_file(str(HERE / "jupytext.toml"))
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def execute(md):
    """The notebook of a Markdown file, run, with nothing in it that changes from run to run."""
    notebook = jupytext.read(md)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", record_timing=False, store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],  # no warning that it sends in plain text: it sends to this machine
        resources={"metadata": {"path": str(md.parent)}},
    ).execute()  # fmt: skip
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{i:03d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEEP}
        if cell.cell_type == "code":
            cell.outputs = whole_streams(cell.outputs)
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = output.data["image/png"].strip() + "\n"
    notebook.metadata = {"kernelspec": KERNEL, "jupytext": {"formats": "ipynb,md"}}
    return notebook


def as_markdown(notebook):
    """The text of a notebook, letter by letter what JupyterLab writes when it saves the pair."""
    cells = [{**cell, "metadata": dict(sorted(cell.metadata.items()))} for cell in notebook.cells]
    return jupytext.writes(nbformat.from_dict({**notebook, "cells": cells}), "md", config=PAIRING)


def whole_streams(outputs):
    """Outputs with neighbouring pieces of printed text joined: where they were cut is chance."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def sources(numbers):
    """The Markdown files of these lessons (all, if none are given), as jupytext writes them, and exercises made anew."""
    chosen = [n for n in numbers if n.isdigit()]

    def found(folder):
        return [md for md in sorted((HERE / folder).glob("[0-9][0-9]_*.md")) if not chosen or md.name[:2] in chosen]

    for md in found(".") + found("solutions"):
        replace_text(md, as_markdown(jupytext.read(md)))
    for solution in found("solutions"):
        replace_text(HERE / "exercises" / solution.name, exercises(solution.read_text(encoding="utf-8")))
    return found(".") + found("solutions") + found("exercises")


def replace_text(path, text):
    """Write a text where it is another one, in one go: whoever edits these files loses nothing if this is stopped."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def check(numbers):
    """Exit with a word on what is no lesson."""
    there_are = sorted({md.name[:2] for folder in (".", "solutions") for md in (HERE / folder).glob("[0-9][0-9]_*.md")})
    if {"-h", "--help"} & set(numbers):
        sys.exit(__doc__)
    if unknown := [number for number in numbers if number not in there_are]:
        sys.exit(f"refresh.py: there is no lesson {unknown[0]}; there are {' '.join(there_are)}")


def main(numbers):
    check(numbers)
    for md in sources(numbers):
        began = time.perf_counter()
        notebook = execute(md)
        nbformat.write(notebook, md.with_suffix(".ipynb"))
        print(f"{md.relative_to(HERE)}  {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
