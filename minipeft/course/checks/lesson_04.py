"""The checks of the exercises of lesson 04."""

import numpy as np

from .. import check

__all__ = [
    "adamw_step",
    "predict_gradient_rank",
    "rehearse",
    "remember",
    "training_bytes",
]


def training_bytes(fn):
    """fn(total, trained, size) -> bytes of weights, gradients and AdamW's state, `size` bytes a number."""

    def frozen():
        mistakes = [(np.array(400 * 4), "nothing is trained here: what needs no gradient needs no state either"),
                    (np.array(1200), "what needs no gradient needs no state either: which count does the 3 belong to?"),
                    (np.array(100), "that is the count of numbers: how many bytes has each?"),
                    (np.array(0), "the frozen weights must be in memory too")]  # fmt: skip
        return check.compare(fn(100, 0, 4), 400, "the bytes of a model with nothing trained", mistakes)

    def full():
        mistakes = [(np.array(800), "weights and gradients are there: what does AdamW keep?"),
                    (np.array(400), "only the weights are there: what does training keep beside them?"),
                    (np.array(2000), "weights, gradients, m, v: which of them is counted twice?"),
                    (np.array(1200), "AdamW keeps two numbers for each trained one")]  # fmt: skip
        return check.compare(fn(100, 100, 4), 1600, "the bytes of full fine-tuning", mistakes)

    def peft():
        mistakes = [(np.array(8 * 1010 * 4), "frozen numbers have no gradient and no state"),
                    (np.array(8 * 10 * 4), "the frozen weights must be in memory too")]  # fmt: skip
        return check.compare(fn(1010, 10, 8), 8 * (1010 + 30), "the bytes of PEFT", mistakes)

    check.report("training_bytes", [("nothing trained", frozen), ("everything trained", full), ("a little", peft)])


def predict_gradient_rank(answer):
    """The rank of dW after 2 sequences of 5 tokens."""
    why = {1: "that would be one token. How many outer products are added up?",
           2: "does a sequence write one outer product, or one for each of its tokens?",
           128: "the matrix has room for 128 directions. How many outer products are there?"}  # fmt: skip
    check.prediction("predict the rank of a gradient", answer, 10, why)


def adamw_step(fn):
    """fn(p, g, m, v, t, lr) -> (p, m, v) after step t of AdamW, without weight decay."""
    rng = np.random.default_rng(0)
    p, g, m, zero = *rng.normal(size=(3, 3, 4)), np.zeros((3, 4))
    v = rng.random((3, 4))

    def right(p, g, m, v, t, lr):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return p - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

    def call(*arrays, **rest):
        return fn(*(x.copy() for x in arrays), **rest)

    def first():
        got = call(p, g, zero, zero, t=1, lr=0.1)[0]
        m1, v1 = 0.1 * g, 0.001 * g * g
        mistakes = [(p - 0.1 * m1 / (np.sqrt(v1) + 1e-8), "at the first step m is a tenth of g: what corrects for that?"),
                    (p - 0.1 * m1 / (np.sqrt(g * g) + 1e-8), "m starts at zero as v does: is it corrected, too?"),
                    (p - 0.1 * g / (np.sqrt(v1) + 1e-8), "v starts at zero as m does: is it corrected, too?"),
                    (p - 0.1 * g, "that is plain gradient descent"),
                    (p - 0.1 / g, "v is a mean of squares: is a root missing?"),
                    (p + 0.1 * np.sign(g), "it goes uphill")]  # fmt: skip
        return check.compare(got, p - 0.1 * np.sign(g), "the first step, lr × sign(g),", mistakes, tolerance=1e-6)

    def moments():
        _, got_m, got_v = call(p, g, m, v, t=5, lr=0.1)
        _, want_m, want_v = right(p, g, m, v, 5, 0.1)
        kept = "return m itself: the correction is for this step only, or it is applied again and again"
        mistakes = [(0.1 * m + 0.9 * g, "which of old and new weighs 0.9?"), (want_m / (1 - 0.9**5), kept)]
        ok, hint = check.compare(got_m, want_m, "m", mistakes)
        kept = "return v itself: the correction is for this step only"
        mistakes = [(0.999 * v + 0.001 * g, "v follows the squares of g"), (want_v / (1 - 0.999**5), kept)]
        return check.compare(got_v, want_v, "v", mistakes) if ok else (ok, hint)

    def later():
        want, new_m, new_v = right(p, g, m, v, 5, 0.1)
        once = p - 0.1 * (new_m / 0.1) / (np.sqrt(new_v / 0.001) + 1e-8)
        linear = p - 0.1 * (new_m / (1 - 0.9**5)) / (new_v / (1 - 0.999**5) + 1e-8)
        mistakes = [
            (once, "the correction is that of step 1: where is t?"),
            (linear, "v is a mean of squares: is a root missing?"),
        ]
        return check.compare(call(p, g, m, v, t=5, lr=0.1)[0], want, "p after step 5", mistakes)

    check.report("adamw_step", [("moments", moments), ("first step", first), ("step 5", later)])


def remember(fn):
    """fn(model) -> {path: array} of the weights as they are now, whatever happens later."""
    from ...model import GPT2, GPT2Config

    def names():
        model = GPT2(GPT2Config(7, 6, 8, 1, 2))
        return set(fn(model)) == {path for path, _ in model.named_parameters()}, "are all the paths there?"

    def later():
        model = GPT2(GPT2Config(7, 6, 8, 1, 2))
        before, kept = model.wte.weight.data.copy(), fn(model)["wte.weight"]
        if not np.array_equal(kept, before):
            return False, "the remembered weights are not those of the model"
        model.wte.weight.data -= 1.0  # as an optimizer does it: in place
        return np.array_equal(kept, before), "the optimizer moved the model, and the memory moved with it"

    check.report("remember", [("paths", names), ("after a step", later)])


def rehearse(fn):
    """fn(draw_new, draw_old) -> batches(rng): half of the rows from each."""

    def source(number, n=8):
        return lambda rng: (np.full((n, 5), number), np.full((n, 5), number + 10))

    def batch(n=8):
        return fn(source(1, n), source(2, n))(np.random.default_rng(0))

    def shapes():
        ids, targets = batch()
        if np.shape(ids) == (16, 5):
            return False, "the batch has grown to 16 rows: compare at equal cost"
        return np.shape(ids) == np.shape(targets) == (8, 5), "ids and targets should have the shape of one batch"

    def halves():
        new, old = ((np.asarray(batch()[0]) == number).all(axis=1).sum() for number in (1, 2))
        return new == old == 4, "half of the rows should be new text, and half old"

    def pairs():
        ids, targets = batch()
        return np.array_equal(np.asarray(ids) + 10, targets), "a row of ids and its targets come from different texts"

    def four():
        hint = "of two batches of 4 rows it should make one of 4: is the number of rows typed in?"
        return np.shape(batch(4)[0]) == (4, 5), hint

    def draws():
        batches = fn(lambda rng: (rng.integers(9, size=(8, 5)),) * 2, lambda rng: (rng.integers(9, size=(8, 5)),) * 2)
        rng = np.random.default_rng(0)
        return not np.array_equal(
            batches(rng)[0], batches(rng)[0]
        ), "every step should draw anew from the rng it is given"

    checks = [("shapes", shapes), ("halves", halves), ("pairs", pairs), ("other sizes", four), ("every step", draws)]
    check.report("rehearse", checks)
