"""Each function beside its plain formula: odd shapes, both precisions, and numbers far out."""

import textwrap

import numpy as np
import pytest

from minipeft.lab.gradcheck import directional_error
from minipeft.model import cross_entropy
from minipeft.model import functional as F

both_precisions = pytest.mark.parametrize(("dtype", "tol"), [("float64", 1e-13), ("float32", 2e-6)])
SHAPES = [(1,), (5,), (1, 1), (3, 1, 7), (2, 3, 4, 33), (0, 4)]
any_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def close(ours, plain, tol, dtype):
    assert ours.dtype == dtype
    assert ours.shape == plain.shape
    assert abs(ours - plain).max(initial=0) <= tol * max(abs(plain).max(initial=0), 1)


def plain_softmax(z):
    e = np.exp(z.astype("float64") - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def plain_attention(q, k, v):
    T, S = q.shape[2], k.shape[2]
    z = q.astype("float64") @ k.swapaxes(-1, -2)
    return plain_softmax(np.where(np.tri(T, S, S - T, dtype=bool), z, -np.inf)) @ v


@any_shape
@both_precisions
@pytest.mark.parametrize("shift", [0, 30, -30, 1e4, -1e4])
def test_softmax(shape, dtype, tol, shift, rng):
    z = (3 * rng.normal(size=shape) + shift).astype(dtype)
    before = z.copy()
    close(F.softmax(z), plain_softmax(z), tol, dtype)
    assert np.array_equal(z, before)


@both_precisions
def test_softmax_of_rows_that_differ_widely(dtype, tol):
    """One row fits without its maximum, one would overflow, one would vanish, one has masked places."""
    z = np.array([[0, 1, 2], [1e4, 0, -1e4], [-1e4, -1e4, -1e4 - 1], [-np.inf, 0.5, -np.inf]], dtype)
    with np.errstate(all="raise", under="ignore"):
        for each in (z, *z[:, None]):
            close(F.softmax(each), plain_softmax(each), tol, dtype)


def test_softmax_of_numbers_that_are_not_finite_is_not_finite():
    assert np.isnan(F.softmax(np.array([[0.0, np.nan], [0.0, 1.0]]))).tolist() == [[True, True], [False, False]]


@any_shape
@both_precisions
def test_softmax_backward(shape, dtype, tol, rng):
    z, dp = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    p = F.softmax(z)
    close(F.softmax_backward(dp, p), p * (dp - (dp * p).sum(-1, keepdims=True)), tol, dtype)


def test_softmax_backward_is_the_gradient(rng):
    z, w = rng.normal(size=(2, 3, 5))
    dz = F.softmax_backward(w, F.softmax(z))
    assert directional_error(lambda: float(np.vdot(w, F.softmax(z))), z, dz, rng, 1e-5) < 1e-6


@both_precisions
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (1, 4, 300), (7, 3)], ids=str)
@pytest.mark.parametrize("shift", [0, 33, 1e3, -1e3])
def test_softmax_with_the_log_of_the_target_and_the_gradient_of_the_loss(shape, dtype, tol, shift, rng):
    z, targets = (rng.normal(size=shape) + shift).astype(dtype), rng.integers(0, shape[-1], shape[:-1])
    p, log_p = F.softmax_and_log_target(z, targets)
    onehot, weight = np.eye(shape[-1])[targets], np.full(shape[:-1], 1 / max(targets.size, 1))
    close(p, plain_softmax(z), tol, dtype)
    close(log_p, np.log((plain_softmax(z) * onehot).sum(-1)), tol, dtype)
    if targets.size:
        close(cross_entropy(z, targets)[1](), weight[..., None] * (plain_softmax(z) - onehot), tol, dtype)


def test_the_gradient_of_the_loss_does_not_hang_on_how_the_logits_lie_in_memory(rng):
    z, targets = rng.normal(size=(2, 3, 5)), rng.integers(0, 5, (2, 3))
    lying = np.asfortranarray(z)
    assert np.allclose(cross_entropy(lying, targets)[1](), cross_entropy(z, targets)[1](), rtol=1e-14)


@pytest.mark.parametrize("others", [-5, -12, -60, -1e5])
def test_log_p_of_a_sure_target_keeps_its_digits(others):
    """In float32 z_t − log Σ exp z of 30 − 30.00001 would lose them; and it may not be above 0."""
    z = np.array([[30, 30 + others]], "float32")
    log_p = F.softmax_and_log_target(z, np.array([0]))[1][0]
    assert abs(log_p + np.log1p(np.exp(float(others)))) < 2e-7


@any_shape
@both_precisions
def test_gelu(shape, dtype, tol, rng):
    x = (3 * rng.normal(size=shape)).astype(dtype)
    before, x64 = x.copy(), x.astype("float64")
    u = (2 / np.pi) ** 0.5 * (x64 + 0.044715 * x64**3)
    t, du = np.tanh(u), (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * x64**2)
    y, slope = F.gelu(x)
    close(y, 0.5 * x64 * (1 + t), tol, dtype)
    plain_slope = 0.5 * (1 + t) + 0.5 * x64 * (1 - t**2) * du
    close(slope, plain_slope, 2 * tol, dtype)  # at x = 4 the rounding of x − y, half a unit of 4, is multiplied by 5
    assert np.array_equal(x, before)


@both_precisions
def test_gelu_far_out_is_a_line(dtype, tol):
    x = np.array([8, 9.99, 10.01, 11, 88, 1e4, 1e15, 1e20, 1e30], dtype)
    with np.errstate(all="raise", under="ignore"):
        (y, slope), (y_left, slope_left) = F.gelu(x), F.gelu(-x)
    assert np.array_equal(y, x)
    assert abs(slope - 1).max() < tol
    assert abs(y_left).max() < tol
    assert abs(slope_left).max() < tol


def test_gelu_is_continuous_where_its_bound_begins():
    x = np.linspace(9.9, 10.1, 2001)
    for a in (*F.gelu(x), *F.gelu(-x)):
        assert abs(np.diff(a)).max() < 1.001e-4


def test_gelu_lets_nan_through():
    y, slope = F.gelu(np.array([np.nan, 1.0]))
    assert np.isnan([y, slope]).tolist() == [[True, False], [True, False]]


@both_precisions
@pytest.mark.parametrize("shape", [(1, 1), (5,), (3, 1, 7), (2, 3, 64), (0, 4)], ids=str)
@pytest.mark.parametrize(("spread", "shift"), [(1, 0), (1e-3, 0), (1e3, 0), (1, 10)])
def test_standardise(shape, dtype, tol, spread, shift, rng):
    x = (spread * rng.normal(size=shape) + shift).astype(dtype)
    dxhat = rng.normal(size=shape).astype(dtype)
    x64 = x.astype("float64")
    sigma = np.sqrt(x64.var(-1, keepdims=True) + 1e-5)
    xhat, rstd = F.standardise(x, 1e-5)
    close(xhat, (x64 - x64.mean(-1, keepdims=True)) / sigma, 20 * tol, dtype)
    close(rstd * sigma, np.ones_like(sigma), 20 * tol, "float64")
    assert rstd.dtype == dtype
    before = dxhat.copy()
    along = (dxhat * xhat).mean(-1, keepdims=True)
    plain = (dxhat - dxhat.mean(-1, keepdims=True) - xhat * along) * rstd
    close(F.standardise_backward(dxhat, xhat, rstd), plain, tol, dtype)
    assert np.array_equal(dxhat, before)


def test_standardise_backward_is_the_gradient(rng):
    x, w = rng.normal(size=(2, 4, 6))
    dx = F.standardise_backward(w, *F.standardise(x, 1e-5))
    assert directional_error(lambda: float(np.vdot(w, F.standardise(x, 1e-5)[0])), x, dx, rng, 1e-5) < 1e-6


@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 5), (3, 3), (2, 5)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_causal_mask(T, S, dtype):
    mask = F.causal_mask(T, S, np.dtype(dtype))
    assert mask.dtype == dtype
    for t, s in np.ndindex(T, S):
        assert mask[t, s] == (0 if s <= t + S - T else -np.inf)
    assert F.causal_mask(T, S, np.dtype(dtype)) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 40), (31, 31), (32, 32), (33, 33), (64, 70), (100, 101), (70, 164)])
def test_causal_blocks_hold_each_visible_pair_once(T, S):
    seen = np.zeros((T, S), int)
    for t, s in F.causal_blocks(T, S):
        seen[t, s] += 1
    assert (seen[np.tri(T, S, S - T, dtype=bool)] == 1).all()
    assert seen.max() == 1
    assert seen.sum() <= T * S - T * (T - 1) / 2 + 0.5 * T * F.QUERIES


@both_precisions
@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 40), (5, 5), (33, 33), (64, 64), (70, 99)])
@pytest.mark.parametrize("spread", [1, 100])
def test_attend(T, S, dtype, tol, spread, rng):
    q = (spread**0.5 * rng.normal(size=(2, T, 3, 4))).astype(dtype).swapaxes(1, 2)
    k, v = ((spread**0.5 * rng.normal(size=(2, S, 3, 4))).astype(dtype).swapaxes(1, 2) for _ in range(2))
    o, p = F.attend(q, k, v)
    close(o, plain_attention(q, k, v), 10 * spread * tol, dtype)
    assert all(p_t.dtype == dtype for p_t in p)
    for d, x in zip(F.attend_backward(o, q, k, v, p), (q, k, v), strict=True):
        assert d.shape == x.shape
        assert d.dtype == dtype


@pytest.mark.parametrize(("T", "S"), [(1, 3), (5, 5), (40, 40), (35, 70)])
def test_attend_backward_is_the_gradient(T, S, rng):
    q, do = rng.normal(size=(2, 2, 3, T, 4))
    k, v = rng.normal(size=(2, 2, 3, S, 4))
    grads = F.attend_backward(do, q, k, v, F.attend(q, k, v)[1])
    for x, dx in zip((q, k, v), grads, strict=True):
        error = directional_error(lambda: float(np.vdot(do, plain_attention(q, k, v))), x, dx, rng, 1e-5)
        assert error < 1e-6


def test_attend_keeps_little_more_than_what_is_visible(rng):
    """At T = 128, p takes 5/8 of T × T; that is most of what attention keeps for backward."""
    q = rng.normal(size=(2, 2, 128, 8))
    _, p = F.attend(q, q, q)
    assert sum(p_t.nbytes for p_t in p) == 5 / 8 * 2 * 2 * 128 * 128 * 8


def in_one_go(function, names):
    """Run the plain lines that its docstring gives; return the names they set."""
    block = function.__doc__.split("In one go this would be\n\n")[1].split("\n\n")[0]
    names = {**names, "causal_mask": F.causal_mask, "softmax": F.softmax, "softmax_backward": F.softmax_backward}
    exec(textwrap.dedent(block), names)
    return names


@pytest.mark.parametrize(("T", "S"), [(5, 5), (40, 40), (35, 70)])
def test_the_blocks_compute_what_the_lines_of_the_docstring_compute(T, S, rng):
    q, do = rng.normal(size=(2, 2, 3, T, 4))
    k, v = rng.normal(size=(2, 2, 3, S, 4))
    plain = in_one_go(F.attend, {"q": q, "k": k, "v": v, "T": T, "S": S})
    o, p = F.attend(q, k, v)
    assert np.allclose(o, plain["o"], rtol=1e-12, atol=1e-14)
    plain = in_one_go(F.attend_backward, {"q": q, "k": k, "v": v, "p": plain["p"], "do": do})
    for name, grad in zip(("dq", "dk", "dv"), F.attend_backward(do, q, k, v, p), strict=True):
        assert np.allclose(grad, plain[name], rtol=1e-11, atol=1e-13), name
