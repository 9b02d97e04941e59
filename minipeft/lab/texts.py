"""What models write, side by side."""

import numpy as np

from ..generation import generate
from ..model.module import Module
from .table import Table


class Samples(Table):
    """The table of samples; texts[label] is the list of what that model wrote, one for each prompt, the prompt left out."""

    def __init__(self, texts, prompts, width, note):
        self.texts = texts
        rows = [(label, *written) for label, written in texts.items()]
        names = [f"{prompt!r} …" if len(prompts) > 1 else "it goes on" for prompt in prompts]
        labels = max(len(str(label)) for label in texts)
        each = max(24, (width - labels - 2) // len(prompts) - 2)
        title = f"{prompts[0]} …" if len(prompts) == 1 else ""
        shown = dict.fromkeys(names, str.strip)  # a text may begin with a space, or end in the middle of a line
        super().__init__(["", *names], rows, title, note, shown, widths=dict.fromkeys(names, each))


def samples(models, prompt, n=40, tokens=None, temperature=0.0, top_k=None, seed=0, width=100):
    """How models go on after a prompt: n tokens each, in a table that wraps long lines.

    models          {label: model}, or a model
    prompt          a text, or a list of texts: then a column for each
    tokens          what turns text into ids and back, with encode and decode; the tokens of the base `english`, if not given
    temperature     0: the likeliest token each time; above 0 they are drawn, by the same numbers for every model, from
                    the seed

    samples(...).texts[label] is the list of what a model wrote.
    Raises: ValueError if the model has another vocabulary than the tokens, or an empty prompt
    """
    models = models if isinstance(models, dict) else {"model": models}
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not models or not all(isinstance(model, Module) for model in models.values()):
        raise TypeError(f"samples needs a model, or {{label: model}}, not {models!r:.60}")
    if not prompts or not all(isinstance(one, str) and one for one in prompts):
        raise ValueError(f"prompt must be a text, or a list of texts, none of them empty; not {prompt!r:.60}")
    tokens = shipped_tokens() if tokens is None else tokens
    V = getattr(tokens, "vocab_size", None)
    for label, model in models.items():
        if V is not None and model.config.vocab_size != V:
            raise ValueError(f"{label!r} has a vocabulary of {model.config.vocab_size} tokens, and these tokens are {V}: "
                             f"hand in tokens=..., those that it was trained with")  # fmt: skip
    texts = {}
    for label, model in models.items():
        texts[label] = [continuation(model, one, n, tokens, temperature, top_k, seed) for one in prompts]
    how = "the likeliest token each time" if temperature == 0 else f"drawn at temperature {temperature:g}, seed {seed}"
    return Samples(texts, prompts, width, f"({n} tokens, {how})")


def continuation(model, prompt, n, tokens, temperature, top_k, seed):
    """What the model writes after the prompt, n tokens."""
    ids = np.asarray(tokens.encode(prompt))[None]
    rng = np.random.default_rng(seed) if temperature else None
    new = generate(model, ids, n, temperature=temperature, top_k=top_k, rng=rng)[0, ids.shape[1] :]
    return tokens.decode(new)


def shipped_tokens():
    from .. import training

    return training.load_tokens("english")
