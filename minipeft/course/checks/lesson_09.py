"""The checks of the exercises of lesson 09."""

import numpy as np

from .. import check

__all__ = ["carried_rate", "faster_rates", "lora_rate", "predict_plus_sgd"]


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


def carried_rate(fn):
    """fn(lr, r, alpha, new_r, new_alpha, optimizer) -> the rate that keeps the first step's size, s = α/r."""

    def rate(*case):
        return np.asarray(fn(*case), float)

    def same():
        return check.compare(rate(0.01, 4, 16, 4, 16, "adam"), 0.01, "with nothing changed, the rate")

    def adam():
        moved = check.compare(rate(0.01, 4, 16, 4, 32, "adam"), 0.005, "Adam, α doubled: the rate", [
            (0.01, "the rate is the old one, though α doubled: what does s do to a push?"),
            (0.01 / 4, "that is the rule of SGD: Adam divides the gradient by its own size"),
            (0.02, "the other way round: a larger α takes larger steps"),
        ])  # fmt: skip
        if not moved[0]:
            return moved
        return check.compare(rate(0.01, 4, 16, 16, 16, "adam"), 0.01, "Adam, r four times as large: the rate", [
            (0.04, "s is a quarter, but there are four times as many pushes: a step goes with r s"),
            (0.0025, "there are four times as many pushes, but s is a quarter: a step goes with r s"),
        ])  # fmt: skip

    def sgd():
        moved = check.compare(rate(0.01, 4, 16, 4, 32, "sgd"), 0.0025, "SGD, α doubled: the rate", [
            (0.005, "s stands in the gradient of B, too, and SGD does not forget it"),
            (0.04, "the other way round: a larger α takes larger steps"),
        ])  # fmt: skip
        if not moved[0]:
            return moved
        return check.compare(rate(0.01, 4, 16, 16, 16, "sgd"), 0.04, "SGD, r four times as large: the rate", [
            (0.16, "s² is a sixteenth, but there are four times as many pushes: a step goes with r s²"),
            (0.01, "that is so for Adam: a step of SGD goes with r s²"),
        ])  # fmt: skip

    check.report("carried_rate", [("special case", same), ("Adam", adam), ("SGD", sgd)])


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
