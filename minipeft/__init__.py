"""minipeft: parameter-efficient fine-tuning you can read, with every gradient written by hand in NumPy.

    y, backward = layer(x)        # forward hands you its own backward ...
    dx = backward(dy)             # ... which returns d(input) and adds to .grad of whatever is trained

Read in this order:  model/module.py (the contract) · model/layers.py · model/attention.py · model/gpt2.py ·
model/loss.py, and you have a GPT-2 with its gradients; then methods/method.py (freeze, wrap) and methods/lora.py ·
adapter.py · prefix.py · prompt.py, one method a file; then training/ and lab/ as you need them.  Lesson 00 starts here.
"""

from .generation import generate
from .lab.gradcheck import gradcheck, gradcheck_layer
from .lab.ledger import counting
from .methods import (
    METHODS,
    Adapter,
    After,
    Beside,
    FullFineTuning,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    Stack,
    Wrapper,
    disabled,
    get_peft_model,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from .model import GPT2, GPT2Config, Linear, Module, Parameter, cross_entropy
from .model.functional import gelu, matmul, outer
from .training import SGD, AdamW, base_names, evaluate, fit, load_base, symbols_batches, train_step

__all__ = [
    "GPT2", "METHODS", "SGD", "AdamW", "Adapter", "After", "Beside", "FullFineTuning", "GPT2Config", "Linear", "LoRA",
    "Method", "Module", "Parameter", "PrefixTuning", "PromptTuning", "Stack", "Wrapper", "base_names", "counting",
    "cross_entropy", "disabled", "evaluate", "fit", "gelu", "generate", "get_peft_model", "gradcheck", "gradcheck_layer",
    "load_adapter", "load_base", "matmul", "merge", "outer", "save_adapter", "symbols_batches", "train_step", "unwrap",
]  # fmt: skip
