"""Set-up shared by all lessons: find minipeft, one thread, one style of figures, alt text.

The first cell of every lesson begins with these lines (in solutions, so in exercises, after `import sys` and
`sys.path.append("..")`, since this file is one folder up):

    try:
        import lesson  # beside this notebook: one thread, one style of figures
    except ModuleNotFoundError:  # opened alone, as in Colab: install minipeft, copy the course beside it
        import os

        os.system("pip install -q minipeft && python -m minipeft lessons course --no-open")
        from course import lesson
"""

import os
import pathlib
import sys
import warnings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: tiny matrices are fastest on one thread
try:
    import minipeft  # noqa: F401 (installed, or a copy beside the notebook)
except ImportError:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a clone that was not installed

# The BLAS of Apple silicon raises floating-point flags on correct results (numpy issue 28687).
warnings.filterwarnings("ignore", message=".*encountered in matmul", category=RuntimeWarning)

import matplotlib as mpl  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

np.set_printoptions(precision=4, suppress=True, linewidth=88)

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]  # Okabe-Ito, dark ones first
STYLES = ["-", "--", "-.", ":", "-", "--", "-."]  # in greyscale the colours are equal: the dashes are not

plt.rcParams.update({
    "figure.figsize": (6.4, 3.4), "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white",
    "figure.constrained_layout.use": True, "font.size": 11, "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.prop_cycle": mpl.cycler(color=COLORS) + mpl.cycler(linestyle=STYLES), "lines.linewidth": 2,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "legend.frameon": False,
})  # fmt: skip


def ranks(n):
    """n colours, dark to light, that stay in order in greyscale: for rank 1, 2, 4, ..."""
    return plt.cm.viridis(np.linspace(0.05, 0.85, n))


def starmap(function, cases):
    """[function(*case) for case in cases], on several cores where joblib is installed: the same numbers, sooner.

    Each case is computed in another process: it hands back its result, and changes nothing here.
    """
    try:
        from joblib import Parallel, cpu_count, delayed
    except ModuleNotFoundError:  # it only saves time
        return [function(*case) for case in cases]
    processes = max(1, min(4, cpu_count() // int(os.environ["OPENBLAS_NUM_THREADS"])))  # a core for each thread
    return Parallel(processes)(delayed(function)(*case) for case in cases)


def show(fig, alt):
    """Show a figure once, with a sentence for those who cannot see it."""
    from IPython.display import display

    plt.close(fig)
    display(fig, metadata={"image/png": {"alt": alt}})
