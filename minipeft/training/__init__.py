"""Optimizers, the loop, the data, and the base models that come with the package."""

from .bases import base_names, load_base, pretrain
from .checkpoints import History
from .data import (
    ALPHABET,
    TASKS,
    decode,
    encode,
    plain,
    read_text,
    split_lines,
    symbols_batch,
    symbols_batches,
    text_batches,
    text_windows,
)
from .evaluation import Evaluation, evaluate
from .loop import fit
from .optimizers import SGD, AdamW, clip_grad_norm, constant, warmup_cosine
from .step import Diverged, train_step

__all__ = [
    "ALPHABET", "SGD", "TASKS", "AdamW", "Diverged", "Evaluation", "History", "base_names", "clip_grad_norm", "constant",
    "decode", "encode", "evaluate", "fit", "load_base", "plain", "pretrain", "read_text", "split_lines", "symbols_batch",
    "symbols_batches", "text_batches", "text_windows", "train_step", "warmup_cosine",
]  # fmt: skip
