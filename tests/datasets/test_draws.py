"""Draws against the recurrence in whole numbers of Python, and against what their shares should be."""

import numpy as np
from numba import njit

from palate.datasets.draws import draw, drawn, thresholds


class Draws:
    """Marsaglia's xorshift with whole numbers of Python."""

    def __init__(self, state):
        self.state = state

    def __call__(self, below):
        x = self.state
        x ^= (x << 13) % 2**64
        x ^= x >> 7
        x ^= (x << 17) % 2**64
        self.state = x
        return ((x >> 32) * below) >> 32


def test_draws_are_uniform_and_those_of_the_recurrence():
    state, naive = np.array([12345], np.uint64), Draws(12345)
    found = [draw(state, 10) for _ in range(5000)]
    assert found == [naive(10) for _ in range(5000)]
    assert np.abs(np.bincount(found, minlength=10) / 5000 - 0.1).max() < 0.02


@njit
def many(state, chances, alias, size):
    return [drawn(state, chances, alias) for _ in range(size)]


def test_weighted_draws_have_the_weights_shares():
    weights = np.array([0.0, 5.0, 1.0, 0.5, 0.0, 13.5])
    chances, alias = thresholds(weights)
    shares = chances / 6
    np.add.at(shares, alias, (1 - chances) / 6)  # what the table says, without a draw
    np.testing.assert_allclose(shares, weights / 20, atol=1e-12)
    found = np.bincount(many(np.array([7], np.uint64), chances, alias, 40_000), minlength=6) / 40_000
    np.testing.assert_allclose(found, weights / 20, atol=0.01)
    assert found[0] == found[4] == 0


def test_all_alike_is_uniform():
    chances, _ = thresholds(np.ones(7))
    np.testing.assert_allclose(chances, 1)
