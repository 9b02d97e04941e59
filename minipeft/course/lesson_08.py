"""What lesson 08 calls and does not show: trials over α and the rate, one step measured, a text, and a layer with a bug."""

import numpy as np

from ..lab.changes import deltas
from ..lab.charts import shade
from ..lab.picture import COLORS, LINE, MARKERS, STYLES, Picture, canvas
from ..lab.sweeps import sweep
from ..lab.table import Table, below  # noqa: F401 (the lesson calls below)
from ..methods import LoRA, get_peft_model
from ..methods.lora import LoRALinear
from ..methods.wrapper import wrappers_of
from ..model import Linear
from ..model.loss import cross_entropy
from ..training import SGD, AdamW, Diverged, evaluate, fit, load_base, symbols_batch, symbols_batches
from ..training.data import new_sequences
from ..training.optimizers import warmup_cosine
from . import ALL
from .check import answers
from .climate import batches, first_tokens

DASHES = (0, (6, 3)), (0, (1.2, 1.6))  # the two lines of the map


# ---- symbols


def train_near(alpha, lr, seed=0, weight_decay=0.0, steps=20):
    """LoRA of rank 4 on all matrices of `symbols`, 20 steps of 8 sequences of `near` with AdamW."""
    model = get_peft_model(load_base("symbols"), LoRA(r=4, alpha=alpha, targets=ALL), seed)
    optimizer = AdamW(model, lr=lr, weight_decay=weight_decay)
    fit(model, symbols_batches("near", 8), steps, optimizer, seed=seed, progress=False)
    return model


def trial(alpha, lr, seed):
    """The right symbols of the new task and of an old one.

    Raises: Diverged where the model can do neither (the new one at a loss above 2, the old one below one half): wrecked
    """
    model = train_near(alpha, lr, seed)
    new, old = evaluate(model, new_sequences("near", 64)), evaluate(model, new_sequences("reverse", 64))
    if new.loss > 2 and old.accuracy < 0.5:
        raise Diverged(f"at α = {alpha} and a rate of {lr:g} the model has neither task")
    return {"new": new.accuracy, "old": old.accuracy}


def too_small_too_large(alphas=(1, 4, 16, 64, 256), lr=3e-3):
    """What α alone does, at one learning rate: the new task and an old one, three seeds each."""
    found = sweep(trial, {"alpha": alphas, "lr": [lr]})
    figure, axes = canvas(8.6, 3.0)
    said, ends = [], {}
    for i, (name, label) in enumerate((("new", "the new task, near"), ("old", "an old skill, reverse"))):
        values = found.values(name)
        axes.plot(alphas, values.mean(1), color=COLORS[i], linestyle=STYLES[i])
        axes.plot(alphas, values, MARKERS[i], color=COLORS[i], markersize=5, markeredgecolor="white", clip_on=False)
        at = 1 if name == "new" else len(alphas) - 2
        axes.annotate(label, (alphas[at], values.mean(1)[at]), (8, -12 if i == 0 else 6), color=COLORS[i],
                      textcoords="offset points")  # fmt: skip
        ends[name] = values.mean(1)
        said.append(
            f"{label}: " + ", ".join(f"{v:.0%} at α = {a}" for a, v in zip(alphas, values.mean(1), strict=True))
        )
    axes.set(
        xscale="log", xlabel="α   (rank 4, so s = α / 4)", ylabel="right symbols", ylim=(-0.03, 1.05), xlim=(0.85, 330)
    )
    axes.set_xticks(alphas, [str(a) for a in alphas])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: format(value, ".0%"))
    both = [a for a, n, o in zip(alphas, ends["new"], ends["old"], strict=True) if n > 0.95 and o > 0.9]
    title = f"Twenty steps at the rate {lr:g}: of these α, only {' and '.join(map(str, both))} has both skills"
    axes.set_title(title)
    return Picture(figure, f"{title}. Right symbols against α. {'; '.join(said)}.")


def valley(found, product=(0.03, 1.0)):
    """Two heat maps of α against the rate: the new task, and an old one; hatched where a run was wrecked.

    Lines: α times the rate equal to either end of `product`, dashed and dotted.  found: a Sweep of `trial`
    """
    alphas, rates = found.labels("alpha"), found.labels("lr")
    figure, both = canvas(8.4, 3.5, 1, 2, sharey=True)
    said, lines, across = [], [], np.array([-0.5, len(rates) - 0.5])
    row_up, column_on = (np.log(one[-1] / one[0]) / (len(one) - 1) for one in (alphas, rates))

    def height(level, j):
        """Of the line of one product at column j, in rows."""
        return (np.log(level / rates[0] / alphas[0]) - column_on * j) / row_up

    def aside(i, j, wide):
        """Where the text of a cell stands: away from a line that would run through it."""
        near = min((height(level, j) - i for level in product), key=abs)
        side = 0 if abs(near) > 0.48 else 1 if near < 0.02 else -1
        return side * (0.1 if wide else 0.2), side * 0.22

    for axes, name, title in zip(both, ("new", "old"), ("near, the new task", "reverse, an old skill"), strict=True):
        for i, alpha in enumerate(alphas):
            row = []
            for j, lr in enumerate(rates):
                values = found.values(name, alpha=alpha, lr=lr)
                wrecked = np.isnan(values).any()
                face, ink = ("white", LINE) if wrecked else shade(values.mean())
                axes.fill_between((j - 0.5, j + 0.5), i - 0.5, i + 0.5, facecolor=face, edgecolor="#bbbbbb",
                                  hatch="////" if wrecked else None, linewidth=0.5)  # fmt: skip
                text = "wrecked" if wrecked else f"{values.mean():.0%}"
                back = {"facecolor": face, "edgecolor": "none", "pad": 1} if wrecked else None
                beside, above = aside(i, j, wrecked)
                axes.text(j + beside, i + above, text, ha="center", va="center", color=ink, fontsize=9, bbox=back)
                row.append(f"{text} at {lr:g}")
            said.append(f"{name}, α = {alpha}: {', '.join(row)}")
        for level, style in zip(product, DASHES, strict=True):
            line = {"color": COLORS[1], "linestyle": style, "linewidth": 1.8, "label": f"α · rate = {level:g}"}
            axes.plot(across, height(level, across), color="white", linewidth=4, zorder=3.1)  # seen on dark cells, too
            lines += axes.plot(across, height(level, across), zorder=3.2, **line)
        axes.set(xlim=across, ylim=(-0.5, len(alphas) - 0.5), xlabel="learning rate")
        axes.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
        axes.set_yticks(range(len(alphas)), alphas)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set_title(title)
    both[0].set_ylabel("α  (r = 4)")
    figure.legend(
        handles=lines[: len(product)], loc="outside lower center", ncols=2, handlelength=3.2, labelcolor=COLORS[1]
    )
    return Picture(figure, "Two heat maps, learning rate across and α upwards, right symbols, mean of seeds; a dashed line "
                   f"at α times rate = {product[0]:g}, a dotted one at {product[1]:g}. {'; '.join(said)}.")  # fmt: skip


def down_the_diagonal(found):
    """A Table of a Sweep of `trial`: from the largest α at the smallest rate down to the smallest at the largest."""
    rows = []
    for alpha, lr in zip(reversed(found.labels("alpha")), found.labels("lr"), strict=True):
        each = [" ".join(f"{100 * v:.0f}" for v in found.values(name, alpha=alpha, lr=lr)) for name in ("new", "old")]
        rows.append((alpha, lr, f"{alpha * lr:.3f}", *each))
    return Table(["α", "rate", "product", "near, % right, each seed", "reverse"], rows, formats={"rate": "g"})


# ---- one step


def example():
    """x (3, 4), A (4, 2), dy (3, 5), and s = 3: whole numbers, no two sizes alike."""
    x = np.array([[1.0, 0, 2, -1], [0, 1, 1, 1], [2, -1, 0, 1]])
    A = np.array([[1.0, 0], [1, -1], [0, 2], [-1, 1]])
    dy = np.array([[1.0, -2, 0, 1, 3], [0, 1, -1, 2, 1], [2, 0, 1, -1, 1]])
    return x, A, dy, 3.0


def check(**given):
    """Say of dB, sgd and adam of `example` whether they are right, and name the slip."""
    x, A, dy, s = example()
    G = x.T @ dy
    wanted = {"dB": s * A.T @ G, "sgd": -0.1 * s**2 * A @ A.T @ G, "adam": -0.1 * s * A @ np.sign(A.T @ G)}
    once = "s enters twice: in the gradient of B, and again in ΔW = s A B"
    mistakes = {
        "dB": {"where does the scale s enter? B's numbers are multiplied by s h": A.T @ G},
        "sgd": {once: -0.1 * s * A @ A.T @ G,
                "the learning rate is missing": -s**2 * A @ A.T @ G,
                "s is missing altogether": -0.1 * A @ A.T @ G},
        "adam": {"Adam's step has forgotten the s of the gradient; the s of ΔW = s A B is still there":
                 -0.1 * A @ np.sign(A.T @ G),
                 "one s too many: sign(s A.T @ G) is sign(A.T @ G)": -0.1 * s**2 * A @ np.sign(A.T @ G),
                 "this is the step of plain descent: Adam takes the sign of each gradient": -0.1 * s**2 * A @ A.T @ G},
    }  # fmt: skip
    answers(wanted, mistakes, **given)


def first_step(alpha, optimizer, seed, lr=1e-3, r=4):
    """‖ΔW‖ over all matrices of `symbols` after one step on a batch of near, and the mean rank of the B's.

    Without weight decay or clipping.
    """
    model = get_peft_model(load_base("symbols"), LoRA(r=r, alpha=alpha, targets=ALL), seed)
    ids, targets, mask = symbols_batch("near", np.random.default_rng(seed), 8)
    logits, back_model = model(ids)
    _, back_loss = cross_entropy(logits, targets, mask)
    back_model(back_loss())
    optimizer(model, lr=lr).step()
    size = np.sqrt(sum((delta**2).sum() for delta in deltas(model).values()))
    ranks = [np.linalg.matrix_rank(layer.B.data) for _, layer in wrappers_of(model)]
    return {"size": size, "rank of B": np.mean(ranks)}


OPTIMIZERS = {"SGD": SGD, "AdamW": AdamW}


def along_the_valley(pairs, seeds=(0, 1, 2), steps=20):
    """A Table: pairs (α, rate) of nearly one product; how far A moved, and what was learned and kept.

    estimated: what a number moves whose gradient keeps its sign, the sum of the rates of all steps (11 times their peak
    in 20 steps), against A's start, 1/√(3 · 64)
    """
    points = [{"alpha": alpha, "lr": lr} for alpha, lr in pairs]
    found, rows = sweep(walk, points, seeds), []
    for point in points:
        new, old = (" ".join(f"{v:.0%}".rstrip("%") for v in found.values(name, **point)) for name in ("new", "old"))
        alpha, lr = point.values()
        far = lr * sum(warmup_cosine(step, steps) for step in range(steps)) * np.sqrt(3 * 64)
        rows.append((alpha, lr, f"{alpha * lr:g}", f"{far:.0%}", f"{found.mean('A moved', **point):.0%}", new, old))
    columns = ["α", "rate", "product", "A, estimated", "A moved", "near, % right, each seed", "reverse"]
    return Table(columns, rows, formats={"rate": "g"})


def walk(alpha, lr, seed):
    """How far A moved in training, against its length, and what is right."""
    model = train_near(alpha, lr, seed)
    start = get_peft_model(load_base("symbols"), LoRA(r=4, alpha=alpha, targets=ALL), seed)
    moved, whole = 0.0, 0.0
    for (_, now), (_, before) in zip(wrappers_of(model), wrappers_of(start), strict=True):
        moved += ((now.A.data - before.A.data) ** 2).sum()
        whole += (before.A.data**2).sum()
    new, old = evaluate(model, new_sequences("near", 64)), evaluate(model, new_sequences("reverse", 64))
    return {"A moved": (moved / whole) ** 0.5, "new": new.accuracy, "old": old.accuracy}


# ---- text


def climate(alpha, seed=0, steps=30, lr=3e-3):
    """LoRA of rank 8 on q and v of `english`, 30 steps of 4 stretches of 64 tokens of the sentences on climate."""
    model = get_peft_model(load_base("english"), LoRA(r=8, alpha=alpha), seed)
    fit(model, batches(), steps, AdamW(model, lr=lr), seed=seed, progress=False)
    return model


def losses(model):
    """{"new": loss, "old": loss} on held-out sentences on the climate and on conversations, nats a token."""
    return {name: evaluate(model, windows).loss for name, windows in first_tokens().items()}


def both_losses(found):
    """A Table of a Sweep of `steer`: the two losses at each α, the mean and every seed."""
    rows = [("before", *(f"{loss:.3f}" for loss in losses(load_base("english")).values()))]
    rows += [(alpha, *(found.cell({"alpha": alpha}, name, ".3f", True) for name in ("new", "old")))
             for alpha in found.labels("alpha")]  # fmt: skip
    return Table(["α", "new text", "old text"], rows, "loss, nats a token: mean of the seeds, and each")


def steer(alpha, seed):
    """The two losses after training on the climate."""
    return losses(climate(alpha, seed))


def set_strength(model, share):
    """Multiply the scale s of every LoRA of a model: 1 is as trained, 0 the base.  Returns the scales as they were."""
    before = {path: layer.scaling for path, layer in wrappers_of(model) if isinstance(layer, LoRALinear)}
    for path, s in before.items():
        model.get_submodule(path).scaling = share * s
    return before


def strengths(model, shares):
    """A Table of the two losses at several strengths; the model is as trained afterwards."""
    rows = []
    for share in shares:
        before = set_strength(model, share)
        try:
            found = losses(model)
        finally:
            for path, s in before.items():
                model.get_submodule(path).scaling = s
        rows.append((share, found["new"], found["old"]))
    return Table(["strength", "new text", "old text"], rows, "loss, nats a token",
                 formats={"strength": "g", "new text": ".3f", "old text": ".3f"})  # fmt: skip


# ---- decay


def decayed(alpha, lr, weight_decay, seed):
    """‖ΔW‖ after training `near` with weight decay, against the same training without."""
    sizes = []
    for decay in (weight_decay, 0.0):
        model = train_near(alpha, lr, seed, decay)
        sizes.append(np.sqrt(sum((delta**2).sum() for delta in deltas(model).values())))
    return sizes[0] / sizes[1]


# ---- break it


class Careless(LoRALinear):
    """LoRA whose path is right, and whose delta, which `merge` adds to W, has lost the scale."""

    def delta(self):
        return self.A.data @ self.B.data


def merged_apart(layer, r, alpha):
    """The largest difference between a layer's output before merging and after, at B off zero."""
    rng = np.random.default_rng(0)
    one = layer(Linear(6, 5, rng).requires_grad_(False), r=r, alpha=alpha, dropout=0.0, rng=rng)
    one.B.data[...] = rng.standard_normal((r, 5))
    x = rng.standard_normal((4, 6))
    return np.abs(one(x)[0] - one.fold()(x)[0]).max()
