"""Stochastic gradient steps on ratings, compiled; of MF, BiasSVD and SVD++ alike.

What a model leaves out is given as nothing: no rate for biases, no rows of implicit factors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from palate.candidates import Floats, Ints
from palate.datasets.draws import State, draw
from palate.datasets.interactions import Interactions
from palate.index.topk import plain
from palate.recall.factor.solve import Columns


@njit(cache=True, nogil=True, fastmath=True)
def descend(
    order: Ints,
    offsets: Ints,
    items: Columns,
    ratings: Floats,
    mean: np.float32,
    p: Floats,
    q: Floats,
    users_bias: Floats,
    items_bias: Floats,
    implicit: Floats,
    rate: np.float32,
    bias_rate: np.float32,
    shrink: np.float32,
    state: State,
) -> None:
    """One epoch of steps down half of ``(r - mean - b_u - b_i - q'(p + z))^2 + shrink (|p|^2 + |q|^2 + b_u^2 + b_i^2 + sum |y_j|^2)``.

    ``z = n^-1/2 sum y_j`` over the user's n items, y the rows of ``implicit``; 0 without rows. Users come in this order, a user's ratings in a drawn
    one. A step would move every y_j by the same ``rate * error * n^-1/2 q`` and shrink it: so it moves z by ``rate * error * q``, and what it did to
    the y_j is made up for once, after the user's last rating, exactly.
    """
    dim, nothing = p.shape[1], np.float32(0.0)
    z, moved = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
    keep, keep_bias = np.float32(1.0) - rate * shrink, np.float32(1.0) - bias_rate * shrink
    for user in order:
        first, n = offsets[user], offsets[user + 1] - offsets[user]
        if n == 0:
            continue
        own = p[user]
        turn = np.arange(n)
        part = np.float32(1.0 / np.sqrt(n))
        if len(implicit):
            z[:] = nothing
            moved[:] = nothing
            for e in range(first, first + n):
                y = implicit[items[e]]
                for d in range(dim):
                    z[d] += part * y[d]
        for last in range(n, 0, -1):
            at = draw(state, last)
            e = first + turn[at]
            turn[at] = turn[last - 1]
            item = items[e]
            other = q[item]
            dot = nothing
            for d in range(dim):
                dot += (own[d] + z[d]) * other[d]
            error = ratings[e] - mean - users_bias[user] - items_bias[item] - dot
            users_bias[user] = keep_bias * users_bias[user] + bias_rate * error
            items_bias[item] = keep_bias * items_bias[item] + bias_rate * error
            step = rate * error
            if len(implicit):
                for d in range(dim):
                    before, move = other[d], step * other[d]
                    other[d] = keep * before + step * (own[d] + z[d])
                    own[d] = keep * own[d] + move
                    z[d] = keep * z[d] + move
                    moved[d] = keep * moved[d] + move
            else:
                for d in range(dim):
                    before = other[d]
                    other[d] = keep * before + step * own[d]
                    own[d] = keep * own[d] + step * before
        if len(implicit):
            left = np.float32(keep**n)
            for e in range(first, first + n):
                y = implicit[items[e]]
                for d in range(dim):
                    y[d] = left * y[d] + part * moved[d]


def learn(
    interactions: Interactions,
    mean: float,
    factors: tuple[Floats, Floats],
    biases: tuple[Floats, Floats],
    implicit: Floats,
    epochs: int,
    learning_rate: float,
    regularization: float,
    generator: np.random.Generator,
    biased: bool = True,
) -> None:
    """All epochs on the factors and biases of users and items, in place; the rate falls linearly to 0. FloatingPointError: it was too large."""
    rows = plain(interactions.offsets, np.int64), plain(interactions.items, np.int32), plain(interactions.values, np.float32)
    state = np.array([1 + generator.integers(2**62)], np.uint64)
    for epoch in range(epochs):
        rate = np.float32(learning_rate * (1 - epoch / epochs))
        rates = rate, rate if biased else np.float32(0), np.float32(regularization)
        descend(generator.permutation(interactions.n_users), *rows, np.float32(mean), *factors, *biases, implicit, *rates, state)
    if not all(np.isfinite(one).all() for one in (*factors, *biases, implicit)):
        raise FloatingPointError("the factors did not stay finite: learning_rate is too large for these ratings")


def check(epochs: int, learning_rate: float, regularization: float) -> None:
    """ValueError for options that no model of ratings can have."""
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    if learning_rate <= 0 or regularization <= 0 or regularization * learning_rate >= 1:
        raise ValueError(f"learning_rate and regularization must be above 0 and below 1 together, not {learning_rate} and {regularization}")
