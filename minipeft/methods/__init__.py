"""PEFT methods, one a file, each readable alone."""

from .adapter import Adapter
from .full import FullFineTuning
from .lora import LoRA
from .method import (
    Method,
    Stack,
    disabled,
    fingerprint,
    get_peft_model,
    merge,
    unwrap,
)
from .prefix import PrefixTuning
from .prompt import PromptTuning
from .saving import load_adapter, save_adapter

METHODS = {method.name: method for method in (LoRA, Adapter, PrefixTuning, PromptTuning, FullFineTuning)}

__all__ = [
    "METHODS", "Adapter", "FullFineTuning", "LoRA", "Method", "PrefixTuning", "PromptTuning", "Stack", "disabled",
    "fingerprint", "get_peft_model", "load_adapter", "merge", "save_adapter", "unwrap",
]  # fmt: skip
