"""The checks of the exercises of lessons 04 and 05."""

import numpy as np

from . import check
from .spectra import truncate

__all__ = [
    "adamw_step",
    "add_adapters",
    "cut",
    "factor_gradients",
    "predict_gradient_rank",
    "predict_rank_of_sum",
    "rehearse",
    "remember",
    "to_lora",
    "training_bytes",
]


# ---- Lesson 04


def training_bytes(fn):
    """fn(total, trained, size) -> bytes of weights, gradients and AdamW's state, `size` bytes a number."""

    def frozen():
        mistakes = [(np.array(400 * 4), "nothing is trained here: what needs no gradient needs no state either"),
                    (np.array(100), "that is the count of numbers: how many bytes has each?"),
                    (np.array(0), "the frozen weights must be in memory too")]  # fmt: skip
        return check.compare(fn(100, 0, 4), 400, "the bytes of a model with nothing trained", mistakes)

    def full():
        mistakes = [(np.array(800), "weights and gradients are there: what does AdamW keep?"),
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
           96: "the matrix has room for 96 directions. How many outer products are there?"}  # fmt: skip
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
                    (p - 0.1 * g, "that is plain gradient descent"),
                    (p - 0.1 / g, "v is a mean of squares: is a root missing?"),
                    (p + 0.1 * np.sign(g), "it goes uphill")]  # fmt: skip
        return check.compare(got, p - 0.1 * np.sign(g), "the first step, lr × sign(g),", mistakes, tolerance=1e-6)

    def moments():
        _, got_m, got_v = call(p, g, m, v, t=5, lr=0.1)
        _, want_m, want_v = right(p, g, m, v, 5, 0.1)
        ok, hint = check.compare(got_m, want_m, "m", [(0.1 * m + 0.9 * g, "which of old and new weighs 0.9?")])
        mistakes = [(0.999 * v + 0.001 * g, "v follows the squares of g")]
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
    from ..model import GPT2, GPT2Config

    def names():
        model = GPT2(GPT2Config(7, 6, 8, 1, 2))
        return set(fn(model)) == {path for path, _ in model.named_parameters()}, "are all the paths there?"

    def later():
        model = GPT2(GPT2Config(7, 6, 8, 1, 2))
        before, kept = model.wte.weight.data.copy(), fn(model)["wte.weight"]
        if not np.array_equal(kept, before):
            return False, "the remembered weights are not those of the model"
        model.wte.weight.data -= 1.0  # as an optimiser does it: in place
        return np.array_equal(kept, before), "the optimiser moved the model, and the memory moved with it"

    check.report("remember", [("paths", names), ("after a step", later)])


def rehearse(fn):
    """fn(draw_new, draw_old) -> batches(rng): half of the rows from each."""

    def source(number):
        return lambda rng: (np.full((8, 5), number), np.full((8, 5), number + 10))

    def batch():
        return fn(source(1), source(2))(np.random.default_rng(0))

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

    def draws():
        batches = fn(lambda rng: (rng.integers(9, size=(8, 5)),) * 2, lambda rng: (rng.integers(9, size=(8, 5)),) * 2)
        rng = np.random.default_rng(0)
        return not np.array_equal(
            batches(rng)[0], batches(rng)[0]
        ), "every step should draw anew from the rng it is given"

    checks = [("shapes", shapes), ("halves", halves), ("pairs", pairs), ("every step", draws)]
    check.report("rehearse", checks)


# ---- Lesson 05


def cut(fn):
    """fn(M, k) -> the best copy of M of rank k."""
    rng = np.random.default_rng(0)
    M, square = rng.normal(size=(5, 7)), rng.normal(size=(6, 6))

    def shape():
        got = np.shape(fn(M, 2))
        if got == (5, 5):
            return False, "NumPy's third result is transposed already: its rows are the directions"
        return got == M.shape, f"a copy of a matrix of shape {M.shape} should have that shape"

    def whole():
        U, _, V = np.linalg.svd(M, full_matrices=False)
        return check.compare(fn(M, 5), M, "the copy of full rank", [(U @ V, "how strong is each direction?")])

    def rank():
        return np.linalg.matrix_rank(fn(M, 2)) == 2, "the copy should have rank 2"

    def value():
        U, s, V = np.linalg.svd(square)
        turned = (U[:, :2] * s[:2]) @ V[:, :2].T
        weak = (U[:, -2:] * s[-2:]) @ V[-2:]
        mistakes = [(turned, "NumPy's third result is transposed already: its rows are the directions"),
                    (weak, "those are the weakest directions")]  # fmt: skip
        return check.compare(fn(square, 2), truncate(square, 2), "the copy", mistakes)

    check.report("cut", [("shape", shape), ("full rank", whole), ("rank", rank), ("value", value)])


def predict_rank_of_sum(answer):
    """The rank of the sum of two adapters of rank 4."""
    why = {4: "are the two adapters' directions the same?",
           16: "ranks multiply in a Kronecker product, not in a sum. How many outer products are there?",
           96: "the sum has room for 96. How many outer products is it made of?"}  # fmt: skip
    check.prediction("predict the rank of a sum", answer, 8, why)


def add_adapters(fn):
    """fn(A1, B1, A2, B2) -> (A, B) with A B = A1 B1 + A2 B2."""
    rng = np.random.default_rng(0)
    A1, B1, A2, B2 = (rng.normal(size=shape) for shape in ((6, 2), (2, 5), (6, 3), (3, 5)))
    A3, B3 = rng.normal(size=(6, 2)), rng.normal(size=(2, 5))

    def product(*pairs):
        A, B = fn(*pairs)
        return np.asarray(A) @ np.asarray(B)

    def nothing():
        return check.compare(product(A1, B1, A3, 0 * B3), A1 @ B1, "the sum with an adapter that does nothing",
                             [((A1 + A3) @ B1, "A of the second adapter meets B of the first")])  # fmt: skip

    def equal():
        cross, no = (A1 + A3) @ (B1 + B3), "a factor cannot take cross terms away"
        mistakes = [(cross, "multiply (A1 + A2)(B1 + B2) out: which terms should not be there?"),
                    (cross / 2, no), (cross / 4, no)]  # fmt: skip
        return check.compare(product(A1, B1, A3, B3), A1 @ B1 + A3 @ B3, "the sum", mistakes)

    def unequal():
        return check.compare(product(A1, B1, A2, B2), A1 @ B1 + A2 @ B2, "the sum of a rank 2 and a rank 3")

    def thin():
        A, B = fn(A1, B1, A3, B3)
        return np.shape(A)[1] == np.shape(B)[
            0
        ] <= 4, "A and B should stay thin: at most as many columns as both together"

    checks = [("with nothing", nothing), ("equal ranks", equal), ("ranks 2 and 3", unequal), ("thin factors", thin)]
    check.report("add_adapters", checks)


def factor_gradients(fn):
    """fn(W, A, B, s, M) -> (L, dA, dB) for L = ½ ‖W + s A B − M‖²."""
    rng = np.random.default_rng(0)
    W, M, s = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), 0.7
    A, B = rng.normal(size=(5, 2)), rng.normal(size=(2, 4))
    E = W + s * A @ B - M

    def loss():
        half = 0.5 * (E * E).sum()
        mistakes = [(np.array(2 * half), "where is the ½?"), (np.array((E * E).mean() / 2), "a sum, not a mean")]
        return check.compare(fn(W, A, B, s, M)[0], half, "L", mistakes)

    def shapes():
        _, dA, dB = fn(W, A, B, s, M)
        return np.shape(dA) == A.shape and np.shape(dB) == B.shape, "dA has the shape of A, and dB that of B"

    def start():
        _, dA, dB = fn(W, A, 0 * B, s, M)
        return not np.any(dA) and bool(np.any(dB)), "at B = 0 dA is zero, and dB is not"

    def value(i, what, want, without):
        hints = [(without, "s stands in the forward: where is it in the backward?"),
                 (s * want, "s is there twice"), (-want, "which way round is the difference?")]  # fmt: skip
        return lambda: check.compare(fn(W, A, B, s, M)[i], want, what, hints)

    def slope():
        x = {"A": A.copy(), "B": B.copy()}
        _, dA, dB = fn(W, x["A"], x["B"], s, M)
        return check.gradients(lambda: fn(W, x["A"], x["B"], s, M)[0], x, {"A": dA, "B": dB})

    checks = [("loss", loss), ("shapes", shapes), ("at B = 0", start), ("dA", value(1, "dA", s * E @ B.T, E @ B.T)),
              ("dB", value(2, "dB", s * A.T @ E, A.T @ E)), ("gradient check", slope)]  # fmt: skip
    check.report("factor_gradients", checks)


def to_lora(fn):
    """fn(dW, r, alpha) -> (A, B) with (alpha / r) A B = the best copy of dW of rank r."""
    dW = np.random.default_rng(0).normal(size=(6, 5))

    def shapes():
        A, B = fn(dW, 2, 8)
        return np.shape(A) == (6, 2) and np.shape(B) == (2, 5), "A should be (d_in, r), and B (r, d_out)"

    def plain():
        A, B = fn(dW, 2, 2)
        return check.compare(np.asarray(A) @ np.asarray(B), truncate(dW, 2), "A B at alpha = r")

    def scaled():
        A, B = fn(dW, 2, 8)
        want, got = truncate(dW, 2), 4 * (np.asarray(A) @ np.asarray(B))
        mistakes = [(4 * want, "LoRA multiplies by alpha / r afterwards: who takes that out again?"),
                    (16 * want, "the scale goes the wrong way"),
                    (want / 4, "the scale is taken out of both factors: once is enough"),
                    (want / 2, "taken out by alpha, where the scale is alpha / r")]  # fmt: skip
        return check.compare(got, want, "(alpha / r) A B", mistakes)

    check.report("to_lora", [("shapes", shapes), ("scale 1", plain), ("scale 4", scaled)])
