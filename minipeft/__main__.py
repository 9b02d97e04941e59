"""The command line: minipeft COMMAND, or python -m minipeft COMMAND.  Each command is a module in commands/."""

import argparse
import importlib
import keyword
import signal
import sys
from difflib import get_close_matches
from importlib import metadata

from .commands.output import Output, spelled
from .commands.signals import handled, stop

COMMANDS = {  # name: what it does; commands/NAME.py has add_arguments(parser) and run(args)
    "tour": "fine-tune the English base on climate text by five methods, and compare them",
    "finetune": "fine-tune a base on your own text, and save the adapter",
    "generate": "write text with a base, or with a base and an adapter",
    "inspect": "show what is in an adapter file, or in a folder of Hugging Face peft",
    "export": "write an adapter as a folder that Hugging Face peft loads",
    "import": "read an adapter that Hugging Face peft saved",
    "lessons": "copy the course to a folder of yours, and open Jupyter there",
    "bench": "time a training step beside torch and peft, where they are installed",
    "pretrain": "make a shipped base model again from a seed",
}
EPILOG = """Nothing that exists is overwritten, but for a file or folder that the same command wrote before.
Exit status: 0 done; 1 failed, or what it printed could not be written; 2 a command line that cannot be read; 141 done
and saved, but nobody read what it printed; 130, 143, 129 stopped by Ctrl-C, by kill, by closing the terminal."""


def main(argv=None):
    """Run one command; return the exit status.  What the user can mend ends in one line, not in a traceback."""
    with Output() as output:
        try:
            return output.status(run(argv, output))
        except SystemExit as end:  # argparse has said what is wrong, or shown its help
            raise SystemExit(output.status(end.code)) from None


def run(argv, output):
    try:
        with handled(stop):  # inside the try: a signal may come while it begins or ends
            return work(argv, output)
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        output.say(f"interrupted{f': {error}' if str(error) else ''}")
        return 128 + getattr(error, "signum", signal.SIGINT)


def work(argv, output):
    from .commands.rescue import rescue  # these bring NumPy, and while it is imported somebody may press Ctrl-C
    from .files import FileError, NotWritten

    try:
        args = parse(argv)
        output.name = f"minipeft {args.command}"
        args.run(args)
    except (FileError, NotWritten) as error:
        output.say(f"{error}{rescue(error)}")
        return 1
    except (ValueError, OSError, ArithmeticError, ImportError, MemoryError) as error:
        output.say(str(error) or type(error).__name__)
        return 1
    return 0


def parse(argv):
    whole = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EPILOG}
    parser = argparse.ArgumentParser(
        prog="minipeft", description="Parameter-efficient fine-tuning you can read.", **whole
    )
    parser.add_argument("--version", action="version", version=f"minipeft {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"minipeft.commands.{name}{'_' * keyword.iskeyword(name)}")
        command = commands.add_parser(name, help=summary, description=spelled(module.__doc__))
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        parser.exit(2)
    args, unknown = parser.parse_known_args(argv)
    if unknown:  # with the usage of the command, not of minipeft
        command = commands.choices[args.command]
        command.error(f"unrecognized arguments: {' '.join(unknown)}{meant(unknown, command)}")
    return args


def meant(unknown, command):
    """What ends the sentence: "; did you mean --r?" for --rank, --prompt for --promt; nothing where no option is like it."""
    name = next((argument.partition("=")[0] for argument in unknown if argument.startswith("-")), "")
    options = command._option_string_actions  # argparse has no public way to them
    near = get_close_matches(name, options, 1, 0.8) or sorted((one for one in options if name.startswith(one)), key=len)
    return f"; did you mean {near[-1]}?" if near else ""


def version():
    """Of the installed package; a checkout that was not installed has none."""
    try:
        return metadata.version("minipeft")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
