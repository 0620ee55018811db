"""The nearest rows of a sparse matrix under a measure of how their columns agree: the compiled part of ItemCF and UserCF.

The rows that share a column with a query are summed up column by column (Gustavson's sparse product), so only pairs that share
something cost anything, and only one query's sums are held at a time; a heap of packed keys keeps the best.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from palate.candidates import Floats, Ints, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import NO_BASE, NOTHING, Keys, Table, flat, pack, plain, unpack, workspace

COSINE, JACCARD, CONDITIONAL, CENTRED = 0, 1, 2, 3  #: how the sums become a similarity
CHUNK = 1024  #: queries of one compiled call

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sparse:
    """CSR rows: ``offsets`` int64 ``[R + 1]``, ``columns`` int32 ``[E]``, ``values`` float32 ``[E]``; ``width`` columns."""

    offsets: Ints
    columns: NDArray[np.int32]
    values: Floats
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, offsets: Any, columns: Any, values: Any, width: int) -> Sparse:
        return cls(plain(offsets, np.int64), plain(columns, np.int32), plain(values, np.float32), width)

    @classmethod
    def saved(cls, offsets: Any, columns: Any, values: Any, width: int) -> Sparse:
        """From arrays that were read: ValueError where they are no rows of so many columns, for compiled code would read beyond them."""
        made = cls(flat(offsets, np.int64), flat(columns, np.int32), flat(values, np.float32), width)
        if not len(made.offsets) or made.offsets[0] != 0 or (np.diff(made.offsets) < 0).any() or made.offsets[-1] != len(made.columns):
            raise ValueError("offsets do not lead through the entries")
        if len(made.columns) != len(made.values):
            raise ValueError(f"{len(made.columns)} entries have {len(made.values)} values")
        if len(made.columns) and (made.columns.min() < 0 or made.columns.max() >= width):
            raise ValueError(f"an entry lies outside the {width} columns")
        return made

    @property
    def lengths(self) -> Ints:
        """Entries of each row, int64 ``[R]``."""
        return np.diff(self.offsets)

    def transposed(self) -> Sparse:
        """Rows become columns; within a row, columns ascend."""
        turned = csr_matrix((self.values, self.columns, self.offsets), shape=(len(self), self.width)).tocsc()
        return Sparse.of(turned.indptr, turned.indices, turned.data, len(self))

    def sums(self, values: NDArray[Any]) -> Doubles:
        """Sum of ``values [E]`` over each row, float64 ``[R]``."""
        totals: Doubles = np.bincount(np.repeat(np.arange(len(self)), self.lengths), weights=values, minlength=len(self)).astype(np.float64)
        return totals

    def means(self) -> Doubles:
        """Mean value of each row, float64 ``[R]``; 0 for an empty one."""
        return self.sums(self.values) / np.maximum(self.lengths, 1)

    def less(self, means: Doubles) -> Sparse:
        """Each value less ``means [E]``; what only rounding leaves becomes 0, so that equal ratings say nothing."""
        away = self.values - means
        return self.with_values(np.where(np.abs(away) > 1e-6 * np.abs(means), away, 0.0))

    def normalised(self) -> Sparse:
        """Each value over the sum of its row, where that is above 0."""
        sums = self.sums(self.values)
        return self.with_values(self.values / np.repeat(np.where(sums > 0, sums, 1.0), self.lengths))

    def combined(self, weights: Doubles) -> Doubles:
        """The sum of all rows, each ``weights [R]`` times, float64 ``[width]``."""
        total: Doubles = np.bincount(self.columns, self.values * np.repeat(weights, self.lengths), self.width).astype(np.float64)
        return total

    def table(self, base: Doubles = NO_BASE) -> Table:
        """The same rows (not copied) as something to be asked for its best columns."""
        return Table.of(self.offsets, self.columns, self.values, self.width, base)

    def with_values(self, values: NDArray[Any]) -> Sparse:
        return Sparse(self.offsets, self.columns, plain(values, np.float32), self.width)


def latest(interactions: Interactions, most: int) -> Interactions:
    """Each row's ``most`` latest entries (0: all), kept in their order; of equal times those that stand later."""
    lengths = np.diff(interactions.offsets)
    if most <= 0 or not (lengths > most).any():
        return interactions
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((interactions.times, rows))  # stable, and rows are in order: a row's entries stay in its own places
    rank = np.arange(len(order)) - np.repeat(interactions.offsets[:-1], lengths)
    kept = np.zeros(len(order), bool)
    kept[order[rank >= np.repeat(lengths - most, lengths)]] = True
    chosen = interactions.items[kept], interactions.values[kept], interactions.times[kept]
    return Interactions(offsets_of(np.minimum(lengths, most)), *chosen, interactions.n_items, interactions.now)


@njit(cache=True, nogil=True)
def push(heap: Keys, count: int, key: np.uint64) -> int:
    """Keep the smallest keys of those pushed; the heap's root is the largest kept. Returns how many are kept."""
    k = len(heap)
    if count < k:
        at = count
        while at > 0 and heap[(at - 1) >> 1] < key:
            heap[at] = heap[(at - 1) >> 1]
            at = (at - 1) >> 1
        heap[at] = key
        return count + 1
    at = 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key
    return k


@njit(cache=True, nogil=True)
def _nearest(
    offsets: Ints,
    columns: NDArray[np.int32],
    values: Floats,
    norms: Doubles,
    skip: Ints,
    back_offsets: Ints,
    back_columns: NDArray[np.int32],
    back_values: Floats,
    back_norms: Doubles,
    weights: Doubles,
    measure: int,
    shrink: float,
    start: int,
    stop: int,
    sums: Doubles,
    marks: NDArray[np.int8],
    touched: Ints,
    keys: Keys,
) -> None:
    n = len(back_norms) if measure == 3 else 0
    own, other = np.zeros(n), np.zeros(n)
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    for row in range(start, stop):
        seen = 0
        for e in range(offsets[row], offsets[row + 1]):
            column, value = columns[e], values[e]
            share = value * weights[column]
            for f in range(back_offsets[column], back_offsets[column + 1]):
                neighbor = back_columns[f]
                if marks[neighbor] == 0:
                    marks[neighbor] = 1
                    touched[seen] = neighbor
                    seen += 1
                sums[neighbor] += share * back_values[f]
            if measure == 3:
                for f in range(back_offsets[column], back_offsets[column + 1]):
                    own[back_columns[f]] += value * value
                    other[back_columns[f]] += back_values[f] * back_values[f]
        heap = keys[row - start]
        kept = 0
        for t in range(seen):
            neighbor = touched[t]
            total = sums[neighbor]
            if measure == 0:
                below = norms[row] * back_norms[neighbor]
            elif measure == 1:
                below = norms[row] + back_norms[neighbor] - total
            elif measure == 2:
                below = back_norms[neighbor]
            else:
                below = np.sqrt(own[neighbor] * other[neighbor])
                own[neighbor] = 0.0
                other[neighbor] = 0.0
            sums[neighbor] = 0.0
            marks[neighbor] = 0
            if total <= 0.0 or neighbor == skip[row]:
                continue
            key = pack(total / (below + shrink), neighbor, cell, bits)
            if kept < len(heap) or key < heap[0]:
                kept = push(heap, kept, key)


def nearest(
    queries: Sparse,
    norms: Doubles,
    skip: Ints,
    back: Sparse,
    back_norms: Doubles,
    k: int,
    measure: int,
    *,
    weights: Doubles | None = None,
    shrink: float = 0.0,
    threads: int = 1,
) -> Sparse:
    """For each query row the k most similar rows of the matrix that ``back`` holds by column, best first, ties by row.

    ``sums = sum_c w_c * query[c] * row[c]`` becomes by measure: cosine ``sums / (norm * norm' + shrink)``; Jaccard ``sums / (norm + norm' -
    sums + shrink)``; conditional ``sums / (norm' + shrink)``; centred ``sums / (sqrt(sum of both's squares over shared columns) + shrink)``.
    Only similarities above 0 are kept, and never row ``skip[q]``. Threads share nothing but the input.
    """
    shape = len(queries), len(back_norms)
    k = min(k, shape[1])
    weigh = np.ones(len(back)) if weights is None else plain(weights, np.float64)
    fixed = plain(norms, np.float64), plain(skip, np.int64), back.offsets, back.columns, back.values, plain(back_norms, np.float64), weigh

    def part(start: int) -> Keys:
        stop = min(start + CHUNK, shape[0])
        keys: Keys = np.full((stop - start, k), NOTHING)
        _nearest(queries.offsets, queries.columns, queries.values, *fixed, measure, float(shrink), start, stop, *workspace.of(shape[1]), keys)
        return keys

    if threads == 1:
        return gathered([part(start) for start in range(0, shape[0], CHUNK)], shape[1])
    with ThreadPoolExecutor(threads) as pool:
        return gathered(list(pool.map(part, range(0, shape[0], CHUNK))), shape[1])


def gathered(blocks: list[Keys], width: int) -> Sparse:
    """Packed keys ``[rows, k]``, block after block, as sparse rows, best first; the blocks are emptied on the way."""
    lengths, rows, sims = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for place, keys in enumerate(blocks):
        keys.sort(axis=1)
        there = keys != NOTHING
        found, values = unpack(keys[there])
        lengths.append(np.count_nonzero(there, axis=1))
        rows.append(found.astype(np.int32))
        sims.append(values)
        blocks[place] = keys[:0]
    return Sparse(offsets_of(np.concatenate(lengths)), np.concatenate(rows), np.concatenate(sims), width)
