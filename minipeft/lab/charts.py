"""Pictures of numbers: lines with every seed, curves, heat maps.  Lines carry their names, and grey is enough."""

import numpy as np
from matplotlib.patheffects import Normal, Stroke

from .picture import COLORS, FAINT, LINE, MARKERS, STYLES, Picture, canvas


def number(value, form=".3g"):
    return "wrecked" if np.isnan(value) else format(value, form)


def plot_lines(
    series, *, xlabel="", ylabel="", title=None, format=".3g", ylim=None, logx=None, logy=False,
    level=None, size=(7.2, 3.4),
):  # fmt: skip
    """A line for each entry of series, {label: (places, values)}, through the means; every value is a dot.

    places      numbers, or names, which then stand side by side
    values      for each place the numbers of its seeds, (places, seeds); NaN is left out of the mean and of the picture
    level       {text: y}: a thin line across, such as {"guessing": 1/16}
    logx        a logarithmic axis; by default, where the places are positive and grow by a factor

    Returns a Picture; its words give every mean.
    """
    places = list(dict.fromkeys(place for xs, _ in series.values() for place in xs))
    numeric = all(isinstance(place, (int, float)) and not isinstance(place, bool) for place in places)
    places = sorted(places) if numeric else places
    where = dict(zip(places, places if numeric else range(len(places)), strict=True))
    logx = numeric and grows_by_a_factor(places) if logx is None else logx
    figure, axes = canvas(*size)
    ends, said, colors = [], [], colors_for(len(series))
    for i, (label, (xs, values)) in enumerate(series.items()):
        look, lost = {"color": colors[i]}, []
        aside = 0 if numeric else 0.7 * ((i + 0.5) / len(series) - 0.5)  # names: the series stand side by side
        at, values = [where[place] + aside for place in xs], [np.asarray(one, float).ravel() for one in values]
        means = np.array([one[np.isfinite(one)].mean() if np.isfinite(one).any() else np.nan for one in values])
        axes.plot(at, means, linestyle=STYLES[i % len(STYLES)] if numeric else "none", **look)
        for place, one in zip(at, values, strict=True):
            marks = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5, "clip_on": False, "zorder": 3}
            axes.plot([place] * len(one), one, MARKERS[i % len(MARKERS)], **look, **marks)
            lost.append(int(np.isnan(one).sum()))
        whole = [(place, mean) for place, mean in zip(at, means, strict=True) if np.isfinite(mean)]
        ends += [(label, *whole[-1], look["color"])] if whole else []
        if not numeric:
            width = 0.3 / len(series)
            axes.hlines(means, np.array(at) - width, np.array(at) + width, linewidth=2, **look)
        said.append(f"{label}: " + ", ".join(
            f"{number(m, format)} at {named(x)}" + (f" ({n} of {len(one)} wrecked)" if n and np.isfinite(m) else "")
            for x, m, n, one in zip(xs, means, lost, values, strict=True)
        ))  # fmt: skip
    if logx:
        axes.set_xscale("log")
    if logy:
        axes.set_yscale("log")
    if logx or not numeric or len(places) <= 8:
        every = -(-len(places) // 10) if numeric else 1
        axes.set_xticks(list(where.values())[::every], [named(place) for place in places][::every])
        axes.minorticks_off()
    finish(axes, xlabel, ylabel, format, ylim, level)
    many = max(len(np.ravel(one)) for _, values in series.values() for one in values)
    seeds = f", every one of {many} seeds a dot" if many > 1 else ""
    head(axes, title if title is not None else f"{ylabel} against {xlabel}{seeds}")
    if len(series) > 1 or next(iter(series)) != ylabel:
        label_ends(axes, ends)
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}{ylabel} against {xlabel}{seeds}; the means: " + "; ".join(said) + ".")


def plot_seeds(
    results, x=None, *, xlabel="step", ylabel="loss", title=None, format=".3g", ylim=None, logy=False,
    level=None, size=(7.2, 3.4),
):  # fmt: skip
    """Every seed by itself.  results: {label: (seeds, places)}, a thin line for each seed and a thick one for the mean; or
    {label: (seeds,)}, a dot for each seed and a bar at the mean, the labels side by side.

    x: the places of curves, (places,); 1, 2, 3, ..., if not given.  Seeds whose curves broke off may be shorter, or NaN.
    level: {text: y}, a thin line across.

    Returns a Picture; its words give the means (of curves, at the end) and the range of the seeds.
    """
    arrays = {label: rows_of(values) for label, values in results.items()}
    if all(array.ndim == 1 for array in arrays.values()):
        return dots(arrays, xlabel if xlabel != "step" else "", ylabel, title, format, ylim, logy, level, size)
    figure, axes = canvas(*size)
    ends, said, colors = [], [], colors_for(len(arrays))
    for i, (label, array) in enumerate(arrays.items()):
        at = np.arange(1, array.shape[1] + 1) if x is None else np.asarray(x)[: array.shape[1]]
        look = {"color": colors[i], "linestyle": STYLES[i % len(STYLES)]}
        axes.plot(at, array.T, linewidth=0.7, alpha=0.55, **look)
        mean = array.mean(0)
        axes.plot(at, mean, **look)
        known = np.flatnonzero(np.isfinite(mean))
        if known.size:
            last = known[-1]
            ends.append((label, at[last], mean[last], look["color"]))
            low, high = np.nanmin(array[:, last]), np.nanmax(array[:, last])
            said.append(f"{label}: from {number(mean[known[0]], format)} to {number(mean[last], format)}, "
                        f"seeds {number(low, format)} to {number(high, format)}")  # fmt: skip
        else:
            said.append(f"{label}: wrecked")
    if logy:
        axes.set_yscale("log")
    finish(axes, xlabel, ylabel, format, ylim, level)
    n = max(len(array) for array in arrays.values())
    seeds = f"mean of {n} seeds (thick), and each (thin)" if n > 1 else "one seed"
    head(axes, title if title is not None else f"{ylabel}: {seeds}")
    label_ends(axes, ends)
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}{ylabel} by {xlabel}, {seeds}. " + "; ".join(said) + ".")


def dots(arrays, xlabel, ylabel, title, form, ylim, logy, level, size):
    """A dot for each seed, labels side by side."""
    figure, axes = canvas(*size)
    said, names = [], []
    for i, (label, values) in enumerate(arrays.items()):
        fine = values[np.isfinite(values)]
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(
            i + spread, values, "o", color=COLORS[0], markersize=6, markeredgecolor="white", clip_on=False, zorder=3
        )
        if fine.size:
            axes.hlines(fine.mean(), i - 0.28, i + 0.28, color=LINE, linewidth=1.5)
        wrecked = len(values) - len(fine)
        said.append(f"{label}: " + (f"mean {number(fine.mean(), form)}" if fine.size else "wrecked")
                    + f" ({', '.join(number(v, form) for v in values)})")  # fmt: skip
        names.append(f"{label}\n({wrecked} wrecked)" if wrecked else str(label))
    axes.set_xticks(range(len(arrays)), names)
    axes.set_xlim(-0.6, len(arrays) - 0.4)
    axes.grid(False, axis="x")
    if logy:
        axes.set_yscale("log")
    finish(axes, xlabel, ylabel, form, ylim, level)
    n = max(len(values) for values in arrays.values())
    head(axes, title if title is not None else f"{ylabel}: a dot for each of {n} seeds, a line at the mean")
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}{ylabel}, a dot for each seed. " + "; ".join(said) + ".")


def plot_heat(
    cells, columns, rows, wrecked=None, *, xlabel="", ylabel="", label="", title=None, format=".3g", size=None
):  # fmt: skip
    """A heat map of means.  cells[row][column]: the numbers of the seeds of a cell, none for a cell that does not exist.

    The darker, the larger.  A cell is hatched if any of its runs was wrecked, and says how many: NaN, or what the function
    `wrecked` says of a run's number.  Rows go upwards.
    """
    bad = [[[bool(np.isnan(v) or (wrecked is not None and wrecked(v))) for v in cell] for cell in row] for row in cells]
    means = np.array([[np.mean(cell) if len(cell) and not any(b) else np.nan for cell, b in zip(row, flags, strict=True)]
                      for row, flags in zip(cells, bad, strict=True)])  # fmt: skip
    fine = means[np.isfinite(means)]
    low, high = (fine.min(), fine.max()) if fine.size else (0, 1)
    size = size or (2.0 + 0.85 * len(columns), 1.3 + 0.45 * len(rows))
    figure, axes = canvas(*size)
    from matplotlib.patches import Rectangle

    for (r, c), mean in np.ndenumerate(means):
        share = (mean - low) / ((high - low) or 1) if np.isfinite(mean) else 0
        n, lost = len(cells[r][c]), sum(bad[r][c])
        face, ink = shade(share) if n and not lost else ("white", LINE)
        axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, facecolor=face, edgecolor="white" if not lost else FAINT,
                                 hatch="////" if lost else None, linewidth=1))  # fmt: skip
        text = "" if not n else f"{lost} of {n}" if lost and n > 1 else "wrecked" if lost else number(mean, format)
        back = {"facecolor": "white", "edgecolor": "none", "pad": 1.2} if lost else None
        axes.text(c, r, text, ha="center", va="center", color=ink, fontsize=9.5, bbox=back)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5), xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(range(len(columns)), [named(one) for one in columns])
    axes.set_yticks(range(len(rows)), [named(one) for one in rows])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    lost = sum(any(flags) for row in bad for flags in row)
    hatched = f"; hatched: {lost} with wrecked runs" if lost else ""
    mean_of = ", mean of seeds" if has_seeds(cells) else ""
    head(axes, title if title is not None else f"{label}{mean_of}{hatched}")
    said = []
    for row, line, existing in zip(rows, means, cells, strict=True):
        there = [(column, mean) for column, mean, cell in zip(columns, line, existing, strict=True) if len(cell)]
        said.append(
            f"{ylabel} {named(row)}: " + ", ".join(f"{number(mean, format)} at {named(c)}" for c, mean in there)
        )
    words = f"{title}. " if title else ""
    return Picture(figure, f"{words}A heat map of {label}, {xlabel} across and {ylabel} upwards. {'; '.join(said)}.")


def has_seeds(cells):
    return any(len(cell) > 1 for row in cells for cell in row)


def named(label):
    return f"{label:.3g}" if isinstance(label, float) else str(label)


def colors_for(n):
    """n colours for lines: those that differ most; where there are more lines than these, dark to light in order."""
    if n <= len(COLORS):
        return COLORS
    from matplotlib import colormaps

    return [colormaps["viridis"](share) for share in np.linspace(0.0, 0.75, n)]


def shade(share):
    """(face, ink) of a cell: white to dark blue, readable on it, in grey too."""
    from matplotlib import colormaps

    face = colormaps["Blues"](0.08 + 0.84 * float(np.clip(share, 0, 1)))
    return face, "white" if np.dot(face[:3], [0.299, 0.587, 0.114]) < 0.55 else "black"


def rows_of(values):
    """An array (seeds,) or (seeds, places) of what may have rows of different length."""
    lengths = {np.size(row) for row in values if np.ndim(row)}
    if len(lengths) > 1:
        longest = max(lengths)
        values = [[*row, *[np.nan] * (longest - len(row))] for row in values]
    array = np.asarray(values, float)
    if array.ndim not in (1, 2):
        raise ValueError(f"results need (seeds,) numbers, or (seeds, places) for curves, not an array {array.shape}")
    return array


def grows_by_a_factor(places):
    """True if neighbours differ by a factor rather than by a step: 1, 2, 4, 8, or 0.01, 0.03, 0.1."""
    if len(places) < 3 or min(places) <= 0:
        return False
    ratios, steps = np.diff(np.log(places)), np.diff(places)
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def finish(axes, xlabel, ylabel, form, ylim, level):
    """Names of the axes, ticks in the format of the numbers, and the thin lines across."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    low, high = axes.dataLim.intervaly
    if form.endswith("%") and ylim is None and low >= 0 and high <= 1:
        axes.set_ylim(-0.03, 1.05)
    elif ylim:
        axes.set_ylim(*ylim)
    if form.endswith("%"):
        axes.yaxis.set_major_formatter(lambda value, _: format(value, ".0%"))
    drawn = [line.get_xydata() for line in axes.lines]
    for text, y in (level or {}).items():
        axes.axhline(y, color="#555555", linewidth=1.3, linestyle=(0, (1, 1.6)), zorder=2.5)  # no series is dotted grey
        x, side, up = farther_side(axes, drawn, y)
        name = axes.annotate(text, (x, y), (0, up), xycoords=("axes fraction", "data"), textcoords="offset points", ha=side,
                             fontsize=9, color="#555555", zorder=4)  # fmt: skip
        name.set_path_effects([Stroke(linewidth=3, foreground="white"), Normal()])  # readable on a line, too


def farther_side(axes, drawn, y):
    """(x, side, points above) for the name of a level at height y: at the end where the lines keep farther from it.

    Looked at are the points in the outer fifths.  Where both are far, left; where lines run along it at both, right and
    higher.
    """
    to_axes = axes.transScale + axes.transLimits
    height, lines = to_axes.transform((axes.get_xlim()[0], y))[1], [to_axes.transform(points) for points in drawn]
    points = np.concatenate([np.empty((0, 2)), *lines])
    sides = [points[points[:, 0] < 0.2, 1], points[points[:, 0] > 0.8, 1]]
    far = [np.nanmin(abs(side - height), initial=1) for side in sides]
    along = max(far) < 0.02
    return (0.995, "right", 7 if along else 4) if along or far[0] < min(0.15, far[1]) else (0.005, "left", 4)


def label_ends(axes, ends, apart=12.5):
    """Write each name at the right, at the height of its line's last point, moved apart just enough to be read.

    ends: (label, x, y, color) of the last points.  apart: points of print.
    """
    if not ends:
        return
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # they stay as they are: the names are placed by them
    to_axes = axes.transScale + axes.transLimits
    gap = apart / (72 * axes.figure.get_figheight() * 0.72)  # of the height of the axes, about
    last = -np.inf
    for height, (label, x, y, color) in sorted(
        ((to_axes.transform(end[1:3])[1], end) for end in ends), key=lambda e: e[0]
    ):
        last = max(height, last + gap)
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4}
        axes.annotate(str(label), (x, y), (1.025, last), "data", "axes fraction", va="center", color=color,
                      annotation_clip=False, arrowprops=line)  # fmt: skip


def head(axes, title):
    axes.set_title(title, loc="left", fontsize=11.5)
