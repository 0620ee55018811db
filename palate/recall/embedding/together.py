"""What routes by item vectors share: how interactions are cut into sessions, and how a history is answered."""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.candidates import Floats, Ints, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import ByVector
from palate.index.topk import Doubles

HOUR = 3_600_000  #: milliseconds


def sessions(interactions: Interactions, gap_hours: float) -> tuple[Ints, Ints]:
    """Each user's entries in order of time, cut where more than ``gap_hours`` lie between two (0: never).

    Returns offsets ``[S + 1]`` and places among the interactions ``[E]``; entries of one moment stand by row.
    """
    users = np.repeat(np.arange(interactions.n_users), np.diff(interactions.offsets))
    order = np.lexsort((interactions.times, users))
    starts = np.ones(len(order), bool)
    starts[1:] = users[order[1:]] != users[order[:-1]]
    if gap_hours > 0:
        starts[1:] |= np.diff(interactions.times[order]) > gap_hours * HOUR
    return np.append(np.flatnonzero(starts), len(order)), order


class Together(ByVector):
    """A history scores the mean over its items, weighed as in ``FromHistory``, of their cosines with an item, plus ``popularity * ln(its count)``.

    Items are vectors of length 1, and a column of popularity; zero for one that nobody took. A history without an item that somebody took gets no
    candidates.
    """

    def __init__(
        self, dim: int, popularity: float, epochs: int, learning_rate: float, weighted: bool, half_life_days: float, min_value: float | None
    ) -> None:
        super().__init__(weighted, half_life_days, min_value)
        if min(dim, epochs) < 1 or learning_rate <= 0:
            raise ValueError(f"dim and epochs must be at least 1 and learning_rate above 0, not {dim}, {epochs} and {learning_rate}")
        self.dim, self.popularity, self.epochs, self.learning_rate = dim, popularity, epochs, learning_rate

    def width(self) -> int:
        return self.dim + 1

    def ways(self) -> Floats:
        return self.items[:, : self.dim]

    def start(self, counts: Ints, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Vectors of items as centres, small and random, and as contexts, zero: float32 ``[I, dim]``, as word2vec starts them."""
        u = (generator.random((len(counts), self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        u[counts == 0] = 0
        return u, np.zeros_like(u)

    def finish(self, u: Floats, counts: Ints) -> Self:
        """Take the directions of ``u [I, dim]`` as the items' vectors."""
        length = np.linalg.norm(u, axis=1, keepdims=True)
        return self.offer((u / np.where(length > 0, length, 1)).astype(np.float32), np.maximum(counts, 1))

    def offer(self, vectors: Floats, counts: Ints | Doubles) -> Self:
        """Take ``vectors [I, dim]`` as the items' and their popularity, by ``counts`` above 0, beside them."""
        if not np.isfinite(vectors).all():
            raise FloatingPointError(f"{type(self).__name__} did not stay finite: learning_rate is too large")
        return self._set(np.column_stack((vectors, self.popularity * np.log(counts))).astype(np.float32))

    def user_vectors(self, request: Request) -> Floats:
        """Weighted means of the items' directions, and 1, float32 ``[B, dim + 1]``; zero without a known item."""
        rows = self.rows(request, len(self.items))
        rows.data *= self.ways()[rows.indices].any(axis=1)  # what nobody took points nowhere
        total = np.asarray(abs(rows).sum(axis=1), np.float32)
        known = total > 0
        return np.column_stack((rows @ self.ways() / np.where(known, total, np.float32(1)), known)).astype(np.float32)
