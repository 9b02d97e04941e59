"""What lesson 13 calls: its picture of rows before the text, the checks of its blanks, and what it tries out."""

from types import SimpleNamespace

import numpy as np
from matplotlib.patches import Rectangle

from ..lab.drawing.shapes import BACK, QUIET, arrow
from ..lab.ledger import count_parameters
from ..lab.picture import FAINT, FROZEN, LINE, TRAINED, Picture, canvas
from ..lab.sweeps import sweep
from ..lab.table import Table
from ..methods import LoRA, PrefixTuning, PromptTuning, get_peft_model
from ..methods.prompt import DropPrompt
from ..methods.wrapper import Wrapper
from ..model import Parameter
from ..training import AdamW, evaluate, fit, load_base, symbols_batch, symbols_batches, text_windows
from ..training.data import new_sequences
from . import check

NAMES = [*"abcdefghijklmnop", "copy", "reverse", "plus", "SEP", "PAD"]  # of the 21 tokens of `symbols`


# ---- the picture: rows on their way in, and slopes on their way back


def draw_rows():
    """m = 2 learned rows before three tokens, forward, and back with a question mark at the rows."""
    figure, axes = canvas(10.2, 3.3, 1, 2)
    for panel, (ax, title) in enumerate(zip(axes, ("forward", "and back"), strict=True)):
        ax.set(xlim=(-1.5, 9.4), ylim=(-1.0, 5.9), aspect="equal")
        ax.axis("off")
        ax.set_title(title, fontsize=12, fontweight="bold", x=0.0, loc="left")
        color = BACK if panel else LINE
        for row in range(5):
            y = 4.2 - row - (0.25 if row > 1 else 0)
            one_row(ax, row, y, panel, color)
        tile(ax, 3.9, -0.5, 1.7, 5.5, FROZEN, LINE)
        ax.text(4.75, 2.25, "the\nfrozen\nmodel", ha="center", va="center", fontsize=11)
    axes[0].text(1.4, -0.85, "P and the embeddings", ha="center", fontsize=9.5, color=QUIET)
    axes[0].text(6.7, 4.2, "dropped", va="center", fontsize=10, color=QUIET)
    axes[0].text(6.6, 1.4, "to the head", va="center", fontsize=10)
    axes[1].text(6.6, 1.4, "slopes of\nthe loss", va="center", fontsize=10, color=BACK)
    axes[1].text(6.7, 4.2, "nothing comes\nfrom here", va="center", fontsize=10, color=QUIET)
    axes[1].text(1.35, 5.45, "dP = ?", ha="center", va="center", fontsize=11,
                 bbox={"boxstyle": "round", "fc": "white", "ec": BACK, "ls": "--"})  # fmt: skip
    return Picture(figure, "Two panels. Forward: two blue rows P stand above three grey rows of tokens; all five go into "
                   "the frozen model; on the other side the first two are dropped, and three go to the head. Back: slopes "
                   "of the loss come into the model on the three rows, and leave it towards the tokens; at the rows P stand "
                   "question marks.")  # fmt: skip


def tile(ax, x, y, w, h, face, edge, style="-"):
    ax.add_patch(Rectangle((x, y), w, h, facecolor=face, edgecolor=edge, lw=1, linestyle=style))


def one_row(ax, row, y, back, color):
    """A row before the model, its arrow, and what is on the other side of it."""
    mine = row < 2
    name = f"P{'₀₁'[row]}" if mine else f"x{'₀₁₂'[row - 2]}"
    tile(ax, 0.2, y - 0.36, 2.3, 0.72, TRAINED if mine else FROZEN, LINE)
    ax.text(1.35, y, name, ha="center", va="center", fontsize=11, color="white" if mine else LINE)
    ax.text(-0.15, y, f"{row}", ha="right", va="center", fontsize=9.5, color=QUIET)
    if back and mine:
        ax.text(3.2, y, "?", ha="center", va="center", fontsize=13, color=BACK)
    else:
        arrow(ax, *(((3.9, y), (2.6, y)) if back else ((2.6, y), (3.9, y))), color=color)
    if mine:
        ax.plot([5.6, 6.4], [y, y], color=FAINT, lw=1.2, ls=":")
    else:
        arrow(ax, *(((6.4, y), (5.6, y)) if back else ((5.6, y), (6.4, y))), color=color)


# ---- the blanks


def example():
    """A batch of 2 sequences of 3 tokens, m = 2 rows, D = 4, and the slopes dy at all five rows: whole numbers."""
    rng = np.random.default_rng(13)
    E, P, ids = rng.integers(-3, 4, (5, 4)) * 1.0, rng.integers(-3, 4, (2, 4)) * 1.0, np.array([[1, 0, 3], [2, 2, 4]])
    dy = rng.integers(-3, 4, (2, 5, 4)) * 1.0
    return SimpleNamespace(E=E, P=P, ids=ids, dy=dy, m=2)


def answers(**given):
    """Check the blanks y and dP of the lesson's example, and print a line for each."""
    one = example()
    x = one.E[one.ids]
    y = np.concatenate([np.stack([one.P] * 2), x], axis=1)
    wanted = {"y": y, "dP": one.dy[:, :2].sum(0)}
    mistakes = {
        "y": {"the rows stand behind the text: no token sees them": np.concatenate([x, np.stack([one.P] * 2)], axis=1)},
        "dP": {
            "that is a mean: P stands before both sequences, and the slopes add": one.dy[:, :2].mean(0),
            "those are the slopes at the last rows: where does P stand?": one.dy[:, -2:].sum(0),
            "that is the first sequence alone: P stands before the second, too": one.dy[0, :2],
        },
    }
    check.answers(wanted, mistakes, **given)


# ---- symbols: in words, trained, read


def model_with(rows, base="symbols", dtype="float64"):
    """A frozen base with a soft prompt of these rows, (m, D)."""
    model = get_peft_model(load_base(base, dtype), PromptTuning(m=len(rows)))
    model.wte.P.data[...] = rows
    return model


def in_words(task="near", best=4):
    """Each of the 21 tokens as a prompt, nothing trained: a Table of those that get most symbols of a task right."""
    E = load_base("symbols").wte.weight.data
    right = [evaluate(model_with(E[[i]]), new_sequences(task)).accuracy for i in range(len(NAMES))]
    order = sorted(range(len(NAMES)), key=lambda i: -right[i])[:best]
    rows = [("no prompt", evaluate(load_base("symbols"), new_sequences(task)).accuracy)]
    rows += [(f"the token {NAMES[i]}", right[i]) for i in order]
    return Table(["before the sequence", f"{task}: right symbols"], rows, formats={f"{task}: right symbols": ".0%"})


def tuned(rows, task="near", steps=30, lr=0.1):
    """Train a soft prompt from these rows, 12 sequences a step; the model."""
    model = model_with(rows)
    fit(model, symbols_batches(task, 12), steps, AdamW(model, lr=lr), progress=False)
    return model


def starts(noise=4):
    """{where a row starts: the row}: each of the 21 tokens, and two kinds of noise, small as an embedding and N(0, 1)."""
    E = load_base("symbols").wte.weight.data
    found = {name: E[[i]] for i, name in enumerate(NAMES)}
    for name, scale in (("small", E.std()), ("large", 1.0)):
        found |= {f"{name} noise {s}": np.random.default_rng(s).normal(0, scale, (1, E.shape[1])) for s in range(noise)}
    return found


def learn_from(name, rows):
    """(name, the learned row (D,), share of right symbols of `near`)"""
    model = tuned(rows)
    return name, model.wte.P.data[0].copy(), evaluate(model, new_sequences("near")).accuracy


def kind_of(name):
    return (
        f"{name.split()[0]} noise" if "noise" in name else "a task's token" if name in NAMES[16:19] else "another token"
    )


def plot_starts(learned):
    """Right symbols of `near` after training, a dot for each start; learned: what learn_from returned, each."""
    kinds = list(dict.fromkeys(kind_of(name) for name, *_ in learned))
    kinds = sorted(kinds, key=["a task's token", "another token", "small noise", "large noise"].index)
    figure, axes = canvas(7.2, 2.9)
    said = []
    for i, kind in enumerate(kinds):
        shares = sorted(share for name, _, share in learned if kind_of(name) == kind)
        axes.plot(shares, i + np.linspace(-0.28, 0.28, len(shares)), "o", ms=6, color=TRAINED, mec="white", mew=0.6,
                  clip_on=False, zorder=3)  # fmt: skip
        good = sum(share > 0.99 for share in shares)
        failed = [f"{name} {share:.0%}" for name, _, share in learned if kind_of(name) == kind and share <= 0.99]
        said.append(f"{kind}: {good} of {len(shares)}" + (f" (not {', '.join(failed)})" if failed else ""))
        axes.text(1.04, i, f"{good} of {len(shares)}", va="center", fontsize=10.5)
        for name, _, share in learned:
            if kind_of(name) == kind and share <= 0.99 and "noise" not in name:
                at = shares.index(share)
                side = 1 if share > 1 / 16 else -1  # away from the dashed line
                axes.annotate(name, (share, i + np.linspace(-0.28, 0.28, len(shares))[at]), (6 * side, 0), va="center",
                              ha="left" if side > 0 else "right", textcoords="offset points", fontsize=10)  # fmt: skip
    axes.axvline(1 / 16, color=FAINT, lw=1, ls="--")
    axes.text(1 / 16 + 0.01, -0.5, "guessing", fontsize=9.5, color=QUIET, va="center")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set(xlim=(0, 1), ylim=(len(kinds) - 0.5, -0.7), xlabel='right symbols of "near" after 30 steps')
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    total = sum(share > 0.99 for *_, share in learned)
    axes.set_title(
        f'One row finds "near" from {total} of {len(learned)} starts (over 99% right)', loc="left", fontsize=11.5
    )
    return Picture(
        figure, f"A dot for each start of one row, after 30 steps on near. Over 99% right: {'; '.join(said)}."
    )


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def nearest(rows, E):
    """(the token nearest to each row by angle, the cosine): arrays (m,)."""
    cosines = unit(rows) @ unit(E).T
    return cosines.argmax(-1), cosines.max(-1)


def by_chance(E, n=1000, seed=0):
    """The median, and the 95th percentile, of the cosine between a random direction and the token nearest to it."""
    cosines = nearest(np.random.default_rng(seed).normal(size=(n, E.shape[1])), E)[1]
    return tuple(np.percentile(cosines, (50, 95)))


def right_with(row):
    """The share of right symbols of `near` that one row in front reaches, nothing trained.  row: (D,)"""
    return evaluate(model_with(row[None]), new_sequences("near")).accuracy


def without_position(name):
    """A token in front, with no row added for its position: (right symbols of `near`, the two rows' lengths)."""
    model = load_base("symbols")
    word, position = model.wte.weight.data[NAMES.index(name)], model.wpe.weight.data[0]
    lengths = np.linalg.norm(word), np.linalg.norm(position)
    model = model_with(word[None])
    model.wpe.weight.data[0] = 0.0
    return evaluate(model, new_sequences("near")).accuracy, *lengths


def read_rows(learned, names):
    """A Table: for each start its row's nearest token, the cosine, and what that token does in its place.

    Twice: the embedding as it is, and made as long as the row.
    """
    E = load_base("symbols").wte.weight.data
    rows = []
    for name, row, share in learned:
        if name in names:
            (i,), (cosine,) = nearest(row[None], E)
            length = float(np.linalg.norm(row))
            rows.append((name, share, NAMES[i], cosine, length, right_with(E[i]), right_with(length * unit(E[i]))))
    columns = ["it began as", "right", "nearest token", "cosine", "length", "that token instead", "as long as the row"]
    shares = dict.fromkeys((columns[1], *columns[5:]), ".0%")
    return Table(columns, rows, formats=shares | {"cosine": ".2f", "length": ".1f"})


def count_readings(learned, token="plus"):
    """(rows that work and are nearest to a token, rows that work, the same two for rows that failed)."""
    E = load_base("symbols").wte.weight.data
    found = {True: [], False: []}
    for _, row, share in learned:
        found[share > 0.99].append(NAMES[nearest(row[None], E)[0][0]] == token)
    return sum(found[True]), len(found[True]), sum(found[False]), len(found[False])


TRIALS = {  # task: {method: (the method, its rates)}
    "swap": {"prompt, 4 rows": (PromptTuning(4), (0.03,)), "LoRA, rank 1": (LoRA(r=1, alpha=2), (0.02,))},
    "map": {
        "prompt, 16 rows": (PromptTuning(16), (0.03, 0.1)),
        "prefix, 4 columns": (PrefixTuning(4), (0.1,)),
        "prefix, 16 columns": (PrefixTuning(16), ()),  # in learn_longer only
        "LoRA, rank 1": (LoRA(r=1, alpha=2), (0.02,)),
    },
}


def trial(task, method, lr, seed, steps=100):
    """100 steps of 12 sequences: the share of right symbols that a method of TRIALS reaches, and its trained numbers."""
    model = get_peft_model(load_base("symbols"), TRIALS[task][method][0], seed)
    fit(model, symbols_batches(task, 12), steps, AdamW(model, lr=lr), seed=seed, progress=False)
    numbers, _ = count_parameters(model)
    return {"right": evaluate(model, new_sequences(task)).accuracy, "numbers": numbers}


def learn_task(task, seeds=(0, 1)):
    """All methods of TRIALS on a task, each at its rates, 100 steps: a Table with every seed."""
    points = [{"task": task, "method": name, "lr": lr} for name, (_, rates) in TRIALS[task].items() for lr in rates]
    found = sweep(trial, points, seeds, progress=False)
    rows = []
    for point in points:
        shares = found.values("right", **point).ravel()
        each = " ".join(f"{100 * share:.0f}" for share in shares)
        rows.append((point["method"], int(found.mean("numbers", **point)), point["lr"], each))
    return Table(["100 steps", "numbers", "rate", f"{task}: right symbols, %, each seed"], rows,
                 formats={"numbers": ",", "rate": "g"})  # fmt: skip


def learn_longer(method, lr, steps=300):
    """(method, share of right symbols of map after so many steps, seed 0)"""
    return method, trial("map", method, lr, 0, steps)["right"]


def tasks(names):
    """A Table: one sequence of each task, what the model reads and what it should write."""
    rows = []
    for task in names:
        ids, targets, mask = (array[0] for array in symbols_batch(task, np.random.default_rng(2), 1))
        read = ids[: -mask.sum() + 1]
        rows.append((task, " ".join(NAMES[i] for i in read), " ".join(NAMES[i] for i in targets[mask])))
    return Table(["task", "it reads", "it should write"], rows)


# ---- break it


class Behind(Wrapper):
    """Rows behind the text, where no token sees them."""

    def __init__(self, wte, P):
        super().__init__(wte)
        self.P = Parameter(P)

    def forward(self, ids):
        P, m = self.P, len(self.P.data)
        x, back_base = self.base(ids)
        y = np.concatenate([x, np.stack([P.data] * len(x))], axis=1)

        def backward(dy):
            P.add_grad(dy[:, -m:].sum(0))
            back_base(dy[:, :-m])

        return y, backward


class DropBehind(DropPrompt):
    """Take the last m rows away again."""

    def forward(self, x):
        y, back_base = self.base(x[:, : -self.m])

        def backward(dy):
            dx = np.zeros(x.shape)
            dx[:, : -self.m] = back_base(dy)
            return dx

        return y, backward


def put_behind(rows):
    """A frozen `symbols` with rows behind the text, which are dropped before the head."""
    model = load_base("symbols").requires_grad_(False)
    model.wrap("wte", lambda wte: Behind(wte, rows.copy()))
    model.wrap("ln_f", lambda ln_f: DropBehind(ln_f, len(rows)))
    return model


# ---- text


def bits(models, parts, tokens):
    """A Table of the bits for each character of some texts.  models: {label: model}; parts: {label: text}."""
    windows = {name: text_windows(tokens.encode(part), 64) for name, part in parts.items()}
    rows = [
        (label, *(evaluate(model, windows[name]).bits_a_character(part) for name, part in parts.items()))
        for label, model in models.items()
    ]
    return Table(["model", *parts], rows, formats=dict.fromkeys(parts, ".3f"))
