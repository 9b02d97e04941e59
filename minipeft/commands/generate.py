"""Write text with a base, or with a base and an adapter."""

from ..methods import load_adapter
from .settings import at_least
from .text import BASE, open_base, replaced, seen, write


def add_arguments(parser):
    add = parser.add_argument
    add("--prompt", default="The ", help='how the text begins (default: "The ")')
    add("--adapter", metavar="FILE", help="an adapter that finetune wrote (default: none, the base alone)")
    add("--base", default="english", help=f"{BASE} (default: english)")
    add(
        "--length", type=at_least(0), default=300, help="characters to write, tokens with a GPT-2 folder (default: 300)"
    )
    add("--temperature", type=float, default=0.7, help="0 is greedy; higher is wilder (default: 0.7)")
    add("--top-k", type=at_least(1), help="draw only from the k likeliest characters or tokens")
    add("--seed", type=at_least(0), default=0, help="of the draws (default: 0)")


def run(args):
    base = open_base(args.base)
    if args.adapter is not None:
        load_adapter(base.model, args.adapter)
    prompt, unknown = base.plain(args.prompt)
    if unknown:
        print(replaced(unknown, base))
    given, taken = len(base.encode(prompt)), len(seen(base, prompt))
    if taken < given:
        print(f"The prompt has {given} {base.unit}s; the model sees the last {taken} of them, half of its window.")
    print(write(base, prompt, args.length, args.temperature, args.top_k, args.seed))
