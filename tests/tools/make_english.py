"""Make a base that writes English words: byte-pair tokens and a GPT2 of 1.07 million numbers, from plain.txt.xz.

    python tests/tools/make_english.py FOLDER [STEPS]        12,000 steps: about 40 minutes on two quiet cores

Written are english.npz (float16), english.json (a tokenizer.json) and english.md (the card).  A run that was stopped goes
on from FOLDER/english.checkpoint.  The same seed and number of workers give the same bytes, on one kind of processor.
It is made here, and not by `minipeft pretrain`, as long as the lessons stand on the base of letters.
"""

import lzma
import platform
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from minipeft import GPT2, AdamW, FullFineTuning, GPT2Config, evaluate, fit, get_peft_model
from minipeft.files import write_npz
from minipeft.training import text_batches, text_windows, warmup_cosine
from minipeft.training.tokens import Tokens

CONFIG = GPT2Config(vocab_size=2048, n_positions=128, n_embd=128, n_layer=4, n_head=4, dtype="float32")
BLOCK, EVERY = 60, 33  # of the lines every 33rd block of 60 is held out: 3%, whole conversations
WORKERS, SEED = 2, 0


def read_plain():
    """(training text, held-out text), a line each turn or sentence, in order."""
    with resources.files("minipeft").joinpath("data", "plain.txt.xz").open("rb") as file:
        lines = lzma.decompress(file.read()).decode("ascii").splitlines(keepends=True)
    blocks = ["".join(lines[i : i + BLOCK]) for i in range(0, len(lines), BLOCK)]
    held_out = blocks[EVERY // 2 :: EVERY]
    return "".join(block for i, block in enumerate(blocks) if i % EVERY != EVERY // 2), "".join(held_out)


def optimizer_of(model):
    """AdamW that pulls matrices towards zero, and leaves biases, gains and shifts alone."""
    parameters = [p for _, p in model.named_parameters()]
    matrices = {"params": [p for p in parameters if p.data.ndim == 2], "weight_decay": 0.1}
    vectors = {"params": [p for p in parameters if p.data.ndim == 1]}
    return AdamW([matrices, vectors], lr=3e-3, betas=(0.9, 0.99))


def make_english(folder, steps=12000):
    folder, began = Path(folder), time.perf_counter()
    train, held_out = read_plain()
    tokens, T = Tokens.train(train, CONFIG.vocab_size), CONFIG.n_positions
    model = get_peft_model(GPT2(CONFIG, SEED), FullFineTuning())
    fit(
        model, text_batches(tokens.encode(train), T), steps, optimizer_of(model), seed=SEED, workers=WORKERS,
        schedule=partial(warmup_cosine, warmup=min(500, max(1, steps // 2))), label="english",
        checkpoint=folder / "english.checkpoint", checkpoint_every=500, resume=True,
    )  # fmt: skip
    arrays = {path: p.data.astype("float16") for path, p in model.named_parameters()}
    for path, p in model.named_parameters():
        p.data[...] = arrays[path]  # what is measured is what is stored
    scores = evaluate(model, text_windows(tokens.encode(held_out), T))
    bits = scores.loss / np.log(2) * scores.tokens / len(held_out)
    shape = ", ".join(f"{key} {value}" for key, value in asdict(CONFIG).items())
    card = (
        f"# The base model `english`\n\n- Shape: {shape}; {sum(a.size for a in arrays.values()):,} parameters, float16.\n"
        f"- Data: {len(train):,} characters of plain English to train on, {len(held_out):,} held out; the licences of both\n"
        "  sources are in LICENSES.md and go with this model.\n"
        f"- Recipe: {steps:,} steps of 16 stretches of {T} tokens; AdamW (β 0.9 and 0.99, weight decay 0.1 on matrices),\n"
        f"  learning rate 3e-3 after a warm-up of 500 steps, a cosine to 0; clipped at 1; seed {SEED}, {WORKERS} workers.\n"
        f"- Held out: {scores.loss:.4f} nats a token, {bits:.4f} bits a character.\n"
        f"- Made in {(time.perf_counter() - began) / 60:.0f} minutes with Python {platform.python_version()} and NumPy "
        f"{np.__version__}.\n"
    )
    write_npz(folder / "english.npz", {"kind": "base", "config": asdict(CONFIG)}, arrays)
    tokens.save(folder / "english.json")
    (folder / "english.md").write_text(card, encoding="utf-8")
    return card


if __name__ == "__main__":
    print(make_english(sys.argv[1], *map(int, sys.argv[2:3])))
