"""What belongs to the lessons and not to the mathematics: their set-up, the checks of the exercises, and for each
lesson what only it draws and tries (lesson_NN.py).

    from minipeft import course        # one BLAS thread, one style of figures

Importing this package, and no other of minipeft, changes settings of the process: it is what the first cell of every
lesson does.  The checks are in check.py, those of each lesson in checks/lesson_NN.py.
"""

import os
import warnings

import numpy as np

from ..process import threads_asked

ALL = ("*_proj", "*.c_fc")  # every Linear of the blocks, as targets of LoRA


def set_up():
    """One BLAS thread, numbers of four digits, one style of figures.  Runs once, when this package is imported."""
    limit_threads()
    np.set_printoptions(precision=4, suppress=True, linewidth=88)
    # The BLAS of Apple silicon raises floating-point flags on correct results (numpy issue 28687).
    warnings.filterwarnings("ignore", message=".*encountered in matmul", category=RuntimeWarning)
    style_figures()


def limit_threads():
    """Give BLAS one thread, or as many as the environment asks for: tiny matrices are fastest on one.

    The variable is for the processes that are started from here.  The NumPy of this one has read it when it was imported,
    so it is told through threadpoolctl; where that is not installed, several threads give the same numbers, later.
    """
    threads = threads_asked() or 1
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return
    threadpool_limits(threads, user_api="blas")


def style_figures():
    """Set matplotlib's defaults: for figures of one's own, and for what a lesson adds to a Picture after its canvas.

    The canvas itself has the style of lab/picture.py, whatever is set here.
    """
    import matplotlib as mpl

    from ..lab.picture import COLORS, STYLES

    mpl.rcParams.update({
        "figure.figsize": (6.4, 3.4), "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white",
        "figure.constrained_layout.use": True, "font.size": 11, "axes.titlesize": 12, "axes.titlelocation": "left",
        "axes.prop_cycle": mpl.cycler(color=COLORS) + mpl.cycler(linestyle=STYLES), "lines.linewidth": 2,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "legend.frameon": False,
    })  # fmt: skip


def starmap(function, cases):
    """[function(*case) for case in cases], on several cores where joblib is installed: the same numbers, sooner.

    Each case is computed in another process: it hands back its result, and changes nothing here.
    """
    try:
        from joblib import Parallel, cpu_count, delayed
    except ModuleNotFoundError:  # it only saves time
        return [function(*case) for case in cases]
    processes = max(1, min(4, cpu_count() // threads_asked()))  # a core for each thread
    return Parallel(processes)(delayed(function)(*case) for case in cases)


set_up()
