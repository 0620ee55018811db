"""What routes share that answer from the history alone: how it is read, and how a vector made of it is compared with the items'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from palate.candidates import DAY, Candidates, Floats, Grounds, Ints, Ragged, Request, offsets_of, spans
from palate.index.topk import Doubles, best_of, distinct, plain

PAIRS = 1_000_000  #: pairs of a candidate and an item of the history that are looked at together, about


def strongest(lists: tuple[Ints, Ints, Doubles], candidates: Candidates, n: int, speaks: Callable[[Ints, Ints], NDArray[Any]]) -> Grounds:
    """For each candidate below ``n`` the item of its requester's list for which ``weight * speaks(own [P], rows [P])`` is largest, if above 0.

    ``lists``: items below n and their weights, as ``FromHistory.read`` gives them. No item speaks for itself.
    """
    offsets, items, weights = lists
    found, owner = Grounds.none(len(candidates.items)), candidates.requests
    step = max(PAIRS // max(int(np.diff(offsets).max(initial=0)), 1), 1)
    for start in range(0, len(owner), step):
        part = np.arange(start, min(start + step, len(owner)))
        part = part[(candidates.items[part] >= 0) & (candidates.items[part] < n)]
        places, bounds = spans(offsets, owner[part])
        of = np.repeat(part, np.diff(bounds))
        own, rows = items[places], candidates.items[of]
        values = np.where(own == rows, 0.0, weights[places] * speaks(own, rows))
        best = np.lexsort((np.arange(len(of)), -values, of))
        best = best[np.append(True, np.diff(of[best]) > 0)] if len(best) else best
        best = best[values[best] > 0]
        found.items[of[best]], found.strength[of[best]] = own[best], values[best]
    return found


class Nearby(Protocol):
    """An index over item vectors: what ``search_with`` takes."""

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None) -> tuple[Ints, Floats]: ...


class FromHistory:
    """``weighted``: a history item counts its event's value, else 1; ``half_life_days``: it halves in so long (0: never); ``min_value``: history
    events below it do not count.
    """

    def __init__(self, weighted: bool = False, half_life_days: float = 0.0, min_value: float | None = None) -> None:
        self.weighted, self.half_life_days = weighted, half_life_days
        self.min_value = -np.inf if min_value is None else min_value

    def read(self, request: Request, n: int) -> tuple[Ints, Ints, Doubles]:
        """Each requester's items below ``n``, once each: ``(offsets [B + 1], items [M], weights [M])``."""
        half_life = self.half_life_days * DAY
        return distinct(request.histories, request.now, n, half_life=half_life, min_value=self.min_value, weighted=self.weighted)

    def rows(self, request: Request, n: int) -> csr_matrix:
        """The same as a sparse matrix float32 ``[B, n]``."""
        offsets, items, weights = self.read(request, n)
        return csr_matrix((weights.astype(np.float32), items, offsets), shape=(len(request), n))


class ByVector(FromHistory):
    """A requester's vector, made of the history, times each item's. You write ``user_vectors``; ``fit`` ends with ``_set(items)``.

    The items' vectors are all that is saved. A requester whose vector is zero gets no candidates.
    """

    dim: int
    _items: Floats | None = None
    _index: Nearby | None = None

    def _set(self, items: Floats) -> Self:
        self._items, self._index = items, None
        ways = self.ways()
        length = np.linalg.norm(ways, axis=1, keepdims=True)
        self._directions = ways / np.where(length > 0, length, 1)
        return self

    def ways(self) -> Floats:
        """The part of the items' vectors that says what is similar, float32 ``[I, *]``; all of it unless it is said."""
        return self.items

    def width(self) -> int:
        """Columns of ``items``."""
        return self.dim

    @property
    def items(self) -> Floats:
        """Item vectors float32 ``[I, width]``; in most models zero for an item that nobody took."""
        if self._items is None:
            raise RuntimeError(f"this {type(self).__name__} is not fitted")
        return self._items

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"items": self.items}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        items: Floats = plain(arrays["items"], np.float32)
        if items.ndim != 2 or items.shape[1] != self.width():
            raise ValueError(f"item factors of shape {items.shape} do not fit dim = {self.dim}")
        return self._set(items)

    def search_with(self, index: Nearby) -> Self:
        """Look for the best items in this index over ``items`` (inner product) instead of comparing all of them; ``fit`` undoes it."""
        self._index = index
        return self

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, width]``."""
        raise TypeError(f"{type(self).__name__} must define user_vectors(request)")

    def retrieve(self, request: Request, k: int) -> Candidates:
        items = self.items
        vectors = self.user_vectors(request)
        known: NDArray[np.bool_] = np.any(vectors, axis=1)
        if self._index is not None:
            rows, scores = self._index.search(vectors, k, request.exclude)
            there = (rows >= 0) & known[:, None]
            return Candidates(rows[there], scores[there], offsets_of(there.sum(axis=1)))
        found = best_of(lambda start, stop: vectors[start:stop] @ items.T, len(request), len(items), k, request.exclude)
        return found if known.all() else found.take(known[found.requests])

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history whose vector lies closest to a candidate's; the strength is their cosine."""
        ways, n = self._directions, len(self.items)
        offsets, items, _ = self.read(request, n)
        lists = offsets, items, np.ones(len(items))
        return strongest(lists, candidates, n, lambda own, rows: np.einsum("pd,pd->p", ways[own], ways[rows]))

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """Items whose vectors point the same way: int64 rows and cosines, best first; nothing for an item whose vector is zero."""
        if not 0 <= item < len(self.items) or not self._directions[item].any():
            return np.empty(0, np.int64), np.empty(0, np.float32)
        found = best_of(lambda _start, _stop: (self._directions @ self._directions[item])[None], 1, len(self.items), k, Ragged.of([[item]]))
        return found.items, found.scores
