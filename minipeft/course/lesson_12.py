"""What lesson 12 calls: its pictures, the checks of its blanks, and what it tries out."""

import re
from copy import deepcopy
from fractions import Fraction

import numpy as np
from matplotlib.patches import Rectangle

from ..generation import generate
from ..lab.charts import shade
from ..lab.drawing.shapes import typeset
from ..lab.gradcheck import nudge
from ..lab.heads import attention_weights, written_by
from ..lab.picture import COLORS, TRAINED, Picture, canvas
from ..lab.symbols import write
from ..methods.prefix import PrefixAttention, ShiftedPositions
from ..methods.wrapper import Wrapper, wrap
from ..model.attention import Attention
from ..model.functional import softmax, softmax_backward
from ..model.module import Module, Parameter
from ..training.bases import load_base
from ..training.data import new_sequences, symbols_batches
from ..training.evaluation import evaluate
from ..training.loop import fit
from ..training.optimizers import AdamW, constant
from . import check

INK, GREY, BACK, COLD = "#222222", "#6f6f6f", "#B34700", "#f1f1f1"

# ---- the picture: shares


def draw_shares(rows):
    """A bar of length 1 for each row, cut into shares.  rows: {label: weights}, the prefix' first, or 0.

    P_k in a label is drawn with its index below.
    """
    figure, ax = canvas(9.0, 0.55 * len(rows) + 0.3)
    said = []
    for i, (label, weights) in enumerate(rows.items()):
        left, parts = 0.0, []
        ax.text(-0.02, -i, label.replace("P_k", typeset("P_k")), ha="right", va="center")
        for who, weight in zip(("prefix", "token 1", "token 2"), weights, strict=True):
            if weight:
                face, color = (TRAINED, "white") if who == "prefix" else (COLD if who[-1] == "1" else "#c9c9c9", INK)
                text = f"{who}  {Fraction(weight).limit_denominator(100)}"
                ax.add_patch(Rectangle((left, -i - 0.36), weight, 0.72, facecolor=face, edgecolor=INK, lw=0.9))
                ax.text(left + weight / 2, -i, text, ha="center", va="center", color=color, fontsize=10.5)
                parts.append(text)
            left += weight
        said.append(f"{label}: {', '.join(parts)}")
    ax.set(xlim=(-0.36, 1.02), ylim=(-len(rows) + 0.45, 0.5))
    ax.axis("off")
    return Picture(figure, "Bars of equal length, cut into shares. " + "; ".join(said) + ".")


# ---- the checks of the blanks


def example(batch=False):
    """q, k, v, P_k, P_v, do: small whole numbers, none of them zero.  In a batch all but the prefix have two sequences.

    Shapes: q, k (3, 4), v, do (3, 5), P_k (2, 4), P_v (2, 5)
    """
    rng = np.random.default_rng(12)
    shapes = ((2, 3, 4), (2, 3, 4), (2, 3, 5), (2, 4), (2, 5), (2, 3, 5))
    q, k, v, P_k, P_v, do = (rng.choice([-2.0, -1, 1, 2], shape) for shape in shapes)
    return (q, k, v, P_k, P_v, do) if batch else (q[0], k[0], v[0], P_k, P_v, do[0])


def attend(q, k, v):
    """(weights, outputs) of attention for one sequence; keys may outnumber queries."""
    p = masked_softmax(scores(q, k))
    return p, p @ v


def scores(q, k):
    return q @ k.T / q.shape[1] ** 0.5


def masked_softmax(z):
    """softmax(z), where each query sees the keys up to its own; the last keys belong to the queries."""
    T, S = z.shape
    return softmax(np.where(np.tri(T, S, S - T, dtype=bool), z, -np.inf))


def measured(name):
    """The slope that dP_v, dz or dP_k names, by nudging, for the arrays of example() and the loss Σ do ⊙ o.

    "dP_v_batch": for both sequences.
    """
    q, k, v, P_k, P_v, do = example(batch=True)
    n = 2 if name.endswith("batch") else 1

    def loss():
        pairs = zip(q[:n], k[:n], v[:n], do[:n], strict=True)
        return sum((d * attend(a, np.vstack([P_k, b]), np.vstack([P_v, c]))[1]).sum() for a, b, c, d in pairs)

    if name != "dz":
        return nudge(loss, P_k if name.startswith("dP_k") else P_v, eps=2.0**-13)
    z, values = scores(q[0], np.vstack([P_k, k[0]])), np.vstack([P_v, v[0]])
    return nudge(lambda: (do[0] * (masked_softmax(z) @ values)).sum(), z, eps=2.0**-13)[:, : len(P_k)]


def slopes(**given):
    """slopes(dP_v=my_dP_v, ...): compare with what nudging measures, and say in words what is wrong.

    Names: dP_v, dz (its two prefix columns), dP_k, dP_v_batch, for the arrays of example().
    """
    q, k, v, P_k, P_v, do = example(batch=True)
    weights = [attend(q[n], np.vstack([P_k, k[n]]), np.vstack([P_v, v[n]]))[0][:, : len(P_k)] for n in range(2)]
    each = [weights[n].T @ do[n] for n in range(2)]
    q, k, v, P_k, P_v, do = example()
    p, o = attend(q, np.vstack([P_k, k]), np.vstack([P_v, v]))
    p, worth = p[:, : len(P_k)], do @ P_v.T
    dz = p * (worth - (do * o).sum(1, keepdims=True))
    mistakes = {
        "dz": {
            "this is share × what the value is worth; take away what the output is worth": p * worth,
            "what the output is worth is do · o: where is o?": p * (worth - do.sum(1, keepdims=True)),
            "the output holds the tokens' values, too": p * (worth - (p * worth).sum(1, keepdims=True)),
            "the share p of the column is missing": worth - (do * o).sum(1, keepdims=True),
        },
        "dP_k": {"q is divided by √K before it is multiplied: K = 4 here": dz.T @ q},
        "dP_v_batch": {
            "that is a mean: the prefix stands before both sequences, and the slopes add": (each[0] + each[1]) / 2,
            "that is one sequence alone: the prefix stands before the other, too": each[1],
        },
    }
    wanted = {name: (lambda name=name: measured(name)) for name in ("dP_v", "dz", "dP_k", "dP_v_batch")}
    check.answers(wanted, mistakes, tolerance=1e-5, **given)


def check_layer(kind):
    """Check an attention with a prefix, a class kind(core, P_k, P_v): its output and all slopes beside the library's, which
    holds the same numbers, on 3 sequences of 5 tokens, D = 8, two heads, m = 2.
    """
    if kind.forward is Module.forward:
        print(f"{kind.__name__}: its forward is not written yet")
        return
    rng, m = np.random.default_rng(0), 2
    q, k, v, do = (rng.normal(size=(3, 5, 8)) for _ in range(4))
    P_k, P_v = (rng.normal(size=(m, 8)) for _ in range(2))
    core, theirs = Attention(2), PrefixAttention(Attention(2), m, 8, rng, "float64")
    theirs.P_k.data[...], theirs.P_v.data[...] = P_k, P_v
    mine = kind(Attention(2), P_k.copy(), P_v.copy())
    (o, back), (want, back_theirs) = mine(q, k, v), theirs(q, k, v)

    def front(P, x):
        return np.concatenate([np.stack([P] * len(x)), x], axis=1)

    likely = {
        "o": {
            "that is attention without the prefix": core(q, k, v)[0],
            "the prefix stands behind the tokens, where most queries do not see all of it: put it in front": core(
                q, np.roll(front(P_k, k), -m, axis=1), np.roll(front(P_v, v), -m, axis=1)
            )[0],
            "P_k belongs before the keys, and P_v before the values": core(q, front(P_v, k), front(P_k, v))[0],
        }
    }
    if not check.compare(o, want, "o", ())[0]:  # first the way in: a wrong one makes every slope wrong
        check.answers({"o": want}, likely, o=o)
        return
    slopes, got = back_theirs(do), back(do) if callable(back) else None
    _, dkeys, dvalues = core(q, front(P_k, k), front(P_v, v))[1](do)
    for name, whole, other in (("k", dkeys, "v"), ("v", dvalues, "k")):
        likely[f"d{name}"] = {
            f"the first m rows are the prefix's, and no slopes of {name}: cut them off": whole,
            "the prefix stands in front, and the cut is at the other end": whole[:, :-m],
            f"those are the rows of the prefix; those of {name} come behind them": whole[:, :m],
        }
        likely[f"dP_{name}"] = {
            f"P_{name} got no slope: self.P_{name}.add_grad(...) adds one": np.zeros((m, 8)),
            "that is a mean: the prefix stands before every sequence, and the slopes add": whole[:, :m].mean(0),
            "that is the last sequence alone: the prefix stands before the others, too": whole[-1, :m],
            "those are the last m rows, and the prefix stands in front": whole[:, -m:].sum(0),
            f"that is dP_{other}": (dvalues if name == "k" else dkeys)[:, :m].sum(0),
        }
    wanted = {"o": want, **dict(zip(("dq", "dk", "dv"), slopes, strict=True))}
    wanted |= {"dP_k": theirs.P_k.grad, "dP_v": theirs.P_v.grad}
    dq, dk, dv = got if isinstance(got, tuple) and len(got) == 3 else (..., ..., ...)
    check.answers(wanted, likely, o=o, dq=dq, dk=dk, dv=dv, dP_k=mine.P_k.grad, dP_v=mine.P_v.grad)


# ---- training, and positions


def learn_near(model, lr=0.1, steps=16):
    """Train for so many steps of 12 sequences of `near`; {label: what it writes} before, and after steps 1, 2, 4 and the
    last."""
    optimizer, done = AdamW(model, lr=lr), 0
    written = {"before training": write(model, "near", n=3)}
    for part in (1, 1, 2, steps - 4):
        fit(model, symbols_batches("near", 12), part, optimizer, seed=done, schedule=constant, progress=False)
        done += part
        written[f"step {done}"] = write(model, "near", n=3)
    return written


def moved_by(model, places):
    """The model with its tokens moved by so many positions, and nothing before them."""
    if places:
        wrap(model, "wpe", lambda wpe: ShiftedPositions(wpe, places))
    return model


def exact_when_moved(model, task, places, n=64):
    """{positions that the tokens are moved: share of exact sequences}, of a model with a prefix that is left as it is."""
    shift = next(node for _, node in model.walk() if isinstance(node, ShiftedPositions))
    kept, found = shift.offset, {}
    batch = new_sequences(task, n)
    try:
        for place in places:
            shift.offset = place
            found[place] = evaluate(model, batch).exact
    finally:
        shift.offset = kept
    return found


def base_when_moved(places, tasks=("copy", "plus", "reverse"), n=64):
    """{task: {positions moved: share of exact sequences}} of the bare base `symbols`."""
    batches = {task: new_sequences(task, n) for task in tasks}
    models = {place: moved_by(load_base("symbols"), place) for place in places}
    return {task: {place: evaluate(models[place], batches[task]).exact for place in places} for task in tasks}


def plot_moved(prefixes, places, n=64):
    """The share of exact sequences by how far the tokens are moved: a row of cells for each task of the bare base, and
    one for `near` with each of these prefixes, framed at the place where it was trained.

    prefixes: {label: (model, place where it was trained)}.  Returns a Picture.
    """
    places = list(places)
    found = {f"{task}, base": shares for task, shares in base_when_moved(places, n=n).items()}
    found |= {label: exact_when_moved(model, "near", places, n) for label, (model, _) in prefixes.items()}
    homes = {label: home for label, (_, home) in prefixes.items()}
    figure, ax = canvas(0.5 * len(places) + 3.2, 0.36 * len(found) + 1.05)
    said = []
    for row, (label, shares) in enumerate(found.items()):
        y = row + 0.3 * (label in homes)
        for column, (place, value) in enumerate(shares.items()):
            face, ink = shade(value)
            home = place == homes.get(label)
            ax.add_patch(Rectangle((column - 0.48, y - 0.48), 0.96, 0.96, facecolor=face, lw=2.2, zorder=2 + home,
                                   edgecolor=BACK if home else "white"))  # fmt: skip
            ax.text(column, y, f"{100 * value:.0f}", ha="center", va="center", color=ink, fontsize=10, zorder=4,
                    fontweight="bold" if home else "normal")  # fmt: skip
        ax.text(-0.65, y, label, ha="right", va="center", fontsize=10)
        said.append(f"{label}: " + ", ".join(f"{100 * v:.0f} at {p}" for p, v in shares.items()))
    ax.set(xlim=(-0.55, len(places) - 0.45), ylim=(len(found) - 0.15, -0.55), yticks=[],
           xlabel="positions that the tokens are moved")  # fmt: skip
    ax.set_xticks(range(len(places)), places)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title("Exact sequences in %", loc="left", fontsize=11.5)
    return Picture(figure, f"Exact sequences in per cent, by positions moved. {'; '.join(said)}.")


# ---- what is tried out


class AtTheEnd(Wrapper):
    """The lesson's layer with one mistake: the prefix stands behind the tokens, under a mask made for it in front."""

    def __init__(self, core, P_k, P_v):
        super().__init__(core)
        self.P_k, self.P_v = Parameter(P_k), Parameter(P_v)

    def forward(self, q, k, v):
        N, m = len(q), len(self.P_k.data)
        keys = np.concatenate([k, np.stack([self.P_k.data] * N)], axis=1)
        values = np.concatenate([v, np.stack([self.P_v.data] * N)], axis=1)
        o, back_base = self.base(q, keys, values)

        def backward(do):
            dq, dkeys, dvalues = back_base(do)
            self.P_k.add_grad(dkeys[:, -m:].sum(0))
            self.P_v.add_grad(dvalues[:, -m:].sum(0))
            return dq, dkeys[:, :-m], dvalues[:, :-m]

        return o, backward


class Masked(Attention):
    """Attention under a mask that is given, mask(T, S): not 0 where a query sees a key."""

    def __init__(self, n_head, mask):
        super().__init__(n_head)
        self.mask = mask

    def forward(self, q, k, v):
        scale = (q.shape[-1] // self.n_head) ** -0.5
        q, k, v = self.split(scale * q), self.split(k), self.split(v)
        p = softmax(np.where(self.mask(q.shape[2], k.shape[2]), q @ k.swapaxes(2, 3), -np.inf))

        def backward(do):
            do = self.split(do)
            dz = softmax_backward(do @ v.swapaxes(2, 3), p)
            return scale * self.join(dz @ k), self.join(dz.swapaxes(2, 3) @ q), self.join(p.swapaxes(2, 3) @ do)

        return self.join(p @ v), backward


def off_the_words(base, words, text, kind, mask=None):
    """The largest difference of any logit between two ways to put words before a text: as tokens, and as a prefix that they
    have written, in layers of a kind(core, P_k, P_v); mask: in place of the core's own.

    Shapes:   words (m,), text (T,)
    """
    start = written_by(base, words)
    want = base(np.hstack([words, text])[None])[0][:, len(words) :]
    model = deepcopy(base)
    for i, block in enumerate(model.h):
        core = Masked(block.attn.core.n_head, mask) if mask else block.attn.core
        block.attn.core = kind(core, start[f"h.{i}.*P_k"], start[f"h.{i}.*P_v"])
    moved_by(model, len(words))
    return float(np.abs(model(np.array([text]))[0] - want).max())


def share_of_later_tokens(model, ids):
    """Of the attention of all heads and queries, the share that goes to tokens after the query's own, if the tokens' keys
    come first."""
    T = ids.shape[1]
    return float(np.mean([np.triu(p[..., :T], 1).sum(-1).mean() for p in attention_weights(model, ids)]))


def compare(sweeps, level):
    """Right letters of each method of these sweeps, at the better of its rates: a dot for each seed, a bar for the mean.

    sweeps: what `sweep` returned, with the settings method and lr.  level: what guessing gives.  Returns a Picture.
    """
    rows = [
        (label, 100 * one.values("right letters", **point), one.mean("exact", **point))
        for one in sweeps
        for label, point in one.best(by="right letters", each="method").items()
    ]
    figure, ax = canvas(8.6, 0.34 * len(rows) + 1.15)
    for y, (label, seeds, exact) in enumerate(rows):
        color = COLORS[1] if label.startswith("LoRA") else COLORS[0]
        ax.barh(y, seeds.mean(), height=0.62, color=color, alpha=0.28)
        ax.plot(seeds, [y] * len(seeds), "o", color=color, ms=5, clip_on=False, zorder=4)
        ax.text(-1.5, y, label, ha="right", va="center", fontsize=10)
        ax.text(108, y, f"{seeds.mean():.0f}%", ha="right", va="center", fontsize=10)
        ax.text(119, y, f"{exact:.0%}", ha="right", va="center", fontsize=10, color=GREY)
    ax.text(108, -0.95, "mean", ha="right", fontsize=9.5)
    ax.text(119, -0.95, "exact", ha="right", fontsize=9.5, color=GREY)
    ax.axvline(100 * level, color=INK, lw=1.2, ls="--")
    ax.text(100 * level + 1, -0.95, "the commonest letter", fontsize=9.5)
    ax.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6), yticks=[], xlabel="right letters in %")
    ax.grid(axis="y", visible=False)
    said = [
        f"{label} {seeds.mean():.0f}% ({' '.join(f'{v:.0f}' for v in seeds)}), exact {exact:.0%}"
        for label, seeds, exact in rows
    ]
    return Picture(
        figure,
        f"Right letters, mean and seeds: {'; '.join(said)}. The commonest letter: {level:.0%}.",
    )


# ---- what a text is about


def typical_words(text, others, factor=8, least=4):
    """{word: how often}, the most frequent first: words that are at least `factor` times as frequent in a text as in the
    others, and occur `least` times."""
    mine, theirs = counts_of(text), counts_of(others)
    total, other_total = sum(mine.values()), sum(theirs.values())
    found = {
        word: n
        for word, n in mine.items()
        if n >= least and n / total >= factor * (theirs.get(word, 0) + 0.5) / other_total
    }
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def counts_of(text):
    """{word: how often it occurs}, in small letters."""
    found = {}
    for word in words_of(text):
        found[word] = found.get(word, 0) + 1
    return found


def words_of(text):
    return re.findall(r"[a-z]+", text.lower())


def share_of(words, models, prompts, tokens, n=30, each=4, temperature=0.7, top_k=20, seed=0):
    """{label: for each prompt, the share of `words` among those that a model writes, `each` times n tokens}."""
    found = {}
    for label, model in models.items():
        shares, rng = [], np.random.default_rng(seed)
        for prompt in prompts:
            ids = np.array([tokens.encode(prompt)] * each)
            new = generate(model, ids, n, temperature=temperature, top_k=top_k, rng=rng)[:, ids.shape[1] :]
            shares.append(float(np.mean([word in words for row in new for word in words_of(tokens.decode(row))])))
        found[label] = shares
    return found
