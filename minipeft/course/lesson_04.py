"""What lesson 04 calls and does not show: its runs, its figures and its tables.

The loop that trains, the way from base to tuned model and the count of operations stand in the lesson itself.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .. import course
from ..lab.charts import label_ends
from ..lab.ledger import count_parameters, counting, optimizer_bytes, saved_bytes
from ..lab.picture import COLORS, LINE, MARKERS, STYLES, Picture, canvas
from ..lab.spectra import energy, rank_for, singular_values, svd
from ..lab.table import Table
from ..methods import FullFineTuning, get_peft_model
from ..model import Parameter, cross_entropy
from ..model.functional import causal_blocks
from ..training import AdamW, fit, load_base
from ..training.optimizers import clip_grad_norm, warmup_cosine
from ..training.step import add_gradients, train_step
from .check import answers, compare
from .climate import bits, texts

STEPS, WATCHED, WAY = 30, (0, 5, 10, 30), (0.25, 0.5, 0.75, 1.25)


# ---- runs


def old_and_new(model):
    """{"old": bits a character of the conversations, "new": of the climate}: what a sweep writes down.

    Measured on a copy in float32: it takes half the time, and the digits that the lesson shows are the same.
    """
    _, old, new = texts()
    copy = load_base("english", "float32")
    for (_, p), (_, q) in zip(copy.named_parameters(), model.named_parameters(), strict=True):
        p.data[...] = q.data
    return {"old": bits(copy, old), "new": bits(copy, new)}


@lru_cache
def of_base():
    """(old, new): bits a character of both texts before any training."""
    return tuple(old_and_new(load_base("english")).values())


class Run(NamedTuple):
    """One run of full fine-tuning: bits a character of both texts along the steps, and along the way W + t ΔW.

    dW: {path: array}, all that was added
    """

    model: object
    dW: dict
    steps: np.ndarray
    old: np.ndarray
    new: np.ndarray
    way_old: np.ndarray
    way_new: np.ndarray


@lru_cache
def run(seed, start=None):
    """Thirty steps at the rate 1e-3, both texts measured at WATCHED of them, and at four places along W + t ΔW.

    start: of_base(), where another process has it already
    """
    draw, _, _ = texts()
    model, rng = get_peft_model(load_base("english"), FullFineTuning()), np.random.default_rng(seed)
    optimizer, seen = AdamW(model, lr=1e-3), []
    for step in range(STEPS + 1):
        if step in WATCHED:
            seen.append(tuple(old_and_new(model).values()) if step else start or of_base())
        if step < STEPS:
            train_step(model, draw(rng), optimizer, 1.0, warmup_cosine(step, STEPS))
    return Run(model, added(model), np.array(WATCHED), *np.array(seen).T, *np.array(along(model)).T)


def added(model):
    """{path: array}: what was added to the base."""
    base = dict(load_base("english").named_parameters())
    return {path: p.data - base[path].data for path, p in model.named_parameters()}


def length(dW):
    """‖ΔW‖ / ‖W‖, over all numbers of the model."""
    base = load_base("english").named_parameters()
    return float(np.sqrt(sum((a**2).sum() for a in dW.values()) / sum((p.data**2).sum() for _, p in base)))


def along(model):
    """[(old, new), ...] at each t of WAY, in a model of its own."""
    base, mixed = load_base("english"), load_base("english")
    found = []
    for t in WAY:
        for (_, w), (_, tuned), (_, p) in zip(
            base.named_parameters(), model.named_parameters(), mixed.named_parameters(), strict=True
        ):
            p.data[...] = w.data + t * (tuned.data - w.data)
        found.append(tuple(old_and_new(mixed).values()))
    return found


def numbers_of(seed, start):
    """A run without its model, for another process."""
    return run(seed, start)._replace(model=None)


def three_runs():
    """The run of the first picture, and two with other orders of the data, side by side in two processes."""
    return [run(0)._replace(model=None), *course.starmap(numbers_of, [(seed, of_base()) for seed in (1, 2)])]


# ---- the blanks


def check_step(g, step):
    """Compare a first step of AdamW for slopes g, at the rate 1e-3, with the library's, and name the slip."""
    p = Parameter(np.zeros(np.shape(g)))
    p.grad[...] = g
    AdamW([p], lr=1e-3).step()
    m, v = 0.1 * g, 0.001 * g**2
    mistakes = {
        "m and v are as they were: at t = 1 they hold a tenth, and a thousandth. What mends that?": m / np.sqrt(v),
        "m is not mended yet": m / np.sqrt(v / 0.001),
        "v is not mended yet": (m / 0.1) / np.sqrt(v),
        "that is plain descent: what is it divided by?": m / 0.1,
        "v is a mean of squares: is a root missing?": (m / 0.1) / (v / 0.001 + 1e-8),
        "it goes uphill": -np.sign(g),
    }
    mistakes = {hint: -1e-3 * array for hint, array in mistakes.items()}
    answers({"step": p.data}, {"step": mistakes}, tolerance=1e-3, step=step)


def check_operations(model, ids, per_token):
    """Compare the operations of a forward pass, a token, with what is counted while the model runs; name the slip."""
    with counting() as forward:
        model(ids)
    D, L, V, T = model.config.n_embd, model.config.n_layer, model.config.vocab_size, ids.shape[1]
    # the keys that a query is multiplied with, in the mean: a block of queries takes all that any of them sees
    S = sum((block.stop - block.start) * seen.stop for block, seen in causal_blocks(T, T)) / T
    mistakes = {
        "the matrices are all there: what is multiplied in attention, without a matrix?": 2 * (L * 12 * D**2 + V * D),
        "the scores are there, and the mean of the values?": 2 * (L * (12 * D**2 + S * D) + V * D),
        "the head is missing": 2 * L * (12 * D**2 + 2 * S * D),
        "multiplications only: what about the additions?": L * (12 * D**2 + 2 * S * D) + V * D,
        "the MLP is missing": 2 * (L * (4 * D**2 + 2 * S * D) + V * D),
        "that is one block: there are several": 2 * (12 * D**2 + 2 * S * D + V * D),
    }
    likely = [(np.array(float(value)), hint) for hint, value in mistakes.items()]
    right, hint = compare(per_token, forward.total / np.size(ids), "per_token", likely)
    print(f"per_token: {'✓ as counted' if right else f'✗ {hint}'}")


# ---- figures


def learn_and_forget():
    """Bits a character of the new and the old text along the steps of the first run."""
    one = run(0)
    figure, axes = canvas(7.6, 3.0)
    ends, said = [], []
    names = {"old": "conversations,\nthe old text", "new": "climate,\nthe new text"}
    for i, (field, name) in enumerate(names.items()):
        curve, color = getattr(one, field), COLORS[1 - i]
        axes.plot(one.steps, curve, STYLES[i], color=color, marker=MARKERS[i], markersize=5)
        ends.append((name, one.steps[-1], curve[-1], color))
        said.append(f"{name.replace(chr(10), ' ')}: from {curve[0]:.2f} to {curve[-1]:.2f}")
    axes.set(xlabel="step of full fine-tuning on the climate", ylabel="bits a character\n(lower is better)")
    learns = "learns" if one.new[-1] < one.new[0] else "does not learn"
    unlearns = "unlearns" if one.old[-1] > one.old[0] else "keeps"
    title = f"It {learns} the new text, and {unlearns} the old one"
    axes.set_title(title, loc="left")
    label_ends(axes, ends, apart=26)
    return Picture(figure, f"{title}. Bits a character by step, held-out text, one run: {'; '.join(said)}.")


def steps_table(runs, steps=(0, 10, 30)):
    """A Table: bits a character of both texts at some of the steps, run by run."""
    rows = [(str(step), *("  ".join(f"{getattr(one, text)[WATCHED.index(step)]:.2f}" for one in runs)
                          for text in ("new", "old"))) for step in steps]  # fmt: skip
    return Table(["step", "new text", "old text"], rows, title="bits a character, three runs")


def halfway_table(runs):
    """A Table: at each t, what share of the gain on the new text and of the loss on the old one; each run by itself."""
    places = [*WAY[:3], 1.0, *WAY[3:]]
    rows = []
    for i, t in enumerate(places):
        cells = []
        for field in ("new", "old"):
            shares = []
            for one in runs:
                curve, way = getattr(one, field), getattr(one, f"way_{field}")
                value = curve[-1] if t == 1 else way[WAY.index(t)]
                shares.append((value - curve[0]) / (curve[-1] - curve[0]))
            cells.append("  ".join(f"{s:4.0%}" for s in shares))
        rows.append((f"{places[i]:g}", *cells))
    return Table(
        ["t", "gain on the new text", "loss on the old text"], rows, title="three runs; t = 1 is the tuned model"
    )


def plot_ways(runs, others):
    """Old text against new text: along the steps, along W + t ΔW, and where other plans end.

    others: the Sweep over plan; its runs are dots.
    """
    figure, axes = canvas(7.6, 4.2)
    old0, new0 = runs[0].old[0], runs[0].new[0]
    said, first = [f"the base: old {old0:.2f}, new {new0:.2f}"], runs[0]
    for i, one in enumerate(runs):
        axes.plot(one.new, one.old, STYLES[1], color=COLORS[1], marker="s", markersize=4, linewidth=1.2, alpha=0.8)
        way_new, way_old = [new0, *one.way_new[:3], one.new[-1]], [old0, *one.way_old[:3], one.old[-1]]
        axes.plot(way_new, way_old, STYLES[0], color=COLORS[0], marker="o", markersize=4, linewidth=1.4)
        if i == 0:
            for t, x, y in zip(WAY[:3], one.way_new, one.way_old, strict=False):
                aside = (-8, -4) if t == 0.75 else (2, -15)
                axes.annotate(f"t = {t:g}", (x, y), aside, textcoords="offset points", color=COLORS[0], fontsize=9,
                              ha="right")  # fmt: skip
    ends = np.array([(one.new[-1], one.old[-1]) for one in runs])
    axes.annotate("tuned (t = 1)", (ends[:, 0].mean(), ends[:, 1].max()), (0, 8), textcoords="offset points", ha="center",
                  color=LINE)  # fmt: skip
    said.append(f"half way from base to tuned: old {np.mean([r.way_old[1] for r in runs]):.2f}, "
                f"new {np.mean([r.way_new[1] for r in runs]):.2f}")  # fmt: skip
    said.append(f"tuned: old {np.mean([r.old[-1] for r in runs]):.2f}, new {np.mean([r.new[-1] for r in runs]):.2f}")
    axes.annotate("along the steps", (first.new[1], first.old[1]), (26, 22), textcoords="offset points", ha="left",
                  color=COLORS[1])  # fmt: skip
    axes.annotate("base", (new0, old0), (6, 8), textcoords="offset points", color=LINE)
    axes.annotate("along W + t ΔW", (np.mean([first.way_new[0], new0]), old0), (0, -14), textcoords="offset points",
                  ha="center", color=COLORS[0])  # fmt: skip
    for i, plan in enumerate(others.labels("plan")):
        ends_new, ends_old = others.values("new", plan=plan), others.values("old", plan=plan)
        axes.plot(ends_new, ends_old, MARKERS[2 + i], color=COLORS[2], markersize=6.5, markeredgecolor="white")
        end, aside, side = (ends_new.argmin(), (-8, -3), "right") if i else (ends_new.argmax(), (8, -3), "left")
        axes.annotate(plan, (ends_new[end], ends_old[end]), aside, textcoords="offset points", ha=side, color=COLORS[2])
        said.append(f"{plan}: old {ends_old.mean():.2f}, new {ends_new.mean():.2f}")
    said.append("every run a dot")
    axes.set(
        xlabel="new text, bits a character (better to the left)", ylabel="old text, bits a character\n(better below)"
    )
    lower = sum(map(way_is_lower, runs))
    where = "each run" if lower == len(runs) else f"{lower} of {len(runs)} runs"
    title = f"In {where} the straight way lies below the steps"
    axes.set_title(title, loc="left")
    axes.margins(x=0.09)
    axes.set_ylim(old0 - 0.05, ends[:, 1].max() + 0.04)
    return Picture(figure, f"{title}. {'; '.join(said)}.")


def way_is_lower(one):
    """Whether, in a run, W + t ΔW costs less on the old text than each step that is as good on the new one, but the last."""
    places = sorted(
        [(one.new[0], one.old[0]), *zip(one.way_new[:3], one.way_old[:3], strict=True), (one.new[-1], one.old[-1])]
    )
    way = np.interp(one.new[1:-1], *zip(*places, strict=True))
    return bool((way < one.old[1:-1]).all())


def draw_memory(models, ids):
    """What stands in memory during a step, as stacked bars: weights, gradients, AdamW's m and v, kept for backward.

    models: {label: model}; ids: the batch that is run forward
    """
    parts = ("weights", "gradients", "AdamW's m and v", "kept for backward")
    faces, hatches = ("#bdbdbd", COLORS[1], COLORS[0], "#e9e9e9"), ("", "//", "", "..")
    bars = {}
    for label, model in models.items():
        trained, total = count_parameters(model)
        size = np.dtype(model.config.dtype).itemsize
        bars[label] = (size * total, size * trained, optimizer_bytes(model), saved_bytes(model(ids)[1]))
    figure, axes = canvas(7.6, 1.1 + 0.75 * len(bars))
    for y, sizes in enumerate(bars.values()):
        left = 0
        for part, bytes_, face, hatch in zip(parts, sizes, faces, hatches, strict=True):
            axes.barh(y, bytes_ / 1e6, left=left, color=face, hatch=hatch, edgecolor="white", height=0.55)
            if y == 0:
                axes.text(left + bytes_ / 2e6, -0.36, part, ha="center", va="bottom", fontsize=9)
            left += bytes_ / 1e6
        axes.text(left + 0.5, y, f"{left:.0f} MB", va="center", fontsize=10)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) - 0.6, -0.75)
    axes.grid(False)
    axes.set(xlabel="megabytes (millions of bytes), float64")
    rows = [f"{label}: " + ", ".join(f"{part} {n / 1e6:.1f}" for part, n in zip(parts, sizes, strict=True))
            for label, sizes in bars.items()]  # fmt: skip
    return Picture(figure, f"Stacked bars of memory in one step, in millions of bytes. {'. '.join(rows)}.")


# ---- tables


def block_matrices(arrays):
    """Of {path: array}, the matrices in the blocks."""
    return {path: M for path, M in arrays.items() if path.startswith("h.") and M.ndim == 2}


def directions(kinds, k=8, part=0.9):
    """A Table: how the energy of matrices is spread over their directions; medians, and the range over the matrices.

    kinds: {label: {path: array}}, of which the matrices in the blocks count
    """
    rows = []
    for label, arrays in kinds.items():
        spectra = [singular_values(M) for M in block_matrices(arrays).values()]
        shares, counts = [energy(s)[k - 1] for s in spectra], [rank_for(s, part) for s in spectra]
        rows.append((label, f"{np.median(shares):.2f}  ({min(shares):.2f} to {max(shares):.2f})",
                     f"{np.median(counts):.0f}  ({min(counts)} to {max(counts)})"))  # fmt: skip
    title = f"median of {len(spectra)} matrices, and the range; each has {len(spectra[0])} directions"
    return Table(["", f"energy in the first {k}", f"directions for {part:.0%}"], rows, title=title)


def alike(dW, others, k=8):
    """A Table: what a ΔW shares with other matrices: the cosine, and its k first directions; medians and ranges.

    Directions of the inputs: the share of one's k first that lies within the k first of the other.
    dW: {path: array}; others: {label: {path: array}}.  The matrices in the blocks count
    """
    ours, rows = block_matrices(dW), []
    for label, arrays in others.items():
        pairs = [(M, arrays[path]) for path, M in ours.items()]
        angles = [(M * N).sum() / np.linalg.norm(M) / np.linalg.norm(N) for M, N in pairs]
        shared = [np.linalg.norm(svd(M)[0][:, :k].T @ svd(N)[0][:, :k]) ** 2 / k for M, N in pairs]
        rows.append((label, *(f"{_two(np.median(a))}  ({_two(min(a))} to {_two(max(a))})" for a in (angles, shared))))
    return Table(["ΔW beside", "cosine", f"first {k} directions in common"], rows,
                 title=f"median of {len(ours)} matrices, and the range")  # fmt: skip


def _two(x):
    """Two digits, and no minus before a zero."""
    return f"{round(x, 2) + 0.0:.2f}"


def sides(paths, ids, targets):
    """A Table: where the gradient xᵀ dy of a matrix comes from, in the base, for one batch.

    Directions for 90% of the energy of x, of dy and of the gradient; and how near the first direction of the gradient lies
    to the mean x and the mean dy of all tokens (the cosine without its sign: a direction has none).
    """
    model, rows = get_peft_model(load_base("english"), FullFineTuning()), []
    seen = {path: [] for path in paths}
    for path, p in model.named_parameters():
        if path in seen:
            p.add_grad = lambda rule, x, dy, kept=seen[path]: kept.extend((x, dy))
    logits, backward = model(ids)
    backward(cross_entropy(logits, targets)[1]())
    for path, arrays in seen.items():
        x, dy = (array.reshape(-1, array.shape[-1]) for array in arrays)
        U, _, V = svd(x.T @ dy)
        counts = (rank_for(singular_values(M), 0.9) for M in (x, dy, x.T @ dy))
        rows.append((path, *counts, abs_cosine(U[:, 0], x.mean(0)), abs_cosine(V[0], dy.mean(0))))
    columns = ["directions for 90% of", "x", "dy", "gradient", "cosine with\nmean x", "cosine with\nmean dy"]
    return Table(columns, rows, formats=dict.fromkeys(columns[4:], ".2f"))


def abs_cosine(a, b):
    """|a · b| / (‖a‖ ‖b‖), for singular vectors: they have no sign."""
    return float(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b))


def largest_difference(one, other):
    """ "below 1e-10", or the number, of the largest difference between the weights of two models."""
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    largest = max(float(np.abs(p.data - q.data).max()) for (_, p), (_, q) in pairs)
    return "below 1e-10" if largest < 1e-10 else f"{largest:.6f}"


def careless(seed):
    """Both texts, and ‖ΔW‖ / ‖W‖, after thirty steps without optimizer.zero_grad(): the bug of *Break it*."""
    draw, _, _ = texts()
    model = get_peft_model(load_base("english"), FullFineTuning())
    optimizer = AdamW(model, lr=1e-3)
    optimizer.zero_grad = lambda: None
    fit(model, draw, STEPS, optimizer, seed=seed, progress=False)
    return old_and_new(model) | {"length": length(added(model))}


def beside_careless(runs):
    """A Table: both texts and ‖ΔW‖ / ‖W‖, with zero_grad (the three runs) and without, seed by seed."""
    without = course.starmap(careless, [(seed,) for seed in range(len(runs))])
    found = {"with zero_grad": [{"new": one.new[-1], "old": one.old[-1], "length": length(one.dW)} for one in runs],
             "without": without}  # fmt: skip
    formats = {"new": ".3f", "old": ".3f", "length": ".1%"}
    rows = [(label, *("  ".join(f"{one[field]:{form}}" for one in ends) for field, form in formats.items()))
            for label, ends in found.items()]  # fmt: skip
    return Table(["", "new text", "old text", "‖ΔW‖ / ‖W‖"], rows,
                 title="bits a character after thirty steps, three runs each")  # fmt: skip


def inside_careless(steps, seed=0):
    """A Table: what stands in .grad in the first steps without zero_grad, before clipping, over all numbers of the model.

    Lengths of what was left, of the new gradient and of their sum; the cosine of the sum with its own gradient, with the
    sum one step before, and, beside it, of the new gradient with the new one before.
    """
    draw, _, _ = texts()
    model, rng = get_peft_model(load_base("english"), FullFineTuning()), np.random.default_rng(seed)
    optimizer, rows, before = AdamW(model, lr=1e-3), [], None
    for step in range(steps):
        left = all_gradients(model)
        add_gradients(model, draw(rng))
        total = all_gradients(model)
        fresh = total - left
        lengths = [f"{np.linalg.norm(g):.2f}" for g in (left, fresh, total)]
        pairs = [(total, fresh), *zip((total, fresh), before, strict=True)] if before else [(total, fresh)]
        angles = [f"{a @ b / np.linalg.norm(a) / np.linalg.norm(b):.2f}" for a, b in pairs]
        rows.append((str(step + 1), *lengths, *angles, *["-"] * (3 - len(angles))))
        before = total, fresh
        clip_grad_norm(optimizer.parameters(), 1.0)
        optimizer.step(warmup_cosine(step, STEPS))
    columns = ["step", "left", "new", "sum", "sum and\nits new", "sum and\nlast sum", "new and\nlast new"]
    return Table(columns, rows, title="lengths, and cosines of two gradients")


def all_gradients(model):
    """A copy of every .grad, as one vector."""
    return np.concatenate([p.grad.ravel() for _, p in model.named_parameters()])
