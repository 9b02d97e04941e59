"""Make what README.md and docs/design.md show of the methods anew, from the methods themselves: METHODS at a glance, their
table, and docs/methods.png, four of them in the block.

python tests/tools/make_tables.py
"""

from pathlib import Path

from minipeft import Adapter, LoRA, PrefixTuning, PromptTuning, get_peft_model, load_base
from minipeft.lab import draw_methods
from minipeft.lab.methods_table import with_table

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "design.md"]
FOUR = {"LoRA": LoRA(), "adapters": Adapter(), "prefix tuning": PrefixTuning(), "prompt tuning": PromptTuning()}


def four():
    """The picture of the README."""
    return draw_methods({name: get_peft_model(load_base("english"), method) for name, method in FOUR.items()})


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
    four().save(ROOT / "docs" / "methods.png", dpi=130)
