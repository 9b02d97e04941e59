"""Wrong answers to the exercises of lesson 13: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def rows(choose):
    """Slopes of a low-rank prompt from a wrong dP, a function of (dy, m)."""

    def fn(Z, W, dy):
        dP = choose(dy, len(Z))
        return dP @ W.T, Z.T @ dP

    return fn


def zeros(dy, m):
    return np.zeros((len(dy), m, dy.shape[2]))


WRONG = {
    "prompt_numbers": {
        "not in every layer": (184320, 368640), "how long is one row": (20, 368640), "a key, and what else": (15360, 184320),
        "in how many layers": (15360, 30720), "too small": (15360, 100), "not written yet": (..., ...),
    },
    "drop_back": {
        "dx has shape (2, 3, 4), and should have (2, 5, 4)": lambda dy, m: dy,
        "the zeros stand behind": lambda dy, m: np.concatenate([dy, zeros(dy, m)], axis=1),
        "in no output": lambda dy, m: np.concatenate([dy[:, :m], dy], axis=1),
        "dx is zero everywhere": lambda dy, m: np.concatenate([zeros(dy, m), 0 * dy], axis=1),
        "dx is missing": lambda dy, m: None,
        "not written yet": lambda dy, m: (_ for _ in ()).throw(NotImplementedError),
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
