"""What lesson 03 (build a GPT-2) calls and does not show: its pictures, the answers to its blanks, and models with a part
taken away."""

import numpy as np

from ..interop.gpt2_files import layout
from ..lab.drawing.shapes import Pen
from ..lab.picture import COLORS, FAINT, FROZEN, LINE, TRAINED, Picture, canvas
from ..lab.symbols import question_and_answer, writing_of
from ..lab.table import Table, below  # noqa: F401 (the lesson calls below)
from ..model import GPT2, Attention, Block, GPT2Config, Module, Parameter, chain
from ..model.functional import softmax, softmax_backward
from ..training import AdamW, fit, load_tokens, symbols_batch
from ..training.data import LENGTH, PAD, chance_batch
from ..training.evaluation import evaluate
from ..training.optimizers import warmup_cosine
from . import check as checks

SMALL = GPT2Config(vocab_size=PAD + 1, n_positions=17, n_embd=32, n_layer=2, n_head=4)
PARTS = (
    "nothing",
    "MLP",
    "tie",
    "positions",
    "norm",
    "stream",
    "attention",
    "mask",
)  # what train_without can take away


# ---- pictures


def draw_model():
    """A GPT-2 lying on its side: the stream goes from left to right, and everything else reads from it and adds to it."""
    words = "The sun"
    ids = ", ".join(map(str, load_tokens().encode(words)))
    pen, y, up = Pen(800, 232), 62, 138  # y: the stream; up: where the parts of a block stand
    pen.text(4, y + 74, "the text", 9, "#666666", ha="left")
    pen.text(4, y + 56, words, 12, ha="left", weight="bold")
    pen.text(4, y + 19, "its ids", 9, "#666666", ha="left")
    pen.text(4, y + 1, ids, 10.5, ha="left", weight="bold")
    pen.wire((30, y + 45), (30, y + 28))
    pen.wire((74, y), (86, y))
    pen.box(86, y - 38, 30, 76, TRAINED)
    pen.text(101, y, "wte", 10, "white")
    pen.text(101, y + 50, "a row for\neach token", 8.5, "#666666")
    pen.wire((116, y), (141, y))
    pen.knot(147, y)
    pen.box(132, 8, 30, 24, FROZEN)
    pen.text(147, 20, "wpe", 10)
    pen.text(167, 20, "a row for each position", 8.5, "#666666", ha="left")
    pen.wire((147, 32), (147, y - 6))
    left, right = 182, 556
    pen.box(left, y - 24, right - left, 170, "#fafafa", "#d0d0d0", round=6, z=0)
    pen.text(right - 8, y + 135, "block 0, block 1, …", 9, "#666666", ha="right", weight="bold")
    knots = []
    for start, norm, name, text in ((205, "ln_1", "attn", "tokens look at\neach other"),
                                    (390, "ln_2", "mlp", "each token\nby itself")):  # fmt: skip
        pen.wire((start, y), (start, up), (start + 16, up))
        pen.box(start + 16, up - 14, 34, 28, FROZEN)
        pen.text(start + 33, up, norm, 9.5)
        pen.wire((start + 50, up), (start + 64, up))
        pen.box(start + 64, up - 20, 52, 40, FROZEN)
        pen.text(start + 90, up, name, 11)
        pen.text(start + 90, up + 37, text, 8.5, "#666666")
        pen.wire((start + 116, up), (start + 140, up), (start + 140, y + 7))
        pen.knot(start + 140, y)
        knots.append(start + 140)
    at = 153
    for end in (*knots, 586):
        pen.axes.plot((at, end - 6), (y, y), color=LINE, lw=3.4, ls="-", solid_capstyle="butt", zorder=1.5)
        at = end + 6
    pen.text(left + 8, y - 14, "the stream: D numbers for each token", 9, LINE, ha="left", weight="bold")
    pen.box(580, y - 14, 34, 28, FROZEN)
    pen.text(597, y, "ln_f", 9.5)
    pen.wire((614, y), (636, y))
    pen.box(636, y - 17, 76, 34, TRAINED)
    pen.text(674, y, "wte\ntransposed", 9.5, "white")
    pen.wire((712, y), (732, y))
    for i, high in enumerate((9, 30, 5, 14, 4, 7)):
        pen.tile(736 + 9 * i, y - 15, 6, high, LINE, LINE)
    pen.text(762, y + 28, "logits: a score\nfor each token", 8.5, "#666666")
    pen.axes.plot((101, 101, 674, 674), (y + 66, 222, 222, y + 17), color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
    pen.text(600, 222, "the same table", 8.5, "#666666", pad="white")
    return Picture(pen.figure, f"A GPT-2 from left to right: the text {words}, its ids {ids}, the table wte with a row for "
                   "each token, plus the table wpe with a row for each position, into a thick line, the stream. In each "
                   "block two detours leave the stream and are added back to it: ln_1 and attention, then ln_2 and MLP. "
                   "Behind the blocks ln_f, then the same table wte, transposed, gives the logits.")  # fmt: skip


def plot_alike(with_stream, without):
    """How alike the tokens of a text are, behind each block, with the stream and without: mean cosines, the input first."""
    figure, axes = canvas(7.2, 2.9)
    n = len(with_stream)
    for values, color, mark, name in (
        (with_stream, COLORS[0], "o", "with the stream"),
        (without, COLORS[1], "s", "without"),
    ):
        axes.plot(range(n), values, color=color, marker=mark, markersize=4, linestyle="-")
        axes.text(n - 0.8, values[-1], name, color=color, va="center")
    axes.set(
        xlabel="behind so many blocks", ylabel="mean cosine of two tokens", xlim=(-0.3, n + 2.4), ylim=(-0.08, 1.08)
    )
    axes.set_xticks(range(0, n, 2))
    soon = next((i for i, value in enumerate(without) if value > 0.95), None)
    title = (
        f"Without the stream, tokens are more than 0.95 alike from block {soon} on" if soon else "How alike tokens are"
    )
    axes.set_title(title)
    kept = list(dict.fromkeys(f"{round(value, 2) + 0.0:.2f}" for value in with_stream))  # + 0.0: no minus before a zero
    stays = f"stays at {kept[0]}" if len(kept) == 1 else f"goes from {kept[0]} to {kept[-1]}"
    return Picture(figure, f"{title}. Mean cosine of two tokens behind each of {n - 1} blocks: with the stream it {stays}"
                   f"; without it, it is {', '.join(f'{v:.2f}' for v in without[1:5])} behind the "
                   f"first four blocks, and {without[-1]:.2f} at the end.")  # fmt: skip


# ---- the blanks


def embedding_example():
    """W (4, 3), ids (3,), dy (3, 3): small whole numbers, and one id twice."""
    W = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2.0, -1.0, 1.0], [4.0, 0.0, 1.0]])
    return W, np.array([2, 0, 2]), np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0], [5.0, 1.0, -1.0]])


def head_example():
    """x (2, 3), E (4, 3), dlogits (2, 4): small whole numbers; E is the W of embedding_example."""
    x, (E, _, _) = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 3.0]]), embedding_example()
    return x, E, np.array([[1.0, 0.0, -2.0, 1.0], [0.0, 3.0, 1.0, -1.0]])


def check(**given):
    """Check the blanks of the lesson: check(dW=...), check(dh=..., dx=...), check(dE=..., dx_head=...)."""
    W, ids, dy = embedding_example()
    x, E, dlogits = head_example()
    right, once = np.zeros_like(W), np.zeros_like(W)
    np.add.at(right, ids, dy)
    once[ids] += dy
    wanted = {"dW": right, "dh": np.array(0.5), "dx": np.array(1.5), "dE": dlogits.T @ x, "dx_head": dlogits @ E}
    mistakes = {
        "dW": {
            "row 2 stands in x twice, and got one of its two slopes": once,
            "row 2 has the mean of its two slopes: if a number lands in several places, add": right
            * [[1], [1], [0.5], [1]],
        },
        "dh": {
            "h goes two ways: into the MLP, and past it": np.array(-0.5),
            "that is the way past the MLP; h goes into it, too": np.array(1.0),
        },
        "dx": {
            "x goes two ways: into attention, and past it": np.array(1.0),
            "that is the way past attention; x goes into it, too": np.array(0.5),
            "the slope at h is dh, not dy: what comes out of attention goes through the MLP, too": np.array(3.0),
            "past attention goes dh, not dy": np.array(2.0),
        },
    }
    checks.answers(wanted, mistakes, **given)


def check_block(kind):
    """Check a block, a class kind(d, n_head, rng): y, dx and all gradients beside the library's, which holds its numbers."""
    if kind.forward is Module.forward:
        print(f"{kind.__name__}: its forward is not written yet")
        return
    rng = np.random.default_rng(1)
    mine, theirs = kind(8, 2, np.random.default_rng(0)), Block(8, 2, np.random.default_rng(0), dtype="float64")
    others = dict(theirs.named_parameters())
    for path, p in mine.named_parameters():  # from where attention and the MLP are heard
        p.data[...] = others[path].data = others[path].data + rng.normal(0, 0.3, p.data.shape)
    x, dy = rng.normal(size=(2, 2, 5, 8))
    (y, back), (want, back_theirs) = mine(x), theirs(x)
    a, back_attn = chain(x, theirs.ln_1, theirs.attn)
    m, back_mlp = chain(x + a, theirs.ln_2, theirs.mlp)
    dx = back_theirs(dy)
    grads = {path: p.grad.copy() for path, p in others.items()}
    got = back(dy) if callable(back) else None
    dh = dy + back_mlp(dy)
    likely = {
        "y": {
            "h goes past the MLP, too: something is to be added": m,
            "that is h: where is the MLP?": x + a,
            "the stream is h when the MLP has read it, and no longer x": x + m,
        },
        "dx": {
            "h and x go past their parts, too: on these ways nothing is multiplied": back_attn(back_mlp(dy)),
            "x goes past attention, too, and the slope there is dh": back_attn(dh),
            "h goes past the MLP, too": back_mlp(dy) + back_attn(back_mlp(dy)),
            "the slope at h is dh, not dy": dy + back_attn(dy),
            "past attention goes dh, not dy": dy + back_attn(dh),
        },
    }
    checks.answers({"y": want, "dx": dx}, likely, y=y, dx=got)
    off = [path for path, p in mine.named_parameters() if not np.abs(p.grad - grads[path]).max() < 1e-10]
    print(
        f"gradients: {len(off)} of {len(grads)} are wrong" if off else f"gradients: all {len(grads)} are the library's"
    )


# ---- sizes


def count(config):
    """How many numbers a GPT-2 of these sizes has, from the shapes of its tensors, without making one."""
    return sum(int(np.prod(shape)) for shape, _ in layout(config).values())


# ---- writing and learning


def question(task="copy", n=3, seed=5):
    """(ids that end with the separator, the letters that are wanted), for n sequences."""
    return question_and_answer(symbols_batch(task, np.random.default_rng(seed), n))


def writing(written, task="copy", n=3, seed=5):
    """What a model wrote after question(task, n, seed), ready for show_writing."""
    return writing_of(*question(task, n, seed), written)


class Same(Module):
    """y = x"""

    def forward(self, x):
        return x, lambda dy: dy


class Nothing(Module):
    """y = 0"""

    def forward(self, x):
        return np.zeros_like(x), lambda dy: np.zeros_like(dy)


class NoStream(Module):
    """The parts of a block one behind the other: nothing goes past them."""

    def __init__(self, block):
        self.ln_1, self.attn, self.ln_2, self.mlp = block.ln_1, block.attn, block.ln_2, block.mlp

    def forward(self, x):
        return chain(x, self.ln_1, self.attn, self.ln_2, self.mlp)


class Open(Attention):
    """Attention without its mask: every token sees every other."""

    def forward(self, q, k, v):
        scale = (q.shape[-1] // self.n_head) ** -0.5
        q, k, v = self.split(scale * q), self.split(k), self.split(v)
        p = softmax(q @ k.swapaxes(2, 3))

        def backward(do):
            do = self.split(do)
            dz = softmax_backward(do @ v.swapaxes(2, 3), p)
            return scale * self.join(dz @ k), self.join(dz.swapaxes(2, 3) @ q), self.join(p.swapaxes(2, 3) @ do)

        return self.join(p @ v), backward


def alike(x):
    """The mean cosine between two tokens of a text, for x (N, T, D): 0 if they have nothing in common."""
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    cosines = x @ x.swapaxes(1, 2)  # (N, T, T), each token beside each
    return cosines[:, ~np.eye(x.shape[1], dtype=bool)].mean()


def go_through(blocks, x, dy):
    """(how alike tokens are in x and behind each block, y, dx)"""
    found, backwards = [alike(x)], []
    for block in blocks:
        x, backward = block(x)
        backwards.append(backward)
        found.append(alike(x))
    for backward in reversed(backwards):
        dy = backward(dy)
    return found, x, dy


def without(part, seed=0, start=1):
    """The library's GPT2 of the lesson's size without one part; its random start is so many times larger."""
    model = GPT2(SMALL, seed)
    for path, p in model.named_parameters():
        if path.startswith("h.") and p.data.ndim == 2:
            p.data *= start
    if part == "positions":
        model.wpe.weight.data[...] = 0
        model.wpe.requires_grad_(False)
    elif part == "stream":
        model.h = [NoStream(block) for block in model.h]
    elif part == "norm":
        for block in model.h:
            block.ln_1 = block.ln_2 = Same()
        model.ln_f = Same()
    elif part == "MLP":
        for block in model.h:
            block.mlp = Nothing()
    elif part == "attention":
        for block in model.h:
            block.attn = Nothing()
    elif part == "mask":
        for block in model.h:
            block.attn.core = Open(model.config.n_head)
    elif part == "tie":
        table = model.wte.weight.data
        model.lm_head.weight = Parameter(np.random.default_rng([seed, 1]).normal(0, 0.02, table.shape))
    elif part != "nothing":
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    return model


def train_without(part, start=1, lr=2e-3, steps=240, task="copy", seed=0):
    """Train a model without one part to copy, or on letters by chance.

    Returns the share of letters that it then writes right, all eight by itself, and its loss on new sequences.
    """
    model, wanted = without(part, seed, start), examples(task, np.random.default_rng(99), 100)
    fit(
        model,
        lambda rng: examples(task, rng, 12),
        steps,
        AdamW(model, lr=lr),
        seed=seed,
        schedule=gently,
        progress=False,
    )
    ids, letters = question_and_answer(wanted)
    for _ in range(LENGTH):  # not from a cache: without the mask, a later token changes what stands at earlier ones
        ids = np.hstack([ids, model(ids)[0][:, -1:].argmax(-1)])
    return {"written": float((ids[:, -LENGTH:] == letters).mean()), "loss": evaluate(model, [wanted]).loss}


def examples(task, rng, n):
    """(ids, targets, mask) of n sequences of a task, or of "chance": letters that are drawn."""
    return chance_batch(rng, n) if task == "chance" else symbols_batch(task, rng, n)


def gently(step, steps):
    """Twenty steps up, then down half a cosine to a tenth."""
    return warmup_cosine(step, steps, warmup=20, floor=0.1)


def table_without(*sweeps):
    """The loss without each part, the mean over the seeds and each."""
    rows = [
        (f"no {part}" if part != "nothing" else "whole", found.mean("loss", part=part),
         " ".join(f"{one:.2f}" for one in found.values("loss", part=part)), found.mean("written", part=part))
        for found in sweeps for part in found.labels("part")
    ]  # fmt: skip
    return Table(["", "loss", "each seed", "written right"], rows, formats={"loss": ".2f", "written right": ".0%"})
