"""What lesson 05 calls and does not show: its figures, its rivals of the SVD, its tables.

The cut, the descent and the count of free numbers stand in the lesson itself.
"""

import numpy as np

from ..lab.charts import label_ends
from ..lab.picture import COLORS, LINE, MARKERS, STYLES, Picture, canvas
from ..lab.spectra import energy, factors, singular_values, tail, truncate
from ..lab.table import Table
from ..training import load_base
from .check import answers
from .climate import bits, texts

RANKS = (0, 1, 2, 4, 8, 16, 32, 128)


# ---- the blanks


def check_product(A, B, product):
    """Compare a sum of outer products with A B, and name the slip."""
    first = np.outer(A[:, 0], B[0])
    mistakes = {
        "that is the first outer product alone": first,
        "a row of A with a column of B gives one number of A B, no matrix": np.full((A @ B).shape, A[0] @ B[:, 0]),
    }
    answers({"product": A @ B}, {"product": mistakes}, product=product)


def check_lost(M, k, lost):
    """Compare what is lost with the distance of M to its cut, and name the slip."""
    s = singular_values(M)
    mistakes = {
        "the s are squared before they are added": np.array(s[k:].sum()),
        "that is the square of it": np.array((s[k:] ** 2).sum()),
        "that is what is kept": np.array(np.sqrt((s[:k] ** 2).sum())),
        "one direction too few is counted": np.array(np.sqrt((s[k + 1 :] ** 2).sum())),
    }
    answers({"lost": np.array(np.linalg.norm(M - truncate(M, k)))}, {"lost": mistakes}, lost=lost)


# ---- Eckart and Young: rivals


def projected(M, columns):
    """The best copy of M whose columns lie in the span of these: Q Qᵀ M, Q an orthonormal basis."""
    Q, _ = np.linalg.qr(columns)
    return Q @ (Q.T @ M)


def rivals(M, ranks, descend, tries=20, seed=0):
    """{name: (ranks, tries) distances to M} of matrices of rank k that are made in other ways.

    descend: a function (M, k, rng) -> (A, B) that looks for a product by gradient descent; it is tried three times
    """
    rng, size = np.random.default_rng(seed), M.shape[1]

    def distances(copy, n):
        return np.array([[np.linalg.norm(M - copy(k)) for _ in range(n)] for k in ranks])

    return {
        "random directions": distances(lambda k: projected(M, rng.standard_normal((len(M), k))), tries),
        "k of its columns": distances(lambda k: projected(M, M[:, rng.permutation(size)[:k]]), tries),
        "gradient descent": distances(lambda k: np.matmul(*descend(M, k, rng)), 3),
    }


def plot_rivals(M, ranks, found):
    """The distance to M of every rival, and below them the tail of the spectrum, which nothing can beat."""
    figure, axes = canvas(7.6, 3.6)
    floor = tail(singular_values(M)) / np.linalg.norm(M)
    below = np.arange(1, ranks[-1] + 1)
    axes.plot(below, floor[below], color="black", linewidth=2)
    ends = [("the cut: the tail", ranks[-1], floor[ranks[-1]], "black")]
    said = []
    for i, (name, values) in enumerate(found.items()):
        values = values / np.linalg.norm(M)
        shift = (0.95, 1.05, 1.0)[i % 3]
        for k, row in zip(ranks, values, strict=True):
            if name == "gradient descent":  # rings, so that the line is seen through them
                ring = {"markersize": 7, "markerfacecolor": "none"}
            else:
                ring = {"markersize": 4, "alpha": 0.7}
            axes.plot([k * shift] * len(row), row, MARKERS[i], color=COLORS[i], **ring)
        ends.append((name, ranks[-1], values[-1].mean(), COLORS[i]))
        said.append(f"{name}: at best {', '.join(f'{row.min():.2f}' for row in values)}")
    axes.set(
        xscale="log", xlim=(0.9, ranks[-1] * 1.15), ylim=(0, 1.05), xlabel="rank k", ylabel="distance to ΔW / its norm"
    )
    axes.set_xticks(ranks, [str(k) for k in ranks])
    axes.minorticks_off()
    title = "Nothing of rank k comes closer than the cut"
    axes.set_title(title, loc="left")
    label_ends(axes, ends, apart=15)
    places, bound = ", ".join(map(str, ranks)), ", ".join(f"{floor[k]:.2f}" for k in ranks)
    words = f"{title}. Distance to the matrix at k = {places}: the cut {bound}; {'; '.join(said)}."
    return Picture(figure, words)


# ---- a picture that is a matrix


def house(height=64, width=96):
    """A picture of a house under a sun, drawn by inequalities: (height, width), 0 black and 1 white."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1.5 : width * 1j]
    image = 0.95 - 0.35 * y + 0.03 * np.sin(40 * x * y)
    image[(x - 1.12) ** 2 + (y - 0.25) ** 2 < 0.15**2] = 1.0
    image[y > 0.62 + 0.09 * np.sin(5 * x) - 0.05 * np.cos(11 * x)] = 0.42
    image[y > 0.8 + 0.05 * np.sin(7 * x + 2)] = 0.22
    image[(abs(x - 0.42) < 0.17) & (y > 0.42) & (y < 0.82)] = 0.62
    image[(y > 0.24) & (y < 0.42) & (abs(x - 0.42) < (y - 0.24) * 1.15)] = 0.12
    for centre in (0.34, 0.5):
        image[(abs(x - centre) < 0.035) & (abs(y - 0.54) < 0.05)] = 0.98
    image[(abs(x - 0.42) < 0.035) & (y > 0.66) & (y < 0.82)] = 0.1
    return image


def show_house(ranks=(1, 2, 4, 8, 16, 64)):
    """The house, cut to several ranks, with how many numbers two factors store; its mean grey is kept beside."""
    image = house()
    mean, (m, n) = image.mean(), image.shape
    held = energy(singular_values(image - mean))
    figure, axes = canvas(8.4, 4.1, 2, 3)
    said = []
    for ax, k in zip(axes.flat, ranks, strict=True):
        ax.imshow(truncate(image - mean, k) + mean, cmap="gray", vmin=0, vmax=1)
        stored = k * (m + n)
        ax.set_title(f"rank {k}{' (all)' if k == m else ''}: {stored:,} stored", fontsize=10)
        ax.axis("off")
        said.append(f"rank {k}: {held[k - 1]:.1%} of the energy, {stored:,} numbers stored")
    title = f"A picture of {m} × {n} = {m * n:,} numbers, as a sum of k outer products"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return Picture(figure, f"A house, hills and a sun, {m} × {n}, cut to rank k. {'. '.join(said)}.")


# ---- ΔW, cut


class Cuts:
    """Updates ΔW of several runs, taken apart once; cut(k) puts the strongest k directions of each matrix together.

    updates: a list of {path: ΔW}.  Vectors (biases, LayerNorms) are left whole.
    """

    def __init__(self, updates):
        self.updates = updates
        self.parts = [{path: factors(M, min(M.shape)) for path, M in one.items() if M.ndim == 2} for one in updates]
        self.base = {path: p.data for path, p in load_base("english").named_parameters()}
        self.known = {}

    def cut(self, run, k):
        """{path: ΔW of rank k} of one run."""
        thin = {path: A[:, :k] @ B[:k] for path, (A, B) in self.parts[run].items()}
        return self.updates[run] | thin

    def nothing(self, run, k):
        """No change: the base."""
        return {path: np.zeros_like(array) for path, array in self.base.items()}

    def shrunk(self, run, k):
        """Every ΔW whole, but shortened to the norm of its cut to rank k."""
        short = {}
        for path, M in self.cut(run, k).items():
            whole = self.updates[run][path]
            short[path] = whole * (np.linalg.norm(M) / np.linalg.norm(whole)) if M.ndim == 2 else whole
        return short

    def by_chance(self, run, k):
        """Every ΔW as seen along k random directions instead of its own."""
        rng = np.random.default_rng(run)
        matrices = self.updates[run].items()
        return {path: projected(M, rng.standard_normal((len(M), k))) if M.ndim == 2 else M for path, M in matrices}

    def chance_as_long(self, run, k):
        """Every ΔW as seen along k random directions, and made as long as its cut to rank k."""
        copy = self.by_chance(run, k)
        for path, M in self.cut(run, k).items():
            if M.ndim == 2:
                copy[path] = copy[path] * (np.linalg.norm(M) / np.linalg.norm(copy[path]))
        return copy

    def pooled(self, run, k):
        """The directions of all matrices with the most s² for each number stored, in the room of k of each matrix."""
        parts, kept = self.parts[run], dict.fromkeys(self.parts[run], 0)
        sides = {path: len(A) + B.shape[1] for path, (A, B) in parts.items()}  # numbers that one direction stores
        offers = [((a @ a) ** 2 / sides[path], path) for path, (A, _) in parts.items() for a in A.T]  # a @ a is its s
        room = k * sum(sides.values())
        for _, path in sorted(offers, reverse=True):
            room -= sides[path]
            if room < 0:
                break
            kept[path] += 1
        return self.updates[run] | {path: A[:, : kept[path]] @ B[: kept[path]] for path, (A, B) in parts.items()}

    def model(self, change):
        """The base with a change added to its weights."""
        model = load_base("english")
        for path, p in model.named_parameters():
            p.data[...] = self.base[path] + change[path]
        return model

    def bits(self, change, text=None):
        """Bits a character of the held-out climate (or of another text) for the base with this change."""
        return bits(self.model(change), texts()[2] if text is None else text)

    def bits_of(self, way, run, k):
        """Bits a character on the held-out climate, for the change way(run, k); what is known is not computed again."""
        key = getattr(way, "__func__", way), run, k
        if key not in self.known:
            self.known[key] = self.bits(way(run, k))
        return self.known[key]

    def measure(self, ranks=RANKS):
        """(base, {k: (runs,) bits a character}) on the held-out climate."""
        runs = range(len(self.updates))
        found = {k: np.array([self.bits_of(self.cut, run, k) for run in runs]) for k in ranks}
        return self.bits_of(self.nothing, 0, 0), found

    def measure_short(self, ranks=RANKS[1:-1]):
        """{k: (runs,) bits a character} of whole ΔW that are as short as their cuts."""
        return {k: np.array([self.bits_of(self.shrunk, run, k) for run in range(len(self.updates))]) for k in ranks}


def shares(base, found):
    """For each k two shares, means over the runs: of the whole gain, and of what the matrices add to the vectors."""
    whole = found[max(found)]
    return {k: (np.mean((base - row) / (base - whole)), np.mean((found[0] - row) / (found[0] - whole)))
            for k, row in found.items()}  # fmt: skip


def plot_gain(base, found, short):
    """Held-out bits a character against k, of the cuts and of whole ΔW as short as these, with the shares of the gain.

    short: {k: (runs,) bits a character} of the control, Cuts.measure_short()
    """
    figure, axes = canvas(7.6, 3.9)
    ranks = list(found)
    places = {k: np.log2(k) if k else -1 for k in ranks}  # a doubling is one step; 0 stands beside 1
    cut, whole = shares(base, found), shares(base, found | short)
    for i, (rows, gains, up) in enumerate(((found, cut, (5, 4)), (found | short, whole, (-11, -14)))):
        for k, row in rows.items():
            if not i or k in short:  # at both ends the control is the cut itself
                axes.plot([places[k]] * len(row), row, MARKERS[i], color=COLORS[i], markersize=4, alpha=0.8)
                end = row.min() if i else row.max()
                axes.annotate(f"{gains[k][0]:.0%}", (places[k], end), up, textcoords="offset points", color=COLORS[i])
        axes.plot([places[k] for k in ranks], [rows[k].mean() for k in ranks], STYLES[i], color=COLORS[i])
    names = ("cut to k directions", (places[2], found[2].mean()), (38, 18)), (
             "whole, as short as the cut", (places[1], short[1].mean()), (-70, -46))  # fmt: skip
    for i, (words, xy, at) in enumerate(names):
        axes.annotate(words, xy, at, textcoords="offset points", color=COLORS[i])
    axes.axhline(base, color=LINE, linewidth=1, linestyle=":")
    axes.annotate("the base: no change at all", (places[ranks[-1]], base), (0, -13), textcoords="offset points",
                  ha="right", color=LINE)  # fmt: skip
    axes.set_xticks([places[k] for k in ranks], [f"{k}\n(all)" if k == ranks[-1] else str(k) for k in ranks])
    axes.set(xlabel="k, directions that are kept of each ΔW (log scale; 0 is set beside 1)",
             ylabel="held-out climate,\nbits a character")  # fmt: skip
    axes.margins(y=0.14)
    few = max(k for k in ranks if k <= 8)
    title = (
        "A few directions bring much of the gain"
        if cut[few][0] > 0.5
        else "What the first k directions bring of the gain"
    )
    if all(whole[k][0] > cut[k][0] for k in short):
        title += "; all of them, shortened, bring more"
    axes.set_title(title, loc="left")
    said = ", ".join(f"{found[k].mean():.2f} at {k}, {cut[k][0]:.0%} of the gain" for k in ranks)
    more = ", ".join(f"{short[k].mean():.2f} at {k}, {whole[k][0]:.0%}" for k in short)
    words = f"Bits a character on held-out climate text, the base {base:.2f}; the cuts: {said}"
    return Picture(figure, f"{title}. {words}; the whole ΔW, as short as the cut: {more}.")


def energy_beside_gain(cuts, base, found):
    """A Table: the energy in the first k directions, of random matrices of these shapes, and the shares of the gain."""
    matrices, rng = [M for M in cuts.updates[0].values() if M.ndim == 2], np.random.default_rng(0)
    spectra = [energy(singular_values(M)) for M in matrices]
    noise = [energy(singular_values(rng.standard_normal(M.shape))) for M in matrices]
    gains, rows = shares(base, found), []
    for k in found:
        held, chance = (np.median([share[k - 1] for share in one]) if k else 0.0 for one in (spectra, noise))
        rows.append((k, f"{held:.0%}", f"{chance:.0%}", f"{gains[k][1]:.0%}", f"{gains[k][0]:.0%}"))
    names = ["k", "energy", "of noise", "of the matrices' gain", "of the whole gain"]
    return Table(names, rows, title="the first k directions of every matrix; energy: the median of run 0's matrices")


def compare_ways(cuts, ways, ranks):
    """A Table of bits a character on the held-out climate, for several ways to make a change of a rank.

    Every run, and in brackets the share of the gain of the whole ΔW, the mean of the runs.
    ways: {label: a function (run, k) -> {path: change}}
    """
    runs, (base, found) = range(len(cuts.updates)), cuts.measure((RANKS[-1],))
    rows = []
    for label, way in ways.items():
        cells = []
        for k in ranks:
            row = np.array([cuts.bits_of(way, run, k) for run in runs])
            share = np.mean((base - row) / (base - found[RANKS[-1]]))
            cells.append("  ".join(f"{bits:.3f}" for bits in row) + f"  ({share:.0%})")
        rows.append((label, *cells))
    title = f"held-out climate, bits a character, {len(runs)} runs; in brackets, the share of the gain"
    return Table(["", *(f"k = {k}" for k in ranks)], rows, title=title)
