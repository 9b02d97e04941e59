"""Which method is which kind of file in peft.  What a class can say of itself stands at the top of peft_files.py."""

from typing import NamedTuple

from ..methods import IA3, BitFit, LayerNormTuning, LoRA, PrefixTuning, PromptTuning, VeRA
from ..methods.ia3 import ScaledInput, ScaledOutput
from ..methods.lora import LoRALinear
from ..methods.prefix import PrefixAttention, ReparametrisedPrefix, ShiftedPositions
from ..methods.prompt import DropPrompt, SoftPrompt
from ..methods.vera import VeRALinear
from . import peft_ia3, peft_lora, peft_prompts, peft_selective, peft_vera

SAID_HERE = {  # for methods whose classes do not say it themselves
    LoRA: {"peft_type": "LORA", "peft_wrappers": (LoRALinear,)},
    PrefixTuning: {
        "peft_type": "PREFIX_TUNING",
        "peft_fields": peft_prompts.KNOWN,
        "peft_wrappers": (PrefixAttention, ReparametrisedPrefix, ShiftedPositions),
        "to_peft": peft_prompts.prefix_to_peft,
        "from_peft": peft_prompts.prefix_from_peft,
    },
    PromptTuning: {
        # P-tuning's encoder is not in the file: what is left is a soft prompt
        "peft_type": ("PROMPT_TUNING", "P_TUNING"),
        "peft_fields": peft_prompts.KNOWN,
        "peft_wrappers": (SoftPrompt, DropPrompt),
        "to_peft": peft_prompts.prompt_to_peft,
        "from_peft": peft_prompts.prompt_from_peft,
    },
    VeRA: {
        "peft_type": "VERA",
        "peft_fields": peft_vera.KNOWN,
        "peft_wrappers": (VeRALinear,),
        "to_peft": peft_vera.vera_to_peft,
        "from_peft": peft_vera.vera_from_peft,
    },
    IA3: {
        "peft_type": "IA3",
        "peft_fields": peft_ia3.KNOWN,
        "peft_wrappers": (ScaledOutput, ScaledInput),
        "to_peft": peft_ia3.ia3_to_peft,
        "from_peft": peft_ia3.ia3_from_peft,
    },
    BitFit: {
        "peft_type": "LORA",
        "peft_variant": {"bias": "all"},
        "to_peft": peft_selective.bitfit_to_peft,
        "from_peft": peft_selective.bitfit_from_peft,
    },
    LayerNormTuning: {
        "peft_type": "LN_TUNING",
        "peft_fields": {"target_modules", "exclude_modules"},
        "to_peft": peft_selective.layernorm_to_peft,
        "from_peft": peft_selective.layernorm_from_peft,
    },
}
OF_A_KIND = {  # what is the same for all methods of a peft_type
    "LORA": {
        "peft_fields": peft_lora.KNOWN,
        "to_peft": peft_lora.lora_to_peft,
        "from_peft": peft_lora.lora_from_peft,
    },
}


class Translation(NamedTuple):
    """What a method says of its files in peft, nothing left out."""

    method: type
    types: tuple
    variant: dict
    fields: frozenset
    wrappers: tuple
    to_peft: object
    from_peft: object


def translation(method):
    """The Translation of a method (a class); None if peft has no files for it."""
    said = next((SAID_HERE[kind] for kind in method.__mro__ if kind in SAID_HERE), {})
    types = getattr(method, "peft_type", said.get("peft_type"))
    if types is None:
        return None
    types = (types,) if isinstance(types, str) else types
    said = OF_A_KIND.get(types[0], {}) | said

    def get(name, default):
        return getattr(method, name, said.get(name, default))

    fields = frozenset(get("peft_fields", ())) | said.get("peft_fields", frozenset())
    return Translation(method, types, get("peft_variant", {}), fields, get("peft_wrappers", ()),
                       get("to_peft", None), get("from_peft", None))  # fmt: skip
