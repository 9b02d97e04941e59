"""The transformer: each layer's forward and backward, and nothing else."""

from .attention import Attention, CausalSelfAttention
from .gpt2 import GPT2, MLP, Block, GPT2Config
from .layers import GELU, Dropout, Embedding, LayerNorm, Linear, TiedHead
from .loss import cross_entropy
from .module import Module, Parameter, chain

__all__ = [
    "GELU", "GPT2", "MLP", "Attention", "Block", "CausalSelfAttention", "Dropout", "Embedding", "GPT2Config",
    "LayerNorm", "Linear", "Module", "Parameter", "TiedHead", "chain", "cross_entropy",
]  # fmt: skip
