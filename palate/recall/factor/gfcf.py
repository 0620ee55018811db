"""GFCF: what a user took, smoothed over the graph of items by a linear and an ideal low-pass filter; nothing is trained.

Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021. Sharpening: Choi, Hong, Park, Cho, "Blurring-Sharpening Process
Models for Collaborative Filtering", SIGIR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.special import ive

from palate.candidates import Candidates, Floats, Grounds, Ints, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import FromHistory, strongest
from palate.index.topk import best_of, flat, plain
from palate.recall.factor.spectrum import right_vectors

SMALL = 1e-4  #: terms of the series below this are left out


class GFCF(FromHistory):
    """A history x scores ``x (R~' R~ + alpha D^-1/2 V V' D^1/2)`` with ``R~ = D_u^-1/2 R D^-1/2``.

    D_u and D are the sums of R's rows and columns, V the right singular vectors of ``R~`` with its ``dim`` largest singular values. The item-item
    matrix is never made: R~ is kept as it is, and a request goes through it twice. ``alpha`` 0 leaves the linear filter. ``sharpen`` T above 0
    multiplies all by exp(-T R~' R~), which takes from what all have in common: the sharpening process run for the time T, as a Chebyshev series of
    which each term goes through R~ twice more. ``similar`` gives what an item alone scores. Other options as in ``FromHistory``. A history without
    a known item gets no candidates.
    """

    def __init__(
        self,
        dim: int = 256,
        alpha: float = 0.3,
        sharpen: float = 0.0,
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
    ) -> None:
        super().__init__(weighted, half_life_days, min_value)
        if dim < 1 or alpha < 0:
            raise ValueError(f"dim must be at least 1 and alpha not below 0, not {dim} and {alpha}")
        if not 0 <= sharpen <= 100:
            raise ValueError(f"sharpen must lie in [0, 100], not {sharpen}")
        self.dim, self.alpha, self.sharpen = dim, alpha, sharpen
        self._graph: csr_matrix | None = None

    def fit(self, interactions: Interactions) -> Self:
        if (interactions.values < 0).any():
            raise ValueError("GFCF reads no values below 0: they are weights of a graph")
        matrix = interactions.matrix
        users, degrees = (np.asarray(matrix.sum(axis=axis), np.float64).ravel() for axis in (1, 0))
        graph = diags(_inverse_root(users)) @ matrix @ diags(_inverse_root(degrees))
        return self._set(graph.tocsr().astype(np.float32), right_vectors(graph, self.dim), degrees.astype(np.float32))

    def _set(self, graph: csr_matrix, vectors: Floats, degrees: Floats) -> Self:
        self._graph, self._back, self._vectors, self._degrees = graph, graph.T.tocsr(), vectors, degrees
        self._into = vectors * _inverse_root(degrees)[:, None].astype(np.float32)  # [I, dim]
        self._out = (vectors * (np.float32(self.alpha) * np.sqrt(degrees))[:, None]).T.copy()  # [dim, I]
        return self

    @property
    def graph(self) -> csr_matrix:
        """``R~`` float32 ``[U, I]``."""
        if self._graph is None:
            raise RuntimeError("this GFCF is not fitted")
        return self._graph

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        graph = self.graph
        columns = {"offsets": graph.indptr.astype(np.int64), "items": graph.indices.astype(np.int32), "values": graph.data}
        return columns | {"vectors": self._vectors, "degrees": self._degrees}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        degrees, vectors = flat(arrays["degrees"], np.float32), plain(arrays["vectors"], np.float32)
        if vectors.ndim != 2 or len(vectors) != len(degrees):
            raise ValueError(f"vectors of shape {vectors.shape} do not fit {len(degrees)} items")
        offsets, items, values = flat(arrays["offsets"], np.int64), flat(arrays["items"], np.int32), flat(arrays["values"], np.float32)
        graph = csr_matrix((values, items, offsets), shape=(len(offsets) - 1, len(degrees)))
        graph.check_format(full_check=True)
        return self._set(graph, vectors, degrees)

    def _scores(self, x: csr_matrix) -> Floats:
        """Of histories ``[B, I]``, dense."""
        linear = ((x @ self._back) @ self.graph).toarray()
        found = linear + (x @ self._into) @ self._out if self.alpha else linear
        return self._sharpened(found) if self.sharpen else found

    def _sharpened(self, scores: Floats) -> Floats:
        """``scores exp(-sharpen P)`` with P = R~' R~, whose eigenvalues lie in [0, 1]: by Chebyshev polynomials of 2 P - 1."""

        def turned(y: Floats) -> Floats:
            return 2 * (self._back @ (self.graph @ y)) - y

        signs = np.where(np.arange(200) % 2, -2, 2)
        strength = (ive(np.arange(200), self.sharpen / 2) * signs).astype(np.float32)
        last = before = np.ascontiguousarray(scores.T)  # [I, B]
        total, place = last * (strength[0] / 2), 1
        while abs(strength[place]) > SMALL:
            last, before = (turned(last) if place == 1 else 2 * turned(last) - before), last
            total += strength[place] * last
            place += 1
        return total.T

    def retrieve(self, request: Request, k: int) -> Candidates:
        n = self.graph.shape[1]
        x = self.rows(request, n)
        found = best_of(lambda start, stop: self._scores(x[start:stop]), len(request), n, k, request.exclude)
        known = abs(x) @ (self._degrees > 0) > 0
        return found if known.all() else found.take(known[found.requests])

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history that gives most to a candidate's score, and what it gives."""
        n = self.graph.shape[1]

        def given(own: Ints, rows: Ints) -> Floats:
            linear = np.asarray(self._back[own].multiply(self._back[rows]).sum(1)).ravel()
            found: Floats = linear + np.einsum("pd,dp->p", self._into[own], self._out[:, rows]) if self.alpha else linear
            return found

        return strongest(self.read(request, n), candidates, n, given)

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """What a history of this item alone is offered: int64 rows and scores, best first; nothing for an item that nobody took."""
        n = self.graph.shape[1]
        if not 0 <= item < n or not self._degrees[item]:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        alone = csr_matrix((np.ones(1, np.float32), [item], [0, 1]), shape=(1, n))
        found = best_of(lambda _start, _stop: self._scores(alone), 1, n, k, Ragged.of([[item]]))
        return found.items, found.scores


def _inverse_root(sums: Any) -> Any:
    """``sums ** -1/2``, 0 where the sum is."""
    return np.where(sums > 0, 1 / np.sqrt(np.where(sums > 0, sums, 1)), 0)
