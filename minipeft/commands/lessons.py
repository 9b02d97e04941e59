"""Copy the course, its notebooks with exercises and solutions, to a folder of yours, and open Jupyter there."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from ..files import try_to_write
from .output import saved
from .signals import handled, stop

CHECKOUT = Path(__file__).resolve().parents[2] / "notebooks"
INSTALLED = "share/minipeft/notebooks/"  # where setup.cfg puts their texts, below the prefix of the environment
FIRST = "00_start_here.ipynb"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def add_arguments(parser):
    parser.add_argument("folder", metavar="DIR", help="where the course goes; made if need be, nothing is overwritten")
    parser.add_argument("--no-open", action="store_true", help="copy only, do not open Jupyter")


def run(args):
    if not args.folder:
        raise ValueError("DIR is empty: say where the course goes")
    folder, files = Path(args.folder), course()
    copied = copy_course(files, folder)
    saved(folder)
    lessons = sum(path.parent == folder for path in copied)
    print(f"{lessons} lessons, their exercises and solutions are in {folder.resolve()}. Begin with {FIRST}.")
    if any(source.suffix == ".md" for source in files.values()):
        print(
            "What they print and draw appears as you run them. In the repository, folder notebooks/, it is already there."
        )
    if not args.no_open:
        open_jupyter(folder)


def course():
    """{path of a notebook in the course: file}: the notebook in the checkout that this is; or, where a wheel was installed,
    the Markdown that it is made from, which is a fifth as large as the notebook with its pictures.

    Raises: FileNotFoundError if the course did not come with the package
    """
    if (CHECKOUT / FIRST).is_file() and (CHECKOUT.parent / "setup.cfg").is_file():
        found = {path.relative_to(CHECKOUT): path for path in sorted(CHECKOUT.rglob("[0-9][0-9]_*.ipynb"))}
        return {name: path for name, path in found.items() if not any(part.startswith(".") for part in name.parts)}
    texts = [file for file in metadata.files("minipeft") or [] if INSTALLED in str(file).replace("\\", "/")]
    found = {
        Path(str(file).replace("\\", "/").partition(INSTALLED)[2]): Path(file.locate()).resolve() for file in texts
    }
    if not found:
        raise FileNotFoundError("this installation has no lessons: take them from the repository's folder notebooks/")
    return {name.with_suffix(".ipynb"): path for name, path in sorted(found.items())}


def for_a_learner(source):
    """The text of a notebook with the cells of `source`, and the outputs that it has; pairing it with a text is for authors.

    Raises: ImportError if it is to be made from Markdown and jupytext is missing
    """
    if source.suffix == ".md":
        try:
            import jupytext
        except ImportError as error:
            raise ImportError(
                f'the lessons need Jupyter and jupytext: pip install "minipeft[lessons]" ({error})'
            ) from error
        notebook = json.loads(jupytext.writes(jupytext.read(source), "ipynb"))
        for i, cell in enumerate(notebook["cells"]):
            cell["id"] = f"c{i:03d}"  # as in the checkout; jupytext draws them
    else:
        notebook = json.loads(source.read_text(encoding="utf-8"))
    return json.dumps({**notebook, "metadata": {"kernelspec": KERNEL}}, indent=1, ensure_ascii=False) + "\n"


def copy_course(files, folder):
    """Write {path: source} into the folder: all, or nothing where something would be overwritten; return the new files."""
    inside = {parent for relative in files for parent in (folder / relative).parents if parent != folder}
    for one in [folder, *inside]:
        if os.path.lexists(one) and not one.is_dir():
            raise FileExistsError(f"{one} is a file; the course needs a folder")
    existing = [relative for relative in files if os.path.lexists(folder / relative)]
    if existing:
        raise FileExistsError(
            f"{folder} already has {existing[0]}{f' and {len(existing) - 1} more of the files' if existing[1:] else ''}; "
            f"nothing was overwritten. Choose another folder, or move yours away"
        )
    here = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    try_to_write(here, folder.name)
    texts = {relative: for_a_learner(source) for relative, source in files.items()}
    made = []  # files and folders
    try:
        for relative, text in texts.items():
            path = folder / relative
            made += [new for new in reversed(path.parents) if not new.exists()]
            with naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "x", encoding="utf-8") as file:  # "x": what came there meanwhile stays
                    made.append(path)
                    file.write(text)
    except BaseException:  # a full disk, Ctrl-C: a part of the course would stand in the way of the next try
        for path in reversed(made):
            with suppress(OSError):  # a folder that is not empty: somebody has put something there
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
        raise
    return [folder / relative for relative in texts]


@contextmanager
def naming(path):
    """What the system says of the block, with the path at which it happened: of a full disk it names none."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}; the course is not copied") from error


def leave_to_jupyter(signum, frame):
    """Ctrl-C goes to Jupyter, too, which asks whether it shall end; nothing else may end it before."""
    if signum != signal.SIGINT:
        stop(signum, frame)


def open_jupyter(folder):
    """Run JupyterLab, or the older Notebook, in the folder until it is closed."""
    for module in ("jupyterlab", "notebook"):
        if importlib.util.find_spec(module):
            with handled(leave_to_jupyter):
                done = subprocess.run([sys.executable, "-m", module, str(folder.resolve())], check=False)
            if done.returncode > 0:
                raise ChildProcessError(f"{module} ended with status {done.returncode}; the course is in {folder}")
            return
    print('To open them you need Jupyter: pip install "minipeft[lessons]"')
