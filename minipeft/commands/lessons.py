"""Copy the course, notebooks with their texts, exercises and solutions, to a folder of yours, and open Jupyter there."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ..files import try_to_write
from .output import saved
from .signals import handled, stop

CHECKOUT = Path(__file__).resolve().parents[2] / "notebooks"
INSTALLED = "share/minipeft/notebooks/"  # where setup.cfg puts them, below the prefix of the environment
KINDS = {".ipynb", ".md", ".py", ".toml"}


def add_arguments(parser):
    parser.add_argument("folder", metavar="DIR", help="where the course goes; made if need be, nothing is overwritten")
    parser.add_argument("--no-open", action="store_true", help="copy only, do not open Jupyter")


def run(args):
    folder = Path(args.folder)
    copied = copy_course(folder)
    saved(folder)
    lessons = sum(path.suffix == ".ipynb" and path.parent == folder for path in copied)
    print(
        f"{lessons} lessons, their exercises and solutions are in {folder.resolve()}. Begin with 00_start_here.ipynb."
    )
    if not args.no_open:
        open_jupyter(folder)


def course():
    """{path in the course: file}, from the checkout that this is, or from where the wheel was installed.

    Raises: FileNotFoundError if the course did not come with the package
    """
    if CHECKOUT.is_dir():
        found = {path.relative_to(CHECKOUT): path for path in sorted(CHECKOUT.rglob("*"))}
    else:
        files = metadata.files("minipeft") or []
        places = {str(file).replace("\\", "/"): Path(file.locate()).resolve() for file in files}
        found = {Path(name.partition(INSTALLED)[2]): path for name, path in places.items() if INSTALLED in name}
    hidden = (".", "__pycache__")
    found = {relative: path for relative, path in found.items()
             if relative.suffix in KINDS and not any(part.startswith(hidden) for part in relative.parts)}  # fmt: skip
    if not found:
        raise FileNotFoundError("this installation has no lessons: take them from the repository's folder notebooks/")
    return found


def copy_course(folder):
    """Copy all of it, or nothing where something would be overwritten; return the new files."""
    files = course()
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
    made = []
    try:
        for relative, source in files.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            made.append(folder / relative)
            shutil.copyfile(source, folder / relative)
    except BaseException:  # a full disk, Ctrl-C: a part of the course would stand in the way of the next try
        for path in made:
            path.unlink(missing_ok=True)
        for parent in {path.parent for path in made if path.parent != folder}:
            with suppress(OSError):  # not empty: it was there before, with files of the learner's
                parent.rmdir()
        raise
    return made


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
