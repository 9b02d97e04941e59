"""Files to and from Hugging Face: GPT-2 weights, tokenizers, and the adapters of peft.  Extra `hf`; never torch."""

from .gpt2_files import load_gpt2, save_gpt2
from .peft_files import export_peft, import_peft
from .tokenizer import load_tokenizer

__all__ = ["export_peft", "import_peft", "load_gpt2", "load_tokenizer", "save_gpt2"]
