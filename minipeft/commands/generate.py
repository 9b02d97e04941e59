"""Write text with a base, or with a base and an adapter that was trained on it."""

import numpy as np

from ..methods import load_adapter
from ..model import generate
from ..training import base_names, decode, encode, load_base, plain


def add_arguments(parser):
    parser.add_argument("--prompt", default="The ", help='how the text begins (default: "The ")')
    parser.add_argument(
        "--adapter", metavar="FILE", help="an adapter that finetune wrote (default: none, the base alone)"
    )
    parser.add_argument("--base", default="english", choices=[name for name in base_names() if name != "symbols"])
    parser.add_argument("--length", type=int, default=300, help="characters to write (default: 300)")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 is greedy; higher is wilder (default: 0.7)")
    parser.add_argument("--top-k", type=int, help="draw only from the k likeliest characters")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")


def run(args):
    model = load_base(args.base, "float32")
    if args.adapter:
        load_adapter(model, args.adapter)
    prompt, unknown = plain(args.prompt)
    if unknown:
        print(replaced(unknown))
    print(write(model, prompt, args.length, args.temperature, args.top_k, args.seed))


def write(model, prompt, length, temperature=0.7, top_k=None, seed=0):
    """The prompt and `length` characters more.  Of a prompt longer than the window, the model sees the end."""
    if not prompt:
        raise ValueError("the prompt is empty: the model needs at least one character to go on from")
    ids, half = encode(prompt), model.config.n_positions // 2
    rng = np.random.default_rng(seed)
    new = generate(model, ids[None, -half:], length, temperature, top_k, rng)[0, len(ids[-half:]) :]
    return prompt + decode(new)


def replaced(unknown):
    """One line on the characters that had to give way, for people."""
    kinds = ", ".join(f"{char!r} ({count})" for char, count in unknown.most_common(8)) + (
        " ..." if len(unknown) > 8 else ""
    )
    return f"Replaced by '?', not in the alphabet: {unknown.total()} characters of {len(unknown)} kinds: {kinds}"
