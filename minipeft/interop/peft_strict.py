"""What makes reading an adapter strict: every field and every tensor is known, present and of the right shape."""

import math

from ..files import FileError

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
HARMLESS = {"peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
            "peft_version"}  # fmt: skip
OFF = (None, False, "", "none", [], {})  # "none" is what bias is where no biases are trained


def accept(config, known):
    """Every field is known or off.  peft adds fields in each release: one that is off changes nothing, one that is on
    does something that is not computed here.

    Raises: FileError that names the field
    """
    for field, value in config.items():
        if field not in known | HARMLESS and value not in OFF:
            raise FileError(
                f"{CONFIG}: {field} is {value!r}, which changes the adapter in a way not represented here: where peft can "
                "merge it (merge_and_unload), load_gpt2 reads the whole model"
            )


def of_kind(config, field, kind):
    """The value of a field that may be left out.  Raises: FileError that names the field if it is of another kind."""
    value = config.get(field)
    if value is not None and not isinstance(value, kind):
        raise FileError(f"{CONFIG}: {field} is {value!r}, which makes no sense there")
    return value


def whole_number(config, field):
    value = config.get(field)
    if type(value) is not int or value < 1:
        raise FileError(f"{CONFIG}: {field} must be a whole number of at least 1, not {value!r}")
    return value


def positive(field, value):
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise FileError(f"{CONFIG}: {field} must be a positive number, not {value!r}")
    return value


def check_tensors(tensors, expected):
    """The names and shapes must be those expected.  Raises: FileError that names the first tensor that is not."""
    for name in tensors:
        if name not in expected and PREFIX + name in expected:
            raise FileError(f"{name} lacks the prefix {PREFIX}: peft would only warn, and compute what the base does")
    if missing := [name for name in expected if name not in tensors]:
        raise FileError(
            f"{len(missing)} of {len(expected)} tensors that {CONFIG} asks for are missing, {missing[0]} first; "
            "peft itself may only warn, and use starting values there"
        )
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise FileError(f"{len(unknown)} tensors are unknown, {unknown[0]} first: {CONFIG} does not ask for them")
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape:
            hint = ": it is transposed, or changed places with another" if found == shape[::-1] != shape else ""
            raise FileError(f"{name} has shape {found} where {shape} is needed{hint}")
