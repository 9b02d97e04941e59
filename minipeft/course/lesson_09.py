"""What lesson 09 calls and does not show: short trainings of `near` at many learning rates, and what is drawn of them.

All runs are of the base `symbols`.  The new task is `near` (the next letter, under the token *copy*), judged by the share of
right letters; the old skill is `reverse`, which nobody trains.
"""

from functools import cache, partial
from itertools import pairwise

import numpy as np

from ..lab.picture import COLORS, LINE, MARKERS, STYLES, Picture, canvas
from ..lab.sweeps import sweep
from ..lab.table import Table
from ..methods import FullFineTuning, LoRA, get_peft_model
from ..methods.method import Method, thaw
from ..model import cross_entropy
from ..training import SGD, AdamW, evaluate, fit, load_base, symbols_batch, symbols_batches, warmup_cosine
from ..training.data import new_sequences
from . import ALL
from .check import answers

TICKS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of axes with learning rates
RIGHT = 0.9  # a task counts as known if this share of its letters is right


unseen = partial(new_sequences, n=64, seed=99)


def train(method, lr, seed=0, steps=20, n=5, clip=1.0):
    """`symbols` after a short training of `near`: so many steps of AdamW with n sequences each."""
    model = get_peft_model(load_base("symbols"), method, seed)
    fit(model, symbols_batches("near", n), steps, AdamW(model, lr=lr), seed=seed, clip=clip, progress=False)
    return model


def trial(method, lr, seed, steps=20, n=5):
    """{"near": share of new letters right, "reverse": share of the old skill, "loss": on near}, after train."""
    model = train(method, lr, seed, steps, n)
    new = evaluate(model, unseen("near"))
    return {"near": new.accuracy, "reverse": evaluate(model, unseen("reverse")).accuracy, "loss": new.loss}


def rates(first, last, factor):
    """first, first · factor, ... up to last, in two digits."""
    n = round(np.log(last / first) / np.log(factor)) + 1
    return [float(f"{first * factor**i:.2g}") for i in range(n)]


def crossing(places, values, level):
    """Where values first reach the level, between two places on a logarithmic axis; None if they do not."""
    over = np.flatnonzero(np.asarray(values) >= level)
    if not over.size or over[0] == 0:
        return None
    i = over[0]
    share = (level - values[i - 1]) / (values[i] - values[i - 1])
    return float(np.exp(np.log(places[i - 1]) + share * np.log(places[i] / places[i - 1])))


# ---- the first screen: two windows

# with ALL, LoRA changes all matrices of the blocks; full fine-tuning trains tables, norms and biases as well
METHODS = {"full fine-tuning": FullFineTuning(), "LoRA, r = 4, α = 8": LoRA(r=4, alpha=8, targets=ALL)}


@cache
def windows():
    """The Sweep of both METHODS at twelve rates, three seeds."""
    return sweep(trial, {"method": METHODS, "lr": rates(1e-4, 8.6e-3, 1.5)}, progress=False)


def draw_windows():
    """What each method has learned and what it has kept, against the rate; shaded where both are known."""
    found = windows()
    places = found.labels("lr")
    figure, axes = canvas(9.2, 4.0, 2, 1, sharex=True)
    ends, said = {}, []
    for ax, method in zip(axes, METHODS, strict=True):
        means = {}
        for task, color, style, marker in (("near", COLORS[0], "-", "o"), ("reverse", COLORS[1], "--", "s")):
            values = found.values(task, method=method)
            means[task] = values.mean(-1)
            ax.plot(places, means[task], color=color, linestyle=style)
            ax.plot(places, values, marker, color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.5)
        both = [lr for lr, a, b in zip(places, means["near"], means["reverse"], strict=True) if min(a, b) >= RIGHT]
        if both:
            ax.axvspan(both[0], both[-1], color=COLORS[2], alpha=0.16, linewidth=0)
        ends[method] = both
        ax.set(title=method, ylabel="letters right", ylim=(-0.04, 1.08), yticks=(0, 0.5, 1))
        ax.set_yticklabels(("0%", "50%", "100%"))
        known = f"from {both[0]:g} to {both[-1]:g}" if both else "at no rate"
        said.append(f"{method}: near and reverse are both at least {RIGHT:.0%} right {known}")
    axes[0].text(places[1], 0.13, "near, new ", color=COLORS[0], ha="right", va="bottom", fontsize=10)
    axes[0].text(places[-1], 0.33, "reverse, old", color=COLORS[1], ha="right", fontsize=10)
    axes[1].set(xscale="log", xlabel="learning rate of AdamW, twenty steps")
    axes[1].set_xticks(TICKS, [f"{lr:g}" for lr in TICKS])
    axes[1].minorticks_off()
    (full, lora), apart = ends.values(), "do not meet"
    if full and lora and full[-1] >= lora[0]:
        apart = "overlap"
    figure.suptitle(f"The rates at which both tasks are right (shaded) {apart}", x=0.01, ha="left", fontsize=12)
    return Picture(
        figure, f"Two panels, shares of right letters against the learning rate, three seeds. {'. '.join(said)}."
    )


# ---- sections 1 and 2: one step, by hand and measured


def token():
    """x (1, 4), dy (1, 2), A (4, 2), s, lr: one token, what comes back to it, and a LoRA of rank 2 with α = 4."""
    A = np.array([[0.25, 0.25], [0.5, -0.25], [-0.25, 0.25], [0.25, 0.5]])
    return np.array([[2.0, -1.0, 3.0, -2.0]]), np.array([[3.0, -1.0]]), A, 2.0, 0.1


def blanks(**given):
    """Compare full and lora, how far the first step of Adam moves each number of y, with the step itself."""
    x, dy, A, s, lr = token()
    h = x @ A
    moved = {
        "full": np.abs(x @ (lr * np.sign(x.T @ dy)))[0, 0],
        "lora": np.abs(s * h @ (lr * np.sign(s * h.T @ dy)))[0, 0],
    }
    mistakes = {
        "full": {
            "full: no two pushes cancel, since each weight has the sign that helps: what is summed?": lr * abs(x.sum()),
            "full lacks the rate: how far does one weight move?": np.abs(x).sum(),
            "full: Adam's first step has the same size for every weight, whatever its gradient": lr * (x**2).sum(),
        },
        "lora": {
            "lora lacks the scale: what stands before (x A) B?": lr * np.abs(h).sum(),
            "lora: no two pushes cancel, each row of B has the sign that helps: what is summed?": lr * s * abs(h.sum()),
            "lora has the scale twice: Adam forgets the one that is in the gradient": lr * s**2 * np.abs(h).sum(),
            "lora: B does not see x. What does it see?": lr * s * np.abs(x).sum(),
        },
    }  # fmt: skip
    answers(moved, mistakes, **given)


def inputs(tokens=200):
    """What reaches the first q_proj of the base for so many tokens, (tokens, 64)."""
    base = load_base("symbols")
    ids = symbols_batch("near", np.random.default_rng(1), 20)[0]
    x, _ = base.wte(ids)
    p, _ = base.wpe(np.arange(ids.shape[1]))
    x, _ = base.h[0].ln_1(x + p)
    return x.reshape(-1, x.shape[-1])[:tokens]


def scaled(rule, r):
    """A LoRA of rank r with α = 8 and the scale "α/r", "α/√r" or "α"."""
    return LoRA(r=r, alpha=8 * r if rule == "α" else 8, targets=ALL, rslora=rule == "α/√r")


def one_step(r, rule, optimizer, seed):
    """By how much one step lowers the loss on its own batch, B = 0 before it.  rule: "α/r", "α/√r" or "α"."""
    model = get_peft_model(load_base("symbols"), scaled(rule, r), seed)
    ids, targets, mask = symbols_batch("near", np.random.default_rng(1), 16)
    logits, back = model(ids)
    before, back_loss = cross_entropy(logits, targets, mask)
    back(back_loss())
    optimizer(model, lr=2e-4).step()
    return before - cross_entropy(model(ids)[0], targets, mask)[0]


RANKS, RULES, OPTIMIZERS = (1, 4, 16, 64), ("α/r", "α/√r"), {"SGD": SGD, "AdamW": AdamW}


@cache
def first_steps():
    """The Sweep of one_step over optimizers, rules and ranks, three seeds."""
    return sweep(one_step, {"optimizer": OPTIMIZERS, "rule": RULES, "r": RANKS}, progress=False)


def plot_first_steps():
    """How the gain of one step changes with the rank, beside that at r = 1, for each optimizer and rule."""
    found = first_steps()
    figure, axes = canvas(9.2, 3.0, 1, 2, sharey=True)
    said = []
    for ax, name in zip(axes, OPTIMIZERS, strict=True):
        for i, rule in enumerate(RULES):
            values = found.values(optimizer=name, rule=rule)
            values = values / values[0]
            ax.plot(RANKS, values.mean(-1), color=COLORS[i], linestyle=STYLES[i])
            ax.plot(RANKS, values, "os"[i], color=COLORS[i], markersize=5, markeredgecolor="white")
            end = values[-1].mean()
            ax.text(RANKS[-1] * 1.15, end, rule, color=COLORS[i], va="center")
            said.append(f"{name} with {rule}: {end:.2g} times at r = {RANKS[-1]}")
        ax.axhline(1, color=LINE, linewidth=0.8, linestyle=":")
        ax.set(title=name, xlabel="rank r", xscale="log", yscale="log", xlim=(0.9, 130))
        ax.set_xticks(RANKS, [str(r) for r in RANKS])
        ax.minorticks_off()
    axes[0].set_ylabel("fall of the loss in one step,\ndivided by that of r = 1")
    axes[0].set_yticks((0.01, 0.1, 1, 10), ("0.01", "0.1", "1", "10"))
    return Picture(figure, f"How much one step lowers the loss, beside r = 1: {'; '.join(said)}.")


# ---- section 3: the first rate, against what the estimate says

ALPHAS = (2, 8, 32)


class Matrices(Method):
    """Full fine-tuning of what LoRA stands beside: the matrices of the blocks.  Tables, norms and biases stay frozen."""

    def inject(self, model, rng):
        thaw(model, ALL, "weight")


@cache
def measured_rates():
    """{what: the rate at which, on the mean of three seeds, RIGHT of near is reached}: all, the matrices, LoRA at each α."""
    methods = {"full": FullFineTuning(), "matrices": Matrices()} | {a: LoRA(r=4, alpha=a, targets=ALL) for a in ALPHAS}
    spans = {"full": (2.5e-4, 4.9e-4), "matrices": (2.5e-4, 6.1e-4), 2: (2.9e-3, 8.8e-3), 8: (1.4e-3, 4.3e-3),
             32: (6e-4, 1.83e-3)}  # fmt: skip
    found = {}
    for name, method in methods.items():
        grid = rates(*spans[name], 1.25)
        means = sweep(partial(trial, method), {"lr": grid}, progress=False).mean("near")
        found[name] = crossing(grid, means, RIGHT)
    return found


def travelled(lr, steps=20):
    """How far a number has moved after so many steps of AdamW, if its gradient never changes sign: the sum of the rates."""
    return round(lr * sum(warmup_cosine(step, steps) for step in range(steps)), 10)


def first_rates():
    """A Table: the first rate of LoRA, how many times that of full fine-tuning it is, and what the two estimates say.

    Both estimates are of the rate beside that of full fine-tuning of the matrices alone:

    first step only     d / (α / √3)
    with A moving       d u' = α u (1/√3 + d u), solved for u; u' and u are what a number has travelled
    """
    found = measured_rates()
    full, matrices = found["full"], found["matrices"]
    d, far = 64, travelled(matrices)
    rows = [("full fine-tuning", full, 1, None, None, None),
            ("full, matrices only", matrices, matrices / full, 1, None, None)]  # fmt: skip
    for alpha in ALPHAS:
        a, b, c = alpha * d, alpha / 3**0.5, -d * far
        u = (-b + (b * b - 4 * a * c) ** 0.5) / (2 * a)
        rate = found[alpha]
        rows.append((f"LoRA, α = {alpha}", rate, rate / full, rate / matrices, d * 3**0.5 / alpha, u / far))
    columns = ["", "first rate", "times full", "times full,\nmatrices only", "estimate of that:\nfirst step only",
               "estimate of that:\nwith A moving"]  # fmt: skip
    return Table(columns, rows, formats={"first rate": ".2g"} | dict.fromkeys(columns[2:], ".1f"))


# ---- section 4: the rank, after twenty steps


def rank_trial(rule, r, seed, lr=2.6e-3):
    """The shares of letters right, of near and of reverse, after twenty steps at one rate; rule as in one_step."""
    found = trial(scaled(rule, r), lr, seed)
    return {task: found[task] for task in ("near", "reverse")}


# ---- section 6: the same data in other batches

BATCHES = {"60 steps of 2": (60, 2), "20 steps of 6": (20, 6), "5 steps of 24": (5, 24)}


def batch_trial(steps_and_n, lr, seed):
    return trial(METHODS["LoRA, r = 4, α = 8"], lr, seed, *steps_and_n)


@cache
def batches():
    """The Sweep of BATCHES, 120 sequences each, over seven rates and two seeds."""
    grid = {"steps_and_n": BATCHES, "lr": rates(4e-4, 1.5e-2, 1.83)}
    return sweep(batch_trial, grid, seeds=(0, 1), progress=False)


def draw_batches():
    """What near has learned against the rate, a curve for each of BATCHES, every seed a dot."""
    found = batches()
    places, halves = found.labels("lr"), {}
    figure, axes = canvas(7.6, 3.2)
    for i, name in enumerate(BATCHES):
        values = found.values("near", steps_and_n=name)
        axes.plot(places, values.mean(-1), color=COLORS[i], linestyle=STYLES[i])
        axes.plot(places, values, MARKERS[i], color=COLORS[i], markersize=5, markeredgecolor="white")
        halves[name] = crossing(places, values.mean(-1), 0.5)
        axes.annotate(name, (halves[name], 0.5), (7, -4), textcoords="offset points", color=COLORS[i])
    axes.set(xscale="log", xlabel="learning rate of AdamW", ylabel="letters right", yticks=(0, 0.5, 1))
    axes.set_yticklabels(("0%", "50%", "100%"))
    axes.set_xticks(TICKS[1:], [f"{lr:g}" for lr in TICKS[1:]])
    axes.set_xlim(right=places[-1] * 1.7)
    axes.minorticks_off()
    fewer = sorted(BATCHES, key=lambda name: -BATCHES[name][0])
    larger = all(halves[a] < halves[b] for a, b in pairwise(fewer))
    axes.set_title("Fewer steps want a larger rate" if larger else "The rate does not follow the steps", loc="left")
    said = ", ".join(f"{name} at {half:.1g}" for name, half in halves.items())
    return Picture(figure, f"Share of new letters right against the learning rate. Half is right: {said}.")


def first_of_batches():
    """A Table: the first rate for each way to cut the data into batches, times the steps, and how far a number goes."""
    found, rows = batches(), []
    for name, (steps, _) in BATCHES.items():
        part = found.where(steps_and_n=name)
        rate = crossing(part.labels("lr"), part.mean("near"), RIGHT)
        rows.append((name, rate, rate * steps, travelled(rate, steps)))
    columns = ["120 sequences as", "first rate", "times steps", "distance u"]
    return Table(columns, rows, formats={"first rate": ".2g", "times steps": ".3f", "distance u": ".3f"})


# ---- section 7: decay


def shrunk(model, share):
    """The model with all that is trained multiplied by a share, which is what weight decay does when nothing else pulls."""
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data *= share
    return model


def decay_table(shares=(1, 0.7, 0.5, 0.3, 0.1)):
    """What LoRA and full fine-tuning write, after what they train was shrunk to a share of itself."""
    rows = []
    for name, lr in (("LoRA, r = 4, α = 8", 4e-3), ("full fine-tuning", 6e-4)):
        for share in shares:
            model = shrunk(train(METHODS[name], lr), share)
            right = (evaluate(model, unseen(task)).accuracy for task in ("near", "copy", "reverse"))
            rows.append((name, f"{share:.0%}", *right))
    columns = ["", "left of it", "near", "copy", "reverse"]
    return Table(columns, rows, formats=dict.fromkeys(columns[2:], ".0%"))


def apart(first, second):
    """The largest difference of the logits of two models on the unseen sequences of near, and the largest logit."""
    ids = unseen("near")[0][0]
    a, b = first(ids)[0], second(ids)[0]
    return float(np.abs(a - b).max()), float(np.abs(a).max())
