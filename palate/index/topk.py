"""The k best of many scores, block by block, for retrievers whose scores are sparse sums or one matrix product.

Of sparse sums a score and its catalogue row are packed into one uint64 whose ascending order is "higher score first, then lower row", so
numpy's vectorised partition and sort of integers choose and order in one go; of dense scores a heap keeps the best. Ties fall by catalogue row,
and nothing larger than a block of 32 (dense: 64) MB is held. The compiled parts see fixed dtypes only: ``plain`` makes any array fit without a
second compilation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Candidates, Floats, Histories, Ints, Ragged, offsets_of
from palate.index import heaps

Keys = NDArray[np.uint64]
Marks = NDArray[np.int8]
Doubles = NDArray[np.float64]

BLOCK = 4_000_000  #: packed scores held at once; of dense ones four times as many
NOTHING = np.uint64(0xFFFF_FFFF_FFFF_FFFF)  #: key of an empty place
LONG = 40.0  #: half-lives; how much longer somebody was away does not matter
EVERYTHING = np.empty(0, np.bool_)  #: ``allowed`` of those who allow every column
NO_BASE = np.empty(0)  #: of columns that start at 0
_NO_INTS = np.empty(0, np.int64)


def plain(array: Any, dtype: Any) -> NDArray[Any]:
    """The array as contiguous, writeable and of this dtype (itself where it is that already)."""
    fitting = np.ascontiguousarray(array, dtype)
    return fitting if fitting.flags.writeable else fitting.copy()


def flat(array: Any, dtype: Any) -> NDArray[Any]:
    """``plain`` of a saved array that must have one dimension; ValueError."""
    if np.ndim(array) != 1:
        raise ValueError(f"an array of shape {np.shape(array)} where a plain column is wanted")
    return plain(array, dtype)


class Workspace(threading.local):
    """Scratch of each thread, kept so that a request need not clear memory the size of the catalogue."""

    def __init__(self) -> None:
        self._scratch = np.zeros(0), np.zeros(0, np.int8), np.empty(0, np.int64)

    def of(self, size: int) -> tuple[Doubles, Marks, Ints]:
        """``sums`` float64 and ``marks`` int8, all zero (who uses them leaves them so), and ``touched`` int64; ``size`` places or more."""
        if len(self._scratch[0]) < size:
            self._scratch = np.zeros(size), np.zeros(size, np.int8), np.empty(size, np.int64)
        return self._scratch


workspace = Workspace()


@njit(cache=True, nogil=True)
def pack(score: float, row: int, cell: Floats, bits: NDArray[np.uint32]) -> np.uint64:
    """``cell`` float32 [1] and ``bits`` uint32 [1] are the same four bytes."""
    cell[0] = score + 0.0  # turns -0.0 into 0.0
    raw = bits[0]
    if raw >> np.uint32(31):
        order = raw
    else:
        order = np.uint32(0x7FFF_FFFF) - raw
    return (np.uint64(order) << np.uint64(32)) | np.uint64(row)


def unpack(keys: Keys) -> tuple[Ints, Floats]:
    """Rows int64 and scores float32 of packed keys; -1 and -inf for an empty place."""
    rows, raw = np.empty(keys.shape, np.int64), np.empty(keys.shape, np.uint32)
    _unpack(plain(keys, np.uint64).ravel(), rows.ravel(), raw.ravel())
    return rows, raw.view(np.float32)


@njit(cache=True, nogil=True)
def _unpack(keys: Keys, rows: Ints, raw: NDArray[np.uint32]) -> None:
    for n in range(len(keys)):
        key = keys[n]
        if key == np.uint64(0xFFFF_FFFF_FFFF_FFFF):
            rows[n] = -1
            raw[n] = np.uint32(0xFF80_0000)  # -inf
            continue
        order = np.uint32(key >> np.uint64(32))
        rows[n] = np.int64(key & np.uint64(0xFFFF_FFFF))
        raw[n] = order if order >> np.uint32(31) else np.uint32(0x7FFF_FFFF) - order


@njit(cache=True, nogil=True)
def _distinct(
    offsets: Ints,
    items: Ints,
    times: Ints,
    values: Floats,
    now: Ints,
    n: int,
    half_life: float,
    min_value: float,
    weighted: bool,
    marks: Marks,
    out_offsets: Ints,
    out_items: Ints,
    out_weights: Doubles,
) -> None:
    place = 0
    for b in range(len(offsets) - 1):
        first, longer = place, 0.0
        for e in range(offsets[b + 1] - 1, offsets[b] - 1, -1):
            item = items[e]
            if item < 0 or item >= n or marks[item] or values[e] < min_value:  # no value (NaN) is never below
                continue
            marks[item] = 1
            weight = 1.0
            if weighted and values[e] == values[e]:
                weight = values[e]
            if half_life > 0.0:
                age = max(now[b] - times[e], 0) / half_life
                if place == first:
                    longer = max(age - LONG, 0.0)
                weight *= 0.5 ** (age - longer)
            out_items[place] = item
            out_weights[place] = weight
            place += 1
        for e in range(first, place):
            marks[out_items[e]] = 0
        out_offsets[b + 1] = place


def distinct(
    histories: Histories, now: Ints, n: int, *, half_life: float = 0.0, min_value: float = -np.inf, weighted: bool = False
) -> tuple[Ints, Ints, Doubles]:
    """Each request's known history items once, latest first: ``(offsets [B + 1], items [M], weights [M])``.

    Rows outside ``[0, n)`` and events whose value is below ``min_value`` are left out. The weight is 1, or with ``weighted`` the last
    event's value (1 where it has none), halved for each ``half_life`` (ms; 0: never) that passed before ``now``. Whose latest event is more than 40
    half-lives ago is read as of 40 after it: no weight of the latest is too small for a float32, and who comes back after years gets no list of
    ties.
    """
    offsets = np.zeros(len(histories) + 1, np.int64)
    items = np.empty(len(histories.items), np.int64)
    weights = np.empty(len(items), np.float64)
    if len(items):
        _, marks, _ = workspace.of(n)
        source, times, values = plain(histories.items, np.int64), plain(histories.times, np.int64), plain(histories.values, np.float32)
        starts, moments = plain(histories.offsets, np.int64), plain(now, np.int64)
        _distinct(starts, source, times, values, moments, n, float(half_life), float(min_value), weighted, marks, offsets, items, weights)
    return offsets, items[: offsets[-1]], weights[: offsets[-1]]


@njit(cache=True, nogil=True)
def _sums(
    offsets: Ints,
    rows: Ints,
    weights: Doubles,
    starts: Ints,
    stops: Ints,
    columns: NDArray[np.int32],
    values: Floats,
    base: Doubles,
    allowed: NDArray[np.bool_],
    x_offsets: Ints,
    x_values: Ints,
    first: int,
    last: int,
    n: int,
    sums: Doubles,
    marks: Marks,
    touched: Ints,
    keys: Keys,
) -> int:
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    everything, based = len(allowed) == 0, len(base) > 0
    width = 0
    counts = np.zeros(last - first, np.int64)
    for b in range(first, last):
        excluded = x_values[x_offsets[b] : x_offsets[b + 1]]
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 1
        work = 0
        for q in range(offsets[b], offsets[b + 1]):
            work += stops[rows[q]] - starts[rows[q]]
        count = 0
        if 4 * work > n:  # most columns are reached: add without a look, then pass over all
            for q in range(offsets[b], offsets[b + 1]):
                row, weight = rows[q], weights[q]
                for e in range(starts[row], stops[row]):
                    sums[columns[e]] += weight * values[e]
            for column in range(n):
                score = sums[column]
                sums[column] = 0.0
                if based and score > 0.0:
                    score += base[column]
                if score > 0.0 and marks[column] == 0 and (everything or allowed[column]):
                    keys[b - first, count] = pack(score, column, cell, bits)
                    count += 1
        else:  # note each column reached (again while its sum is 0: they still fit), and pass over those only
            seen = 0
            for q in range(offsets[b], offsets[b + 1]):
                row, weight = rows[q], weights[q]
                for e in range(starts[row], stops[row]):
                    column = columns[e]
                    if sums[column] == 0.0:
                        touched[seen] = column
                        seen += 1
                    sums[column] += weight * values[e]
            for t in range(seen):
                column = touched[t]
                score = sums[column]
                sums[column] = 0.0
                if based and score > 0.0:
                    score += base[column]
                if score > 0.0 and marks[column] == 0 and (everything or allowed[column]):
                    keys[b - first, count] = pack(score, column, cell, bits)
                    count += 1
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 0
        counts[b - first] = count
        width = max(width, count)
    for b in range(last - first):
        keys[b, counts[b] : width] = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    return width


def _chosen(keys: Keys, k: int) -> Keys:
    """The k smallest of each row, ascending; ``keys`` is reordered."""
    if k < keys.shape[1]:
        keys.partition(k - 1, axis=1)
        keys = keys[:, :k]
    return np.sort(keys, axis=1)


def _gathered(blocks: list[Keys], size: int) -> Candidates:
    if not blocks:
        return Candidates.empty(size)
    if size == 1:  # what is empty stands last
        keys = blocks[0][0]
        items, scores = unpack(keys[: int(keys.searchsorted(NOTHING))])
        return Candidates(items, scores, np.array((0, len(items)), np.int64))
    lengths = np.concatenate([np.count_nonzero(block != NOTHING, axis=1) for block in blocks])
    items, scores = unpack(np.concatenate([block[block != NOTHING] for block in blocks]))
    return Candidates(items, scores, offsets_of(lengths))


class Table:
    """Sparse rows over ``n`` columns: what a row (an item, a user, a tag) gives to each of them.

    Row r is ``columns[starts[r]:stops[r]]`` int32 and ``values[...]`` float32; ``starts`` and ``stops`` int64 ``[R]``. ``base`` float64 ``[n]``
    is added to every column's sum that is above 0 (empty: nothing).
    """

    __slots__ = ("base", "columns", "n", "starts", "stops", "values")

    def __init__(self, starts: Any, stops: Any, columns: Any, values: Any, n: int, base: Doubles = NO_BASE) -> None:
        self.starts: Ints = plain(starts, np.int64)
        self.stops: Ints = plain(stops, np.int64)
        self.columns: NDArray[np.int32] = plain(columns, np.int32)
        self.values: Floats = plain(values, np.float32)
        self.n, self.base = n, base

    @classmethod
    def of(cls, offsets: Ints, columns: Any, values: Any, n: int, base: Doubles = NO_BASE) -> Table:
        """From CSR, ``offsets [R + 1]``."""
        return cls(offsets[:-1], offsets[1:], columns, values, n, base)

    def __len__(self) -> int:
        return len(self.starts)

    def best(
        self,
        offsets: Ints,
        rows: Ints,
        weights: Doubles,
        k: int,
        exclude: Ragged | None = None,
        allowed: NDArray[np.bool_] = EVERYTHING,
    ) -> Candidates:
        """For each query b the k columns with the largest ``sum_q weights[q] * table[rows[q], column]`` over ``offsets[b]..offsets[b + 1]``.

        Only columns whose sum, without the base and with it, is above 0 and that are ``allowed [n]``; never one of ``exclude[b]``. Best first,
        ties by column.
        """
        size = len(offsets) - 1
        if k <= 0 or self.n == 0 or len(rows) == 0:
            return Candidates.empty(size)
        x_offsets, x_values = ragged(exclude, size)
        space = workspace.of(self.n)
        fixed = self.starts, self.stops, self.columns, self.values, self.base, allowed, x_offsets, x_values
        step = max(1, min(size, BLOCK // self.n))
        keys: Keys = np.empty((step, self.n), np.uint64)
        blocks = []
        for first in range(0, size, step):
            last = min(first + step, size)
            width = _sums(offsets, rows, weights, *fixed, first, last, self.n, *space, keys)
            blocks.append(_chosen(keys[: last - first, :width], k))
        return _gathered(blocks, size)


def ragged(lists: Ragged | None, size: int) -> tuple[Ints, Ints]:
    """Offsets ``[size + 1]`` and values of the lists; empty lists for None."""
    if lists is None:
        return np.zeros(size + 1, np.int64), _NO_INTS
    return plain(lists.offsets, np.int64), plain(lists.values, np.int64)


@njit(cache=True, nogil=True)
def _best(scores: Floats, x_offsets: Ints, x_values: Ints, start: int, marks: Marks, items: Ints, values: Floats, counts: Ints) -> None:
    n = scores.shape[1]
    for b in range(len(scores)):
        excluded = x_values[x_offsets[start + b] : x_offsets[start + b + 1]]
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 1
        at, best = heaps.best_of(scores[b], items.shape[1], marks)
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 0
        counts[b] = len(at)
        items[b, : len(at)] = at
        values[b, : len(at)] = best


def best_of(score: Callable[[int, int], Floats], size: int, n: int, k: int, exclude: Ragged | None = None) -> Candidates:
    """The k best of ``n`` columns for ``size`` requests, where ``score(start, stop)`` gives float32 ``[stop - start, n]``.

    No NaN; a column of -inf is nobody's.
    """
    k = min(k, n)
    if k <= 0 or size == 0:
        return Candidates.empty(size)
    x_offsets, x_values = ragged(exclude, size)
    items, values, counts = np.empty((size, k), np.int64), np.empty((size, k), np.float32), np.empty(size, np.int64)
    step = max(1, 4 * BLOCK // n)
    marks = workspace.of(n)[1]
    for start in range(0, size, step):
        some = slice(start, min(start + step, size))
        _best(plain(score(some.start, some.stop), np.float32), x_offsets, x_values, start, marks, items[some], values[some], counts[some])
    there = np.arange(k) < counts[:, None]
    return Candidates(items[there], values[there], offsets_of(counts))


def nearest_of_all(index: Any, vectors: Floats, k: int, exclude: Ragged | None = None) -> Candidates:
    """The k best of an index for users ``[B, D]``, or for users of several vectors ``[B, K, D]``, an item by the vector it is nearest to."""
    size = len(vectors)
    several = vectors.shape[1] if vectors.ndim == 3 else 1
    if several > 1 and exclude is not None:
        exclude = Ragged.of([exclude[b] for b in range(size) for _ in range(several)])
    rows, scores = index.search(plain(vectors.reshape(size * several, vectors.shape[-1]), np.float32), k, exclude)
    rows, scores = rows.reshape(size, several * rows.shape[1]), scores.reshape(size, several * rows.shape[1])  # [B, K k]
    request, place = np.nonzero(rows >= 0)
    rows, scores = rows[request, place], scores[request, place]
    order = np.lexsort((rows, -scores, request))
    request, rows, scores = request[order], rows[order], scores[order]
    if several > 1:  # of an item that several vectors found the best one stands
        _, first = np.unique(np.stack((request, rows)), axis=1, return_index=True)
        first.sort()
        request, rows, scores = request[first], rows[first], scores[first]
    found = Candidates(rows, scores, offsets_of(np.bincount(request, minlength=size)))
    return found.top(k) if several > 1 else found


@njit(cache=True, nogil=True)
def _walk(
    order: Ints,
    starts: Ints,
    stops: Ints,
    allowed: NDArray[np.bool_],
    x_offsets: Ints,
    x_values: Ints,
    k: int,
    marks: Marks,
    items: Ints,
    offsets: Ints,
) -> None:
    n = len(marks)
    place = 0
    for b in range(len(starts)):
        excluded = x_values[x_offsets[b] : x_offsets[b + 1]]
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 1
        most = place + k
        for at in range(starts[b], stops[b]):
            if place == most:
                break
            row = order[at]
            if marks[row] == 0 and allowed[row]:
                items[place] = row
                place += 1
        for item in excluded:
            if 0 <= item < n:
                marks[item] = 0
        offsets[b + 1] = place


def walk(order: Ints, starts: Ints, stops: Ints, allowed: NDArray[np.bool_], k: int, exclude: Ragged | None = None) -> tuple[Ints, Ints]:
    """One order for everybody: for request b the first k of ``order[starts[b]:stops[b]]`` that are ``allowed [n]`` and not excluded.

    Returns rows int64 and their offsets ``[B + 1]``.
    """
    size, k = len(starts), min(k, len(order))
    offsets = np.zeros(size + 1, np.int64)
    if k <= 0 or size == 0:
        return _NO_INTS, offsets
    x_offsets, x_values = ragged(exclude, size)
    items = np.empty(size * k, np.int64)
    _walk(order, starts, stops, allowed, x_offsets, x_values, k, workspace.of(len(allowed))[1], items, offsets)
    return items[: offsets[-1]], offsets
