"""Files to and from Hugging Face: GPT-2 weights, tokenizers, and the adapters of peft.

Reading needs NumPy alone; writing, tokenizers and the Hub need the extra `hf`; nothing needs torch.  How a method brings
its own translation to peft stands at the top of peft_files.py.
"""

from .gpt2_files import load_gpt2, save_gpt2
from .peft_files import export_peft, import_peft
from .tokenizer import load_tokenizer

__all__ = ["export_peft", "import_peft", "load_gpt2", "load_tokenizer", "save_gpt2"]
