"""Optimizers, the loop, the data and their tokens, and the base models that come with the package."""

from .bases import base_names, load_base, load_tokens, pretrain
from .checkpoints import History
from .data import TASKS, read_text, split_lines, symbols_batch, symbols_batches, text_batches, text_windows
from .evaluation import Evaluation, evaluate
from .loop import fit
from .optimizers import SGD, AdamW, clip_grad_norm, constant, warmup_cosine
from .step import Diverged, train_step
from .tokens import Tokens

__all__ = [
    "SGD", "TASKS", "AdamW", "Diverged", "Evaluation", "History", "Tokens", "base_names", "clip_grad_norm", "constant",
    "evaluate", "fit", "load_base", "load_tokens", "pretrain", "read_text", "split_lines", "symbols_batch",
    "symbols_batches", "text_batches", "text_windows", "train_step", "warmup_cosine",
]  # fmt: skip
