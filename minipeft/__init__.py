"""minipeft: parameter-efficient fine-tuning you can read, with every gradient written by hand in NumPy.

    y, backward = layer(x)        # forward hands you its own backward ...
    dx = backward(dy)             # ... which returns d(input) and adds to .grad of whatever is trained

Read in this order:  model/module.py (the contract) · model/layers.py · model/attention.py · model/gpt2.py ·
model/loss.py, and you have a GPT-2 with its gradients; then methods/method.py (freeze, wrap) and methods/lora.py ·
adapter.py · prefix.py · prompt.py, one method a file; then training/ and lab/ as you need them.  Lesson 00 starts here.
"""

import os

# Small matrices are slower on two threads than on one.  For a large model set this yourself, before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from .memory import keep_freed_memory
from .methods import (
    METHODS,
    Adapter,
    FullFineTuning,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    Stack,
    disabled,
    get_peft_model,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from .model import GPT2, GPT2Config, Module, Parameter, Wrapper, cross_entropy, generate
from .training import SGD, AdamW, base_names, evaluate, fit, load_base

keep_freed_memory()

__all__ = [
    "GPT2", "METHODS", "SGD", "AdamW", "Adapter", "FullFineTuning", "GPT2Config", "LoRA", "Method", "Module", "Parameter",
    "PrefixTuning", "PromptTuning", "Stack", "Wrapper", "base_names", "cross_entropy", "disabled", "evaluate", "fit",
    "generate", "get_peft_model", "load_adapter", "load_base", "merge", "save_adapter", "unwrap",
]  # fmt: skip
