"""Wrong answers to the exercises of lesson 13: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def rows(choose):
    """Slopes of a low-rank prompt from a wrong dP, a function of (dy, m)."""

    def fn(Z, W, dy):
        dP = choose(dy, len(Z))
        return dP @ W.T, Z.T @ dP

    return fn


def asked(begin, end, shift=0, kind=int):
    """A wrong keep_rows: the mask from m + begin to m + T + end, and ids moved by shift from where they belong."""

    def fn(ids, m):
        N, T = ids.shape
        targets, mask = np.zeros((N, m + T), kind), np.zeros((N, m + T))
        targets[:, m - 1 + shift : m - 1 + shift + T] = ids
        mask[:, m + begin : m + T + end] = 1
        return targets, mask

    return fn


WRONG = {
    "prompt_numbers": {
        "not in every layer": (184320, 368640), "how long is one row": (20, 368640), "a key, and what else": (15360, 184320),
        "in how many layers": (15360, 30720), "too small": (15360, 100), "not written yet": (..., ...),
        "two numbers are asked for: (prompt, prefix)": 15360,
    },
    "keep_rows": {
        "targets has shape (2, 4), and should have (2, 7)": lambda ids, m: (ids, np.ones(ids.shape)),
        "mask is missing": lambda ids, m: np.pad(ids, ((0, 0), (m - 1, 1))),
        "targets is missing": lambda ids, m: None,
        "not at the place itself": asked(0, 0, 1),
        "which place is asked for the first token": asked(0, -1),
        "behind the last token": asked(-1, 0),
        "and what stands behind": asked(-3, 0),
        "a row of P": asked(-3, -1),
        "1 counts": lambda ids, m: (asked(-1, -1)(ids, m)[0], 1 - asked(-1, -1)(ids, m)[1]),
        "0 is a token, too": lambda ids, m: (asked(-1, -1)(ids, m)[0], asked(-1, -1)(ids, m)[0] != 0),
        "with m = 1, the mask": lambda ids, m: asked(-1, -1 if m > 1 else 0)(ids, m),
        "mask is zero everywhere": asked(0, -4),
        "the tokens at the places themselves": asked(-1, -1, 1),
        "two places later": asked(-1, -1, -1),
        "whole numbers, not as float64": asked(-1, -1, 0, float),
        "not written yet": lambda ids, m: (_ for _ in ()).throw(NotImplementedError),
    },
    "low_rank_prompt": {
        "a mean over the batch": rows(lambda dy, m: dy[:, :m].mean(0)),
        "the last rows of dy": rows(lambda dy, m: dy[:, -m:].sum(0)),
        "that is one sequence": rows(lambda dy, m: dy[0, :m]),
        "dZ has shape (3, 4), and should have (3, 2)": lambda Z, W, dy: (dy[:, : len(Z)].sum(0), W),
        "dW has shape (4, 2)": lambda Z, W, dy: (Z, W.T),
        "dW has the wrong sign": lambda Z, W, dy: (dy[:, :3].sum(0) @ W.T, -Z.T @ dy[:, :3].sum(0)),
        "not written yet": lambda Z, W, dy: (_ for _ in ()).throw(NotImplementedError),
    },
}  # fmt: skip
