"""One side of a least-squares factorization solved with the other fixed.

``conjugate_gradient`` and ``exact``: row r minimises ``sum over all columns of c (p - x' y)^2 + regularization |x|^2`` with ``c = 1, p = 0`` but
at its entries, whose ``confidence`` is c and p is 1. ``gram`` is ``Y' Y + regularization I`` (Hu, Koren, Volinsky, ICDM 2008: so the cost is
linear in the entries). ``ridge`` minimises over its entries alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints

Columns = NDArray[np.int32]
Doubles = NDArray[np.float64]


@njit(cache=True, nogil=True, fastmath=True)
def conjugate_gradient(
    offsets: Ints, columns: Columns, confidence: Floats, other: Floats, gram: Floats, factors: Floats, steps: int, start: int, stop: int
) -> None:
    """``steps`` conjugate-gradient steps on each row of ``factors`` from where it stands; ``gram`` = other' other + regularization."""
    dim = factors.shape[1]
    product, residual, direction = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for row in range(start, stop):
        first, last = offsets[row], offsets[row + 1]
        own = factors[row]
        if first == last:
            own[:] = 0.0
            continue
        for step in range(steps + 1):
            if step == 0:
                direction[:] = own  # the first product gives the residual b - A x
            product[:] = 0.0
            for i in range(dim):
                scale = direction[i]
                for j in range(dim):
                    product[j] += scale * gram[i, j]
            for e in range(first, last):
                vector = other[columns[e]]
                dot = np.float32(0.0)
                for i in range(dim):
                    dot += vector[i] * direction[i]
                c = confidence[e]
                scale = (c - np.float32(1.0)) * dot - (c if step == 0 else np.float32(0.0))
                for i in range(dim):
                    product[i] += scale * vector[i]
            if step == 0:
                size = np.float32(0.0)
                for i in range(dim):
                    residual[i] = -product[i]
                    direction[i] = residual[i]
                    size += residual[i] * residual[i]
                if size < np.float32(1e-20):
                    break
                continue
            curve = np.float32(0.0)
            for i in range(dim):
                curve += direction[i] * product[i]
            if curve <= np.float32(0.0):
                break
            alpha = size / curve
            new = np.float32(0.0)
            for i in range(dim):
                own[i] += alpha * direction[i]
                residual[i] -= alpha * product[i]
                new += residual[i] * residual[i]
            if new < np.float32(1e-20):
                break
            beta = new / size
            for i in range(dim):
                direction[i] = residual[i] + beta * direction[i]
            size = new


@njit(cache=True, nogil=True, fastmath=True)
def _cholesky(system: Doubles, x: Doubles) -> None:
    """Puts the solution of ``system s = x`` in the place of x; the system, symmetric and positive definite, is lost."""
    dim = len(x)
    for i in range(dim):  # row by row, so that the inner sums run along memory
        for j in range(i + 1):
            total = system[i, j]
            for m in range(j):
                total -= system[i, m] * system[j, m]
            system[i, j] = np.sqrt(max(total, 1e-300)) if i == j else total / system[j, j]
    for i in range(dim):
        total = x[i]
        for m in range(i):
            total -= system[i, m] * x[m]
        x[i] = total / system[i, i]
    for i in range(dim - 1, -1, -1):
        x[i] /= system[i, i]
        for m in range(i):
            x[m] -= system[i, m] * x[i]


@njit(cache=True, nogil=True, fastmath=True)
def exact(offsets: Ints, columns: Columns, confidence: Floats, other: Floats, gram: Floats, factors: Floats, start: int, stop: int) -> None:
    """Each row of ``factors`` solved exactly: ``(gram + sum (c - 1) y y') x = sum c y`` by a Cholesky factorization in float64."""
    dim = factors.shape[1]
    for row in range(start, stop):
        first, last = offsets[row], offsets[row + 1]
        if first == last:
            factors[row] = 0.0
            continue
        vectors, scaled = np.empty((last - first, dim), np.float32), np.empty((last - first, dim), np.float32)
        x = np.zeros(dim)
        for e in range(first, last):
            vector, c = other[columns[e]], confidence[e]
            for i in range(dim):
                vectors[e - first, i] = vector[i]
                scaled[e - first, i] = (c - np.float32(1.0)) * vector[i]
                x[i] += c * vector[i]
        system = (gram + np.dot(vectors.T, scaled)).astype(np.float64)
        _cholesky(system, x)
        for i in range(dim):
            factors[row, i] = x[i]


@njit(cache=True, nogil=True, fastmath=True)
def ridge(offsets: Ints, columns: Columns, targets: Floats, other: Floats, regularization: float, factors: Floats) -> None:
    """Each row minimises ``sum over its n entries of (target - x' y)^2 + n regularization |x|^2``; 0 where it has none.

    The penalty grows with the entries: weighted-lambda regularization (Zhou et al., AAIM 2008), and what gradient steps that each shrink x add up to.
    """
    dim = factors.shape[1]
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        vectors, x = np.empty((last - first, dim), np.float32), np.zeros(dim)
        for e in range(first, last):
            vector = other[columns[e]]
            for i in range(dim):
                vectors[e - first, i] = vector[i]
                x[i] += targets[e] * vector[i]
        if first < last:
            system = np.dot(vectors.T, vectors).astype(np.float64)
            for i in range(dim):
                system[i, i] += regularization * (last - first)
            _cholesky(system, x)
        for i in range(dim):
            factors[row, i] = x[i]
