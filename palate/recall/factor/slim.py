"""SLIM: each item as a sparse, non-negative weighted sum of the others.

Ning, Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems", ICDM 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from palate.candidates import Candidates, Floats, Grounds, Ints, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.retrievers import FromHistory, strongest
from palate.index.topk import Table, flat, plain
from palate.recall.factor.elastic import columns_of

BLOCK = 2_000_000  #: weights that one compiled call has room for


class SLIM(FromHistory):
    """Minimises ``|A - A W|^2 / 2 + l2 |W|^2 / 2 + l1 |W|_1`` with ``W >= 0``, ``diag(W) = 0``, each column by coordinate descent on its own.

    A sweep goes over all weights that can be above 0, then over those that are until none moves by more than ``tolerance`` (at most ``iterations``
    in all). ``neighbors``: only this item's so many nearest by cosine may weigh (the paper's fsSLIM; 0: all). Memory is that of the interactions
    and of the weights that are kept. A history scores the sum of its items' weights; other options as in ``FromHistory``.
    """

    def __init__(
        self,
        l1: float = 1.0,
        l2: float = 250.0,
        neighbors: int = 0,
        iterations: int = 200,
        tolerance: float = 1e-4,
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(weighted, half_life_days, min_value)
        if min(l1, neighbors) < 0 or min(l2, tolerance) <= 0 or min(iterations, threads) < 1:
            raise ValueError(
                "l1 and neighbors must not be below 0, l2 and tolerance above it, iterations and threads at least 1, "
                f"not {l1}, {neighbors}, {l2}, {tolerance}, {iterations} and {threads}"
            )
        self.l1, self.l2, self.neighbors, self.iterations, self.tolerance, self.threads = l1, l2, neighbors, iterations, tolerance, threads
        self._weights: csr_matrix | None = None

    def fit(self, interactions: Interactions) -> Self:
        if (interactions.values < 0).any():
            raise ValueError("SLIM reads no values below 0: how much somebody likes an item, not whether")
        n, turned = interactions.n_items, interactions.by_item
        users = plain(interactions.offsets, np.int64), plain(interactions.items, np.int32), plain(interactions.values, np.float32)
        items = plain(turned.offsets, np.int64), plain(turned.items, np.int32), plain(turned.values, np.float32)
        squares = np.bincount(interactions.items, interactions.values.astype(np.float64) ** 2, n).astype(np.float64)
        penalties, limits = (float(self.l1), float(self.l2)), (self.neighbors or n, self.iterations)
        step = max(1, BLOCK // max(n, 1))

        def part(start: int) -> tuple[Ints, Any, Floats]:
            return columns_of(*users, *items, squares, *penalties, *limits, float(self.tolerance), start, min(start + step, n))

        if self.threads == 1:
            parts = [part(start) for start in range(0, n, step)]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(part, range(0, n, step)))
        lengths, rows, values = (np.concatenate(pieces) for pieces in zip(*parts, strict=True)) if parts else (np.empty(0, np.int64),) * 3
        return self._set(csc_matrix((values, rows, offsets_of(lengths)), shape=(n, n)).tocsr())

    def _set(self, weights: csr_matrix) -> Self:
        self._weights = weights
        self._table = Table.of(weights.indptr, weights.indices, weights.data, weights.shape[1])
        return self

    @property
    def weights(self) -> csr_matrix:
        """W float32 ``[I, I]``: row i is what having item i says about each."""
        if self._weights is None:
            raise RuntimeError("this SLIM is not fitted")
        return self._weights

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        weights = self.weights
        return {"offsets": weights.indptr.astype(np.int64), "items": weights.indices.astype(np.int32), "weights": weights.data}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        offsets, items, weights = flat(arrays["offsets"], np.int64), flat(arrays["items"], np.int32), flat(arrays["weights"], np.float32)
        made = csr_matrix((weights, items, offsets), shape=(len(offsets) - 1,) * 2)
        made.check_format(full_check=True)  # compiled code would read beyond what leads nowhere
        return self._set(made)

    def retrieve(self, request: Request, k: int) -> Candidates:
        query = self.read(request, self.weights.shape[0])
        return self._table.best(*query, k, request.exclude)

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history that gives most to a candidate's score, and what it gives."""
        weights, n = self.weights, self.weights.shape[0]
        return strongest(self.read(request, n), candidates, n, lambda own, rows: np.asarray(weights[own, rows]).ravel())

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """The items that having this one speaks for most: int64 rows and weights, best first."""
        if not 0 <= item < self.weights.shape[0]:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        one = self.weights[item]
        order = np.lexsort((one.indices, -one.data))[: max(k, 0)]
        return one.indices[order].astype(np.int64), one.data[order]
