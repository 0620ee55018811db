"""Every vector compared with every query: the yardstick of the approximate indexes, and the fastest one for a small catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints, Ragged
from palate.index.heaps import best_of

BLOCK = 1 << 24  #: scores held at once while searching in bulk (64 MB)
SMALL = 1 << 20  #: numbers in the matrix below which one query goes through BLAS, which does not wake its threads for so little


@njit(cache=True, nogil=True, fastmath=True)
def inner_products(vectors: Floats, query: Floats, out: Floats) -> None:
    """``out[n] = vectors[n] . query``, on the calling thread alone."""
    for n in range(len(out)):
        total = np.float32(0.0)
        for d in range(len(query)):
            total += vectors[n, d] * query[d]
        out[n] = total


def checked(vectors: Floats, ids: Ints) -> tuple[Floats, Ints]:
    """Vectors ``[N, D]`` as contiguous float32 and ids ``[N]`` as int64; ``ValueError`` if they do not fit, hold nothing or are not finite."""
    vectors, ids = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64)
    if vectors.ndim != 2 or ids.shape != (len(vectors),):
        raise ValueError(f"an index takes vectors [N, D] and ids [N], not {list(vectors.shape)} and {list(ids.shape)}")
    if len(ids) and not vectors.shape[1]:
        raise ValueError("vectors must have at least one number")
    if not np.isfinite(vectors).all():
        bad = ids[~np.isfinite(vectors).all(1)]
        raise ValueError(f"vectors must be finite; {len(bad)} are not, the first that of id {bad[0]}")
    if len(ids) and ids.min() < 0:
        raise ValueError("ids are catalogue rows, 0 or above")
    if len(np.unique(ids)) != len(ids):
        raise ValueError("an id stands twice among the vectors")
    return vectors, ids


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a search sees; replaced as a whole, so readers hold no lock. The arrays are views of larger buffers."""

    vectors: NDArray[Any]  # [n, ...] as they are kept
    ids: Ints  # [n], ascending
    place: Ints  # position by id; -1 none
    dead: Ints  # positions of removed vectors
    dim: int


_NONE: Ints = np.empty(0, np.int64)


class Exact:
    """``fit``, ``search``, ``add``, ``remove`` by inner product. One writer at a time, any number of readers. Ties go to the smaller id.

    ``add`` of an id that is there replaces its vector. New ids above all others (as those of new items are) are appended in amortised time.
    """

    def __init__(self) -> None:
        self.shelf = Shelf(np.empty((0, 0), np.float32), _NONE, _NONE, _NONE, 0)

    # how a vector is kept: here as it is

    def _kept(self, vectors: Floats) -> NDArray[Any]:
        """``[N, ...]`` as they stand on the shelf."""
        return vectors

    def _again(self, kept: NDArray[Any], dim: int) -> Floats:
        """The vectors ``[N, dim]`` of what is kept."""
        return kept

    def _scores(self, kept: NDArray[Any], queries: Floats) -> Floats:
        """Inner products ``[B, N]``; one query of a large matrix goes past BLAS, whose threads cost more CPU than they save time."""
        if len(queries) > 1 or kept.size <= SMALL:
            return queries @ kept.T
        out = np.empty((1, len(kept)), np.float32)
        inner_products(kept, queries[0], out[0])
        return out

    def __len__(self) -> int:
        return len(self.shelf.ids) - len(self.shelf.dead)

    def __contains__(self, id: int) -> bool:
        shelf = self.shelf
        at = positions(shelf.place, np.array([id], np.int64), len(shelf.ids))
        return len(at) > 0 and at[0] not in shelf.dead

    @property
    def nbytes(self) -> int:
        """Memory that it holds, bytes."""
        shelf = self.shelf
        return sum(array.nbytes for array in (shelf.vectors, shelf.ids, shelf.place, shelf.dead))

    def fit(self, vectors: Floats, ids: Ints) -> Self:
        """vectors float32 ``[N, D]``, ids int64 ``[N]``, each once; replaces what was there. ``ValueError`` for what is not finite."""
        vectors, ids = checked(vectors, ids)
        return self._filled(self._kept(vectors), ids, vectors.shape[1])

    def _filled(self, kept: NDArray[Any], ids: Ints, dim: int) -> Self:
        if not (np.diff(ids) > 0).all():
            order = np.argsort(ids)
            kept, ids = kept[order], ids[order]
        kept, ids = (array if array.base is None else array.copy() for array in (kept, ids))  # never somebody else's memory
        place = np.full(int(ids[-1]) + 1 if len(ids) else 0, -1, np.int64)
        place[ids] = np.arange(len(ids))
        self.shelf = Shelf(kept, ids, place, _NONE, dim)
        return self

    def _alive(self) -> tuple[NDArray[Any], Ints]:
        shelf = self.shelf
        alive = np.ones(len(shelf.ids), bool)
        alive[shelf.dead] = False
        return shelf.vectors[alive], shelf.ids[alive]

    def everything(self) -> tuple[Floats, Ints]:
        """All that is in the index: vectors float32 ``[N, D]`` and ids int64 ``[N]``, ascending."""
        kept, ids = self._alive()
        return self._again(kept, self.shelf.dim), ids

    def add(self, ids: Ints, vectors: Floats) -> None:
        """Put these in, or in the place of those with the same id."""
        vectors, ids = checked(vectors, ids)
        shelf = self.shelf
        if not len(ids):
            return
        if not len(shelf.ids):
            self.fit(vectors, ids)
            return
        if vectors.shape[1] != shelf.dim:
            raise ValueError(f"this index holds vectors of {shelf.dim} numbers, not {vectors.shape[1]}")
        order = np.argsort(ids)
        fresh, ids = self._kept(vectors[order]), ids[order]
        known = np.isin(ids, shelf.ids)
        size, extra = len(shelf.ids), int((~known).sum())
        if extra and ids[~known][0] < shelf.ids[-1]:  # out of order: start afresh
            old, old_ids = self._alive()
            stays = ~np.isin(old_ids, ids)
            self._filled(np.concatenate([old[stays], fresh]), np.concatenate([old_ids[stays], ids]), shelf.dim)
            return
        if known.any():
            buffer = shelf.vectors.copy()  # a reader must not meet half a vector
            at = shelf.place[ids[known]]
            buffer[at] = fresh[known]
            shelf = Shelf(buffer, shelf.ids, shelf.place, np.setdiff1d(shelf.dead, at), shelf.dim)
        if extra:
            new = ids[~known]
            place = _room(shelf.place, int(new[-1]) + 1, -1)
            place[new] = np.arange(size, size + extra)
            grown, grown_ids = _room(shelf.vectors, size + extra, 0), _room(shelf.ids, size + extra, -1)
            grown[size:], grown_ids[size:] = fresh[~known], new
            shelf = Shelf(grown, grown_ids, place, shelf.dead, shelf.dim)
        self.shelf = shelf

    def remove(self, ids: Ints) -> None:
        """Take these out; ids that are not there are ignored. Their vectors go when a third of all are dead."""
        shelf = self.shelf
        at = positions(shelf.place, np.asarray(ids, np.int64), len(shelf.ids))
        self.shelf = Shelf(shelf.vectors, shelf.ids, shelf.place, np.union1d(shelf.dead, at), shelf.dim)
        if 3 * len(self.shelf.dead) > len(shelf.ids):
            self._filled(*self._alive(), shelf.dim)

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None, only: Ints | None = None) -> tuple[Ints, Floats]:
        """The k best of each query ``[B, D]``: ids int64 ``[B, k]`` (-1: there are no more) and scores float32 ``[B, k]`` (-inf there).

        Never one of ``exclude[b]``, and none but of ``only`` (ids, the same for all queries; None: all).
        """
        shelf = self.shelf
        queries = np.ascontiguousarray(queries, np.float32)
        found = np.full((len(queries), k), -1, np.int64)
        values = np.full((len(queries), k), -np.inf, np.float32)
        size = len(shelf.ids)
        if not size or not k:
            return found, values
        if queries.ndim != 2 or queries.shape[1] != shelf.dim:
            raise ValueError(f"queries must be [B, {shelf.dim}], not {list(queries.shape)}")
        kept, ids, dead, at = shelf.vectors, shelf.ids, shelf.dead, None
        if only is not None:
            at = np.setdiff1d(positions(shelf.place, np.asarray(only, np.int64), size), dead)
            if 4 * len(at) < size:  # few: bring them together
                kept, ids, dead = kept[at], ids[at], _NONE
            else:
                dead, at = absent(at, size), None

        def hidden(row: int) -> Ints:
            if exclude is None:
                return dead
            gone = positions(shelf.place, exclude[row], size)
            return within(at, gone) if at is not None else np.concatenate([dead, gone])

        for row, (place, best) in enumerate(best_rows(lambda some: self._scores(kept, some), len(ids), queries, k, hidden)):
            found[row, : len(place)] = ids[place]
            values[row, : len(place)] = best
        return found, values


def best_rows(score: Callable[[Floats], Floats], size: int, queries: Floats, k: int, hidden: Callable[[int], Ints]) -> Iterator[tuple[Ints, Floats]]:
    """For each query the positions and scores of the k best of ``size`` vectors that are not ``hidden(row)``; ``score`` gives ``[B, size]``."""
    step = max(1, BLOCK // max(size, 1))
    for start in range(0, len(queries), step):
        for row, mine in enumerate(score(queries[start : start + step]), start):
            mine[hidden(row)] = -np.inf
            yield best_of(mine, min(k, size))


def absent(at: Ints, size: int) -> Ints:
    """The positions below ``size`` that are not in ``at``."""
    missing = np.ones(size, bool)
    missing[at] = False
    return np.flatnonzero(missing)


def within(at: Ints, some: Ints) -> Ints:
    """Where these stand in the ascending ``at``; those that do not are left out."""
    place = np.searchsorted(at, some)
    there = place < len(at)
    there[there] = at[place[there]] == some[there]
    return place[there]


def positions(place: Ints, ids: Ints, size: int) -> Ints:
    """Where these ids stand; ids that do not stand anywhere are left out."""
    known = ids[(ids >= 0) & (ids < len(place))]
    at = place[known]
    return at[(at >= 0) & (at < size)]


def _room(array: NDArray[Any], size: int, fill: int) -> NDArray[Any]:
    """A view of ``size`` rows that begins with ``array``: of the buffer behind it where that has room, else of a copy with room to grow."""
    buffer = array.base
    if isinstance(buffer, np.ndarray) and buffer.dtype == array.dtype and len(buffer) >= size and buffer.ctypes.data == array.ctypes.data:
        return buffer[:size]
    buffer = np.full((size + size // 4 + 64, *array.shape[1:]), fill, array.dtype)
    buffer[: len(array)] = array
    return buffer[:size]
