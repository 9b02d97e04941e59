"""minipeft: parameter-efficient fine-tuning you can read, with every gradient written by hand in NumPy.

    y, backward = layer(x)        # forward hands you its own backward ...
    dx = backward(dy)             # ... which returns d(input) and adds to .grad of whatever is trained

Read in this order:  model/module.py (the contract) · functional.py (gelu, softmax, attention, each with its backward) ·
layers.py · attention.py · gpt2.py · loss.py, and you have a GPT-2 with its gradients; then methods/wrapper.py (beside a
layer, or after it) · lora.py · adapter.py · prefix.py · prompt.py, one method a file, and method.py (freeze everything,
put something in); then training/ and lab/ as you need them.  Lesson 00 starts here.
"""

from importlib import import_module

PUBLIC = {  # where each public name is; it is imported when it is first asked for, so that `import minipeft` costs nothing
    "model": "GPT2 GPT2Config Linear Module Parameter cross_entropy",
    "model.functional": "gelu matmul outer",
    "methods": "METHODS IA3 Adapter After Beside BitFit DoRA FullFineTuning LastBlocks LayerNormTuning LoRA LoRAPlus Method "
    "PrefixTuning PromptTuning QLoRA Stack VeRA Wrapper disabled get_peft_model load_adapter merge quantise save_adapter "
    "surrogate unwrap",
    "training": "SGD AdamW base_names evaluate fit load_base load_tokens symbols_batches train_step",
    "generation": "generate",
    "lab.gradcheck": "gradcheck gradcheck_layer",
    "lab.ledger": "counting",
}
HOMES = {name: home for home, names in PUBLIC.items() for name in names.split()}
PARTS = {home.partition(".")[0] for home in PUBLIC}
__all__ = sorted(HOMES)


def __getattr__(name):
    if name in PARTS:
        return import_module(f"minipeft.{name}")
    home = import_module(f"minipeft.{HOMES.get(name, 'methods')}")  # the youngest method need not stand above
    if name not in HOMES and name not in home.__all__:
        raise AttributeError(f"module 'minipeft' has no attribute {name!r}")
    globals()[name] = getattr(home, name)
    return globals()[name]


def __dir__():
    return sorted([*globals(), *__all__])
