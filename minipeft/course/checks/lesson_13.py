"""The checks of the exercises of lesson 13."""

import numpy as np

from .. import check

__all__ = ["keep_rows", "low_rank_prompt", "prompt_numbers"]


def prompt_numbers(answer):
    """(numbers of a prompt, numbers of a prefix) for m = 20, 12 layers, D = 768."""
    m, layers, D = 20, 12, 768
    mine = check.two_numbers("prompt numbers", answer, "(prompt, prefix)")
    if mine is None:
        return

    in_prompt = {"a prompt stands once, and not in every layer": layers * m * D, "how long is one row?": m}
    in_prefix = {"a key, and what else?": layers * m * D, "and in how many layers?": 2 * m * D}
    check.report("prompt numbers", [
        ("prompt", check.one_number("prompt", mine[0], m * D, in_prompt)),
        ("prefix", check.one_number("prefix", mine[1], 2 * layers * m * D, in_prefix)),
    ])  # fmt: skip


def keep_rows(fn):
    """fn(ids, m) -> targets, mask, where place i predicts what stands at i + 1 and the first m stand for no token."""
    N, T, m = 2, 4, 3
    ids = np.arange(N * T).reshape(N, T)  # token 0 is one like the others
    places = np.arange(m + T)

    def mask_at(chosen):
        return np.tile(chosen, (N, 1)).astype(int)

    asked = (places >= m - 1) & (places < m + T - 1)
    want = {"targets": np.pad(ids, ((0, 0), (m - 1, 1))), "mask": mask_at(asked)}

    def answer():
        got = fn(ids.copy(), m)
        return dict(zip(("targets", "mask"), got if isinstance(got, (tuple, list)) else (got, None), strict=True))

    def shape():
        return check.shapes(answer(), want)

    def mask():
        rows = "nobody can be asked for a row of P: it is no token"
        behind = "what stands behind the last token is not known"
        itself = "a place is asked for what stands at the next, not at the place itself"
        return check.compare(answer()["mask"], want["mask"], "the mask", [
            (mask_at(places >= m), itself),
            (mask_at(asked & (places >= m)), "which place is asked for the first token?"),
            (mask_at(places >= m - 1), behind),
            (mask_at(places >= 0), f"{rows}, and {behind}"),
            (mask_at(places < m + T - 1), rows),
            (mask_at(~asked), "1 counts, and 0 does not"),
            ((want["targets"] != 0).astype(int), "0 is a token, too: it counts where it is one of the text"),
        ])  # fmt: skip

    def one_row():
        return check.compare(
            fn(ids.copy(), 1)[1], np.pad(np.ones((N, T), int), ((0, 0), (0, 1))), "with m = 1, the mask"
        )

    def targets():
        got = np.asarray(answer()["targets"])
        if got.dtype.kind not in "iu":
            return False, f"cross_entropy takes the numbers of tokens as whole numbers, not as {got.dtype}"
        itself = np.pad(ids, ((0, 0), (m, 0)))
        early = np.pad(ids, ((0, 0), (m - 2, 2)))
        first = [(itself[:, asked], "those are the tokens at the places themselves: which come next?"),
                 (early[:, asked], "those come two places later: which come next?")]  # fmt: skip
        return check.compare(got[:, asked], ids, "the targets that count", first)

    check.report("keep_rows", [("shape", shape), ("mask", mask), ("targets", targets), ("one row", one_row)])


def low_rank_prompt(fn):
    """fn(Z, W, dy) -> dZ, dW for y = [Z W; x], the same rows before every sequence."""
    rng = np.random.default_rng(1)
    Z, W, dy = rng.normal(size=(3, 2)), rng.normal(size=(2, 4)), rng.normal(size=(5, 3 + 6, 4))

    def answer():
        return dict(zip(("dZ", "dW"), fn(Z.copy(), W.copy(), dy.copy()), strict=True))

    def slopes(dP):
        return {"dZ": dP @ W.T, "dW": Z.T @ dP}

    def shape():
        return check.shapes(answer(), {"dZ": Z, "dW": W})

    def value():
        right = slopes(dy[:, :3].sum(0))
        slips = {
            "a mean over the batch: the same rows stand before each sequence, and slopes add": dy[:, :3].mean(0),
            "those are the last rows of dy: where does P stand?": dy[:, -3:].sum(0),
            "that is one sequence: sum over all of them": dy[0, :3],
        }
        return check.compare_all(
            answer(),
            {name: (want, [(slopes(dP)[name], hint) for hint, dP in slips.items()]) for name, want in right.items()},
        )

    def slope():
        def loss():
            return (dy[:, :3] * (Z @ W)).sum()

        return check.gradients(loss, {"Z": Z, "W": W}, {name[1:]: grad for name, grad in answer().items()})

    check.report("low_rank_prompt", [("shape", shape), ("value", value), ("gradient check", slope)])
