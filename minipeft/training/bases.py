"""The base models that come with the package, and how each was made."""

import platform
import time
from dataclasses import asdict, replace
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from ..files import check_place, read_npz, replacing, write_npz
from ..methods import FullFineTuning, get_peft_model
from ..methods.prefix import ShiftedPositions
from ..model import GPT2, GPT2Config, Module
from .data import (
    LAST_START,
    PAD,
    SPAN,
    pretraining_batches,
    read_text,
    symbols_batch,
    text_batches,
    text_windows,
)
from .evaluation import evaluate
from .loop import fit
from .optimizers import AdamW, warmup_cosine
from .tokenizer_json import MARK
from .tokens import Tokens

DATA = resources.files("minipeft").joinpath("data")
CONFIGS = {
    "symbols": GPT2Config(vocab_size=PAD + 1, n_positions=48, n_embd=64, n_layer=2, n_head=4, dtype="float32"),
    "english": GPT2Config(vocab_size=2048, n_positions=128, n_embd=128, n_layer=4, n_head=4, dtype="float32"),
}
CARD = b"# The base model `"  # how every card begins
LICENCES, NOTICES = "LICENSES.md", b"# Where the texts of this folder are from"


def base_names() -> list[str]:
    """The names that load_base knows."""
    return sorted(CONFIGS)


def load_base(name: str, dtype: str = "float64") -> GPT2:
    """A pretrained GPT2: "symbols" (tasks on sequences of symbols) or "english" (everyday English; see load_tokens).

    Raises: ValueError for another name
    """
    with resources.as_file(DATA.joinpath(f"{checked(name)}.npz")) as path:
        return read_base(path, dtype)


def load_tokens(name: str = "english") -> Tokens:
    """The tokens of a base that reads text.  Raises: ValueError for another name, and for "symbols", which reads none"""
    if checked(name) == "symbols":
        raise ValueError(
            "the base symbols reads no text: its ids are symbols, and symbols_batch makes sequences of them"
        )
    with resources.as_file(DATA.joinpath(f"{name}.json")) as path:
        return Tokens.load(path)


def checked(name):
    if name not in CONFIGS:
        raise ValueError(f"there is no base {name!r}; there are: {', '.join(base_names())}")
    return name


def read_base(path, dtype="float64"):
    """A GPT2 from a file that write_base wrote."""
    header, arrays = read_npz(path, "base")
    model = GPT2(replace(GPT2Config(**header["config"]), dtype=dtype))
    for name, parameter in model.named_parameters():
        parameter.data[...] = arrays[name]
    return model


def write_base(model, path, dtype=None):
    """Write a file for read_base, its numbers as they are or in a dtype such as "float16".

    Raises: ValueError if a layer holds numbers outside Parameters (a weight in 4 bits)
    """
    if held := [path for path, node in model.walk() if isinstance(node, Module) and node.stored_arrays()]:
        raise ValueError(f"{held[0]} stores its weight in a form for which the file of a base has no place")
    arrays = {name: p.data.astype(dtype or p.data.dtype) for name, p in model.named_parameters()}
    write_npz(path, {"kind": "base", "config": asdict(model.config)}, arrays)


def pretrain(name, folder, steps=None, seed=0, progress=True, workers=None, checkpoint=None):
    """Make a base anew, by full fine-tuning from random weights: NAME.npz, its card NAME.md and, for text, its tokens
    NAME.json and the licences of the text.  Returns the card.

    workers: threads that share each step; as many as the shipped base was made with, if not given.  The same seed and
    number of workers give the same bytes, on one kind of processor.
    checkpoint: a file to write the state of the run to, every 500 steps, and to go on from if it is there.

    Raises: ValueError for another name
    """
    began, folder = time.perf_counter(), Path(folder)
    recipe, usual_steps, usual_workers = {
        "symbols": (pretrain_symbols, 4000, 1),
        "english": (pretrain_english, 12_000, 2),
    }[checked(name)]
    steps, workers = steps or usual_steps, workers or usual_workers
    for path, kind, mark in places(name, folder):
        check_place(path, kind, mark)
    options = {"seed": seed, "progress": progress, "workers": workers, "label": name}
    options |= {"checkpoint": checkpoint, "checkpoint_every": 500, "resume": True} if checkpoint else {}
    model = get_peft_model(GPT2(CONFIGS[name], seed), FullFineTuning())
    facts, stored, tokens = recipe(model, steps, options)
    size = sum(parameter.data.size for _, parameter in model.named_parameters())
    config = ", ".join(f"{key} {value}" for key, value in asdict(model.config).items())
    lines = [
        f"Shape: {config}; {size:,} parameters, stored in {stored}.",
        *facts,
        f"Seed {seed}, {workers} worker(s); {(time.perf_counter() - began) / 60:.0f} minutes with Python "
        f"{platform.python_version()} and NumPy {np.__version__}.",
        f"Make it again with `minipeft pretrain {name} --steps {steps} --seed {seed} --workers {workers}`.",
    ]
    card = f"# The base model `{name}`\n\n" + "".join(f"- {line}\n" for line in lines)
    write_base(model, folder / f"{name}.npz", stored)
    if tokens is not None:
        tokens.save(folder / f"{name}.json")
        write_licences(folder)
    with replacing(folder / f"{name}.md", "card of a base", CARD) as file:
        file.write(card.encode())
    return card


def places(name, folder):
    """The files of a base, [(path, kind, mark), ...], as check_place takes them."""
    folder = Path(folder)
    base, card = (folder / f"{name}.npz", "base", None), (folder / f"{name}.md", "card of a base", CARD)
    if name == "symbols":
        return [base, card]
    return [base, (folder / f"{name}.json", "tokenizer", MARK), card, (folder / LICENCES, "list of licences", NOTICES)]


def write_licences(folder):
    """Write LICENSES.md: what goes with the text of `english` goes with every model that was trained on it."""
    with replacing(Path(folder) / LICENCES, "list of licences", NOTICES) as file:
        file.write(DATA.joinpath(LICENCES).read_bytes())


class AnyStart(ShiftedPositions):
    """In training, T tokens begin anywhere, with nothing in front, as behind a prefix.

        y = wpe[positions + s]

    s is drawn anew for each batch, from 0 ... SPAN − T; so a batch that fills the span with PAD stays where it is.

    Shapes:   positions (T,) of integers, y (T, D)
    """

    def __init__(self, base, seed):
        super().__init__(base, 0)
        self.rng = np.random.default_rng([seed, 1])

    def forward(self, positions):
        self.offset = int(self.rng.integers(SPAN - len(positions) + 1)) if self.training else 0
        return super().forward(positions)


def train_symbols(model, steps, options):
    """The tasks, learned wherever a sequence begins: a skill that hangs on one position is lost when a prefix moves it."""
    wpe = model.wpe
    model.wpe = AnyStart(wpe, options["seed"])
    optimizer = AdamW(model, lr=3e-3, weight_decay=0.2)  # decay: smaller logits, from which new tasks train steadily
    history = fit(model, pretraining_batches, steps, optimizer, **options)
    model.wpe = wpe
    return history


def exact_at_starts(model, task, rng, n):
    """Share of n new sequences that are exact, beginning at 0 ... LAST_START: (behind so many PAD tokens, moved with
    nothing in front)."""

    def exact(pad):  # in parts, whose activations fit the processor's cache: twice as fast
        return evaluate(model, [symbols_batch(task, rng, min(50, n - done), pad) for done in range(0, n, 50)]).exact

    padded, moved, wpe = [], [], model.wpe
    for start in range(LAST_START + 1):
        padded.append(exact(pad=start))
        model.wpe = ShiftedPositions(wpe, start)
        moved.append(exact(pad=0))
        model.wpe = wpe
    return padded, moved


MEASURED = 500  # sequences for each task, start and way


def pretrain_symbols(model, steps, options):
    """(what the card says, the dtype to store, None)"""
    train_symbols(model, steps, options)
    rng = np.random.default_rng(options["seed"] + 1)
    exact = {task: exact_at_starts(model, task, rng, MEASURED) for task in ("copy", "reverse", "plus")}
    padded, moved = (", ".join(f"{task} {min(e[way]):.1%}" for task, e in exact.items()) for way in (0, 1))
    facts = [
        "Data: sequences `[task] x1 ... x8 SEP y1 ... y8` over 16 symbols, drawn anew for every step, 48 a step. Three "
        "tasks: a quarter of them copy, half reverse, and a quarter add one (each symbol becomes the next). They begin at "
        f"any position from 0 to {LAST_START}: in half of the steps behind PAD tokens, each sequence at its own start; in "
        "the others with nothing in front, moved as a prefix moves them, all sequences of a step to one start.",
        f"Training: {steps:,} steps of AdamW (learning rate 3e-3, weight decay 0.2, warm-up, cosine; clipped at 1).",
        f"Exact sequences out of {MEASURED} new ones, at the worst of the {LAST_START + 1} starts 0 ... {LAST_START}: "
        f"behind PAD tokens {padded}; moved, with nothing in front, {moved}.",
    ]
    return facts, "float32", None


BLOCK, EVERY = 60, 33  # of the lines of plain English every 33rd block of 60 is held out: 3%, whole conversations


def plain_english():
    """(training text, held-out text): what `english` is made of, a line each turn or sentence, in order."""
    lines = read_text("plain").splitlines(keepends=True)
    blocks = ["".join(lines[i : i + BLOCK]) for i in range(0, len(lines), BLOCK)]
    held_out = blocks[EVERY // 2 :: EVERY]
    return "".join(block for i, block in enumerate(blocks) if i % EVERY != EVERY // 2), "".join(held_out)


def pretrain_english(model, steps, options):
    """(what the card says, the dtype to store, the tokens): byte pairs first, then 16 stretches of the text a step."""
    (train, held_out), T, V = plain_english(), model.config.n_positions, model.config.vocab_size
    tokens = Tokens.train(train, V)
    warmup = min(500, max(1, steps // 2))
    schedule = partial(warmup_cosine, warmup=warmup)
    fit(model, text_batches(tokens.encode(train), T), steps, decaying(model), schedule=schedule, **options)
    for _, p in model.named_parameters():
        p.data[...] = p.data.astype("float16")  # what is measured is what is stored
    scores = evaluate(model, text_windows(tokens.encode(held_out), T))
    facts = [
        f"Data: {len(train):,} characters of plain English to train on, {len(held_out):,} held out, whole conversations. "
        "The licences of both sources are in LICENSES.md, and go with this model.",
        f"Tokens: {V:,} byte pairs, learned from the training text.",
        f"Training: {steps:,} steps of 16 stretches of {T} tokens; AdamW (learning rate 3e-3, β 0.9 and 0.99, weight decay "
        f"0.1 on matrices), a warm-up of {warmup} steps, then a cosine to 0; clipped at 1.",
        f"Held out: {scores.loss:.4f} nats a token (perplexity {scores.perplexity:.1f}), "
        f"{scores.bits_a_character(held_out):.4f} bits a character.",
    ]
    return facts, "float16", tokens


def decaying(model):
    """AdamW that pulls matrices towards zero, and leaves biases, gains and shifts alone."""
    parameters = [p for _, p in model.named_parameters()]
    matrices = {"params": [p for p in parameters if p.data.ndim == 2], "weight_decay": 0.1}
    vectors = {"params": [p for p in parameters if p.data.ndim == 1]}
    return AdamW([matrices, vectors], lr=3e-3, betas=(0.9, 0.99))
