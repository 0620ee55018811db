"""IALS: matrix factorization of implicit feedback; what was not taken counts as a weak no.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; conjugate gradient instead of an exact solve:
Takacs, Pilaszy, Tikk, "Applications of the conjugate gradient method for implicit feedback collaborative filtering", RecSys 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import DAY, Candidates, Floats, Ints, Ragged, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import best_of, distinct, plain

Columns = NDArray[np.int32]


class Nearby(Protocol):
    """An index over the item factors: what ``search_with`` takes."""

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None) -> tuple[Ints, Floats]: ...


@njit(cache=True, nogil=True, fastmath=True)
def _cg(offsets: Ints, columns: Columns, confidence: Floats, other: Floats, gram: Floats, factors: Floats, steps: int, start: int, stop: int) -> None:
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
def _exact(offsets: Ints, columns: Columns, confidence: Floats, other: Floats, gram: Floats, factors: Floats, start: int, stop: int) -> None:
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
        for i in range(dim):
            factors[row, i] = x[i]


class IALS:
    """Minimises ``sum c (p - x_u' y_i)^2 + regularization * (|X|^2 + |Y|^2)`` over all cells, ``c = 1 + alpha * r``, ``p`` 1 where taken.

    ``r`` is the interaction's value (1 unless they are weighted). ``solver`` ``cg`` takes ``steps`` conjugate-gradient steps from the last
    iteration's solution, ``cholesky`` solves exactly. A request is answered from its history alone, by solving for that user's vector
    with the item factors fixed: the fitted user factors are kept in memory after ``fit`` for comparison, never used or saved.
    ``weighted``: r of a history item is its event's value, else 1; ``half_life_days``: r halves in so long (0: never); ``min_value``:
    history events below it do not count. A history without a known item gets no candidates.
    """

    def __init__(
        self,
        dim: int = 64,
        regularization: float = 10.0,
        alpha: float = 3.0,
        iterations: int = 15,
        solver: Literal["cg", "cholesky"] = "cg",
        steps: int = 3,
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        seed: int = 0,
    ) -> None:
        if dim < 1 or iterations < 1 or steps < 1:
            raise ValueError(f"dim, iterations and steps must be at least 1, not {dim}, {iterations}, {steps}")
        if regularization <= 0 or alpha <= 0:
            raise ValueError(f"regularization and alpha must be above 0, not {regularization} and {alpha}")
        self.dim, self.regularization, self.alpha, self.iterations, self.solver, self.steps = dim, regularization, alpha, iterations, solver, steps
        self.weighted, self.half_life_days, self.seed = weighted, half_life_days, seed
        self.min_value = -np.inf if min_value is None else min_value
        self.user_factors: Floats = np.empty((0, dim), np.float32)
        self._items: Floats | None = None
        self._index: Nearby | None = None

    def fit(self, interactions: Interactions) -> Self:
        by_item = interactions.matrix.tocsc()
        users, items = (interactions.offsets, interactions.items, interactions.values), (by_item.indptr, by_item.indices, by_item.data)
        user_rows, item_rows = (self._rows(*rows) for rows in (users, items))
        generator = np.random.default_rng(self.seed)
        x = generator.random((interactions.n_users, self.dim), np.float32) * np.float32(0.01)
        y = generator.random((interactions.n_items, self.dim), np.float32) * np.float32(0.01)
        y[np.diff(by_item.indptr) == 0] = 0.0  # never taken: no pull from it on anybody
        for _ in range(self.iterations):
            self._solve(user_rows, y, x)
            self._solve(item_rows, x, y)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise FloatingPointError("IALS did not stay finite: the interactions' values are too large, or regularization is too small")
        self.user_factors = x
        return self._set(y)

    def _rows(self, offsets: Any, columns: Any, values: Any) -> tuple[Ints, Columns, Floats]:
        confidence = 1 + self.alpha * np.asarray(values)
        return plain(offsets, np.int64), plain(columns, np.int32), plain(confidence, np.float32)

    def _solve(self, rows: tuple[Ints, Columns, Floats], other: Floats, factors: Floats) -> None:
        if self.solver == "cg":
            _cg(*rows, other, self._gram(other), factors, self.steps, 0, len(factors))
        else:
            _exact(*rows, other, self._gram(other), factors, 0, len(factors))

    def _gram(self, vectors: Floats) -> Floats:
        return vectors.T @ vectors + np.float32(self.regularization) * np.eye(self.dim, dtype=np.float32)

    def _set(self, items: Floats) -> Self:
        self._items, self._index = items, None
        self._items_gram = self._gram(items)
        length = np.linalg.norm(items, axis=1, keepdims=True)
        self._directions = items / np.where(length > 0, length, 1)
        return self

    @property
    def items(self) -> Floats:
        """Item factors float32 ``[I, dim]``; zero for an item that nobody took."""
        if self._items is None:
            raise RuntimeError("this IALS is not fitted")
        return self._items

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"items": self.items}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        items: Floats = plain(arrays["items"], np.float32)
        if items.ndim != 2 or items.shape[1] != self.dim:
            raise ValueError(f"item factors of shape {items.shape} do not fit dim = {self.dim}")
        return self._set(items)

    def search_with(self, index: Nearby) -> Self:
        """Look for the best items in this index over ``items`` (inner product) instead of comparing all of them; ``fit`` undoes it."""
        self._index = index
        return self

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, dim]``, solved for from the history; zero without a known item."""
        half_life = self.half_life_days * DAY
        offsets, items, weights = distinct(
            request.histories, request.now, len(self.items), half_life=half_life, min_value=self.min_value, weighted=self.weighted
        )
        vectors = np.zeros((len(request), self.dim), np.float32)
        _exact(*self._rows(offsets, items, weights), self.items, self._items_gram, vectors, 0, len(vectors))
        return vectors

    def retrieve(self, request: Request, k: int) -> Candidates:
        vectors = self.user_vectors(request)
        known: NDArray[np.bool_] = np.any(vectors, axis=1)
        if self._index is not None:
            rows, scores = self._index.search(vectors, k, request.exclude)
            there = (rows >= 0) & known[:, None]
            return Candidates(rows[there], scores[there], offsets_of(there.sum(axis=1)))
        found = best_of(lambda start, stop: vectors[start:stop] @ self.items.T, len(request), len(self.items), k, request.exclude)
        return found if known.all() else found.take(known[found.requests])

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """Items whose factors point the same way: int64 rows and cosines, best first; nothing for an item nobody took."""
        if not 0 <= item < len(self.items) or not self.items[item].any():
            return np.empty(0, np.int64), np.empty(0, np.float32)
        found = best_of(lambda _start, _stop: (self._directions @ self._directions[item])[None], 1, len(self.items), k, Ragged.of([[item]]))
        return found.items, found.scores
