"""The figure of `minipeft tour`: what each method learns, and with how many numbers.  It brings matplotlib with it."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing
from ..lab.charts import label_ends
from ..lab.picture import COLORS, MARKERS, STYLE, STYLES

FIGURE = b"minipeft tour"  # stands in each figure of the tour, so that another picture is never written over


def tour_figure(rows, before, path):
    """Learning curves beside quality against parameters, written to `path`.

    rows: dicts with label, val_step, bits (held-out bits a character at val_step), trained (number of parameters) and
    share (of all).
    before: held-out bits a character of the base.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), dpi=130)
        FigureCanvasAgg(figure)
        curves, quality = figure.subplots(1, 2, width_ratios=[1.15, 1])
        ends = []
        for i, row in enumerate(rows):
            look = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
            curves.plot(row["val_step"], row["bits"], linestyle=STYLES[i % len(STYLES)], label=row["label"], **look)
            quality.plot(row["trained"], row["bits"][-1], linestyle="none", **{**look, "markersize": 8})
            ends.append((row["label"], row["val_step"][-1], row["bits"][-1], look["color"]))
            name_point(quality, row["label"], row["trained"], row["bits"][-1], rows)
        better = sum(row["bits"][-1] < before for row in rows)
        curves.set(title=f"{better} of {len(rows)} methods learn the new text", xlabel="training steps")
        curves.set(ylabel="held-out climate text, bits a character")
        curves.margins(x=0.02)
        label_ends(curves, ends)
        quality.axhline(before, color="0.4", linewidth=1)
        quality.annotate("before training", (0.98, before), (0, 4), xycoords=("axes fraction", "data"), color="0.3",
                         textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
        best = min(row["bits"][-1] for row in rows)
        first, share = rows[0], (before - rows[0]["bits"][-1]) / (before - best)
        title = f"{first['label']}: {first['share']:.1%} of the numbers, {share:.0%} of the gain"
        quality.set(title=title, xscale="log", xlabel="trained parameters")
        quality.set(ylabel="held-out bits a character after training")
        quality.set_ylim(best - 0.12 * (before - best), before + 0.12 * (before - best))
        quality.margins(x=0.2)
        with replacing(path, "figure of the tour", FIGURE) as file:
            figure.savefig(file, format=Path(path).suffix[1:], metadata={"Creator": FIGURE.decode()})
    return figure


def name_point(axes, label, x, y, rows):
    """Write the label above its point, or below it if another point is close above."""
    close_above = any(0 < row["bits"][-1] - y < 0.08 and 1 / 3 < row["trained"] / x < 3 for row in rows)
    axes.annotate(label, (x, y), (0, -15 if close_above else 8), textcoords="offset points", ha="center", fontsize=9)
