"""The checks of the exercises of lesson 11."""

import numpy as np

from .. import check

__all__ = ["fold_behind", "parallel_adapter", "predict_two_x", "predict_two_zeros_and_biases"]


def predict_two_zeros_and_biases(answer):
    """Which of down, b_down, up, b_up ever moves, if all four start at zero."""
    why = {
        "down": "its slope is made with dz, and dz with up: what is up?",
        "b_down": "its slope is the sum of dz: through which matrix does dz come?",
        "up": "its slope is gᵀ dy: what is g, if z is zero?",
        "all": "write down the four slopes for up = 0 and g = gelu(0)",
        "none": "one of the four slopes holds neither g nor up: which?",
    }
    check.prediction("predict two zeros and biases", answer, "b_up", why)


def predict_two_x(answer):
    """How often x, and how often m = mlp(norm(x)), stand in the result while up is zero."""
    why = {
        "1 and 2": "the adapter gives back m + f(m): does anybody add m a second time?",
        "2 and 1": "what the adapter adds again is its own input: is that x?",
        "2 and 2": "give each line's value a name, and put f = 0",
    }
    check.prediction("predict two x", answer, "1 and 1", why)


def fold_behind(fn):
    """fn(W, b, down, up) -> (W', b'), so that x W' + b' = u + u down up, with u = x W + b."""
    rng = np.random.default_rng(0)

    def case(d_in, d, m):
        return (rng.normal(size=(d_in, d)), rng.normal(size=d), rng.normal(size=(d, m)), rng.normal(size=(m, d)))

    def shape():
        W, b, down, up = case(5, 4, 2)
        got = dict(zip(("W", "b"), fn(W, b, down, up), strict=True))
        return check.shapes(got, {"W": W, "b": b})

    def zero():
        W, b, down, up = case(5, 4, 2)
        got = dict(zip(("W", "b"), fn(W, b, down, 0 * up), strict=True))
        hint = "with up = 0 the layer must be as it was: u itself goes straight on"
        return check.compare_all(got, {"W": (W, [(0 * W, hint)]), "b": (b, [(0 * b, hint)])})

    def value():
        W, b, down, up = case(5, 4, 2)
        got = dict(zip(("W", "b"), fn(W, b, down, up), strict=True))
        want = W + W @ down @ up, b + b @ down @ up
        return check.compare_all(got, {
            "W": (want[0], [(W + down @ up if W.shape == (4, 4) else W, "x meets W first, and then the detour")]),
            "b": (want[1], [(b, "b is part of u, so it goes through the detour, too")]),
        })  # fmt: skip

    check.report("fold_behind", [("shape", shape), ("up = 0", zero), ("value", value)])


def parallel_case():
    """x, down, b_down, up, b_up with no z at the corner of relu, and dy."""
    rng = np.random.default_rng(0)
    case = {"x": rng.normal(size=(5, 4)), "down": rng.normal(size=(4, 3)), "b_down": rng.normal(size=3),
            "up": rng.normal(size=(3, 4)), "b_up": rng.normal(size=4)}  # fmt: skip
    return case, rng.normal(size=(5, 4))


def parallel_slopes(case, dy, s):
    """The right slopes, and what likely mistakes give: {name: (right, [(wrong, hint), ...])}."""
    x, down, b_down, up, _ = case.values()
    z = x @ down + b_down
    g, df = np.maximum(z, 0), s * dy
    dg, dz = df @ up.T, (df @ up.T) * (z > 0)
    scale = "s multiplies all of f: every slope inside gets it, once"
    bend = "the bend is missing: where z is negative, nothing comes back"
    straight = "x went straight on as well, and then its slope is dy, without s"
    return {
        "dx": (dy + dz @ down.T, [
            (dz @ down.T, straight), (df + dz @ down.T, straight), (dy + dz @ down.T / s, scale), (dy + dg @ down.T, bend),
        ]),
        "ddown": (x.T @ dz, [(x.T @ dz / s, scale), (x.T @ dg, bend)]),
        "db_down": (dz.sum(0), [(dz.sum(0) / s, scale), (dg.sum(0), bend), (dz.mean(0), "add over tokens, no mean")]),
        "dup": (g.T @ df, [(g.T @ dy, scale), (z.T @ df, "up multiplies g, the numbers after the bend")]),
        "db_up": (df.sum(0), [(dy.sum(0), scale), (df.mean(0), "add over tokens, no mean")]),
    }  # fmt: skip


def parallel_adapter(fn):
    """fn(x, down, b_down, up, b_up, s) -> y, backward(dy) -> dx, ddown, db_down, dup, db_up."""
    case, dy = parallel_case()
    s = 4.0
    names = ("dx", "ddown", "db_down", "dup", "db_up")

    def slopes():
        return dict(zip(names, fn(**case, s=s)[1](dy), strict=True))

    def shape():
        return check.shapes(slopes(), dict(zip(names, case.values(), strict=True)))

    def value():
        return check.compare_all(slopes(), parallel_slopes(case, dy, s))

    def slope():
        got = {name[1:]: grad for name, grad in slopes().items()}
        return check.gradients(lambda: (fn(**case, s=s)[0] * dy).sum(), case, got)

    check.report("parallel_adapter", [("shape", shape), ("value", value), ("gradient check", slope)])
