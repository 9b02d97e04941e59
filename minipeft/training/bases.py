"""The base models that come with the package, and how each was made."""

import hashlib
import platform
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

import numpy as np

from ..files import read_npz, replacing, write_npz
from ..methods import FullFineTuning, get_peft_model
from ..methods.prefix import ShiftedPositions
from ..model import GPT2, GPT2Config, Module
from .data import (
    ALPHABET,
    LAST_START,
    PAD,
    SPAN,
    encode,
    plain,
    pretraining_batches,
    symbols_batch,
    text_batches,
    text_windows,
)
from .evaluation import evaluate
from .loop import fit
from .optimizers import AdamW
from .workers import suitable_workers

DATA = resources.files("minipeft").joinpath("data")
CONFIGS = {
    "symbols": GPT2Config(vocab_size=PAD + 1, n_positions=48, n_embd=64, n_layer=2, n_head=4, dtype="float32"),
    "english": GPT2Config(len(ALPHABET), n_positions=128, n_embd=96, n_layer=3, n_head=4, dtype="float32"),
}


def base_names() -> list[str]:
    """The names that load_base knows."""
    return sorted(CONFIGS)


def load_base(name: str, dtype: str = "float64") -> GPT2:
    """A pretrained GPT2: "symbols" (tasks on sequences of symbols) or "english" (documentation, character by character).

    Raises: ValueError for another name
    """
    if name not in CONFIGS:
        raise ValueError(f"there is no base {name!r}; there are: {', '.join(base_names())}")
    with resources.as_file(DATA.joinpath(f"{name}.npz")) as path:
        return read_base(path, dtype)


def read_base(path, dtype="float64"):
    """A GPT2 from a file that write_base wrote."""
    header, arrays = read_npz(path, "base")
    model = GPT2(replace(GPT2Config(**header["config"]), dtype=dtype))
    for name, parameter in model.named_parameters():
        parameter.data[...] = arrays[name]
    return model


def write_base(model, path):
    """Write a file for read_base.  Raises: ValueError if a layer holds numbers outside Parameters (a weight in 4 bits)"""
    if held := [path for path, node in model.walk() if isinstance(node, Module) and node.stored_arrays()]:
        raise ValueError(f"{held[0]} stores its weight in a form for which the file of a base has no place")
    write_npz(path, {"kind": "base", "config": asdict(model.config)}, {n: p.data for n, p in model.named_parameters()})


def documentation():
    """(training text, held-out text, digest): what help("topics") prints, which every CPython carries; the last 5% are
    held out.  It differs a little between Python versions."""
    from pydoc_data.topics import topics

    text, _ = plain("\n".join(topics[name] for name in sorted(topics)))
    cut = int(0.95 * len(text))
    return text[:cut], text[cut:], hashlib.sha256(text.encode()).hexdigest()


def pretrain(name, folder, steps=None, seed=0, progress=True, workers=None):
    """Make a base anew, by full fine-tuning from random weights; write NAME.npz and its card NAME.md; return the card.

    workers: threads that share each step; as many as suit the model, if not given.  The same seed and number of workers
    give the same numbers, on one kind of processor.

    Raises: ValueError for another name
    """
    if name not in CONFIGS:
        raise ValueError(f"there is no base {name!r}; there are: {', '.join(base_names())}")
    model = get_peft_model(GPT2(CONFIGS[name], seed), FullFineTuning())
    steps = steps or {"symbols": 4000, "english": 3000}[name]
    recipe = pretrain_symbols if name == "symbols" else pretrain_english
    workers = workers or suitable_workers(model, rows=16)
    data, result = recipe(model, steps, seed=seed, progress=progress, workers=workers)
    size = sum(parameter.data.size for _, parameter in model.named_parameters())
    config = ", ".join(f"{key} {value}" for key, value in asdict(model.config).items())
    card = (
        f"# The base model `{name}`\n\n{data}\n\n"
        f"- Shape: {config}; {size:,} parameters.\n"
        f"- Training: {steps:,} steps of AdamW (learning rate 3e-3, warm-up, cosine; clipped at 1), seed {seed}, "
        f"{workers} worker(s).\n"
        f"- Made with Python {platform.python_version()} and NumPy {np.__version__}.\n"
        f"- {result}\n\nMake it again with `minipeft pretrain {name} --steps {steps} --seed {seed} --workers {workers}`.\n"
    )
    folder = Path(folder)
    write_base(model, folder / f"{name}.npz")
    with replacing(folder / f"{name}.md", "card of a base", b"# The base model `") as file:
        file.write(card.encode())
    return card


class AnyStart(ShiftedPositions):
    """y = wpe[positions + s]: in training, T tokens begin anywhere, with nothing in front, as behind a prefix.

    s is drawn anew for each batch, from 0 ... SPAN − T; so a batch that fills the span with PAD stays where it is.

    Shapes:   positions (T,) of integers, y (T, D)
    """

    def __init__(self, base, seed):
        super().__init__(base, 0)
        self.rng = np.random.default_rng([seed, 1])

    def forward(self, positions):
        self.offset = int(self.rng.integers(SPAN - len(positions) + 1)) if self.training else 0
        return super().forward(positions)


def train_symbols(model, steps, seed, **options):
    """The tasks, learned wherever a sequence begins: a skill that hangs on one position is lost when a prefix moves it."""
    wpe = model.wpe
    model.wpe = AnyStart(wpe, seed)
    optimizer = AdamW(model, lr=3e-3, weight_decay=0.2)  # decay: smaller logits, from which new tasks train steadily
    history = fit(model, pretraining_batches, steps, optimizer, seed=seed, label="symbols", **options)
    model.wpe = wpe
    return history


def exact_at_starts(model, task, rng, n):
    """Share of n new sequences that are exact, beginning at 0 ... LAST_START: (behind so many PAD tokens, moved with
    nothing in front)."""
    padded, moved, wpe = [], [], model.wpe
    for start in range(LAST_START + 1):
        padded.append(evaluate(model, [symbols_batch(task, rng, n, pad=start)]).exact)
        model.wpe = ShiftedPositions(wpe, start)
        moved.append(evaluate(model, [symbols_batch(task, rng, n)]).exact)
        model.wpe = wpe
    return padded, moved


def pretrain_symbols(model, steps, seed, **options):
    train_symbols(model, steps, seed, **options)
    rng = np.random.default_rng(seed + 1)
    exact = {task: exact_at_starts(model, task, rng, 500) for task in ("copy", "reverse", "plus")}
    padded, moved = (", ".join(f"{task} {min(e[way]):.1%}" for task, e in exact.items()) for way in (0, 1))
    data = (
        "Data: sequences `[task] x1 ... x8 SEP y1 ... y8` over 16 symbols, drawn anew for every step, 48 a step. Three\n"
        "tasks: a quarter of them copy, half reverse, and a quarter add one (each symbol becomes the next). They begin at\n"
        f"any position from 0 to {LAST_START}: in half of the steps behind PAD tokens, each sequence at its own start;\n"
        "in the others with nothing in front, moved as a prefix moves them, all sequences of a step to one start."
    )
    return data, (
        f"Exact sequences out of 500 new ones, at the worst of the {LAST_START + 1} starts 0 ... {LAST_START}:\n"
        f"  behind PAD tokens {padded};\n  moved, with nothing in front, {moved}."
    )


def pretrain_english(model, steps, seed, **options):
    train, held_out, digest = documentation()
    optimizer = AdamW(model, lr=3e-3, weight_decay=0.1)
    batches = text_batches(encode(train), model.config.n_positions)
    fit(model, batches, steps, optimizer, seed=seed, label="english", **options)
    scores = evaluate(model, text_windows(encode(held_out), model.config.n_positions))
    data = (
        f'Data: the documentation text of `pydoc_data.topics` (what `help("topics")` prints), {len(train):,} characters\n'
        f"to train on and the last {len(held_out):,} held out; 16 stretches of 128 characters a step.\n"
        f"SHA-256 of the text: `{digest}`."
    )
    return (
        data,
        f"Held out: {scores.loss:.4f} nats a character, {scores.bits:.4f} bits; {scores.accuracy:.1%} guessed right.",
    )
