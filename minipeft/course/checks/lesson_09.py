"""The checks of the exercises of lesson 09."""

import numpy as np

from .. import check

__all__ = ["faster_rates", "first_push", "lora_rate", "predict_plus_sgd"]


def lora_rate(fn):
    """fn(full, T, d, alpha) -> the rate of LoRA that goes as far in T steps as full fine-tuning at the rate full."""

    def estimate(full, T, d, alpha):
        a, b, c = alpha * d, alpha / 3**0.5, -d * full * T
        return (-b + (b * b - 4 * a * c) ** 0.5) / (2 * a) / T

    def rate(*case):
        return np.asarray(fn(*case), float)

    def one_step():
        case = (1e-9, 1, 64, 8)  # so short a way that A hardly moves
        return check.compare(rate(*case) / 1e-9, 3**0.5 * 64 / 8, "for a very short way, the factor", [
            (64 / 8, "for a very short way, the factor lacks √3: how large is h beside x?"),
            (8 / 64 / 3**0.5, "the factor is upside down: LoRA has fewer pushes, so its rate is larger"),
        ], tolerance=1e-4)  # fmt: skip

    def moving():
        case = (3e-4, 11, 64, 8)
        return check.compare(rate(*case), estimate(*case), "the rate", [
            (case[0] * 3**0.5 * 64 / 8, "that is the first step only: h grows by d u while A moves"),
            (estimate(*case) * 11, "that is u, the way: how many steps share it?"),
            (estimate(3e-4, 1, 64, 8), "what full fine-tuning has travelled is its rate times T"),
        ])  # fmt: skip

    def others():
        for case in ((1e-4, 100, 256, 32), (2e-3, 3, 16, 1)):
            right, hint = check.compare(rate(*case), estimate(*case), f"for full, T, d, alpha = {case}, the rate")
            if not right:
                return right, hint
        return True, ""

    check.report("lora_rate", [("special case", one_step), ("value", moving), ("other sizes", others)])


def first_push(fn):
    """fn(x, dy, A, s, lr, optimizer) -> how y moves in the first step of LoRA, from B = 0, (N, d_out)."""
    rng, s, lr = np.random.default_rng(0), 1.5, 0.1

    def case(N):
        return rng.normal(size=(N, 5)), rng.normal(size=(N, 3)), rng.normal(size=(5, 2))

    one, several = case(1), case(4)

    def push(x, dy, A, adam, powers=(1, 1)):
        h, dB = x @ A, (x @ A).T @ dy
        return -lr * s ** powers[0] * h @ (np.sign(dB) if adam else s ** powers[1] * dB)

    def moved(arrays, optimizer):
        return fn(*arrays, s, lr, optimizer)

    def shape():
        return check.compare(np.zeros(np.shape(moved(several, "sgd"))), np.zeros((4, 3)), "what y moves by")

    def sgd():
        return check.compare(moved(one, "sgd"), push(*one, False), "SGD, one token: what y moves by", [
            (push(*one, False, (1, 0)), "SGD: s stands in the gradient of B, too, and SGD does not forget it"),
            (-push(*one, False), "downhill: the loss falls if y moves against dy"),
            (push(*one, True), "that is Adam's step: SGD moves B by the gradient itself, times the rate"),
        ])  # fmt: skip

    def adam():
        return check.compare(moved(one, "adam"), push(*one, True), "Adam, one token: what y moves by", [
            (push(*one, False), "that is SGD's step: Adam moves each number by the rate, whatever its gradient"),
            (push(*one, True, (0, 1)), "Adam: it forgets the s in the gradient, but the path is s h B"),
            (push(*one, True, (2, 1)), "Adam: s is there twice, and Adam forgets the one in the gradient"),
        ])  # fmt: skip

    def tokens():
        x, dy, A = several
        alone = np.vstack([push(x[n : n + 1], dy[n : n + 1], A, True) for n in range(4)])
        return check.compare(moved(several, "adam"), push(*several, True), "Adam, four tokens: what y moves by", [
            (alone, "the tokens share one B: first add up their gradients, then take the sign"),
        ])  # fmt: skip

    check.report("first_push", [("shape", shape), ("SGD", sgd), ("Adam", adam), ("several tokens", tokens)])


def predict_plus_sgd(answer):
    """With SGD: which ratio of LoRA+ is the same run as plain LoRA at 4 α?  2, 4 or 16."""
    check.prediction("predict_plus_sgd", answer, 16, {
        "4": "that is so with Adam, which forgets the size of a gradient. How large is the slope of C beside that of B?",
        "2": "B = 4 C. The slope of C is 4 times that of B, not half of it: how far does C go, and then B?",
    })  # fmt: skip


def faster_rates(fn):
    """fn(paths, lr, ratio) -> {path: rate}: LoRA's B at ratio · lr, everything else that is trained at lr."""
    plain = ["h.0.attn.q_proj.A", "h.0.attn.q_proj.B", "h.1.mlp.c_fc.A", "h.1.mlp.c_fc.B"]
    strange = ["BERT.0.q_proj.A", "ALBERT.head.weight", "B.ln_f.bias", "h.0.B.A"]

    def paths():
        got = dict(fn(plain, 0.01, 4))
        return set(got) == set(plain), "every path needs a rate: one is missing, or one is there that was not given"

    def factor():
        got = dict(fn(plain, 0.01, 4))
        A, B = (np.array([got[path] for path in plain if path.endswith(end)]) for end in (".A", ".B"))
        right = check.compare(B, np.full(2, 0.04), "the rate of B", [
            (np.full(2, 0.01), "B has the rate lr: which of the two factors has the faster one, and why?"),
            (np.full(2, 4.0), "the ratio is not a rate: it multiplies lr"),
            (np.full(2, 0.0025), "the ratio multiplies lr: B is the faster one"),
        ])  # fmt: skip
        return check.compare(A, np.full(2, 0.01), "the rate of A") if right[0] else right

    def others():
        got = dict(fn([*plain, *strange], 0.01, 4))
        wrong = [path for path in strange if not abs(got.get(path, 0) - 0.01) < 1e-12]
        return not wrong, f"{wrong[0] if wrong else ''} is no B of a LoRA: what is the last part of its path?"

    check.report("faster_rates", [("paths", paths), ("A and B", factor), ("other parameters", others)])
