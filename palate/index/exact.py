"""Every vector compared with every query: the yardstick of the approximate indexes, and the fastest one for a small catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints, Ragged

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


@njit(cache=True, nogil=True)
def best_of(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """Positions and values of the k largest finite scores, best first, ties by position; fewer where fewer are finite."""
    heap = np.empty(k, np.float32)  # the smallest of the best so far on top
    place = np.empty(k, np.int64)
    size = 0
    for n in range(len(scores)):
        score = scores[n]
        if size < k:
            if not score > -np.inf:
                continue
            child = size
            size += 1
            while child > 0:
                parent = (child - 1) >> 1
                if heap[parent] < score or (heap[parent] == score and place[parent] > n):
                    break
                heap[child] = heap[parent]
                place[child] = place[parent]
                child = parent
            heap[child] = score
            place[child] = n
        elif score > heap[0]:  # of equal scores the earlier position is already in
            _sink(heap, place, size, score, n)
    values = np.empty(size, np.float32)
    positions = np.empty(size, np.int64)
    for left in range(size - 1, -1, -1):
        values[left] = heap[0]
        positions[left] = place[0]
        if left:
            _sink(heap, place, left, heap[left], place[left])
    return positions, values


@njit(cache=True, nogil=True)
def _sink(heap: Floats, place: Ints, size: int, score: np.float32, n: int) -> None:
    """Put (score, n) in the place of the top and let it sink; of equal scores the later position is the smaller."""
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (heap[right] < heap[child] or (heap[right] == heap[child] and place[right] > place[child])):
            child = right
        if score < heap[child] or (score == heap[child] and n > place[child]):
            break
        heap[hole] = heap[child]
        place[hole] = place[child]
        hole = child
    heap[hole] = score
    place[hole] = n


def checked(vectors: Floats, ids: Ints) -> tuple[Floats, Ints]:
    """Vectors ``[N, D]`` as contiguous float32 and ids ``[N]`` as int64; ``ValueError`` if they do not fit or are not finite."""
    vectors, ids = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64)
    if vectors.ndim != 2 or ids.shape != (len(vectors),):
        raise ValueError(f"an index takes vectors [N, D] and ids [N], not {list(vectors.shape)} and {list(ids.shape)}")
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

    vectors: Floats  # [n, D]
    ids: Ints  # [n], ascending
    place: Ints  # position by id; -1 none
    dead: Ints  # positions of removed vectors


_BARE = Shelf(np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


class Exact:
    """``fit``, ``search``, ``add``, ``remove`` by inner product. One writer at a time, any number of readers. Ties go to the smaller id.

    ``add`` of an id that is there replaces its vector. New ids above all others (as those of new items are) are appended in amortised time.
    """

    def __init__(self) -> None:
        self.shelf = _BARE

    def __len__(self) -> int:
        return len(self.shelf.ids) - len(self.shelf.dead)

    def __contains__(self, id: int) -> bool:
        shelf = self.shelf
        at = positions(shelf.place, np.array([id], np.int64), len(shelf.ids))
        return len(at) > 0 and at[0] not in shelf.dead

    def fit(self, vectors: Floats, ids: Ints) -> Self:
        """vectors float32 ``[N, D]``, ids int64 ``[N]``, each once; replaces what was there. ``ValueError`` for what is not finite."""
        vectors, ids = checked(vectors, ids)
        if not (np.diff(ids) > 0).all():
            order = np.argsort(ids)
            vectors, ids = vectors[order], ids[order]
        place = np.full(int(ids[-1]) + 1 if len(ids) else 0, -1, np.int64)
        place[ids] = np.arange(len(ids))
        self.shelf = Shelf(vectors, ids, place, np.empty(0, np.int64))
        return self

    def everything(self) -> tuple[Floats, Ints]:
        """All that is in the index: vectors float32 ``[N, D]`` and ids int64 ``[N]``, ascending."""
        shelf = self.shelf
        alive = np.ones(len(shelf.ids), bool)
        alive[shelf.dead] = False
        return shelf.vectors[alive], shelf.ids[alive]

    def add(self, ids: Ints, vectors: Floats) -> None:
        """Put these in, or in the place of those with the same id."""
        vectors, ids = checked(vectors, ids)
        shelf = self.shelf
        if not len(ids):
            return
        if not len(shelf.ids):
            self.fit(vectors, ids)
            return
        if vectors.shape[1] != shelf.vectors.shape[1]:
            raise ValueError(f"this index holds vectors of {shelf.vectors.shape[1]} numbers, not {vectors.shape[1]}")
        order = np.argsort(ids)
        vectors, ids = vectors[order], ids[order]
        known = np.isin(ids, shelf.ids)
        size, extra = len(shelf.ids), int((~known).sum())
        if extra and ids[~known][0] < shelf.ids[-1]:  # out of order: start afresh
            old_vectors, old_ids = self.everything()
            kept = ~np.isin(old_ids, ids)
            self.fit(np.concatenate([old_vectors[kept], vectors]), np.concatenate([old_ids[kept], ids]))
            return
        if known.any():
            buffer = shelf.vectors.copy()  # a reader must not meet half a vector
            at = shelf.place[ids[known]]
            buffer[at] = vectors[known]
            shelf = Shelf(buffer, shelf.ids, shelf.place, np.setdiff1d(shelf.dead, at))
        if extra:
            new = ids[~known]
            place = _room(shelf.place, int(new[-1]) + 1, -1)
            place[new] = np.arange(size, size + extra)
            grown_vectors, grown_ids = _room(shelf.vectors, size + extra, 0), _room(shelf.ids, size + extra, -1)
            grown_vectors[size:], grown_ids[size:] = vectors[~known], new
            shelf = Shelf(grown_vectors, grown_ids, place, shelf.dead)
        self.shelf = shelf

    def remove(self, ids: Ints) -> None:
        """Take these out; ids that are not there are ignored. Their vectors go when a third of all are dead."""
        shelf = self.shelf
        at = positions(shelf.place, np.asarray(ids, np.int64), len(shelf.ids))
        self.shelf = Shelf(shelf.vectors, shelf.ids, shelf.place, np.union1d(shelf.dead, at))
        if 3 * len(self.shelf.dead) > len(shelf.ids):
            self.fit(*self.everything())

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None) -> tuple[Ints, Floats]:
        """The k best of each query ``[B, D]``: ids int64 ``[B, k]`` (-1: there are no more) and scores float32 ``[B, k]`` (-inf there)."""
        shelf = self.shelf
        queries = np.ascontiguousarray(queries, np.float32)
        found = np.full((len(queries), k), -1, np.int64)
        values = np.full((len(queries), k), -np.inf, np.float32)
        size = len(shelf.ids)
        if not size or not k:
            return found, values
        if queries.ndim != 2 or queries.shape[1] != shelf.vectors.shape[1]:
            raise ValueError(f"queries must be [B, {shelf.vectors.shape[1]}], not {list(queries.shape)}")
        step = max(1, BLOCK // size)
        for start in range(0, len(queries), step):
            scores = _scores(shelf.vectors, queries[start : start + step])
            for row, mine in enumerate(scores, start):
                if len(shelf.dead):
                    mine[shelf.dead] = -np.inf
                if exclude is not None:
                    mine[positions(shelf.place, exclude[row], size)] = -np.inf
                at, best = best_of(mine, min(k, size))
                found[row, : len(at)] = shelf.ids[at]
                values[row, : len(at)] = best
        return found, values


def _scores(vectors: Floats, queries: Floats) -> Floats:
    """[B, n]; one query of a large matrix goes past BLAS, whose threads cost more CPU than they save time."""
    if len(queries) > 1 or vectors.size <= SMALL:
        return queries @ vectors.T
    out = np.empty((1, len(vectors)), np.float32)
    inner_products(vectors, queries[0], out[0])
    return out


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
