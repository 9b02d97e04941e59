"""Where the heads of a model look, how much of that a prefix takes, and what words would write into one."""

from contextlib import contextmanager

import numpy as np

from ..methods.wrapper import Wrapper
from ..model.attention import Attention
from ..model.functional import softmax
from ..model.module import evaluating
from ..process import computing
from ..training.data import COPY, PAD, PLUS_ONE, REVERSE, SEP, SYMBOLS


class Seen(Wrapper):
    """Passes everything on, and remembers the shares p of the last pass."""

    def forward(self, q, k, v):
        core = self.base
        qh, kh = core.split(q), core.split(k)
        T, S = qh.shape[2], kh.shape[2]
        z = qh @ kh.swapaxes(-1, -2) * qh.shape[-1] ** -0.5
        self.p = softmax(np.where(np.tri(T, S, S - T, dtype=bool), z, -np.inf))
        return core(q, k, v)


class Kept(Wrapper):
    """Passes everything on, and keeps the keys and values of the last pass."""

    def forward(self, q, k, v):
        self.keys, self.values = k, v
        return self.base(q, k, v)


@contextmanager
def watching(model, kind):
    """with watching(model, Seen) as seen: ...   A wrapper of this kind around each attention's core, a list, layer by layer.

    It stands innermost, under a prefix, and is taken out afterwards, whatever happens.
    """
    cores = [(path, node) for path, node in model.walk() if isinstance(node, Attention)]
    seen = [kind(core) for _, core in cores]
    try:
        for (path, _), one in zip(cores, seen, strict=True):
            model.set_submodule(path, one)
        with computing(), evaluating(model):
            yield seen
    finally:
        for path, core in cores:
            model.set_submodule(path, core)


def attention_weights(model, ids):
    """The weights of all heads while the model reads ids: a list, an array (N, H, T, S) for each layer.

    The first S − T columns are those of virtual tokens (a prefix, a soft prompt); the queries of a soft prompt are left out.

    Shapes:   ids (N, T); p (N, H, T, S), its rows have the sum 1
    """
    ids = np.atleast_2d(ids)
    with watching(model, Seen) as seen:
        model(ids)
    return [one.p[:, :, -ids.shape[1] :] for one in seen]


def written_by(model, ids):
    """The start of a prefix that these tokens write: the keys and values that they give each attention of the model.

        get_peft_model(base, PrefixTuning(m=len(ids)), start=written_by(base, ids))

    Then the model goes on from any text as the base does from these tokens with the text behind them.

    Shapes:   ids (m,); the result {"h.0.*P_k": (m, D), "h.0.*P_v": (m, D), ...}
    Raises:   ValueError unless ids are one sequence
    """
    ids = np.atleast_2d(ids)
    if len(ids) != 1:
        raise ValueError(f"written_by takes the tokens of one text; ids has {len(ids)} rows: hand in ids[0]")
    with watching(model, Kept) as kept:
        model(ids)
    pairs = [{"k": one.keys[0], "v": one.values[0]} for one in kept]
    return {f"h.{i}.*P_{name}": array.copy() for i, pair in enumerate(pairs) for name, array in pair.items()}


LEGIBLE = 0.16  # inches: with smaller cells the words at rows and columns are hard to read in a page


def attention_map(model, ids, layer=None, head=None, words=None, queries=None, mark=None, title=None):
    """The weights of a head while the model reads one sequence, as a map: a row for each query, a column for each key.

    layer, head     one of each; where one is not given, all of them, in a grid: a row for each layer, but the heads of a
                    single layer in rows of two, where in one row their words would be too small to read
    words           what stands at the rows and columns, one for each token; for the base `symbols` it is found
    queries         a slice of the rows, such as slice(9, 17): those where the model writes
    mark            (row, column) places to frame, counted in tokens

    The columns of a prefix, or of a soft prompt, stand apart on the left.  Returns a Picture.
    Raises: ValueError for more than one sequence, and for a layer, a head or words that do not fit
    """
    from .picture import Picture, canvas

    ids = np.atleast_2d(ids)
    if len(ids) != 1:
        raise ValueError(f"attention_map shows one sequence; ids has {len(ids)}: hand in ids[:1]")
    T, words = ids.shape[1], words_of(ids[0], words)
    p = attention_weights(model, ids)
    layers, heads = picked(layer, len(p), "layer"), picked(head, p[0].shape[1], "head")
    m, shown = p[0].shape[-1] - T, range(T)[queries or slice(None)]
    across = len(heads)
    cell = cell_of(10.6, across, T + m)
    if (
        len(layers) == 1 and across > 2 and cell < LEGIBLE
    ):  # two and two, in a picture that a page shows at its full size
        across, cell = 2, cell_of(7.6, 2, T + m)
    places = [(i, h) for i in layers for h in heads]
    rows = -(-len(places) // across)
    words_below = 0.62 * label_size(cell) / 72 * max(len(word) for word in words)  # inches: they stand upright
    width, height = cell * (T + m + 1.6) + 0.25, cell * len(shown) + 0.42 + max(0.38, words_below)
    size = max(3.4, width * across + 0.5), height * rows + 0.3 + 0.3 * bool(title)
    figure, axes = canvas(*size, rows, across, squeeze=False)
    said = []
    for ax in axes.flat[len(places) :]:
        ax.remove()
    for k, (ax, (i, h)) in enumerate(zip(axes.flat, places, strict=False)):
        draw_map(ax, p[i][0, h], m, words, shown, mark or [], cell)
        ax.set_title(f"layer {i}, head {h}", loc="left", fontsize=9.5)
        if k % across:
            ax.set_yticklabels([""] * len(shown))
        framed = f", framed {np.mean([p[i][0, h, r, m + c] for r, c in mark]):.2f}" if mark else ""
        said.append(f"layer {i}, head {h}: {most_seen(p[i][0, h], m, shown)}{framed}")
    figure.supylabel("query", fontsize=9.5)
    figure.supxlabel("key" + (f" (P: the {m} virtual ones)" if m else ""), fontsize=9.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    start = f"{title}. " if title else ""
    return Picture(figure, f"{start}Attention, a row for each query, darker where it looks more, the future hatched; "
                   "mean shares. "
                   + ". ".join(said) + ".")  # fmt: skip


def draw_map(ax, w, m, words, shown, mark, cell):
    """One map: weights (T, m + T), the first m columns apart."""
    from matplotlib.patches import Polygon, Rectangle

    from .picture import FAINT

    T, gap, first, last = len(w), 0.6 if m else 0, shown[0], shown[-1]
    at = np.arange(m + T) - m - gap * (np.arange(m + T) < m)
    for t in shown:
        for s in range(m + t + 1):
            ax.add_patch(Rectangle((at[s] - 0.5, t - 0.5), 1, 1, facecolor=str(1 - 0.92 * w[t, s]), linewidth=0))
    stairs = [(x, y) for t in shown if t < T - 1 for x, y in ((t + 0.5, t - 0.5), (t + 0.5, t + 0.5))]
    future = [*stairs, *([(T - 0.5, stairs[-1][1]), (T - 0.5, first - 0.5)] if stairs else [])]
    if future:
        ax.add_patch(Polygon(future, facecolor="none", edgecolor="#d4d4d4", hatch="////", linewidth=0))
    for x, wide in ([(-m - gap, m)] if m else []) + [(0, T)]:
        ax.add_patch(
            Rectangle((x - 0.5, first - 0.5), wide, len(shown), facecolor="none", edgecolor=FAINT, linewidth=0.8)
        )
    for r, c in mark:
        ax.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, facecolor="none", edgecolor="#0072B2", linewidth=1.2))
    size = label_size(cell)
    virtual = ["P"] * m if m <= 16 else ["P", *[""] * (m - 2), "P"]
    ax.set_xticks(at, [*virtual, *words], fontsize=size)
    ax.set_yticks(shown, [words[t] for t in shown], fontsize=size)
    for text in ax.get_xticklabels():
        text.set_rotation(90 if len(text.get_text()) > 1 else 0)
    ax.tick_params(length=0, pad=1.5)
    ax.set(xlim=(-m - gap - 0.7, T - 0.3), ylim=(last + 0.7, first - 0.7), aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)


def cell_of(wide, across, tokens):
    """The side of a cell in inches, where `across` maps stand side by side in a picture of at most so many inches."""
    return min(0.28, (wide / across - 0.3) / (tokens + 1.6))


def label_size(cell):
    """Of the words at rows and columns, in points, for cells of so many inches."""
    return float(np.clip(0.85 * 72 * cell, 5, 9))


def picked(one, n, what):
    if one is None:
        return list(range(n))
    if not isinstance(one, (int, np.integer)) or not 0 <= one < n:
        raise ValueError(f"{what} must be a whole number in 0 ... {n - 1}, not {one!r}")
    return [int(one)]


def words_of(ids, words):
    """What stands at the rows and columns.  Raises: ValueError unless there is one for each token"""
    if words is None:
        return symbol_names(ids) if ids.max() <= PAD else [str(i) for i in ids]
    if len(words) != len(ids):
        raise ValueError(f"there are {len(ids)} tokens and {len(words)} words: attention_map needs one for each")
    return [str(word) for word in words]


def symbol_names(ids):
    """Tokens of the base `symbols` as they are shown: letters a ... p, the task, sep for the separator, · for padding."""
    special = {COPY: "copy", REVERSE: "rev", PLUS_ONE: "plus", SEP: "sep", PAD: "·"}
    return [chr(97 + i) if 0 <= i < SYMBOLS else special.get(i, str(i)) for i in map(int, ids)]


def most_seen(w, m, shown):
    """Where a head looks, in words: the mean shares of some keys, over the queries that are shown."""
    at = np.array(shown)
    before = at[at > 0]
    parts = {"virtual tokens": w[at, :m].sum(1)} if m else {}
    parts |= {"first token": w[at, m], "the same token": w[at, m + at], "the one before": w[before, m + before - 1]}
    return ", ".join(f"{name} {share.mean():.2f}" for name, share in parts.items() if share.size)


def prefix_share(model, ids, mask=None):
    """λ: the share of its attention that each head gives to virtual tokens, a mean over sequences and queries.

        λ = Σ_{s < m} p_ts

    mask: which queries count, (N, T), such as the third of symbols_batch: those where the model writes its answer.

    Shapes:   ids (N, T), λ (n_layer, n_head)
    Raises:   ValueError if the model has no virtual tokens
    """
    ids = np.atleast_2d(ids)
    N, T = ids.shape
    p = attention_weights(model, ids)
    m = p[0].shape[-1] - T
    if not m:
        raise ValueError("this model has no virtual tokens: put a prefix or a soft prompt into it first")
    counts = np.ones((N, T), bool) if mask is None else np.asarray(mask, bool)
    if counts.shape != (N, T) or not counts.any():
        raise ValueError(f"mask must have the shape of ids, {(N, T)}, and a True in it; not {counts.shape}")
    return np.array([[one[:, h, :, :m].sum(-1)[counts].mean() for h in range(one.shape[1])] for one in p])


def prefix_map(shares, title=None):
    """Tables of λ side by side, the darker the larger.  shares: {label: what prefix_share returned}.  Returns a Picture."""
    from matplotlib.patches import Rectangle

    from .charts import head as headline
    from .charts import shade
    from .picture import Picture, canvas

    shapes = [np.shape(one) for one in shares.values()]
    layers, heads = shapes[0]
    figure, axes = canvas(
        0.9 + len(shares) * (0.62 * heads + 0.55), 0.85 + 0.36 * layers, 1, len(shares), squeeze=False
    )
    said = []
    for ax, (label, share) in zip(axes[0], shares.items(), strict=True):
        for (layer, h), value in np.ndenumerate(share):
            face, ink = shade(value)
            ax.add_patch(Rectangle((h - 0.5, layer - 0.5), 1, 1, facecolor=face, edgecolor="white"))
            ax.text(h, layer, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9.5)
        ax.set(xlim=(-0.5, heads - 0.5), ylim=(layers - 0.5, -0.5), xlabel="head")
        ax.set_xticks(range(heads))
        ax.set_yticks(range(layers), [f"layer {i}" for i in range(layers)] if ax is axes[0][0] else [""] * layers)
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        headline(ax, label)
        rows = "; ".join(f"layer {i}: " + ", ".join(f"{v:.2f}" for v in row) for i, row in enumerate(share))
        said.append(f"{label}: {rows}")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}The share of the virtual tokens by layer and head. " + ". ".join(said) + ".")
