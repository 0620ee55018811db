"""Non-negative elastic-net regressions of each column of a sparse matrix on the others, by coordinate descent on the residual.

Friedman, Hastie, Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent", Journal of Statistical Software 2010.
A weight costs one pass over its column's entries, so nothing of the size of columns x columns is ever held.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints

Doubles = NDArray[np.float64]
Columns = NDArray[np.int32]


@njit(cache=True, nogil=True)  # no fastmath: it would gather by vector instructions, four times slower on many processors
def _sweep(
    chosen: Ints, offsets: Ints, users: Columns, values: Floats, squares: Doubles, l1: float, l2: float, residual: Doubles, weights: Doubles
) -> float:
    """One coordinate step on each chosen column; the largest change."""
    most = 0.0
    for item in chosen:
        slope = 0.0
        for e in range(offsets[item], offsets[item + 1]):
            slope += values[e] * residual[users[e]]
        before = weights[item]
        after = max(0.0, slope + squares[item] * before - l1) / (squares[item] + l2)
        change = after - before
        if change != 0.0:
            weights[item] = after
            for e in range(offsets[item], offsets[item + 1]):
                residual[users[e]] -= change * values[e]
            most = max(most, abs(change))
    return most


@njit(cache=True, nogil=True)
def columns_of(
    user_offsets: Ints,
    user_items: Columns,
    user_values: Floats,
    offsets: Ints,
    users: Columns,
    values: Floats,
    squares: Doubles,
    l1: float,
    l2: float,
    neighbors: int,
    iterations: int,
    tolerance: float,
    start: int,
    stop: int,
) -> Any:
    """Weights above 0 of the columns ``start`` to ``stop``: how many each has, their rows and values. ``squares`` are the sums of each column's.

    With values and weights not below 0 the slope of a weight at 0 is never above what it is when all are 0, the product of its column and the
    target; so only columns whose product is above ``l1`` can ever weigh (the ``neighbors`` nearest of them by cosine).
    """
    n = len(offsets) - 1
    residual, weights, products = np.zeros(len(user_offsets) - 1), np.zeros(n), np.zeros(n)
    lengths = np.zeros(stop - start, np.int64)
    rows, found = np.empty((stop - start) * n, np.int32), np.empty((stop - start) * n, np.float32)
    place = 0
    for target in range(start, stop):
        residual[:] = 0.0
        products[:] = 0.0
        for e in range(offsets[target], offsets[target + 1]):
            user = users[e]
            residual[user] = values[e]
            for f in range(user_offsets[user], user_offsets[user + 1]):
                products[user_items[f]] += values[e] * user_values[f]
        products[target] = 0.0
        candidates = np.flatnonzero(products > l1)
        if len(candidates) > neighbors:
            nearest = np.argsort(-products[candidates] / np.sqrt(squares[candidates]), kind="mergesort")[:neighbors]
            candidates = np.sort(candidates[nearest])
        sweeps = 0
        while sweeps < iterations:
            most = _sweep(candidates, offsets, users, values, squares, l1, l2, residual, weights)
            sweeps += 1
            if most <= tolerance:
                break
            active = candidates[weights[candidates] > 0.0]
            while sweeps < iterations and most > tolerance:
                most = _sweep(active, offsets, users, values, squares, l1, l2, residual, weights)
                sweeps += 1
        for row in candidates:
            if weights[row] > 0.0:
                rows[place] = row
                found[place] = weights[row]
                place += 1
                lengths[target - start] += 1
            weights[row] = 0.0
    return lengths, rows[:place].copy(), found[:place].copy()
