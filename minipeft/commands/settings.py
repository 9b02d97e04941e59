"""Flags for what can be set: those of the methods, made from the fields of their classes, and --workers.

A field of a method's dataclass becomes a flag of the same name: its type says what may be given, its default and the line
`name: text` of the class docstring are its help.  Several methods with a field of one name share the flag.
"""

import argparse
import inspect
import re
import types
import typing
from dataclasses import MISSING, fields

from ..methods import METHODS
from .output import spelled


def add_settings(parser):
    """A flag for every setting of every method; args.flags says which, {setting: flag}."""
    taken, flags = set(parser._option_string_actions), {}
    group = parser.add_argument_group("settings of the methods")
    for setting, places in settings().items():
        flags[setting] = f"--{setting.replace('_', '-')}"
        if flags[setting] in taken:  # --seed, say, which the command has for itself
            flags[setting] = f"--method-{setting.replace('_', '-')}"
        kinds = [kind for kind, _, _ in places.values()]
        group.add_argument(
            flags[setting], dest=dest(setting), default=None, help=spelled(help_of(places)), **form(kinds)
        )
    parser.set_defaults(flags=flags)


def method_of(args):
    """The method of --method, with the settings that were given.  Raises: ValueError for one that it does not have"""
    known, values = settings(), {}
    given = {name: getattr(args, dest(name)) for name in known if getattr(args, dest(name)) is not None}
    if unknown := [args.flags[name] for name in given if args.method not in known[name]]:
        ours = [args.flags[name] for name, places in known.items() if args.method in places]
        raise ValueError(f"{args.method} has no {', '.join(unknown)}; it has: {', '.join(ours) or 'no settings'}")
    for name, text in given.items():
        kind, _, _ = known[name][args.method]
        try:
            values[name] = text if isinstance(text, bool) else parse(kind, text)
        except ValueError as error:
            raise ValueError(f"{args.flags[name]} of {args.method} {error}") from error
    return METHODS[args.method](**values)


def settings():
    """{setting: {method: (type, default, what it means)}} of all methods, in their order."""
    found = {}
    for name, method in METHODS.items():
        hints, texts = typing.get_type_hints(method), explained(method)
        for field in fields(method):
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            found.setdefault(field.name, {})[name] = hints[field.name], default, texts.get(field.name, "")
    return found


def explained(method):
    """{setting: text} of the lines `name: text` in a class docstring; a text ends with the next one, or a blank line."""
    names = "|".join(field.name for field in fields(method))
    found = re.split(rf"(?:^|(?<=\.))\s*({names}): ", inspect.getdoc(method) or "", flags=re.MULTILINE) if names else []
    pairs = zip(found[1::2], found[2::2], strict=True)
    return {name: " ".join(text.partition("\n\n")[0].split()).rstrip(".") for name, text in pairs}


def dest(setting):
    """Where argparse keeps it: apart from the command's own arguments."""
    return f"setting {setting}"


def help_of(places):
    """What a flag means to each method that has it; what means the same is said once."""
    same = {}
    for method, (_, default, text) in places.items():
        shown = ",".join(default) if isinstance(default, tuple) else default
        words = f" (default: {shown})" if default is not MISSING and default is not None and default != "" else ""
        if isinstance(default, bool):
            words = " (default: on)" if default else " (default: off)"
        same.setdefault(f"{text}{words}".strip(), []).append(method)
    told = (f"{', '.join(methods)}{' ' if text.startswith('(') else ': '}{text}" for text, methods in same.items())
    return "; ".join(told).replace("%", "%%")


def form(kinds):
    """How argparse reads a flag.  What it yields is text still where methods differ, and parsed by the chosen one's type."""
    different = list(dict.fromkeys(kinds))
    if all(kind is bool for kind in different):
        return {"action": argparse.BooleanOptionalAction}
    if all(typing.get_origin(kind) is typing.Literal for kind in different):
        return {"choices": list(dict.fromkeys(str(value) for kind in different for value in typing.get_args(kind)))}

    def readable(text):
        errors = []
        for kind in different:
            try:
                parse(kind, text)
            except ValueError as error:
                errors.append(str(error))
        if len(errors) == len(different):
            raise argparse.ArgumentTypeError(errors[0])
        return text

    globs = any(is_globs(kind) for kind in different)
    return {"type": readable, "metavar": "GLOB[,GLOB]" if globs else metavar(different)}


def metavar(kinds):
    names = {int: "N", float: "X", bool: "on|off"}
    return "|".join(dict.fromkeys(names.get(without_none(kind), "TEXT") for kind in kinds))


def is_globs(kind):
    """str | tuple, also str | tuple[str, ...]."""
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return union and tuple in [typing.get_origin(one) or one for one in typing.get_args(kind)]


def without_none(kind):
    """int of int | None, and the like."""
    inner = [one for one in typing.get_args(kind) if one is not type(None)]
    return inner[0] if type(None) in typing.get_args(kind) and len(inner) == 1 else kind


def parse(kind, text):
    """The value of a text, by the type of the setting.  Raises: ValueError in words"""
    if type(None) in typing.get_args(kind) and text.lower() == "none":
        return None
    kind = without_none(kind)
    if typing.get_origin(kind) is typing.Literal:
        for value in typing.get_args(kind):
            if str(value) == text:
                return value
        raise ValueError(f"must be one of {', '.join(map(str, typing.get_args(kind)))}, not {text}")
    if is_globs(kind):
        return tuple(text.split(",")) if "," in text else text
    if kind is bool:
        if text.lower() in ("on", "true", "yes", "off", "false", "no"):
            return text.lower() in ("on", "true", "yes")
        raise ValueError(f"must be on or off, not {text}")
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"must be {what}, not {text!r}") from None
    return text


def add_workers(parser, usual="as many as there are cores, up to 4, where the model is large enough"):
    words = f"threads that share each step (default: {usual})"
    parser.add_argument("--workers", type=at_least(1), metavar="N", help=words)


def at_least(low):
    """The type of an argument: a whole number that is not below `low`."""

    def whole(text):
        if int(text) < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, not {text}")
        return int(text)

    whole.__name__ = "whole number"  # argparse says: invalid whole number value: '1.5'
    return whole
