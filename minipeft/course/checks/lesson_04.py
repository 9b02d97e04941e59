"""The checks of the exercises of lesson 04."""

import numpy as np

from .. import check

__all__ = [
    "predict_gradient_rank",
    "pulls",
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


def pulls(fn):
    """fn(w, g, decay) -> what decay in the slope, and decoupled decay, subtract from w in a step of AdamW, over lr.

    The slope is g and −g by turns.
    """
    from ...model.module import Parameter
    from ...training import AdamW

    w, g, decay = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.3, 0.4, -2.0, 0.05]), 0.1
    own = decay * w
    size = np.sqrt(g**2 + own**2)

    def two():
        return len(fn(w.copy(), g.copy(), decay)) == 2, "it should return two arrays, (a) and (b)"

    def in_slope():
        mistakes = [(own, "that is what plain descent subtracts, and (b): by what does AdamW divide?"),
                    (own / np.abs(g), "λ w goes into v, too"),
                    (own / size**2, "v is a mean of squares: is a root missing?"),
                    (own / np.maximum(np.abs(g), np.abs(own)), "v is a mean of squares, not of sizes"),
                    (own / (np.abs(g) + np.abs(own)), "v is a mean of squares: what is the root of a sum of squares?"),
                    (np.sign(g + own), "that is the first step: what if g turns around?"),
                    ((g + own) / size, "g turns around: what is left of it in the mean?"),
                    (np.sign(w), "v is the mean of both squares, not the square of the mean"),
                    (own / np.abs(g + own), "g turns around: what is left of 2 g λ w in the mean of the squares?"),
                    (w / size, "w is multiplied by λ before it goes into m")]  # fmt: skip
        return check.compare(fn(w.copy(), g.copy(), decay)[0], own / size, "(a)", mistakes)

    def quiet():
        return check.compare(fn(w.copy(), 0 * w, decay)[0], np.sign(w), "(a) where g is 0")

    def decoupled():
        mistakes = [(own / size, "in (b) λ w goes neither into m nor into v"),
                    (own / np.abs(g), "in (b) λ w is not divided by √v̂: it never goes into m"),
                    (w - own, "that is what would be left: what is subtracted?"),
                    (own + np.sign(g), "g turns around: what is left of it in the mean?"),
                    (w, "where is λ?")]  # fmt: skip
        return check.compare(fn(w.copy(), g.copy(), decay)[1], own, "(b)", mistakes)

    def library():
        steps = []
        for inside, outside in ((decay, 0.0), (0.0, decay)):
            p = Parameter(w.copy())
            optimizer, moved = AdamW([("w", p)], lr=1e-3, weight_decay=outside), []
            for t in range(400):
                p.data[...] = w
                p.grad[...] = (-1) ** t * g + inside * w
                optimizer.step()
                moved.append((w - p.data) / 1e-3)
            steps.append(np.mean(moved[-2:], axis=0))
        got = fn(w.copy(), g.copy(), decay)
        return np.allclose(got, steps, atol=0.01), "AdamW moves by something else, as a mean of steps 399 and 400"

    checks = [("in the slope", in_slope), ("no slope", quiet), ("decoupled", decoupled), ("the library", library)]
    check.report("pulls", [("two ways", two), *checks])


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
