"""IALS: matrix factorization of implicit feedback; what was not taken counts as a weak no.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; conjugate gradient instead of an exact solve:
Takacs, Pilaszy, Tikk, "Applications of the conjugate gradient method for implicit feedback collaborative filtering", RecSys 2011.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np

from palate.candidates import Floats, Ints, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import ByVector
from palate.index.topk import plain
from palate.recall.factor.solve import Columns, conjugate_gradient, exact


class IALS(ByVector):
    """Minimises ``sum c (p - x_u' y_i)^2 + regularization * (|X|^2 + |Y|^2)`` over all cells, ``c = 1 + alpha * r``, ``p`` 1 where taken.

    ``r`` is the interaction's value (1 unless they are weighted). ``solver`` ``cg`` takes ``steps`` conjugate-gradient steps from the last
    iteration's solution, ``cholesky`` solves exactly. A request is answered from its history alone, by solving for that user's vector
    with the item factors fixed: the fitted user factors are kept in memory after ``fit`` for comparison, never used or saved.
    ``weighted``: r of a history item is its event's value, else 1; ``half_life_days``: r halves in so long (0: never); ``min_value``:
    history events below it do not count, nor, if ``weighted``, those below 0. A history without a known item gets no candidates.
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
        super().__init__(weighted, half_life_days, min_value)
        if dim < 1 or iterations < 1 or steps < 1:
            raise ValueError(f"dim, iterations and steps must be at least 1, not {dim}, {iterations}, {steps}")
        if regularization <= 0 or alpha <= 0:
            raise ValueError(f"regularization and alpha must be above 0, not {regularization} and {alpha}")
        self.dim, self.regularization, self.alpha, self.iterations, self.solver, self.steps = dim, regularization, alpha, iterations, solver, steps
        self.seed = seed
        if weighted:
            self.min_value = max(self.min_value, 0.0)  # no confidence is below that in what was never taken
        self.user_factors: Floats = np.empty((0, dim), np.float32)

    def fit(self, interactions: Interactions) -> Self:
        if (interactions.values < 0).any():
            raise ValueError("IALS reads no values below 0: how sure it is that somebody likes an item")
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
        self._items_gram = self._gram(items)
        return super()._set(items)

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, dim]``, solved for from the history; zero without a known item."""
        vectors = np.zeros((len(request), self.dim), np.float32)
        exact(*self._rows(*self.read(request, len(self.items))), self.items, self._items_gram, vectors, 0, len(vectors))
        return vectors
