"""The checks of the exercises of lesson 00."""

import numpy as np

from .. import check

__all__ = [
    "lora_count",
    "merged_weight",
    "virtual_share",
    "who_trains",
]


def lora_count(fn):
    """fn(d_in, d_out, r) -> how many numbers LoRA trains on one weight."""

    def square():
        mistakes = [(np.array(4 * 6 * 2), "that is a full matrix for each rank: A and B are thin"),
                    (np.array(4 * 6), "that is W itself: what are the shapes of A and B?"),
                    (np.array(4 * 2 * 6 * 2), "two factors are two arrays: do their counts multiply?"),
                    (np.array(2 * 4 * 2), "A and B have the same size only if W is square"),
                    (np.array(20 + 6), "LoRA's two factors have no bias"),
                    (np.array(6 * 2), "that is one of the two factors: which one is missing?"),
                    (np.array(4 * 2), "that is one of the two factors: which one is missing?")]  # fmt: skip
        return check.compare(fn(4, 6, 2), 20, "the count", mistakes)

    def wide():
        return check.compare(fn(96, 384, 8), 3840, "the count for 96 x 384, r = 8")

    def full():
        d = 10
        return fn(d, d, d) > d * d, "at full rank LoRA trains more numbers than W has: does yours?"

    check.report("lora_count", [("value", square), ("another shape", wide), ("full rank", full)])


def virtual_share(fn):
    """fn(scores, m) -> the share of m keys of score zero before keys with these scores."""

    def lesson():
        mistakes = [(np.array(0.0), "a score of zero is not a share of zero: what is e to the power of 0?"),
                    (np.array(1 / 3), "that is their share of the tokens' powers: are the m keys part of the whole?"),
                    (np.array(1 / (1 + np.log(2))), "scores are added here: which powers does the softmax add?"),
                    (np.array(3 / 4), "that is what is left to the tokens")]  # fmt: skip
        return check.compare(fn(np.array([0.0, np.log(2)]), 1), 0.25, "the share", mistakes)

    def several():
        got = fn(np.array([0.0, np.log(2)]), 8)
        mistakes = [(np.array(1 / 11), "that is the share of one of the eight: they are asked for together"),
                    (np.array(0.25), "with eight keys it is the same as with one: where is m?"),
                    (np.array(2.0), "more than the whole: what are they all divided by?")]  # fmt: skip
        return check.compare(got, 8 / 11, "the share of eight", mistakes)

    def low():
        return check.compare(fn(np.array([-3.0, -4.0, -5.0]), 2), 2 / (2 + np.exp([-3, -4, -5]).sum()), "the share")

    check.report("virtual_share", [("one key", lesson), ("eight keys", several), ("low scores", low)])


def merged_weight(fn):
    """fn(f, d) -> the matrix with f(x) = x @ matrix for every x (N, d), or None."""
    rng, d, s = np.random.default_rng(0), 4, 2.0
    W, A, B, down, up = (rng.normal(size=shape) for shape in ((d, 3), (d, 2), (2, 3), (d, 2), (2, d)))

    def lora(x):
        return x @ W + s * (x @ A) @ B

    def straight(x):
        return x + x @ down @ up

    def bent(x):
        z = x @ down
        return x + z / (1 + np.exp(-1.702 * z)) @ up  # close to gelu

    def kinked(x):
        return x + np.maximum(x @ abs(down), 0) @ up  # a matrix, where x ≥ 0

    def odd(x):
        return x + np.tanh(x @ down) @ up  # bent, and f(-x) is -f(x) all the same

    def shifted(x):
        return x @ W + up[0, :3]

    def found(f, want, what):
        def test():
            got = fn(f, d)
            if got is None:
                return False, f"{what} has one. Is there a return? Does the comparison allow for rounding?"
            return check.compare(got, want, f"the matrix of {what}", [
                (f(np.ones((1, d))), "that is the sum of its rows: which x gives one row?"),
                (f(np.ones(d)), "that is the sum of its rows: which x gives one row?"),
            ])  # fmt: skip

        return test

    def none(f, hint):
        return lambda: (fn(f, d) is None, hint)

    check.report("merged_weight", [
        ("LoRA", found(lora, W + s * A @ B, "LoRA")),
        ("a detour without a bend", found(straight, np.eye(d) + down @ up, "x + (x down) up")),
        ("an adapter", none(bent, "there is a bend in it, and yet a matrix came back. Does it fit at an x of your own?")),
        ("a bend at zero", none(kinked, "the matrix fits where no number is below zero. At which x did you try it?")),
        ("a bend like tanh's", none(odd, "f(−x) is −f(x), and no matrix fits. Did you try x of several sizes?")),
        ("a vector added", none(shifted, "rows of zeros become something else. Which matrix could do that?")),
    ])  # fmt: skip


def who_trains(fn):
    """fn(model, method, rng): freeze and inject, in the right order."""
    from ...lab.ledger import parameter_table
    from ...methods import LoRA
    from ...model import GPT2, GPT2Config

    def table():
        model = GPT2(GPT2Config(7, 6, 8, 1, 2))
        fn(model, LoRA(r=2, alpha=2), np.random.default_rng(0))
        return parameter_table(model)

    def injected():
        return any(row.path.endswith(".A") for row in table()), "there is no LoRA in the model"

    def something():
        return any(row.trained for row in table()), "nothing is trained: what froze it, and when?"

    def only():
        trained = [row.path for row in table() if row.trained]
        return all(path.endswith((".A", ".B")) for path in trained), "more than A and B is trained"

    def all_of_it():
        return sum(row.trained for row in table()) == 4, "two layers with A and B each should be trained"

    checks = [("injected", injected), ("trains", something), ("frozen base", only), ("complete", all_of_it)]
    check.report("who_trains", checks)
