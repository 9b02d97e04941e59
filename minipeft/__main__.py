"""The command line: minipeft COMMAND, or python -m minipeft COMMAND.  Each command is a module in commands/."""

import argparse
import importlib
import keyword
import os
import sys

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


def main(argv=None):
    """Run one command; return the exit status.  What the user can mend ends in one line, not in a traceback."""
    parser = argparse.ArgumentParser(prog="minipeft", description="Parameter-efficient fine-tuning you can read.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"minipeft.commands.{name}{'_' * keyword.iskeyword(name)}")
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except BrokenPipeError:  # whoever read our output, head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ArithmeticError, ImportError, MemoryError) as error:
        print(f"minipeft {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nminipeft {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
