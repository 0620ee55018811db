"""Stochastic gradient steps of BPR, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.datasets.draws import State, draw

Columns = NDArray[np.int32]

TRIES = 64  #: draws of a negative before a pair is left out: of somebody who took nearly everything


@njit(cache=True, nogil=True)
def taken(items: Columns, first: int, last: int, item: np.int64) -> bool:
    """Whether ``item`` is among ``items[first:last]``, which ascend."""
    end = last
    while first < last:
        middle = (first + last) >> 1
        if items[middle] < item:
            first = middle + 1
        else:
            last = middle
    return first < end and items[first] == item


@njit(cache=True, nogil=True, fastmath=True)
def _step(x: Floats, i: Floats, j: Floats, rate: np.float32, shrink: np.float32, fixed: bool) -> None:
    """One ascent of ``ln sigma(x' i - x' j) - shrink / 2 (|x|^2 + |i|^2 + |j|^2)``; of x alone if ``fixed``."""
    margin = np.float32(0.0)
    for d in range(len(x)):
        margin += x[d] * (i[d] - j[d])
    slope = rate / (np.float32(1.0) + np.exp(margin))
    keep = np.float32(1.0) - rate * shrink
    if fixed:
        for d in range(len(x)):
            x[d] = keep * x[d] + slope * (i[d] - j[d])
        return
    for d in range(len(x)):
        own, gap = x[d], i[d] - j[d]
        x[d] = keep * own + slope * gap
        i[d] = keep * i[d] + slope * own
        j[d] = keep * j[d] - slope * own


@njit(cache=True, nogil=True)
def ascend(
    users: Columns, offsets: Ints, items: Columns, x: Floats, y: Floats, rate: np.float32, shrink: np.float32, steps: int, state: State
) -> None:
    """``steps`` draws of a taken pair, and of an item that this user did not take, uniform all; a step up for each."""
    for _ in range(steps):
        e = draw(state, len(items))
        user = users[e]
        for _ in range(TRIES):
            j = draw(state, len(y))
            if not taken(items, offsets[user], offsets[user + 1], j):
                _step(x[user], y[items[e]], y[j], rate, shrink, False)
                break


@njit(cache=True, nogil=True)
def ascend_alone(offsets: Ints, items: Columns, x: Floats, y: Floats, rate: float, shrink: np.float32, passes: int) -> None:
    """Each row of ``x`` from 0 by the same steps with ``y`` fixed, the rate falling to 0. Every row starts the same sequence of draws."""
    state = np.empty(1, np.uint64)
    for row in range(len(offsets) - 1):
        own = np.sort(items[offsets[row] : offsets[row + 1]])
        x[row] = np.float32(0.0)
        state[0] = np.uint64(88172645463325252)
        steps = passes * len(own)
        for step in range(steps):
            i = own[draw(state, len(own))]
            for _ in range(TRIES):
                j = draw(state, len(y))
                if not taken(own, 0, len(own), j):
                    _step(x[row], y[i], y[j], np.float32(rate * (1.0 - step / steps)), shrink, True)
                    break
