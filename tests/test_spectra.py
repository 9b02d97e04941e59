"""The singular value decomposition and the promises that lesson 05 makes about it."""

import numpy as np
import pytest

from minipeft.lab.spectra import energy, factors, rank_for, singular_values, svd, tail, truncate

SHAPES = [(7, 7), (5, 9), (9, 5), (1, 4), (4, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_svd_gives_the_matrix_back_and_fixes_the_signs(shape, rng):
    M = rng.standard_normal(shape)
    U, s, V = svd(M)
    assert U.shape == (shape[0], min(shape))
    assert V.shape == (min(shape), shape[1])
    np.testing.assert_allclose((U * s) @ V, M, atol=1e-13)
    np.testing.assert_allclose(U.T @ U, np.eye(min(shape)), atol=1e-13)
    np.testing.assert_allclose(V @ V.T, np.eye(min(shape)), atol=1e-13)
    np.testing.assert_allclose(singular_values(M), s, atol=1e-13)
    flipped = svd(-M)
    np.testing.assert_allclose(flipped[0], U, atol=1e-12)  # the sign of −M is all in V
    np.testing.assert_allclose(flipped[2], -V, atol=1e-12)
    assert (U[np.abs(U).argmax(0), np.arange(len(s))] > 0).all()


@pytest.mark.parametrize("nudge", [-1e-14, 1e-14])
def test_rounding_does_not_choose_between_entries_of_equal_size(nudge):
    U, _, V = svd(np.outer([1.0, -1 + nudge, 0.5], [2.0, -1.0]))
    np.testing.assert_allclose(U[:, 0], [2 / 3, -2 / 3, 1 / 3], atol=1e-12)
    np.testing.assert_allclose(V[0], np.array([2, -1]) / 5**0.5, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_of_a_cut_is_the_tail_of_the_spectrum(shape, rng):
    M = rng.standard_normal(shape)
    bound = tail(singular_values(M))
    for k in range(min(shape) + 1):
        cut = truncate(M, k)
        assert np.linalg.matrix_rank(cut) == k
        np.testing.assert_allclose(np.linalg.norm(M - cut), bound[k], atol=1e-12)
    assert bound[-1] == 0
    assert len(bound) == min(shape) + 1


def test_no_rival_of_the_same_rank_is_closer(rng):
    M = rng.standard_normal((8, 6))
    bound = tail(singular_values(M))
    for k in (1, 2, 4):
        for _ in range(200):
            Q, _ = np.linalg.qr(rng.standard_normal((8, k)))
            assert np.linalg.norm(M - Q @ Q.T @ M) > bound[k]
        A, B = factors(M, k)
        assert np.linalg.norm(M - (A + 1e-3 * rng.standard_normal(A.shape)) @ B) > bound[k]


def test_factors_are_thin_and_balanced(rng):
    A, B = factors(rng.standard_normal((9, 5)), 3)
    assert A.shape == (9, 3)
    assert B.shape == (3, 5)
    np.testing.assert_allclose(A.T @ A, B @ B.T, atol=1e-13)


def test_energy_and_rank_for():
    np.testing.assert_allclose(energy([3.0, 2.0, 1.0]), [9 / 14, 13 / 14, 1])
    assert [rank_for([3.0, 2.0, 1.0], share) for share in (0.1, 9 / 14, 0.9, 13 / 14, 0.95, 1)] == [1, 1, 2, 2, 3, 3]
    assert rank_for(singular_values(np.outer([1.0, 2.0], [3.0, 4.0])), 0.999) == 1


def test_what_cannot_be_asked():
    with pytest.raises(ValueError, match=r"0 \.\.\. 3, not 4"):
        truncate(np.ones((3, 5)), 4)
    with pytest.raises(ValueError, match="whole number"):
        factors(np.ones((3, 5)), 1.5)
    with pytest.raises(ValueError, match="zero"):
        energy(np.zeros(3))
    with pytest.raises(ValueError, match="share"):
        rank_for([1.0], 0)
