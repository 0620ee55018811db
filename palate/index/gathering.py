"""Structures that gather promising positions for a query: what they gather is compared exactly. ``LSH``, ``Annoy``, and ``KDTree``'s vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.index.approximate import Approximate, Bits
from palate.index.heaps import best_of
from palate.index.topk import Marks, workspace


@dataclass(frozen=True, slots=True)
class Body:
    """The vectors ``[N, D]`` and the arrays of a structure over them."""

    vectors: Floats
    parts: tuple[NDArray[Any], ...]


def lifted(vectors: Floats) -> tuple[Floats, np.float32]:
    """``[x, sqrt(M^2 - |x|^2)]`` ``[N, D + 1]`` and M, the greatest length: with a query as ``[q, 0]`` the nearest has the largest product.

    Bachrach et al., "Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product Spaces", RecSys 2014.
    """
    squares = np.einsum("nd,nd->n", vectors, vectors)
    most = squares.max(initial=0.0)
    return np.hstack([vectors, np.sqrt(most - squares)[:, None]]), np.float32(np.sqrt(most))


@njit(cache=True, nogil=True, fastmath=True)
def _products(vectors: Floats, chosen: Ints, query: Floats, products: Floats) -> None:
    for n in range(len(chosen)):
        row = chosen[n]
        total = np.float32(0.0)
        for d in range(len(query)):
            total += vectors[row, d] * query[d]
        products[n] = total


@njit(cache=True, nogil=True)
def nearest_of(vectors: Floats, chosen: Ints, query: Floats, k: int, out: Ints, values: Floats) -> None:
    """The best of the chosen positions (ascending); ``out`` and ``values`` ``[k]``."""
    products = np.empty(len(chosen), np.float32)
    _products(vectors, chosen, query, products)
    place, best = best_of(products, min(k, len(chosen)))
    out[:] = -1
    values[:] = -np.inf
    for n in range(len(place)):
        out[n] = chosen[place[n]]
        values[n] = best[n]


class Gathering(Approximate):
    """A subclass says what its structure is made of (``_planted``) and what it gathers for a query (``_gathered``)."""

    def _planted(self, vectors: Floats) -> tuple[NDArray[Any], ...]:
        """The arrays of the structure."""
        raise NotImplementedError

    def _gathered(
        self, parts: tuple[NDArray[Any], ...], query: Floats, k: int, hidden: int, share: float, bits: Bits, marks: Marks, out: Ints
    ) -> int:
        """Put positions that are valid, each once, into ``out``; how many. ``marks`` are clear and must be left so."""
        raise NotImplementedError

    def _made(self, vectors: Floats) -> Body:
        vectors = np.ascontiguousarray(vectors)
        return Body(vectors, self._planted(vectors))

    def _grown(self, body: Body, vectors: Floats) -> Body:
        return self._made(np.concatenate([body.vectors, vectors]))

    def _thinned(self, body: Body, at: Ints) -> Body:
        return self._made(body.vectors[at])

    def _vectors(self, body: Body, at: Ints) -> Floats:
        return body.vectors[at]

    def _bytes(self, body: Body) -> int:
        return body.vectors.nbytes + sum(part.nbytes for part in body.parts)

    def _found(self, body: Body, queries: Floats, k: int, hidden: int, share: float, bits: Bits) -> tuple[Floats, Ints]:
        found, values = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        _, marks, touched = workspace.of(len(body.vectors))
        for b, query in enumerate(queries):
            count = self._gathered(body.parts, query, k, hidden, share, bits, marks, touched)
            nearest_of(body.vectors, np.sort(touched[:count]), query, k, found[b], values[b])
        return values, found
