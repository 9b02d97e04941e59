"""What lesson 00 draws and prepares: five methods to scale, the trade between new and old, a base in disguise.

Lesson 00 is the first page of the course; what stands here is not explained there.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.patches import Rectangle

from ..lab.ledger import count_parameters, optimizer_bytes
from ..lab.picture import FROZEN, LINE, MARKERS, TRAINED, Picture, canvas
from ..lab.table import Table
from ..methods import (
    Adapter,
    FullFineTuning,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    get_peft_model,
    save_adapter,
)
from ..methods.prefix import ShiftedPositions
from ..methods.wrapper import wrap
from ..training import load_base

WHERE = {  # where a method acts, in plain words
    PromptTuning: lambda method: f"{method.m} rows\nbefore the text",
    PrefixTuning: lambda method: f"{method.m} keys and values\nin each attention",
    LoRA: lambda method: "a thin path\nbeside each matrix",
    Adapter: lambda method: "a small detour\nafter each part",
    FullFineTuning: lambda method: "every number\nof the base",
}
FIVE = {
    "prompt": PromptTuning(m=8),
    "prefix": PrefixTuning(m=8),
    "LoRA": LoRA(r=4, alpha=8, targets="h.*"),
    "adapter": Adapter(m=16),
    "full": FullFineTuning(),
}  # the methods of the lesson, in its sizes


def draw_to_scale(methods=FIVE, base="english"):
    """A square for each method: its area is the model, what was put in included, the blue part what is trained.

    methods: {name: one of the five methods of the lesson}
    Raises: TypeError for another method
    """
    counts = {}
    for name, method in methods.items():
        if type(method) not in WHERE:
            raise TypeError(f"{name}: one of the five methods of lesson 00 is needed, not {method!r:.50}")
        counts[name] = count_parameters(get_peft_model(load_base(base), method))
    figure, axes = canvas(10, 3.05)
    for i, (name, (trained, total)) in enumerate(counts.items()):
        x, side = 1.28 * i, (trained / total) ** 0.5
        axes.add_patch(Rectangle((x, 0), 1, 1, facecolor=FROZEN, edgecolor=LINE, linewidth=0.8))
        axes.add_patch(Rectangle((x, 0), side, side, facecolor=TRAINED, linewidth=0))
        axes.text(x, 1.06, name, fontsize=13, fontweight="bold")
        label = f"{trained:,}\n{share(trained, total)}"
        axes.text(x, -0.06, label, va="top", fontsize=10.5, color=TRAINED, fontweight="bold")
        axes.text(x, -0.4, WHERE[type(methods[name])](methods[name]), va="top", fontsize=10.5, color=LINE)
    axes.set(xlim=(-0.02, 1.28 * len(counts) - 0.2), ylim=(-0.72, 1.22), aspect="equal")
    axes.axis("off")
    listed = "; ".join(f"{name} {trained:,}, {share(trained, total)}" for name, (trained, total) in counts.items())
    return Picture(figure, f"{len(counts)} squares of equal area, each all numbers of a model. The blue part is what "
                   f"the method trains, to scale: {listed}.")  # fmt: skip


def share(trained, total):
    return f"{trained / total:.1%}" if trained < total else "100%"


def compare(taught, base):
    """A Table: how many numbers each method trains, how large its file is, bits on both texts, and its share of full's gain.

    taught: {name: (model, bits on the new text, bits on the old one)}, full among them.  base: (new, old) of the base.
    """
    with TemporaryDirectory() as folder:
        rows = []
        for name, (model, new, old) in taught.items():
            path = Path(folder) / f"{name}.npz"
            save_adapter(model, path)
            gain = (base[0] - new) / (base[0] - taught["full"][1])
            rows.append((name, count_parameters(model)[0], path.stat().st_size / 1000, new, old, gain))
    rows.append(("the base", 0, None, *base, 0.0))
    formats = {"file, kB": ",.0f", "new subject": ".2f", "old, switched on": ".2f", "gain": ".0%"}
    return Table(["", "trained", "file, kB", "new subject", "old, switched on", "gain"], rows, formats=formats)


def plot_trade(base, taught):
    """Bits lost on the old text against bits gained on the new one, a mark for each method; the base is at 0, 0.

    base: (new, old).  taught: {name: (model, new, old)}, in bits, lower is better.
    """
    figure, axes = canvas(6.6, 3.6)
    axes.plot(0, 0, "o", ms=10, mfc="white", mec=LINE, mew=1.8, clip_on=False, zorder=3)
    axes.annotate("the base", (0, 0), (12, 5), textcoords="offset points", color=LINE)
    points = {name: (base[0] - new, old - base[1]) for name, (_, new, old) in taught.items()}
    for (name, (gained, lost)), marker in zip(points.items(), MARKERS, strict=False):
        axes.plot(gained, lost, marker, ms=9, color=TRAINED)
        near = [other for other, (x, _) in points.items() if other != name and abs(x - gained) < 0.06]
        side = "center" if not near else "left" if gained > points[near[0]][0] else "right"
        axes.annotate(name, (gained, lost), ({"right": -8, "left": 8, "center": 0}[side], 9),
                      textcoords="offset points", ha=side)  # fmt: skip
    most = [max(values) for values in zip(*points.values(), strict=True)]
    axes.set(xlim=(0, 1.12 * most[0]), ylim=(0, 1.2 * most[1]))
    axes.set_xlabel("gained on the new subject, bits a character")
    axes.set_ylabel("lost on the old one,\nbits a character")
    least, best = min(points, key=lambda name: points[name][1]), max(points, key=lambda name: points[name][0])
    axes.set_title(f"Each forgets while it is on, {least} least; {best} learns most")
    said = "; ".join(f"{name} {gained:.2f} and {lost:.2f}" for name, (gained, lost) in points.items())
    return Picture(
        figure, f"Bits a character gained on the new subject, and lost on the old one, beside the base: {said}."
    )


def kept(models):
    """A Table of what a training keeps for the numbers that it trains: slopes, AdamW's two means, and a file; in kB."""
    rows, first = [], None
    with TemporaryDirectory() as folder:
        for name, model in models.items():
            path = Path(folder) / f"{name}.npz"
            save_adapter(model, path)
            slopes = sum(p.data.nbytes for _, p in model.named_parameters() if p.requires_grad)
            sizes = np.array([slopes, optimizer_bytes(model), path.stat().st_size]) / 1000
            first = sizes.sum() if first is None else first
            rows.append((name, *sizes, sizes.sum() / first))
    columns = ["", "slopes, kB", "AdamW, kB", "file, kB", "all three"]
    return Table(columns, rows, formats=dict.fromkeys(columns[1:4], ",.0f") | {"all three": ".1%"})


def untrained(bits, text):
    """What virtual tokens cost before any training: bits of the base and of what is put in, on a text.

    bits: a function of a model and a text
    """
    moved, zeros = load_base("english"), get_peft_model(load_base("english"), PrefixTuning(m=8))
    wrap(moved, "wpe", lambda wpe: ShiftedPositions(wpe, 8))
    for block in zeros.h:
        block.attn.core.P_k.data[...] = block.attn.core.P_v.data[...] = 0
    models = {
        "the base": load_base("english"),
        "the base, its tokens moved by 8": moved,
        "prompt: 8 rows": get_peft_model(load_base("english"), PromptTuning(m=8)),
        "prefix: 8 keys and values of zero": zeros,
        "prefix: as it starts": get_peft_model(load_base("english"), PrefixTuning(m=8)),
        "LoRA: as it starts": get_peft_model(load_base("english"), LoRA(r=4, alpha=8, targets="h.*")),
        "adapter: as it starts": get_peft_model(load_base("english"), Adapter(m=16)),
    }
    rows = [(label, bits(model, text)) for label, model in models.items()]
    return Table(["before any training", "old text"], rows, formats={"old text": ".3f"})


def in_disguise(model, seed=0):
    """The same base with its D features in another order: every number stands elsewhere, and it computes the same.

    What writes to the stream of D numbers has its columns reordered, what reads from it its rows.
    """
    order = np.random.default_rng(seed).permutation(model.config.n_embd)
    writes = ("wte.weight", "wpe.weight", "o_proj.weight", "o_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")
    reads = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "c_fc.weight")
    for path, p in model.named_parameters():
        if path.endswith(writes) or "ln_" in path:
            p.data[...] = p.data[..., order]
        elif path.endswith(reads):
            p.data[...] = p.data[order]
    return model


def forced(source: Method, trained, base):
    """The arrays that were trained in one model, put into another base without asking whether they belong there."""
    model = get_peft_model(base, source)
    arrays = dict(trained.named_parameters())
    for path, p in model.named_parameters():
        if p.requires_grad:
            p.data[...] = arrays[path].data
    return model
