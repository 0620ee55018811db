"""The descent on ratings written out: one rating after the other, every parameter by its own formula, in whole numbers and doubles of numpy."""

import numpy as np

from tests.datasets.test_draws import Draws


def descended(r, start, mean, rates, regularization, generator, biased=True, implicit=None):
    """p, q, b_u, b_i (and y) after an epoch at each rate, as Koren (KDD 2008, section 5.1) has it: a step on a rating moves every y_j of the user."""
    p, q = (one.copy() for one in start)
    b, c = np.zeros(len(p)), np.zeros(len(q))
    y = None if implicit is None else implicit.copy()
    draws = Draws(1 + int(generator.integers(2**62)))
    for rate in rates:
        for u in generator.permutation(len(p)):
            own = np.flatnonzero(r[u])
            left = own.tolist()
            while left:
                at = draws(len(left))
                i, left[at] = left[at], left[-1]
                left.pop()
                z = 0 if y is None else y[own].sum(0) / np.sqrt(len(own))
                error = r[u, i] - mean - b[u] - c[i] - q[i] @ (p[u] + z)
                steps = error * q[i] - regularization * p[u], error * (p[u] + z) - regularization * q[i]
                if y is not None:
                    y[own] += rate * (error * q[i] / np.sqrt(len(own)) - regularization * y[own])
                p[u], q[i] = p[u] + rate * steps[0], q[i] + rate * steps[1]
                if biased:
                    b[u] += rate * (error - regularization * b[u])
                    c[i] += rate * (error - regularization * c[i])
    return p, q, b, c, y


def ridged(vectors, targets, regularization):
    """The minimiser of ``|targets - vectors x|^2 + n regularization |x|^2``, by stacking the penalty as further equations."""
    penalty = np.sqrt(regularization * max(len(targets), 1)) * np.eye(vectors.shape[1])
    return np.linalg.lstsq(np.vstack((vectors, penalty)), np.concatenate((targets, np.zeros(vectors.shape[1]))), rcond=None)[0]


def split(whole, share, seed):
    """Which cells are seen, ``[U, I]``: a share of all."""
    return np.random.default_rng(seed).random(whole.shape) < share


def error(model, whole, cells):
    """RMSE over these cells."""
    users, items = np.nonzero(cells)
    return np.sqrt(np.mean((model.ratings(users, items) - whole[users, items]) ** 2))
