"""A figure with words: what every instrument that draws hands back.

In a notebook it is shown where it stands as the last line of a cell, once, with its alt text; anywhere else it prints that
text.  `save` writes it as a file for print.
"""

import io

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image  # matplotlib brings it

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"]  # Okabe and Ito's, those dark enough for lines
STYLES, MARKERS = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))], "osD^v"  # in greyscale the colours are alike
FROZEN, TRAINED, LINE, FAINT = "#e9e9e9", "#0072B2", "#444444", "#9a9a9a"  # of a model that is drawn
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=COLORS),  # and solid, whatever style a notebook has set
    "figure.facecolor": "white", "figure.constrained_layout.use": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlelocation": "left", "axes.grid": True, "grid.alpha": 0.25,
    "lines.linewidth": 2, "legend.frameon": False, "font.size": 10.5, "axes.titlesize": 11.5,
}  # fmt: skip
DPI = 100  # on a page; save takes another


class Picture:
    """figure: matplotlib's.  alt: what one sees, in one or two sentences, computed from what is drawn."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt = figure, alt
        if figure.canvas is None or type(figure.canvas).__name__ == "FigureCanvasBase":
            FigureCanvasAgg(figure)

    def save(self, path, dpi: int = 300):
        """Write the picture as .png, .pdf or .svg; the last two can be enlarged without end."""
        self.figure.savefig(path, dpi=dpi)

    def __repr__(self):
        return self.alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        """For Jupyter: the picture as PNG, its alt text with it and as plain text, which `pytest --nbval` compares."""
        return {"image/png": self.small_png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}

    def small_png(self) -> bytes:
        """The picture for a page, in 128 colours of its own: the eye sees no other, and a notebook is a third as large."""
        drawn, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=DPI)
        image = (
            Image.open(drawn).convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        )
        image.save(small, format="png", optimize=True)
        return small.getvalue()


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """(figure, axes) in the style of all pictures, apart from pyplot: inches; `options` go to Figure.subplots."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, **options)
