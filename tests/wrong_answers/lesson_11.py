"""Wrong answers to the exercises of lesson 11: {check: {what its hint must say: answer}}, for test_hints.py."""

import numpy as np


def adapter(*, y=None, **wrong):
    """The adapter of He et al., right but for what is given: functions of (x, z, g, down, up, s, dy)."""

    def fn(x, down, b_down, up, b_up, s):
        z = x @ down + b_down
        g = np.maximum(z, 0)

        def backward(dy):
            df = s * dy
            dz = (df @ up.T) * (z > 0)
            right = {
                "dx": dy + dz @ down.T, "ddown": x.T @ dz, "db_down": dz.sum(0), "dup": g.T @ df, "db_up": df.sum(0),
            }  # fmt: skip
            return tuple(wrong[n](x, z, g, down, up, s, dy) if n in wrong else a for n, a in right.items())

        return (y or (lambda x, f: x + f))(x, s * (g @ up + b_up)), backward

    return fn


def dz(z, up, s, dy):
    return s * dy @ up.T * (z > 0)


WRONG = {
    "predict_two_zeros_and_biases": {
        "what is up?": "down", "through which matrix": "b_down", "what is g": "up", "the four slopes": "all",
        "which?": "none", "not answered": ...,
    },
    "predict_two_x": {"a second time": "1 and 2", "is that x?": "2 and 1", "put f = 0": "2 and 2", "not answered": ...},
    "fold_behind": {
        "W has shape (4, 5)": lambda W, b, down, up: ((W + W @ down @ up).T, b),
        "u itself goes straight on": lambda W, b, down, up: (W @ down @ up, b @ down @ up),
        "b is part of u": lambda W, b, down, up: (W + W @ down @ up, b),
        "W has the right shape": lambda W, b, down, up: (W + W @ down @ up @ down @ up, b),
        "not written yet": lambda *a: (_ for _ in ()).throw(NotImplementedError),
    },
    "parallel_adapter": {
        "dx has shape (4, 5)": adapter(dx=lambda x, z, g, down, up, s, dy: dy.T),
        "x went straight on": adapter(dx=lambda x, z, g, down, up, s, dy: dz(z, up, s, dy) @ down.T),
        "without s": adapter(dx=lambda x, z, g, down, up, s, dy: s * dy + dz(z, up, s, dy) @ down.T),
        "every slope inside": adapter(dx=lambda x, z, g, down, up, s, dy: dy + dz(z, up, 1, dy) @ down.T),
        "the bend is missing": adapter(ddown=lambda x, z, g, down, up, s, dy: x.T @ (s * dy @ up.T)),
        "value: s multiplies": adapter(dup=lambda x, z, g, down, up, s, dy: g.T @ dy),
        "after the bend": adapter(dup=lambda x, z, g, down, up, s, dy: z.T @ dy * s),
        "no mean": adapter(db_down=lambda x, z, g, down, up, s, dy: dz(z, up, s, dy).mean(0)),
        "add over tokens": adapter(db_up=lambda x, z, g, down, up, s, dy: s * dy.mean(0)),
        "gradient check": adapter(y=lambda x, f: f),
        "TypeError": lambda x: x,
    },
}  # fmt: skip
