"""What lesson 00 draws and prepares: five methods to scale, the trade between new and old, a base in disguise.

Lesson 00 is the first page of the course; what stands here is not explained there.
"""

import numpy as np

from ..lab.ledger import count_parameters
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


def draw_to_scale(methods, base="english"):
    """A square for each method: its area is the base, the dark corner what is trained, both to scale.

    methods: {name: one of the five methods of the lesson}
    Raises: TypeError for another method
    """
    counts = {}
    for name, method in methods.items():
        if type(method) not in WHERE:
            raise TypeError(f"{name}: one of the five methods of lesson 00 is needed, not {method!r:.50}")
        counts[name] = count_parameters(get_peft_model(load_base(base), method))
    from matplotlib.patches import Rectangle

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
    return Picture(figure, f"{len(counts)} squares of equal area, each all numbers of a model. The dark corner is what "
                   f"the method trains, to scale: {listed}.")  # fmt: skip


def share(trained, total):
    return f"{trained / total:.1%}" if trained < total else "100%"


def plot_trade(base, measured):
    """Bits on the old text against bits on the new one, a mark for each model, and the base.

    base: (new, old).  measured: {name: (new, old)}.  Lower is better on both axes.
    """
    figure, axes = canvas(6.6, 3.9)
    axes.plot(*base, "o", ms=10, mfc="white", mec=LINE, mew=1.8)
    axes.annotate("the base", base, (12, -4), textcoords="offset points", color=LINE)
    order = sorted(measured, key=lambda name: -measured[name][0])  # from left to right
    for (name, (new, old)), marker in zip(measured.items(), MARKERS, strict=False):
        axes.plot([base[0], new], [base[1], old], color="#cccccc", lw=1, ls="-", zorder=0)
        axes.plot(new, old, marker, ms=9, color=TRAINED)
        after = order[order.index(name) + 1 :][:1]
        before = order[: order.index(name)][-1:]
        crowded = [measured[other] for other in after if abs(measured[other][0] - new) < 0.08]
        pushed = [measured[other] for other in before if abs(measured[other][0] - new) < 0.08]
        side = "right" if crowded else "left" if pushed else "center"
        shift = {"right": -8, "left": 8, "center": 0}[side]
        axes.annotate(name, (new, old), (shift, 9), textcoords="offset points", ha=side)
    news, olds = zip(base, *measured.values(), strict=True)
    axes.set(xlim=(max(news) + 0.06, min(news) - 0.06), ylim=(min(olds) - 0.06, max(olds) + 0.09))
    axes.set_xlabel("bits a character on the new subject (to the right: learned more)")
    axes.set_ylabel("bits on the old one\n(up: forgot more)")
    least = min(measured, key=lambda name: measured[name][1])
    axes.set_title(f"While it is switched on, each forgets, {least} least")
    said = "; ".join(f"{name} {new:.2f} and {old:.2f}" for name, (new, old) in measured.items())
    return Picture(figure, f"Bits a character on the new subject and on the old one. The base: {base[0]:.2f} and "
                   f"{base[1]:.2f}. {said}.")  # fmt: skip


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
