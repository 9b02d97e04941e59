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
    parameter_groups,
    records_of,
    unwrap,
)
from .prefix import PrefixTuning
from .prompt import PromptTuning
from .saving import load_adapter, save_adapter
from .selective import BitFit, LastBlocks, LayerNormTuning
from .vera import VeRA
from .wrapper import After, Beside, Wrapper, wrap

METHODS = {
    method.name: method
    for method in (
        LoRA, VeRA, Adapter, PrefixTuning, PromptTuning,
        BitFit, LayerNormTuning, LastBlocks, FullFineTuning,
    )
}  # fmt: skip

__all__ = [
    "METHODS", "Adapter", "After", "Beside", "BitFit", "FullFineTuning", "LastBlocks", "LayerNormTuning", "LoRA",
    "Method", "PrefixTuning", "PromptTuning", "Stack", "VeRA", "Wrapper", "disabled", "fingerprint", "get_peft_model",
    "load_adapter", "merge", "parameter_groups", "records_of", "save_adapter", "unwrap", "wrap",
]  # fmt: skip
