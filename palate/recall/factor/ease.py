"""EASE: each item as a weighted sum of the others, by one matrix inversion.

Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import lapack

from palate.candidates import Candidates, Floats, Grounds, Ints, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import FromHistory, strongest
from palate.index.topk import best_of, flat, plain

DOUBLE = 8192  #: items up to which the inversion is in double precision; beyond it memory counts more
BLOCK = 256  #: rows that are mirrored at once


class EASE(FromHistory):
    """Minimises ``|X - X B|^2 + regularization |B|^2`` with ``diag(B) = 0``: ``B = I - P / diag(P)``, ``P = (X' X + regularization I)^-1``.

    A history x scores ``x B``. B is dense: only the ``max_items`` most taken items n (0: all) have a place in it, ``4 n^2`` bytes, and no other item
    is offered. ``similar`` gives an item's largest weights. A history without such an item gets no candidates. Other options as in ``FromHistory``.
    """

    def __init__(
        self,
        regularization: float = 250.0,
        max_items: int = 20_000,
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
    ) -> None:
        super().__init__(weighted, half_life_days, min_value)
        if regularization <= 0 or max_items < 0:
            raise ValueError(f"regularization must be above 0 and max_items not below it, not {regularization} and {max_items}")
        self.regularization, self.max_items = regularization, max_items
        self._weights: Floats | None = None

    def fit(self, interactions: Interactions) -> Self:
        counts = np.bincount(interactions.items, minlength=interactions.n_items)
        most = self.max_items or len(counts)
        rows = np.sort(np.argsort(-counts, kind="stable")[:most])
        rows = rows[counts[rows] > 0]
        x = interactions.matrix if len(rows) == interactions.n_items else interactions.matrix[:, rows]
        inverse = np.zeros((len(rows), len(rows)), np.float64 if len(rows) <= DOUBLE else np.float32)
        np.fill_diagonal(inverse, self.regularization)
        _add_gram(plain(x.indptr, np.int64), plain(x.indices, np.int32), plain(x.data, np.float32), inverse)
        factor, invert = (lapack.dpotrf, lapack.dpotri) if len(rows) <= DOUBLE else (lapack.spotrf, lapack.spotri)
        for step in (factor, invert) if len(rows) else ():  # in place: what is below for us is above for LAPACK, which reads columns
            _, fault = step(inverse.T, lower=0, overwrite_a=1) if step is factor else step(inverse.T, lower=0, overwrite_c=1)
            if fault:
                raise FloatingPointError("EASE cannot invert its matrix: regularization is too small for these values")
        return self._set(_mirrored(inverse), rows.astype(np.int64), interactions.n_items)

    def _set(self, weights: Floats, rows: Ints, n_items: int) -> Self:
        self._weights, self._rows, self._n = weights, rows, n_items
        self._place = np.full(n_items, -1, np.int64)
        self._place[rows] = np.arange(len(rows))
        return self

    @property
    def weights(self) -> Floats:
        """B float32 ``[n, n]``: row i is what having item i says about each; its items are the catalogue rows ``rows [n]``."""
        if self._weights is None:
            raise RuntimeError("this EASE is not fitted")
        return self._weights

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"weights": self.weights, "rows": self._rows, "items": np.array([self._n])}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        weights, rows, n_items = plain(arrays["weights"], np.float32), flat(arrays["rows"], np.int64), int(arrays["items"][0])
        if weights.shape != (len(rows), len(rows)) or (len(rows) and not 0 <= rows[0] <= rows[-1] < n_items) or (np.diff(rows) <= 0).any():
            raise ValueError(f"weights of shape {weights.shape} do not fit {len(rows)} of {n_items} items")
        return self._set(weights, rows, n_items)

    def retrieve(self, request: Request, k: int) -> Candidates:
        weights, rows = self.weights, self._rows
        x = self.rows(request, self._n)[:, rows]
        exclude = request.exclude
        if exclude is not None and len(rows) < self._n:
            exclude = Ragged(np.where((exclude.values >= 0) & (exclude.values < self._n), self._place[exclude.values % self._n], -1), exclude.offsets)
        found = best_of(lambda start, stop: x[start:stop] @ weights, len(request), len(rows), k, exclude)
        found = Candidates(rows[found.items], found.scores, found.offsets)
        known = np.diff(x.indptr) > 0
        return found if known.all() else found.take(known[found.requests])

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history that gives most to a candidate's score, and what it gives."""

        def given(own: Ints, rows: Ints) -> Floats:
            at, to = self._place[own], self._place[rows]
            there, found = (at >= 0) & (to >= 0), np.zeros(len(own), np.float32)
            found[there] = self.weights[at[there], to[there]]
            return found

        return strongest(self.read(request, self._n), candidates, self._n, given)

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """The items that having this one speaks for most: int64 rows and weights, best first; nothing for an item that has no place."""
        if not 0 <= item < self._n or self._place[item] < 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        at = int(self._place[item])
        found = best_of(lambda _start, _stop: self.weights[at : at + 1], 1, len(self._rows), k, Ragged.of([[at]]))
        return self._rows[found.items], found.scores


@njit(cache=True, nogil=True)
def _add_gram(offsets: Ints, columns: NDArray[np.int32], values: Floats, gram: NDArray[Any]) -> None:
    """Adds the lower triangle of ``X' X``; columns ascend within a row."""
    for row in range(len(offsets) - 1):
        for e in range(offsets[row], offsets[row + 1]):
            own = gram[columns[e]]
            for f in range(offsets[row], e + 1):
                own[columns[f]] += values[e] * values[f]


def _mirrored(inverse: NDArray[Any]) -> Floats:
    """B from the lower triangle of P, in place where it is in single precision already."""
    scale = -1 / np.diag(inverse)
    for start in range(0, len(inverse), BLOCK):
        stop = start + BLOCK
        block = inverse[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    inverse *= scale
    np.fill_diagonal(inverse, 0)
    return plain(inverse, np.float32)
