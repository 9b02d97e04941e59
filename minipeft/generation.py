"""Writing text with the model: one token after another, with a cache of the keys and values already computed."""

from contextlib import contextmanager, nullcontext

import numpy as np

from .methods.prefix import ShiftedPositions
from .methods.wrapper import Wrapper, virtual_tokens, wrap
from .model.attention import Attention
from .model.functional import softmax
from .model.module import Module, evaluating
from .process import computing
from .validation import is_real, is_whole


class CachedAttention(Wrapper):
    """Attention to what earlier calls brought, too; the keys and values of this call are past in the next one.

        o = base(q, [past k; k], [past v; v])

    For generation only, under caching(): it remembers from call to call, as no other layer does.
    """

    def __init__(self, base):
        super().__init__(base)
        self.past = None

    def forward(self, q, k, v):
        if self.past:
            k, v = (np.concatenate(pair, axis=1) for pair in zip(self.past, (k, v), strict=True))
        self.past = k, v
        return self.base(q, k, v)


@contextmanager
def caching(model):
    """with caching(model) as step: step(ids) -> logits, where each call goes on where the last one ended.

    The cache goes around everything else at attn.core, so it works with whatever a PEFT method has put there.  What
    acts only at the start of a sequence (a soft prompt) is taken off after the first call: by then the cache has its
    keys.
    """
    paths = wrap(model, "*.core", CachedAttention, kind=Attention, brought=True)  # whoever brought it
    paths += wrap(model, "wpe", lambda wpe: ShiftedPositions(wpe, 0))
    caches, shift = [model.get_submodule(path) for path in paths[:-1]], model.wpe
    taken_off = []

    def step(ids):
        logits, _ = model(ids)
        while at_start := [(path, node) for path, node in model.walk() if getattr(node, "only_at_start", False)]:
            path, node = at_start[0]
            taken_off.append((path, node))
            model.set_submodule(path, node.base)
        shift.offset = caches[0].past[0].shape[1]
        return logits

    try:
        yield step
    finally:
        for path, node in reversed(taken_off):
            model.set_submodule(path, node)
        for path in paths:
            model.set_submodule(path, model.get_submodule(path).base)


def choose(logits, temperature, top_k, rng):
    """The next token of each sequence: logits (N, V) -> ids (N,)."""
    if not np.isfinite(logits).all():
        raise ValueError("the logits are not finite numbers: a training run that diverged has spoilt the weights")
    if temperature == 0:
        return logits.argmax(-1)
    z = logits.astype("float64")
    if top_k is not None:
        z[z < np.partition(z, -top_k, axis=-1)[:, -top_k, None]] = -np.inf
    with np.errstate(over="ignore"):  # at a temperature near 0 all but the likeliest go to -inf, as they should
        z = (z - z.max(-1, keepdims=True)) / temperature
    cumulative = softmax(z).cumsum(-1)  # inverse transform sampling: u falls into one token's share of [0, 1)
    u = rng.random((len(z), 1)) * cumulative[:, -1:]  # the last one is 1 but for rounding
    return (cumulative <= u).sum(-1)


def generate(
    model: Module, ids: np.ndarray, n: int, temperature: float = 0.0, top_k: int | None = None,
    rng: np.random.Generator | None = None, cache: bool = True,
) -> np.ndarray:  # fmt: skip
    """Append n tokens to each sequence of ids and return them all.

    temperature 0 takes the likeliest token each time; above 0 tokens are drawn from softmax(logits / temperature), with
    top_k only among the k likeliest, by the generator rng.  When the context window is full, its older half is dropped.
    cache=False computes every step anew: the same tokens, slower.

    Shapes:   ids (N, T), result (N, T + n)
    Raises:   ValueError for a negative temperature, top_k outside 1 ... V, n < 0, ids longer than the window, a
              temperature without rng, or weights that are no longer finite; TypeError for ids that are not integers
    """
    V, ids = model.config.vocab_size, token_ids(ids)
    window = model.config.n_positions - virtual_tokens(model)
    if not is_real(temperature) or temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, not {temperature}")
    if top_k is not None and not is_whole(top_k, 1, V):
        raise ValueError(f"top_k must lie in 1 ... {V}, not {top_k}")
    if temperature > 0 and not hasattr(rng, "random"):
        raise ValueError("temperature > 0 draws tokens at random: hand in rng=np.random.default_rng(seed)")
    if not is_whole(n, 0) or ids.ndim != 2 or not 1 <= ids.shape[1] <= window:
        raise ValueError(f"generate adds n ≥ 0 tokens to ids (N, T) with 1 ≤ T ≤ {window}; n = {n}, ids {ids.shape}")
    start, end, ids = 0, ids.shape[1] + n, ids.astype(int)
    with computing(), evaluating(model):
        while ids.shape[1] < end:
            with caching(model) if cache else nullcontext() as step:
                new = ids[:, start:]
                while ids.shape[1] < end and ids.shape[1] - start <= window:
                    logits = step(new) if cache else model(ids[:, start:])[0]
                    new = choose(logits[:, -1], temperature, top_k, rng)[:, None]
                    ids = np.concatenate([ids, new], axis=1)
            start = ids.shape[1] - max(window // 2, 1)
    return ids


def token_ids(ids):
    """ids as an array.  Raises: ValueError for prompts of different lengths, TypeError for what is no integer"""
    try:
        ids = np.asarray(ids)
    except ValueError as error:
        raise ValueError(
            "the prompts have different lengths, and one array (N, T) cannot hold them: generate from one at a time"
        ) from error
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"token ids must be integers, not {ids.dtype}")
    return ids
