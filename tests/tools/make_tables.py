"""Make the table of methods in README.md and docs/design.md anew, from METHODS.

python tests/tools/make_tables.py
"""

from pathlib import Path

from minipeft.lab.methods_table import with_table

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "design.md"]

if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
