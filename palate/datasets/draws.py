"""Random numbers for compiled loops: a few instructions a draw, the state an argument, so that the same seed gives the same draws everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

State = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def draw(state: State, below: int) -> np.int64:
    """A number in ``[0, below)`` from Marsaglia's xorshift; ``state`` uint64 ``[1]``, not 0."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return np.int64(((x >> np.uint64(32)) * np.uint64(below)) >> np.uint64(32))


def thresholds(weights: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Walker's alias table of weights ``[N]`` (not all 0): a place drawn uniformly is kept with the chance ``[N]``, else gives its ``alias [N]``."""
    size = len(weights)
    chances = np.asarray(weights, np.float64) * (size / np.sum(weights))
    alias = np.arange(size)
    small, large = list(np.flatnonzero(chances < 1)), list(np.flatnonzero(chances >= 1))
    while small and large:
        less, more = small.pop(), large[-1]
        alias[less] = more
        chances[more] -= 1 - chances[less]
        if chances[more] < 1:
            small.append(large.pop())
    chances[small + large] = 1
    return chances, alias


@njit(cache=True, nogil=True)
def drawn(state: State, chances: NDArray[np.float64], alias: NDArray[np.int64]) -> np.int64:
    """A place with a chance in proportion to the weights of the alias table."""
    place = draw(state, len(chances))
    if draw(state, 1 << 30) < chances[place] * (1 << 30):
        return place
    return alias[place]
