"""The blanks of the lessons: each likely mistake gets the hint that is meant for it, what is right its ✓.

The checks stand in minipeft/course/lesson_NN.py.  An answer is what a reader would type, in the names of the lesson.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from minipeft import load_base
from minipeft.course import check
from minipeft.lab.spectra import singular_values
from minipeft.methods.wrapper import Wrapper
from minipeft.model import Block, Parameter, chain
from minipeft.model.functional import gelu, softmax

# (lesson, what stands above the blank, its check, {blank: {what the check says: answer}})
BLANKS = [
    ("01", "x, W, b, dy = tools.example()", "tools.check_linear(x, W, b, dy, {})", {
        "dW": {"✓": "x.T @ dy"},
        "db": {"✓": "dy.sum(0)", "a mean over the tokens": "dy.mean(0)"},
        "dx": {"✓": "dy @ W.T"},
    }),
    ("01", "x = np.array([-3, -1, -0.2, 0, 0.5, 2]); c = np.sqrt(2 / np.pi); t = np.tanh(c * (x + 0.044715 * x**3))",
     "tools.check_slope(x, {})", {
        "slope": {
            "✓": "(1 + t) / 2 + x / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)",
            "x also stands inside g": "(1 + t) / 2",
            "x is also multiplied by g": "x / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)",
            "the slope of u is missing": "(1 + t) / 2 + x / 2 * (1 - t**2)",
        },
    }),
    ("01", "x, g, b, dy = tools.norm_example(); sigma = x.std(-1, keepdims=True); dxhat = dy * g; "
     "xhat = (x - x.mean(-1, keepdims=True)) / sigma; mean = lambda a: a.mean(-1, keepdims=True)",
     "tools.check_norm(x, g, b, dy, {})", {
        "dx": {
            "✓": "(dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) / sigma",
            "one way of three": "dxhat / sigma",
            "σ moves, too": "(dxhat - mean(dxhat)) / sigma",
            "the mean moves, too": "(dxhat - xhat * mean(dxhat * xhat)) / sigma",
            "back through σ": "dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)",
        },
        "dg": {"✓": "(dy * xhat).sum(0)", "not by x": "(dy * x).sum(0)"},
        "db": {"✓": "dy.sum(0)"},
    }),
    ("02", "q, k, v, do = tools.example(); c = 3**-0.5; p = softmax(c * q @ k.T); dp = do @ v.T; "
     "dz = p * (dp - (p * dp).sum(-1, keepdims=True))", "tools.check({})", {
        "dv": {"✓": "p.T @ do"},
        "dp": {"✓": "do @ v.T"},
        "dz": {
            "✓": "dz",
            "if all scores of a query rise alike": "p * dp",
            "the shares as weights": "p * (dp - dp.mean(-1, keepdims=True))",
            "for each query by itself": "p * (dp - (p * dp).sum())",
            "times its share": "dp - (p * dp).sum(-1, keepdims=True)",
        },
        "dq": {"✓": "c * dz @ k"},
        "dk": {"✓": "c * dz.T @ q"},
    }),
    ("03", "W, ids, dy = tools.embedding_example(); places = np.eye(4)[ids].T; x, E, dlogits = tools.head_example()",
     "tools.check({})", {
        "dW": {
            "✓": "places @ dy",
            "got one of its two slopes": "np.stack([dy[1], 0 * dy[0], dy[2], 0 * dy[0]])",
            "if a number lands in several places, add": "places @ dy / places.sum(1, keepdims=True).clip(1)",
        },
        "dE": {"✓": "dlogits.T @ x"},
        "dx_head": {"✓": "dlogits @ E"},
    }),
    ("03", "dy = 1.0; back_mlp = lambda dy: -0.5 * dy; back_attn = lambda dh: 2 * dh; dh = dy + back_mlp(dy)",
     "tools.check({})", {
        "dh": {
            "✓": "dy + back_mlp(dy)",
            "into the MLP, and past it": "back_mlp(dy)",
            "h goes into it, too": "dy",
        },
        "dx": {
            "✓": "dh + back_attn(dh)",
            "into attention, and past it": "back_attn(dh)",
            "x goes into it, too": "dh",
            "the slope at h is dh": "dy + back_attn(dy)",
            "past attention goes dh": "dy + back_attn(dh)",
        },
    }),
    ("03", "", "tools.check_block(block({}))", {
        "y": {
            "✓": "lambda x, a, m: x + a + m",
            "h goes past the MLP, too": "lambda x, a, m: m",
            "that is h": "lambda x, a, m: x + a",
            "and no longer x": "lambda x, a, m: x + m",
        },
        "dx": {
            "✓": "lambda dy, attn, mlp: dy + mlp(dy) + attn(dy + mlp(dy))",
            "h and x go past their parts": "lambda dy, attn, mlp: attn(mlp(dy))",
            "x goes past attention": "lambda dy, attn, mlp: attn(dy + mlp(dy))",
            "h goes past the MLP": "lambda dy, attn, mlp: mlp(dy) + attn(mlp(dy))",
            "the slope at h is dh": "lambda dy, attn, mlp: dy + attn(dy)",
            "past attention goes dh": "lambda dy, attn, mlp: dy + attn(dy + mlp(dy))",
        },
    }),
    ("04", "g = np.array([0.5, -0.001]); m, v = 0.1 * g, 0.001 * g**2; root = np.sqrt", "tools.check_step(g, {})", {
        "step": {
            "✓": "-0.001 * (m / 0.1) / (root(v / 0.001) + 1e-8)",
            "as they were": "-0.001 * m / (root(v) + 1e-8)",
            "m is not mended": "-0.001 * m / (root(v / 0.001) + 1e-8)",
            "v is not mended": "-0.001 * (m / 0.1) / (root(v) + 1e-8)",
            "plain descent": "-0.001 * g",
            "is a root missing": "-0.001 * (m / 0.1) / (v / 0.001 + 1e-8)",
            "uphill": "0.001 * (m / 0.1) / (root(v / 0.001) + 1e-8)",
        },
    }),
    ("04", "base = load_base('english', 'float32'); ids = np.zeros((1, 64), int); D, L, V, S = 128, 4, 2048, 48",
     "tools.check_operations(base, ids, {})", {
        "per_token": {
            "✓": "2 * (L * (12 * D**2 + 2 * S * D) + V * D)",
            "what is multiplied in attention": "2 * (L * 12 * D**2 + V * D)",
            "the mean of the values": "2 * (L * (12 * D**2 + S * D) + V * D)",
            "head": "2 * L * (12 * D**2 + 2 * S * D)",
            "additions": "L * (12 * D**2 + 2 * S * D) + V * D",
            "MLP": "2 * (L * (4 * D**2 + 2 * S * D) + V * D)",
            "that is one block": "2 * (12 * D**2 + 2 * S * D + V * D)",
            "too small": "1.0",
        },
    }),
    ("05", "A = np.arange(6.0).reshape(3, 2); B = np.arange(8.0).reshape(2, 4) - 3", "tools.check_product(A, B, {})", {
        "product": {
            "✓": "np.outer(A[:, 0], B[0]) + np.outer(A[:, 1], B[1])",
            "first outer product alone": "np.outer(A[:, 0], B[0])",
            "one number of A B": "np.full((3, 4), A[0] @ B[:, 0])",
        },
    }),
    ("05", "M = np.random.default_rng(0).normal(size=(6, 5)); s = singular_values(M)",
     "tools.check_lost(M, 2, {})", {
        "lost": {
            "✓": "np.sqrt((s[2:] ** 2).sum())",
            "squared before": "s[2:].sum()",
            "the square of it": "(s[2:] ** 2).sum()",
            "what is kept": "np.sqrt((s[:2] ** 2).sum())",
            "one direction too few": "np.sqrt((s[3:] ** 2).sum())",
        },
    }),
    ("06", "x, W, b, A, B, s, dy = tools.example(); dh = s * dy @ B.T", "tools.blanks({})", {
        "dB": {"✓": "s * (x @ A).T @ dy"},
        "dh": {"✓": "s * dy @ B.T"},
        "dA": {"✓": "x.T @ dh"},
        "dx": {
            "✓": "dy @ W.T + dh @ A.T",
            "one way only": "dy @ W.T",
            "the lower lane only": "dh @ A.T",
            "the scale in one of its ways": "dy @ W.T + dy @ B.T @ A.T",
        },
    }),
    ("07", "A, B, D = tools.example()", "tools.check({})", {
        "dA": {"✓": "(A @ B - D) @ B.T", "D is missing": "A @ B @ B.T", "the sign": "(D - A @ B) @ B.T"},
        "dB": {"✓": "A.T @ (A @ B - D)", "D is missing": "A.T @ A @ B", "the sign": "A.T @ (D - A @ B)"},
    }),
    ("08", "x, A, dy, s = tools.example(); G = x.T @ dy; lr = 0.1", "tools.check({})", {
        "dB": {"✓": "s * A.T @ G", "where does the scale s enter": "A.T @ G"},
        "sgd": {
            "✓": "s * A @ (-lr * s * A.T @ G)",
            "s enters twice": "A @ (-lr * s * A.T @ G)",
            "the learning rate is missing": "s * A @ (-s * A.T @ G)",
            "s is missing altogether": "A @ (-lr * A.T @ G)",
        },
        "adam": {
            "✓": "s * A @ (-lr * np.sign(s * A.T @ G))",
            "the s of ΔW = s A B is still there": "A @ (-lr * np.sign(A.T @ G))",
            "one s too many": "s * A @ (-lr * s * np.sign(A.T @ G))",
            "the step of plain descent": "s * A @ (-lr * s * A.T @ G)",
        },
    }),
    ("09", "x, dy, A, s, lr = tools.token()", "tools.blanks({})", {
        "full": {
            "✓": "lr * abs(x).sum()",
            "no two pushes cancel": "lr * abs(x.sum())",
            "lacks the rate": "abs(x).sum()",
            "the same size for every weight": "lr * (x**2).sum()",
        },
        "lora": {
            "✓": "lr * s * abs(x @ A).sum()",
            "lacks the scale": "lr * abs(x @ A).sum()",
            "no two pushes cancel": "lr * s * abs((x @ A).sum())",
            "the scale twice": "lr * s * s * abs(x @ A).sum()",
            "B does not see x": "lr * s * abs(x).sum()",
        },
    }),
    ("10", "x, M, W, A, B, s, dy = tools.example(); dh = s * dy @ B.T", "tools.check({})", {
        "dA": {
            "✓": "(M * x).T @ dh",
            "by M ⊙ x, not by x": "x.T @ dh",
            "what is kept was doubled": "((M > 0) * x).T @ dh",
        },
        "dB": {"✓": "s * ((M * x) @ A).T @ dy", "by (M ⊙ x) A, not by x A": "s * (x @ A).T @ dy"},
        "dx": {
            "✓": "dy @ W.T + M * (dh @ A.T)",
            "that way back goes through it, too": "dy @ W.T + dh @ A.T",
            "no mask stands on the way through W": "M * (dy @ W.T + dh @ A.T)",
            "this is one of them": "M * (dh @ A.T)",
        },
    }),
    ("11", "u, down, up, dy = tools.example(); z = u @ down; g, slope = gelu(z); dg = dy @ up.T; dz = dg * slope",
     "tools.slopes({})", {
        "dup": {"✓": "g.T @ dy", "and not z": "z.T @ dy"},
        "dg": {"✓": "dy @ up.T"},
        "dz": {"✓": "dg * slope", "the slope of the bend is missing": "dg", "and not by its value": "dg * g"},
        "ddown": {"✓": "u.T @ dz", "the bend lies between": "u.T @ dg"},
        "du": {
            "✓": "dy + dz @ down.T",
            "straight on, and through the detour": "dz @ down.T",
            "only the straight way": "dy",
        },
    }),
    ("12", "q, k, v, P_k, P_v, do = tools.example(); p, o = tools.attend(q, np.vstack([P_k, k]), np.vstack([P_v, v])); "
     "mine, worth = p[:, :2], do @ P_v.T; dz = mine * (worth - (do * o).sum(1, keepdims=True)); "
     "both = tools.example(batch=True); each = [tools.attend(both[0][n], np.vstack([P_k, both[1][n]]), "
     "np.vstack([P_v, both[2][n]]))[0][:, :2].T @ both[5][n] for n in range(2)]", "tools.slopes({})", {
        "dP_v": {"✓": "mine.T @ do"},
        "dz": {
            "✓": "dz",
            "take away what the output is worth": "mine * worth",
            "where is o": "mine * (worth - do.sum(1, keepdims=True))",
            "the tokens' values, too": "mine * (worth - (mine * worth).sum(1, keepdims=True))",
            "the share p of the column is missing": "worth - (do * o).sum(1, keepdims=True)",
        },
        "dP_k": {"✓": "dz.T @ q / 2", "q is divided by √K": "dz.T @ q"},
        "dP_v_batch": {
            "✓": "each[0] + each[1]",
            "that is a mean": "(each[0] + each[1]) / 2",
            "one sequence alone": "each[1]",
        },
    }),
    ("12", "", "tools.check_layer(prefix({}))", {
        "o": {
            "✓": "lambda x, P, other: np.concatenate([P, x], axis=1)",
            "attention without the prefix": "lambda x, P, other: x",
            "behind the tokens": "lambda x, P, other: np.concatenate([x, P], axis=1)",
            "P_k belongs before the keys": "lambda x, P, other: np.concatenate([other, x], axis=1)",
        },
        "dq": {"✓": "lambda dq: dq", "dq is zero": "lambda dq: 0 * dq"},
        **{name: {
            "✓": "lambda d: d[:, 2:]",
            f"no slopes of {name[1]}": "lambda d: d",
            "the cut is at the other end": "lambda d: d[:, :-2]",
            "the rows of the prefix": "lambda d: d[:, :2]",
        } for name in ("dk", "dv")},
        **{name: {
            "✓": "lambda d, other: d[:, :2].sum(0)",
            "that is a mean": "lambda d, other: d[:, :2].mean(0)",
            "the last sequence alone": "lambda d, other: d[-1, :2]",
            "those are the last m rows": "lambda d, other: d[:, -2:].sum(0)",
            f"that is {given}": "lambda d, other: other[:, :2].sum(0)",
            "got no slope": "lambda d, other: 0.0",
        } for name, given in (("dP_k", "dP_v"), ("dP_v", "dP_k"))},
    }),
    ("13", "one = tools.example(); P, E, ids, dy, m = one.P, one.E, one.ids, one.dy, one.m", "tools.answers({})", {
        "y": {
            "✓": "np.concatenate([[P, P], E[ids]], axis=1)",
            "behind the text": "np.concatenate([E[ids], [P, P]], axis=1)",
        },
        "dP": {
            "✓": "dy[:, :m].sum(0)",
            "that is a mean": "dy[:, :m].mean(0)",
            "at the last rows": "dy[:, -m:].sum(0)",
            "the first sequence alone": "dy[0, :m]",
        },
    }),
]  # fmt: skip
ROWS = [
    pytest.param(lesson, above, call, blank, says, typed, id=f"{lesson}-{blank}-{says}")
    for lesson, above, call, blanks in BLANKS
    for blank, answers in blanks.items()
    for says, typed in answers.items()
]


def tools(lesson):
    return importlib.import_module(f"minipeft.course.lesson_{lesson}")


def function_in(call):
    return re.search(r"tools\.(\w+)\(", call)[1]


def block(y=lambda x, a, m: x + a + m, dx=lambda dy, attn, mlp: dy + mlp(dy) + attn(dy + mlp(dy))):
    """The block of lesson 03, right but for what is given."""

    class Mine(Block):
        def forward(self, x):
            a, attn = chain(x, self.ln_1, self.attn)
            m, mlp = chain(x + a, self.ln_2, self.mlp)
            return y(x, a, m), lambda dy: dx(dy, attn, mlp)

    return Mine


def prefix(
    o=lambda x, P, other: np.concatenate([P, x], axis=1),
    dq=lambda dq: dq,
    dk=lambda d: d[:, 2:],
    dv=lambda d: d[:, 2:],
    dP_k=lambda d, other: d[:, :2].sum(0),
    dP_v=lambda d, other: d[:, :2].sum(0),
):
    """The layer of lesson 12 with m = 2, right but for what is given."""

    class Mine(Wrapper):
        def __init__(self, core, P_k, P_v):
            super().__init__(core)
            self.P_k, self.P_v = Parameter(P_k), Parameter(P_v)

        def forward(self, q, k, v):
            P_k, P_v = (np.stack([one.data] * len(q)) for one in (self.P_k, self.P_v))
            y, back = self.base(q, o(k, P_k, P_v), o(v, P_v, P_k))

            def backward(do):
                d, keys, values = back(do)
                self.P_k.add_grad(dP_k(keys, values))
                self.P_v.add_grad(dP_v(values, keys))
                return dq(d), dk(keys), dv(values)

            return y, backward

    return Mine


def fill_in(lesson, above, call, blank, typed):
    names = {"tools": tools(lesson), "np": np, "softmax": softmax, "gelu": gelu, "load_base": load_base,
             "singular_values": singular_values, "block": block, "prefix": prefix}  # fmt: skip
    exec(above, names)
    exec(call.format(f"{blank}={typed}"), names)


@pytest.mark.parametrize(("lesson", "above", "call", "blank", "says", "typed"), ROWS)
def test_an_answer_gets_its_hint(lesson, above, call, blank, says, typed, capsys):
    fill_in(lesson, above, call, blank, typed)
    line = re.search(f"^{blank}: (.*)", capsys.readouterr().out, re.M)[1]
    assert line.startswith("✓" if says == "✓" else "✗")
    assert says in line


def test_no_blank_and_no_hint_is_left_out(monkeypatch, capsys):
    """What the checks of the lessons hand to check.answers and check.compare has all been said."""
    known, seen, here = set(), set(), None

    def spied(function, note):
        def spy(*args, **given):
            known.update((here, line) for line in note(*args))
            return function(*args, **given)

        return spy

    for name, note in (
        ("answers", lambda wanted, mistakes=None: [f"{blank}: ✓" for blank in wanted]),
        ("compare", lambda got, want, what, likely, *_: [f"{what}: ✗ {hint}" for _, hint in likely]),
    ):
        function = getattr(check, name)
        for module in {check, *(tools(lesson) for lesson, *_ in BLANKS)}:
            if getattr(module, name, None) is function:  # and not a function of the lesson's own
                monkeypatch.setattr(module, name, spied(function, note))
    for row in ROWS:
        lesson, above, call, blank, _, typed = row.values
        here = lesson, function_in(call)
        fill_in(lesson, above, call, blank, typed)
        seen.update((here, re.sub("✓.*", "✓", line)) for line in capsys.readouterr().out.splitlines())
    assert known - seen == set()


def test_every_check_of_a_blank_is_here():
    """A check hands the blanks to check.answers, or to check.compare."""
    here = {(lesson, function_in(call)) for lesson, _, call, _ in BLANKS}
    folder = Path(check.__file__).parent
    checks = {
        (path.stem[-2:], name)
        for path in folder.glob("lesson_[0-9][0-9].py")
        for name, value in vars(tools(path.stem[-2:])).items()
        if getattr(value, "__module__", "").endswith(path.stem) and hasattr(value, "__code__")
        if {"answers", "compare"} & set(value.__code__.co_names)
    }
    assert checks == here
