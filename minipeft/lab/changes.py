"""What training did to the weights of a base: how far, in how many directions, and which arrays at all."""

from fnmatch import fnmatchcase

import numpy as np

from ..methods.method import disabled
from ..methods.records import fingerprint
from ..methods.wrapper import CannotFold, Wrapper
from ..model.layers import Linear
from ..model.module import Module, innermost, plain_path
from ..training.bases import base_names, load_base
from .spectra import energy, rank_for, singular_values
from .table import Table


def matrices(model):
    """{path: W} of every Linear as it acts now, with what stands around it folded in where that can be.

    A Linear of the base goes by its path there; those that an adapter brought are here, too.
    """
    found = {}
    for path, node in model.walk():
        if not isinstance(node, Module) or path.endswith(".base") or not isinstance(innermost(node), Linear):
            continue
        name = plain_path(path)
        if isinstance(node, Wrapper):
            try:
                found[name] = node.fold().matrix()
            except CannotFold:  # what it does is no change of this matrix
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
    """A Table of how far each matrix of the base was moved: ‖ΔW‖, and relative to ‖W‖ (Frobenius norms).

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

    paths: a glob over the matrices; of those that match, the `most` first are shown.  share: of ‖ΔW‖²; the title and
    an upright line say how many directions hold it.  Returns a Picture.

    Raises: ValueError if no matrix has changed, or none matches
    """
    from .picture import COLORS, FAINT, LINE, Picture, canvas

    found = changed_matrices(model)
    chosen = {path: delta for path, delta in found.items() if fnmatchcase(path, paths)}
    if not chosen:
        raise ValueError(f"{paths!r} matches no matrix that has changed; there is: {', '.join(found)}")
    shown = dict(list(chosen.items())[:most])
    columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = canvas(max(4.6, 3.4 * columns), 0.35 + 2.15 * rows, rows, columns, squeeze=False, sharey=True)
    rng, said = np.random.default_rng(seed), []
    for ax, (path, delta) in zip(axes.ravel(), shown.items(), strict=False):
        s = singular_values(delta)
        noise = rng.normal(size=delta.shape)
        control = singular_values(noise * (np.linalg.norm(delta) / np.linalg.norm(noise)))
        real = s[s > 1e-3 * np.sqrt(np.finfo(delta.dtype).eps) * s[0]]
        k, k_random = rank_for(s, share), rank_for(control, share)
        ax.plot(range(1, len(control) + 1), control, color=FAINT, linestyle="--", linewidth=1.8)
        ax.plot(range(1, len(real) + 1), real, color=COLORS[0], marker="o", markersize=3.5, linewidth=1.2)
        ax.axvline(k, color=LINE, linewidth=0.9, zorder=1)
        side = -1 if k > 0.8 * len(control) else 1
        ax.annotate(f"{k}", (k, 0), (4 * side, 4), ("data", "axes fraction"), "offset points", fontsize=9, color=LINE,
                    ha="left" if side > 0 else "right")  # fmt: skip
        third = len(control) // 3
        ax.annotate("random", (third + 1, control[third]), (0, 5), textcoords="offset points", fontsize=9, color=LINE)
        ax.set_yscale("log")
        ax.set_title(f"{path}: {share:.0%} in {k} (random: {k_random})", loc="left", fontsize=9.5)
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
        if array is None or array.shape != p.data.shape:
            has = "no array" if array is None else f"an array {array.shape} and not {p.data.shape}"
            raise ValueError(f"the model is not built on this base: it has {has} at {path}")
        if array.tobytes() != p.data.astype(array.dtype).tobytes():
            found.append(path)
    return found


def shipped_base(model):
    """The base that comes with the package from which this model was made.  Raises: ValueError if there is none"""
    records = getattr(model, "peft", None) or []
    for name in base_names():
        base = load_base(name, model.config.dtype)
        same = vars(base.config) == vars(model.config)
        if same and (not records or records[0].base == fingerprint(base)):
            return base
    raise ValueError(
        "no base that comes with the package is under this model: hand in base=..., a model to compare with"
    )
