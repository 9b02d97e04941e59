"""Write text with a base, or with a base and an adapter.

--check FILE.txt says how much of it stands word for word in a text, such as the one that was trained on.
"""

from ..lab.memorised import RUN, copied
from ..methods import load_adapter
from .settings import at_least
from .text import BASE, lost, open_base, read_text_file, seen, write


def add_arguments(parser):
    add = parser.add_argument
    add("--prompt", default="The", help='how the text begins (default: "The")')
    add("--adapter", metavar="FILE", help="an adapter that finetune wrote (default: none, the base alone)")
    add("--base", default="english", help=f"{BASE} (default: english)")
    add("--length", type=at_least(0), default=80, help="tokens to write, of about 3 or 4 letters (default: 80)")
    add("--temperature", type=float, default=0.7, help="0 is greedy; higher is wilder (default: 0.7)")
    add("--top-k", type=at_least(1), help="draw only from the k likeliest tokens")
    add("--seed", type=at_least(0), default=0, help="of the draws (default: 0)")
    add(
        "--check",
        metavar="FILE.txt",
        help="say what share of it stands word for word in this text, or in a shipped one",
    )


def run(args):
    base = open_base(args.base)
    learned = None if args.check is None else base.encode(read_text_file(args.check))
    if args.adapter is not None:
        load_adapter(base.model, args.adapter)
    if unknown := base.unknown(args.prompt):
        print(lost(unknown))
    ids = base.encode(args.prompt)
    if args.prompt.endswith(" ") and list(base.encode(f"{args.prompt}the")[: len(ids)]) != list(ids):
        print("The prompt ends with a space, which belongs to the token of the next word: better leave it out.")
    given, taken = len(ids), len(seen(base, args.prompt))
    if taken < given:
        print(f"The prompt has {given} tokens; the model sees the last {taken} of them, half of its window.")
    written = write(base, args.prompt, args.length, args.temperature, args.top_k, args.seed)
    print(written)
    if learned is not None:
        share, longest = copied(base.encode(written), learned, ends=base.encode("\n"))
        print(f"\n{share:.0%} of it stands word for word in {args.check}, in runs of {RUN} tokens or more", end="")
        print(f"; the longest:\n{base.decode(longest).strip()}" if len(longest) else ".")
