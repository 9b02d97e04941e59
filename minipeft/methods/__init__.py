"""PEFT methods, one a file, each readable alone."""

from .adapter import Adapter
from .dora import DoRA
from .full import FullFineTuning
from .ia3 import IA3
from .lora import LoRA
from .loraplus import LoRAPlus
from .method import Method, Stack, disabled, get_peft_model, merge, parameter_groups, unwrap
from .prefix import PrefixTuning
from .prompt import PromptTuning
from .qlora import QLoRA, quantise
from .records import fingerprint, records_of
from .saving import load_adapter, save_adapter
from .selective import BitFit, LastBlocks, LayerNormTuning
from .vera import VeRA
from .wrapper import After, Beside, Wrapper, surrogate, wrap

METHODS = {
    method.name: method
    for method in (
        LoRA, LoRAPlus, DoRA, VeRA, IA3, QLoRA, Adapter, PrefixTuning, PromptTuning,
        BitFit, LayerNormTuning, LastBlocks, FullFineTuning,
    )
}  # fmt: skip

__all__ = [
    "METHODS", "After", "Beside", "Method", "Stack", "Wrapper", "disabled", "fingerprint", "get_peft_model",
    "load_adapter", "merge", "parameter_groups", "quantise", "records_of", "save_adapter", "surrogate", "unwrap", "wrap",
    *(method.__name__ for method in METHODS.values()),
]  # fmt: skip
