"""What lesson 02 calls and does not show: it draws, holds a small example, and trains and looks into small models.

    from minipeft.course import lesson_02 as tools

Every function can be opened from the lesson: inspect.getsource(tools.check).
"""

import numpy as np
from matplotlib.patches import Rectangle

from ..lab.charts import plot_lines
from ..lab.drawing.shapes import BACK, INK, QUIET, Pen, blank, numeral
from ..lab.gradcheck import nudge
from ..lab.heads import attention_weights
from ..lab.picture import FAINT, TRAINED, Picture, canvas
from ..lab.symbols import write
from ..lab.table import Table
from ..methods.wrapper import Wrapper
from ..model.attention import Attention
from ..model.functional import softmax
from ..model.gpt2 import GPT2, GPT2Config
from ..model.module import Module
from ..training.bases import load_base
from ..training.data import LENGTH, SEP, TASKS, chance_batch, new_sequences, symbols_batch, symbols_batches
from ..training.loop import fit
from ..training.optimizers import AdamW
from . import check as checks
from . import starmap

ROWS = (150, 94, 38)  # heights of the three tokens in the picture, in points


# ---- the picture: one query, three keys, shares, values


def draw_query(solved=False, numbers=None):
    """One query and three keys, forward on the left; what comes back on the right, with blanks or with the answers.

    numbers: {"q", "k", "v", "do": arrays of one number a token}, to write numbers in the boxes and on the arrows
    """
    pen, found = Pen(828, 230), pencil(**numbers) if numbers else None
    pen.axes.set_ylim(-8, 222)
    forward(pen, 0, found)
    backward(pen, 428, solved, found)
    if found:
        said = "; ".join(f"{name} = {', '.join(map(text_of, np.ravel(found[name])))}"
                         for name in ("z", "p", "o", "dv", "dp", "dz", "dk", "dq"))  # fmt: skip
        return Picture(pen.figure, f"One query and three keys, forward and back, with numbers: {said}.")
    known = ("dv = p-transposed do, dp = do v-transposed, "
             "dz = p times (dp minus the sum of dp p), dk = c dz-transposed q, dq = c dz k."
             if solved else "dv, dp, dz, dk and dq are boxes with a question mark.")  # fmt: skip
    return Picture(pen.figure, "Two panels. Forward: a query q goes to three keys, which gives three scores z. "
                   "Softmax turns them into three bars, the shares 1/4, 1/4 and 1/2. Each share multiplies a blue "
                   "value, and a plus joins the three to the output o. Backward, the same from right to "
                   "left: " + known)  # fmt: skip


def pencil(q, k, v, do):
    """All numbers of one query, forward and back; no scale, since K = 1."""
    z = q @ k.T
    p = softmax(z)
    dp = do @ v.T
    dz = p * (dp - (dp * p).sum(-1, keepdims=True))
    return {"q": q, "k": k, "v": v, "z": z, "p": p, "o": p @ v, "do": do, "dv": p.T @ do, "dp": dp, "dz": dz,
            "dq": dz @ k, "dk": dz.T @ q}  # fmt: skip


def text_of(array):
    """The one number of an array, rounded to hundredths."""
    return numeral(round(np.asarray(array, float).item(), 2))


def stations(pen, x, found):
    """The query, the keys and the values, where they stand in both panels."""
    pen.box(x + 4, 80, 34, 28, "white", INK)
    pen.text(x + 21, 94, text_of(found["q"]) if found else "q", 11.5)
    pen.text(x + 21, 117, "query", 9, QUIET)
    for i, y in enumerate(ROWS):
        pen.box(x + 80, y - 13, 28, 26)
        pen.text(x + 94, y, text_of(found["k"][i]) if found else "k" + "₁₂₃"[i], 11.5)
        pen.box(x + 286, y - 13, 28, 26, TRAINED)
        pen.text(x + 300, y, text_of(found["v"][i]) if found else "v" + "₁₂₃"[i], 11.5, "white")
    pen.text(x + 94, 173, "keys", 9, QUIET)
    pen.text(x + 300, 173, "values", 9, QUIET)


def soft_box(pen, x, color):
    """The softmax, which sees all three scores at once."""
    pen.box(x + 158, 22, 22, 144, "white", color, round=6, lw=1.1)
    pen.text(x + 169, 94, "softmax", 10, color, rotation=90)


def forward(pen, x, found=None):
    """The left panel."""
    pen.text(x + 4, 210, "forward", 11, INK, ha="left", weight="bold")
    stations(pen, x, found)
    soft_box(pen, x, INK)
    pen.text(x + 132, 173, "scores", 9, QUIET)
    pen.text(x + 222, 188, "shares, their sum is 1", 9, QUIET)
    for i, y in enumerate(ROWS):
        share = found["p"][0, i] if found else (0.25, 0.25, 0.5)[i]
        pen.slanted((x + 39, 94), (x + 79, y), INK)
        pen.slanted((x + 109, y), (x + 157, y), INK)
        pen.text(x + 132, y + 9, text_of(found["z"][0, i]) if found else "z" + "₁₂₃"[i], 11)
        pen.tile(x + 184, y - 6, 84 * share, 12, INK)
        pen.text(x + 186, y + 15, {0.25: "1/4", 0.5: "1/2"}[round(share, 3)], 11, ha="left")
        pen.slanted((x + 184 + 84 * share, y), (x + 285, y), INK)
        pen.text(x + 275, y + 8, "×", 11)
        pen.slanted((x + 315, y), (x + 342 + 2 * (i != 1), 94 + 8 * (1 - i)), INK)
    pen.knot(x + 352, 94, r=10)
    pen.slanted((x + 363, 94), (x + 400, 94), INK)
    pen.text(x + 381, 104, f"o = {text_of(found['o'])}" if found else "o", 11)


def backward(pen, x, solved, found):
    """The right panel: with blanks, with the answers, or with numbers."""
    left = x - 4
    pen.text(x - 20, 210, "and back", 11, BACK, ha="left", weight="bold")
    stations(pen, left, found)
    soft_box(pen, left, BACK)
    for i, y in enumerate(ROWS):
        pen.slanted((left + 342, 94 + 6 * (1 - i)), (left + 315, y), BACK)
        pen.slanted((left + 285, y), (left + 181, y), BACK)
        pen.slanted((left + 157, y), (left + 109, y), BACK)
        pen.slanted((left + 79, y), (left + 39, 94 + 7 * (1 - i)), BACK)
        if found:
            pen.text(left + 232, y + 9, f"dp = {text_of(found['dp'][0, i])}", 10, BACK)
            pen.text(left + 133, y + 9, text_of(found["dz"][0, i]), 10.5, BACK)
            pen.text(left + 300, y - 21, f"dv = {text_of(found['dv'][i])}", 10, BACK, pad="white")
            pen.text(left + 106, y - 21, f"dk = {text_of(found['dk'][i])}", 10, BACK, pad="white")
    pen.knot(left + 352, 94, "", BACK, r=10)
    pen.slanted((left + 402, 94), (left + 363, 94), BACK)
    pen.text(left + 382, 108, f"do = {text_of(found['do'])}" if found else "do", 11, BACK)
    if found:
        pen.text(left + 133, 173, "dz", 11, BACK)
        blank(pen, left + 12, 52, f"dq = {text_of(found['dq'])}", True)
        return
    pen.slanted((left + 232, 150), (left + 232, 165), BACK)
    pen.slanted((left + 133, 150), (left + 133, 188), BACK)
    for at in (left + 94, left + 300):  # one frame around all three: the answer is for each of them
        pen.box(at - 21, 19, 42, 147, "none", BACK, dashed=True, lw=0.7, z=1)
    pen.slanted((left + 21, 79), (left + 21, 50), BACK)
    blank(pen, left + 232, 176, "dp = do vᵀ" if solved else "dp = ?", solved)
    blank(pen, left + 160, 201, "dz = p ⊙ (dp − Σ dp ⊙ p)" if solved else "dz = ?", solved)
    blank(pen, left + 300, 5, "dv = pᵀ do" if solved else "dv = ?", solved)
    blank(pen, left + 94, 5, "dk = c dzᵀ q" if solved else "dk = ?", solved)
    blank(pen, left + 12, 38, "dq = c dz k" if solved else "dq = ?", solved)


# ---- checks of the blanks


def slope_table(function, z):
    """Row s: how steeply each share function(z) changes when score s rises, by nudging.

    Shapes: z, function(z) (1, S); the table (S, S)
    """
    return np.stack([nudge(lambda u=u: function(z)[0, u], z)[0] for u in range(z.shape[1])], axis=1)


def example(T=2, S=4, K=3, V=5):
    """q, k, v, do: small whole numbers, two queries, four keys, no two sizes equal."""
    rng = np.random.default_rng(87)
    return [rng.choice([-2.0, -1, 1, 2], shape) for shape in ((T, K), (S, K), (S, V), (T, V))]


def check(**given):
    """Compare dv, dp, dz, dq, dk, for the arrays of example() and the loss Σ do ⊙ o, with what nudging measures."""
    q, k, v, do = example()
    c = q.shape[1] ** -0.5
    z = c * q @ k.T
    p = softmax(z)
    of_values = lambda: (do * (p @ v)).sum()  # noqa: E731
    wanted = {
        "dv": lambda: nudge(of_values, v), "dp": lambda: nudge(of_values, p),
        "dz": lambda: nudge(lambda: (do * (softmax(z) @ v)).sum(), z),
        "dq": lambda: nudge(lambda: (do * (softmax(c * q @ k.T) @ v)).sum(), q),
        "dk": lambda: nudge(lambda: (do * (softmax(c * q @ k.T) @ v)).sum(), k),
    }  # fmt: skip
    dp = do @ v.T
    alone, centred = p * dp, dp - (dp * p).sum(-1, keepdims=True)
    slips = {"dz": {
        f"row 0 has the sum {alone[0].sum():.4f}, but if all scores of a query rise alike, no share changes": alone,
        "the mean has the shares as weights": p * (dp - dp.mean(-1, keepdims=True)),
        "the sum runs over the keys, for each query by itself": p * (dp - (dp * p).sum()),
        "times its share: which score does it belong to?": centred,
    }}  # fmt: skip
    checks.answers(wanted, slips, tolerance=1e-4, **given)


# ---- the scale


def plot_scale(keys=16, queries=400):
    """The slope that reaches random queries, the median of them, against the width K, with the scale and without."""
    rng, widths = np.random.default_rng(0), [4**n for n in range(1, 6)]
    found = {"with 1/√K": [], "without": []}
    for K in widths:
        q, k, v, do = (rng.normal(size=(n, K)) for n in (queries, keys, keys, queries))
        for name, c in (("with 1/√K", K**-0.5), ("without", 1.0)):
            p, dp = softmax(c * (q @ k.T)), do @ v.T
            dq = c * (p * (dp - (dp * p).sum(-1, keepdims=True))) @ k
            found[name].append([np.median(np.abs(dq).mean(-1))])
    (scaled,), (bare,) = (line[-1] for line in found.values())
    title = "At large K, almost no slope is left without the factor" if bare < scaled / 100 else "The slope by K"
    return plot_lines({name: (widths, line) for name, line in found.items()}, xlabel="numbers in a head, K", logx=True,
                      ylabel="median of |dq|", format=".2g", ylim=(0, None), size=(6.2, 2.5), title=title)  # fmt: skip


# ---- small tables of shares


def draw_shares(p):
    """A table of shares (T, S): the darker, the larger; a share that the mask took is an empty, hatched place."""
    T, S = p.shape
    figure, ax = canvas(0.72 * S + 1.3, 0.42 * T + 0.5)
    for (t, s), share in np.ndenumerate(p):
        ax.add_patch(Rectangle((s, t), 1, 1, fc=str(1 - 0.85 * share), ec=FAINT, hatch="" if share else "///", lw=0.8))
        if share:
            ax.text(
                s + 0.5, t + 0.5, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.45 else "black"
            )
    ax.set(xlim=(-0.01, S + 0.01), ylim=(T + 0.01, -0.01), xticks=np.arange(S) + 0.5, yticks=np.arange(T) + 0.5,
           xticklabels=[f"key {s}" for s in range(S)], yticklabels=[f"query {t}" for t in range(T)])  # fmt: skip
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    said = "; ".join(" ".join(f"{share:.2f}" for share in row) for row in p)
    return Picture(
        figure, f"A table of shares, one row a query: {said}. Where the mask forbids a look, the place is hatched."
    )


# ---- small models that copy, or try to


class Alone(Module):
    """A core in which each token sees itself only: o = v."""

    def __init__(self, n_head):
        self.n_head = n_head

    def forward(self, q, k, v):
        return v, lambda do: (0 * q, 0 * k, do)


def one_block(core, seed=0, positions=True):
    """A new GPT-2 of one block, D = 32, two heads, with core(2) in its attention.

    positions=False: no vectors for the positions.  They are zero and frozen, so a token does not say where it stands.
    """
    model = GPT2(GPT2Config(vocab_size=21, n_positions=20, n_embd=32, n_layer=1, n_head=2), seed)
    model.h[0].attn.core = core(2)
    if not positions:
        model.wpe.weight.data[...] = 0
        model.requires_grad_(False, "wpe.weight")
    return model


def train_copier(core, steps=240, seed=0, positions=True):
    """A model of one block with core(2) in its attention, trained from nothing on `copy`.  Returns (model, losses)."""
    model = one_block(core, seed, positions)
    log = fit(model, symbols_batches("copy", 16), steps, AdamW(model, lr=5e-3), seed=seed, progress=False)
    return model, np.array(log.loss)


def copies(model, n=3, seed=5):
    """The Writing of a model for n sequences of `copy`: every token computed anew, without a cache."""
    return write(model, "copy", n, seed, cache=False)


# ---- the heads of `symbols`


def one_sequence(task, word="flamingo"):
    """The 17 tokens `task x1 ... x8 SEP y1 ... y7` of a word of eight different letters from a to p, (1, 17)."""
    x = np.array([[ord(letter) - ord("a") for letter in word]])
    token, rule = TASKS[task]
    return np.hstack([[[token]], x, [[SEP]], rule(x)[:, :7]])


def places(task):
    """(row, column) of the letter to write next, for each of the eight rows in which the model writes."""
    return [(9 + t, 1 + t if task == "copy" else 8 - t) for t in range(LENGTH)]


def share_table(model, n=200):
    """A Table of mean shares, over n new sequences and the eight rows that write, for each head of `symbols`.

    diagonal: on the letter to copy next; anti: on the letter to write next in reverse order; task: on the task token.
    """
    rows, line, found = np.arange(9, 17), np.arange(1, 9), {}
    for task in ("copy", "reverse"):
        ids = symbols_batch(task, np.random.default_rng(5), n)[0]
        for b, p in enumerate(attention_weights(model, ids)):
            for h in range(p.shape[1]):
                found.setdefault((b, h), []).extend(p[:, h, rows, at].mean() for at in (line, line[::-1], 0 * line))
    columns = [f"{task}: {what}" for task in ("copy", "reverse") for what in ("diagonal", "anti", "task")]
    return Table(["head", *columns], [(f"layer {b}, head {h}", *shares) for (b, h), shares in found.items()],
                 formats=dict.fromkeys(columns, ".2f"))  # fmt: skip


class Blinded(Wrapper):
    """Replaces what some heads put out, by a function of it: (N, T, K) -> (N, T, K), for N sequences."""

    def __init__(self, base, heads, replace):
        super().__init__(base)
        self.heads, self.replace = heads, replace

    def forward(self, q, k, v):
        o, back = self.base(q, k, v)
        o, width = o.copy(), o.shape[-1] // self.base.n_head
        for head in self.heads:
            part = slice(head * width, (head + 1) * width)
            o[..., part] = self.replace(o[..., part])
        return o, back


def blinded(replace, mixed=False, n=300):
    """A Table: the share of letters that `symbols` gets right when heads are blinded, over n new sequences of each task.

    replace: a function of the outputs of one head for N sequences, (N, T, K) -> (N, T, K), or what broadcasts to it
    mixed: the N sequences are those of both tasks together; else one task at a time
    """
    tests = {task: new_sequences(task, n)[0] for task in ("copy", "reverse")}
    model, rows = load_base("symbols"), [("none", 0, ())]
    for layer, pair in enumerate([(0, 3), (2, 3)]):
        rows += [(f"layer {layer}, head {head}", layer, (head,)) for head in range(4)]
        rows += [(f"layer {layer}, heads {pair[0]} and {pair[1]}", layer, pair)]
    found = []
    for name, layer, heads in rows:
        attention = model.h[layer].attn
        attention.core = Blinded(attention.core, heads, replace)
        parts = [list(tests.values())] if mixed else [[test] for test in tests.values()]
        found.append((name, *(share for part in parts for share in shares_right(model, part))))
        attention.core = attention.core.base
    return Table(["blinded", *tests], found, formats=dict.fromkeys(tests, ".0%"))


def shares_right(model, tests):
    """The share of letters right in each of several (ids, targets, mask), which the model reads as one batch."""
    logits = model(np.concatenate([ids for ids, _, _ in tests]))[0]
    answers = np.split(logits.argmax(-1), len(tests))
    return [(answer == targets)[mask].mean() for answer, (_, targets, mask) in zip(answers, tests, strict=True)]


# ---- four layers, three of them wrong


def variant(masked=True, axis=-1, complete=True, all_queries=True, scaled=True):
    """attention(q, k, v) of the lesson, or one with a bug.

    masked=False: no mask.  axis=-2: softmax over the queries.  The backward belongs to the forward that it has, as autograd
    would write it.  complete=False: dz without its sum.  all_queries=False: dk from the last query only.  scaled=False: dk
    without the factor c.  In these three the forward is right, and the backward is not.
    """

    def attention(q, k, v):
        c = q.shape[-1] ** -0.5
        z = c * q @ k.swapaxes(-1, -2)
        if masked:
            T, S = z.shape[-2:]
            z = np.where(np.tri(T, S, S - T, dtype=bool), z, -np.inf)
        p = np.exp(z - z.max(axis, keepdims=True))
        p = p / p.sum(axis, keepdims=True)

        def backward(do):
            dp = do @ v.swapaxes(-1, -2)
            dz = p * (dp - (dp * p).sum(axis, keepdims=True)) if complete else p * dp
            first = 0 if all_queries else q.shape[-2] - 1
            dk = (c if scaled else 1) * dz[..., first:, :].swapaxes(-1, -2) @ q[..., first:, :]
            return c * dz @ k, dk, p.swapaxes(-1, -2) @ do

        return p @ v, backward

    return attention


FOUR = {
    "right": {},
    "no mask": {"masked": False},
    "softmax over queries": {"axis": -2},
    "dz without its sum": {"complete": False},
}
BACKWARDS = {
    "right": {},
    "dz without its sum": {"complete": False},
    "dk from the last query only": {"all_queries": False},
    "dk without the factor c": {"scaled": False},
}


def try_checks(found):
    """A Table: each of four layers under each check, {name: function of a layer that returns an error}."""
    rows = []
    for name, settings in FOUR.items():
        errors = [one(variant(**settings)) for one in found.values()]
        rows.append((name, *("ok" if error < 1e-5 else f"off by {error:.1f}" for error in errors)))
    return Table(["layer", *found], rows)


class Core(Module):
    """Heads around one of the four layers."""

    def __init__(self, n_head, attention):
        self.n_head, self.attention = n_head, attention

    def forward(self, q, k, v):
        heads = Attention(self.n_head)
        o, back = self.attention(*(heads.split(x) for x in (q, k, v)))
        return heads.join(o), lambda do: tuple(heads.join(d) for d in back(heads.split(do)))


def copy_loss(name, seed):
    """The loss of the last 20 of 240 steps on `copy`, with one of BACKWARDS."""
    return train_copier(lambda n_head: Core(n_head, variant(**BACKWARDS[name])), seed=seed)[1][-20:].mean()


def train_backwards(gradients, seeds=(0, 1, 2)):
    """A Table: the loss on `copy` at the end, for every seed, with the right backward and with three wrong ones.

    gradients: a function of a layer that returns the error of its gradients; its answer stands in the last column
    """
    cases = [(name, seed) for name in BACKWARDS for seed in seeds]
    losses = dict(zip(cases, starmap(copy_loss, cases), strict=True))
    rows = []
    for name, settings in BACKWARDS.items():
        ends = "  ".join("over 1.5" if losses[name, seed] > 1.5 else f"{losses[name, seed]:.2f}" for seed in seeds)
        rows.append((name, ends, "ok" if gradients(variant(**settings)) < 1e-5 else "wrong"))
    return Table(["backward", f"loss at the end, seeds {', '.join(map(str, seeds))}", "gradient check"], rows)


def train_lottery(steps=240, seeds=(0, 1, 2)):
    """A model of one block on letters drawn by lot, with the mask and without.

    Returns ({label: losses (seeds, steps)}, {label: (seeds,) what a letter costs when the model writes}).
    """
    losses, writing, draw = {}, {}, lambda rng: chance_batch(rng, 16)
    for label, name in (("with the mask", "right"), ("mask forgotten", "no mask")):
        runs, costs = [], []
        for seed in seeds:
            model = one_block(lambda n_head, name=name: Core(n_head, variant(**FOUR[name])), seed)
            runs.append(fit(model, draw, steps, AdamW(model, lr=5e-3), seed=seed, progress=False).loss)
            costs.append(cost_of_writing(model))
        losses[label], writing[label] = np.array(runs), np.array(costs)
    return losses, writing


def cost_of_writing(model, n=200):
    """The mean −ln probability of the right letter, for letters drawn by lot, when no later token is there to be seen."""
    ids, targets, _ = chance_batch(np.random.default_rng(3), n)
    costs = []
    for t in range(ids.shape[1] - LENGTH, ids.shape[1]):
        logits = model(ids[:, : t + 1])[0][:, -1]
        costs.append(-np.log(softmax(logits)[np.arange(n), targets[:, t]]).mean())
    return np.mean(costs)
