"""The checks of the exercises of lesson 00."""

import numpy as np

from .. import check

__all__ = [
    "bits",
    "lora_count",
    "predict_merge",
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


def bits(fn):
    """fn(nats) -> bits."""

    def zero():
        got, mistakes = fn(0.0), [(np.array(1.0), "that is the number of choices, not the bits")]
        if got in (-np.inf, np.inf):
            return False, "nats are a logarithm already: is another one needed?"
        return check.compare(got, 0.0, "the answer for no surprise at all", mistakes, tolerance=1e-9)

    def coin():
        nats = float(np.log(2))
        mistakes = [(np.array(nats**2), "multiplied where it should be divided"),
                    (np.array(nats), "that is still nats: how many of them is one bit?"),
                    (np.array(nats / 2), "one bit is a choice of two: which number of nats is that?"),
                    (np.array(2.0), "that is the number of choices, not the bits")]  # fmt: skip
        return check.compare(fn(nats), 1.0, "the bits of a fair coin", mistakes)

    def alphabet():
        return check.compare(fn(float(np.log(96))), float(np.log2(96)), "the bits of one of 96 characters")

    check.report("bits", [("zero", zero), ("a coin", coin), ("the alphabet", alphabet)])


def predict_merge(answer):
    """Which of four methods can be folded into the weights."""
    why = {"prompt": "eight more tokens go through every layer: which weight would do that?",
           "prefix": "more keys and values are not a change of any weight",
           "adapter": "what stands between its two matrices?"}  # fmt: skip
    check.prediction("predict what can be merged", answer, "lora", why)


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
