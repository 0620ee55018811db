"""IALS: matrix factorization of implicit feedback; what was not taken counts as a weak no.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; conjugate gradient instead of an exact solve:
Takacs, Pilaszy, Tikk, "Applications of the conjugate gradient method for implicit feedback collaborative filtering", RecSys 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from palate.candidates import DAY, Candidates, Floats, Ints, Ragged, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import best_of, distinct, plain
from palate.recall.factor.solve import Columns, conjugate_gradient, exact


class Nearby(Protocol):
    """An index over the item factors: what ``search_with`` takes."""

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None) -> tuple[Ints, Floats]: ...


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
            conjugate_gradient(*rows, other, self._gram(other), factors, self.steps, 0, len(factors))
        else:
            exact(*rows, other, self._gram(other), factors, 0, len(factors))

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
        exact(*self._rows(offsets, items, weights), self.items, self._items_gram, vectors, 0, len(vectors))
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
