"""The checks of the exercises of lesson 13."""

import numpy as np

from .. import check

__all__ = ["drop_back", "low_rank_prompt", "prompt_numbers"]


def prompt_numbers(answer):
    """(numbers of a prompt, numbers of a prefix) for m = 20, 12 layers, D = 768."""
    m, layers, D = 20, 12, 768
    mine = answer if isinstance(answer, (tuple, list)) and len(answer) == 2 else (..., ...)

    in_prompt = {"a prompt stands once, and not in every layer": layers * m * D, "how long is one row?": m}
    in_prefix = {"a key, and what else?": layers * m * D, "and in how many layers?": 2 * m * D}
    check.report("prompt numbers", [
        ("prompt", check.one_number("prompt", mine[0], m * D, in_prompt)),
        ("prefix", check.one_number("prefix", mine[1], 2 * layers * m * D, in_prefix)),
    ])  # fmt: skip


def drop_back(fn):
    """fn(dy, m) -> dx: zeros in the first m places, and dy behind them."""
    N, T, D, m = 2, 3, 4, 2
    dy = np.random.default_rng(0).normal(size=(N, T, D))
    want = np.concatenate([np.zeros((N, m, D)), dy], axis=1)

    def answer():
        return fn(dy.copy(), m)

    def shape():
        return check.shapes({"dx": answer()}, {"dx": want})

    def value():
        behind = np.concatenate([dy, np.zeros((N, m, D))], axis=1)
        repeated = np.concatenate([dy[:, :m], dy], axis=1)
        return check.compare(answer(), want, "dx", [
            (behind, "the zeros stand behind: which places were dropped?"),
            (repeated, "the dropped places are in no output: what is their slope?"),
        ])  # fmt: skip

    check.report("drop_back", [("shape", shape), ("value", value)])


def low_rank_prompt(fn):
    """fn(Z, W, dy) -> dZ, dW for y = [Z W; x], the same rows before every sequence."""
    rng = np.random.default_rng(1)
    Z, W, dy = rng.normal(size=(3, 2)), rng.normal(size=(2, 4)), rng.normal(size=(5, 3 + 6, 4))

    def answer():
        return dict(zip(("dZ", "dW"), fn(Z.copy(), W.copy(), dy.copy()), strict=True))

    def slopes(dP):
        return {"dZ": dP @ W.T, "dW": Z.T @ dP}

    def shape():
        return check.shapes(answer(), {"dZ": Z, "dW": W})

    def value():
        right = slopes(dy[:, :3].sum(0))
        slips = {
            "a mean over the batch: the same rows stand before each sequence, and slopes add": dy[:, :3].mean(0),
            "those are the last rows of dy: where does P stand?": dy[:, -3:].sum(0),
            "that is one sequence: sum over all of them": dy[0, :3],
        }
        return check.compare_all(
            answer(),
            {name: (want, [(slopes(dP)[name], hint) for hint, dP in slips.items()]) for name, want in right.items()},
        )

    def slope():
        def loss():
            return (dy[:, :3] * (Z @ W)).sum()

        return check.gradients(loss, {"Z": Z, "W": W}, {name[1:]: grad for name, grad in answer().items()})

    check.report("low_rank_prompt", [("shape", shape), ("value", value), ("gradient check", slope)])
