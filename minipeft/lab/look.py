"""A look into a model: where its heads look, how much of that a prefix takes, and what training did to the weights."""

import numpy as np

from ..methods.method import disabled
from ..methods.records import fingerprint
from ..methods.wrapper import Wrapper
from ..model.attention import Attention
from ..model.functional import softmax
from ..model.layers import Linear
from ..model.module import Module, evaluating, innermost
from ..process import computing
from ..training.bases import base_names, load_base
from ..training.data import COPY, PAD, PLUS_ONE, REVERSE, SEP, SYMBOLS
from .spectra import energy, rank_for, singular_values
from .table import Table

# ---- attention


class Seen(Wrapper):
    """Passes everything on, and remembers the shares p of the last pass; it stands innermost, under a prefix."""

    def forward(self, q, k, v):
        core = self.base
        qh, kh = core.split(q), core.split(k)
        T, S = qh.shape[2], kh.shape[2]
        z = qh @ kh.swapaxes(-1, -2) * qh.shape[-1] ** -0.5
        self.p = softmax(np.where(np.tri(T, S, S - T, dtype=bool), z, -np.inf))
        return core(q, k, v)


def attention_weights(model, ids):
    """The weights of all heads while the model reads ids: a list, an array (N, H, T, S) for each layer.

    The first S − T columns are those of virtual tokens (a prefix, a soft prompt); the queries of a soft prompt are left out.

    Shapes:   ids (N, T); p (N, H, T, S), its rows have the sum 1
    """
    ids = np.atleast_2d(ids)
    cores = [(path, node) for path, node in model.walk() if isinstance(node, Attention)]
    seen = [Seen(core) for _, core in cores]
    try:
        for (path, _), one in zip(cores, seen, strict=True):
            model.set_submodule(path, one)
        with computing(), evaluating(model):
            model(ids)
    finally:
        for path, core in cores:
            model.set_submodule(path, core)
    return [one.p[:, :, -ids.shape[1] :] for one in seen]


def attention_map(model, ids, layer=None, head=None, words=None, mark=None, title=None):
    """The weights of a head while the model reads one sequence, as a map: a row for each query, a column for each key.

    layer, head     one of each; where one is not given, all of them, in a grid
    words           what stands at the rows and columns, one for each token; for the base `symbols` it is found
    mark            (row, column) places to frame, counted in tokens

    The columns of a prefix, or of a soft prompt, stand apart on the left.  Returns a Picture.
    Raises: ValueError for more than one sequence, and for a layer, a head or words that do not fit
    """
    from matplotlib.patches import Rectangle

    from .picture import FAINT, LINE, Picture, canvas

    ids = np.atleast_2d(ids)
    if len(ids) != 1:
        raise ValueError(f"attention_map shows one sequence; ids has {len(ids)}: hand in ids[:1]")
    T, words = ids.shape[1], words_of(ids[0], words)
    p = attention_weights(model, ids)
    layers = picked(layer, len(p), "layer")
    heads = picked(head, p[0].shape[1], "head")
    m = p[0].shape[-1] - T
    cell = 0.3 if len(heads) * len(layers) == 1 else 0.145
    width, height = 0.75 + cell * (T + m + bool(m)), 0.72 + cell * T
    figure, axes = canvas(max(3.2, width * len(heads) + 0.3), height * len(layers) + 0.45, len(layers), len(heads), squeeze=False)
    said, small = [], cell < 0.2
    for row, i in zip(axes, layers, strict=True):
        for ax, h in zip(row, heads, strict=True):
            w, gap = p[i][0, h], 0.6 if m else 0
            at = np.arange(m + T) - m - gap * (np.arange(m + T) < m)  # the prefix stands apart
            for t in range(T):
                for s in range(m + t + 1):
                    ax.add_patch(Rectangle((at[s] - 0.5, t - 0.5), 1, 1, facecolor=str(1 - 0.92 * w[t, s]), linewidth=0))
            for x, wide in ([(-m - gap, m)] if m else []) + [(0, T)]:
                ax.add_patch(Rectangle((x - 0.5, -0.5), wide, T, facecolor="none", edgecolor=FAINT, linewidth=0.8))
            for r, c in mark or []:
                ax.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, facecolor="none", edgecolor="#0072B2", linewidth=1.1))
            ax.set(xlim=(-m - gap - 0.7, T - 0.3), ylim=(T - 0.3, -0.7), aspect="equal")
            ax.set_xticks(at, [*([f"P{j}" for j in range(m)] if m <= 4 or not small else [""] * m), *words])
            ax.set_yticks(range(T), words if h == heads[0] else [""] * T)
            ax.tick_params(length=0, labelsize=6.5 if small else 9, pad=1.5)
            long = max(map(len, words)) > 1 or m
            for text in ax.get_xticklabels():
                text.set_rotation(90 if long and len(text.get_text()) > 1 else 0)
            ax.grid(False)
            ax.spines[:].set_visible(False)
            ax.set_title(f"layer {i}, head {h}", loc="left", fontsize=9 if small else 10.5)
            if m and small and m > 4:
                ax.set_xlabel(f"← {m} of the prefix", loc="left", fontsize=7, color=LINE)
            said.append(f"layer {i}, head {h}: {most_seen(w, m, words)}")
    figure.supylabel("query", fontsize=9.5)
    figure.supxlabel("key" + (f", first the {m} virtual ones" if m else ""), fontsize=9.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}Attention, a row for each query, darker where it looks more. " + ". ".join(said) + ".")


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
    """Tokens of the base `symbols` as they are shown: letters a ... p, the task, | for the separator, · for padding."""
    special = {COPY: "copy", REVERSE: "rev", PLUS_ONE: "plus", SEP: "|", PAD: "·"}
    return [chr(97 + i) if 0 <= i < SYMBOLS else special.get(i, str(i)) for i in map(int, ids)]


def most_seen(w, m, words):
    """Where a head looks, in words: the shares of the virtual tokens, of the first token, the same, and the one before."""
    T = len(w)
    parts = [("the virtual tokens", w[:, :m].sum(1).mean())] if m else []
    tokens = w[:, m:]
    parts += [("the first token", tokens[1:, 0].mean() if T > 1 else tokens[0, 0]), ("the token itself", np.diag(tokens).mean())]
    if T > 1:
        parts.append(("the token before", np.diag(tokens, -1).mean()))
    s, t = divmod(int(tokens.argmax()), T)[::-1]
    most = f"most, {tokens[t, s]:.2f}, from {words[t]} (place {t}) to {words[s]} (place {s})"
    return "mean share of " + ", ".join(f"{name} {share:.2f}" for name, share in parts) + f"; {most}"


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
    figure, axes = canvas(0.9 + len(shares) * (0.62 * heads + 0.55), 0.85 + 0.36 * layers, 1, len(shares), squeeze=False)
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


# ---- what training did to the weights


def matrices(model):
    """{path in the base: W} of every Linear as it acts now, with what stands around it folded in where that can be."""
    found = {}
    for path, node in model.walk():
        if not isinstance(node, Module) or path.endswith(".base") or not isinstance(innermost(node), Linear):
            continue
        name = path.replace(".base.", ".")
        if isinstance(node, Wrapper):
            try:
                found[name] = node.fold().matrix()
            except ValueError:  # it does not fold: what it does is no change of this matrix
                continue
        else:
            found[name] = node.matrix()
    return found


def deltas(model):
    """{path: ΔW} of every matrix of the base that its methods have changed: LoRA's s A B, or what full fine-tuning moved.

    What cannot be folded into a matrix (an adapter, a prefix) is left out.
    """
    now = {path: np.array(W) for path, W in matrices(model).items()}
    with disabled(model):
        before = {path: np.array(W) for path, W in matrices(model).items()}
    found = {path: now[path] - W for path, W in before.items() if path in now}
    return {path: delta for path, delta in found.items() if np.abs(delta).max() > rounding(before[path])}


def rounding(W):
    """Below this a difference of W's entries is nothing but rounding."""
    return 4 * np.finfo(W.dtype).eps * np.abs(W).max()


def moved(model):
    """A Table of how far each matrix of the base was moved: ‖ΔW‖, and relative to ‖W‖ (norms of Frobenius).

    Raises: ValueError if none was
    """
    found = changed_matrices(model)
    with disabled(model):
        norms = {path: float(np.linalg.norm(W)) for path, W in matrices(model).items()}
    rows = [(path, float(np.linalg.norm(d)), float(np.linalg.norm(d)) / norms[path]) for path, d in found.items()]
    return Table(["matrix", "‖ΔW‖", "‖ΔW‖ / ‖W‖"], rows, formats={"‖ΔW‖": ".3f", "‖ΔW‖ / ‖W‖": ".2%"})


def changed_matrices(model):
    found = deltas(model)
    if not found:
        raise ValueError("no matrix of the base has changed: train first, or the method does not act on one (a prefix)")
    return found


def spectrum(model, paths="*", most=6, share=0.9, seed=0, title=None):
    """The singular values of each ΔW, beside those of a random matrix of the same shape and norm.

    A random matrix spreads its norm over all directions; a ΔW of low rank does not.  Values within rounding of zero are
    not drawn.

    paths: a glob over the matrices; of those that match, the `most` first are shown.  share: of ‖ΔW‖², for the title: how
    many directions hold it.  Returns a Picture.

    Raises: ValueError if no matrix has changed, or none matches
    """
    from fnmatch import fnmatchcase

    from .charts import head as headline
    from .picture import COLORS, FAINT, LINE, Picture, canvas

    found = changed_matrices(model)
    chosen = {path: delta for path, delta in found.items() if fnmatchcase(path, paths)}
    if not chosen:
        raise ValueError(f"{paths!r} matches no matrix that has changed; there is: {', '.join(found)}")
    shown = dict(list(chosen.items())[:most])
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = canvas(max(4.6, 3.1 * columns), 0.35 + 2.15 * rows, rows, columns, squeeze=False, sharey=True)
    rng, said = np.random.default_rng(seed), []
    for ax, (path, delta) in zip(axes.ravel(), shown.items(), strict=False):
        s = singular_values(delta)
        noise = rng.normal(size=delta.shape)
        control = singular_values(noise * (np.linalg.norm(delta) / np.linalg.norm(noise)))
        real = s[s > 1e-3 * np.sqrt(np.finfo(delta.dtype).eps) * s[0]]
        k, k_random = rank_for(s, share), rank_for(control, share)
        ax.plot(range(1, len(control) + 1), control, color=FAINT, linestyle="--", linewidth=1.8)
        ax.plot(range(1, len(real) + 1), real, color=COLORS[0], marker="o", markersize=3.5, linewidth=1.2)
        ax.annotate("random", (len(control) * 0.97, control[int(0.9 * len(control))]), (0, -4), ha="right", va="top",
                    textcoords="offset points", fontsize=9, color=LINE)  # fmt: skip
        ax.set_yscale("log")
        headline(ax, path.removeprefix("h."))
        ax.title.set_fontsize(9.5)
        ax.text(0.97, 0.95, f"{share:.0%} in {k}\n(random: {k_random})", transform=ax.transAxes, ha="right", va="top", fontsize=9)
        said.append(f"{path}: {len(real)} of {len(s)} above rounding, the largest {s[0]:.3g}, {share:.0%} of the squared "
                    f"norm in {k}, {energy(s)[0]:.0%} in the first; random: {k_random}")  # fmt: skip
    for ax in axes.ravel()[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("number i")
    for row in axes:
        row[0].set_ylabel("singular value sᵢ of ΔW")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    more = f" {len(chosen) - len(shown)} more are not shown." if len(chosen) > len(shown) else ""
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}Singular values of ΔW, and of a random matrix with the same norm. " + ". ".join(said)
                   + f".{more}")  # fmt: skip


def changed(model, base=None):
    """The paths of the base's arrays that differ in any bit from what they were when the base was loaded, a list.

    What a method trains in the base itself, or folded into it, is among them.

    base: a model to compare with; the base that comes with the package, if not given.
    Raises: ValueError if this model is none of them, or the shapes differ
    """
    base = shipped_base(model) if base is None else base
    now = {plain_path(path): p.data for path, p in model.named_parameters()}
    found = []
    for path, p in base.named_parameters():
        array = now.get(path)
        if array is None:
            raise ValueError(f"the model has no array {path}: it is not built on this base")
        if array.shape != p.data.shape or array.tobytes() != p.data.astype(array.dtype).tobytes():
            found.append(path)
    return found


def plain_path(path):
    """A path as it is in the bare base."""
    return ".".join(part for part in path.split(".") if part != "base")


def shipped_base(model):
    """The base that comes with the package from which this model was made.  Raises: ValueError if there is none"""
    records = getattr(model, "peft", None) or []
    for name in base_names():
        base = load_base(name, model.config.dtype)
        same = vars(base.config) == vars(model.config)
        if same and (not records or records[0].base == fingerprint(base)):
            return base
    raise ValueError("no base that comes with the package is under this model: hand in base=..., a model to compare with")
