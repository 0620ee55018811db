"""LSH: the signs of random projections are a vector's buckets; a query looks into its own and into those that it nearly fell into.

Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002; for inner products Neyshabur, Srebro, "On Symmetric and
Asymmetric LSHs for Inner Product Search", ICML 2015; several buckets a table by Lv et al., "Multi-Probe LSH", VLDB 2007.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.index.approximate import Bits, valid
from palate.index.gathering import Gathering, lifted
from palate.index.topk import Marks

SPARSE = 32  #: vectors a bucket holds on average where ``bits`` is 0
MOST_BITS = 20


class LSH(Gathering):
    """``tables`` of buckets, each named by the signs of ``bits`` projections (0: so many that a bucket holds 32 on average).

    ``probes``: how many buckets of each table are read. ``head``: share of the longest vectors that are compared exactly.
    """

    def __init__(self, tables: int = 8, bits: int = 0, probes: int = 32, head: float = 0.03, seed: int = 0) -> None:
        super().__init__(head)
        if tables < 1 or probes < 1 or not 0 <= bits <= MOST_BITS:
            raise ValueError(f"tables and probes must be at least 1, bits from 0 to {MOST_BITS}")
        self.tables, self.bits, self.probes, self.seed = tables, bits, probes, seed

    def _planted(self, vectors: Floats) -> tuple[NDArray[Any], ...]:
        size = len(vectors)
        bits = self.bits or min(MOST_BITS, max(1, round(math.log2(max(size / SPARSE, 2)))))
        raised, _ = lifted(vectors)
        normals = np.random.default_rng(self.seed).standard_normal((self.tables, bits, raised.shape[1]), np.float32)
        order = np.empty((self.tables, size), np.int32)
        starts = np.zeros((self.tables, 2**bits + 1), np.int32)
        for table in range(self.tables):
            codes = (raised @ normals[table].T > 0) @ (1 << np.arange(bits))
            order[table] = np.argsort(codes, kind="stable")
            np.cumsum(np.bincount(codes, minlength=2**bits), out=starts[table, 1:])
        return np.ascontiguousarray(normals[:, :, :-1]), order, starts  # a query's further coordinate is 0

    def _gathered(
        self, parts: tuple[NDArray[Any], ...], query: Floats, k: int, hidden: int, share: float, bits: Bits, marks: Marks, out: Ints
    ) -> int:
        normals, order, starts = parts
        probes = min(round(self.probes * min(4, 1 + hidden / k) / share), starts.shape[1] - 1)
        products = np.abs(normals @ query)
        near = np.argsort(products, axis=1)  # the signs that were decided by least
        cost = np.take_along_axis(products, near, axis=1) ** 2
        codes = (normals @ query > 0) @ (1 << np.arange(normals.shape[1]))
        count: int = _gather(codes, near, cost, order, starts, probes, bits, marks, out)
        return count


@njit(cache=True, nogil=True)
def _gather(
    codes: Ints,
    near: Ints,
    cost: Floats,
    order: NDArray[np.int32],
    starts: NDArray[np.int32],
    probes: int,
    bits: Bits,
    marks: Marks,
    out: Ints,
) -> int:
    """``codes [T]``, ``near`` and ``cost [T, bits]``; the buckets of each table in the order in which Lv et al. visit them."""
    count = 0
    for table in range(len(codes)):
        for flips in _flips(near[table], cost[table], probes):
            bucket = codes[table] ^ flips
            for at in range(starts[table, bucket], starts[table, bucket + 1]):
                n = order[table, at]
                if marks[n] == 0 and valid(bits, n):
                    marks[n] = 1
                    out[count] = n
                    count += 1
    for at in range(count):
        marks[out[at]] = 0
    return count


@njit(cache=True, nogil=True)
def _flips(near: Ints, cost: Floats, probes: int) -> Ints:
    """The ``probes`` cheapest sets of signs to flip, as masks: none first; a set costs the sum of its squared products, ``cost`` by rising order.

    From a set whose dearest member is the m-th in order of cost come two: with the m-th in place of it, and with it beside it.
    """
    width = len(near)
    heap = np.empty(2 * probes + 2, np.float32)  # cheapest on top
    sets = np.empty((2 * probes + 2, 2), np.int64)  # mask in order of cost, place of the dearest
    heap[0], sets[0, 0], sets[0, 1] = cost[0], 1, 0
    size = 1
    found = np.zeros(probes, np.int64)
    for turn in range(1, probes):
        if size == 0:
            return found[:turn]
        price, mask, last = heap[0], sets[0, 0], sets[0, 1]
        size -= 1
        _place(heap, sets, size, heap[size], sets[size, 0], sets[size, 1], True)
        for b in range(width):
            if mask >> b & 1:
                found[turn] |= 1 << near[b]
        if last + 1 < width:
            wider = mask | 1 << (last + 1)
            _place(heap, sets, size, price + cost[last + 1] - cost[last], wider ^ (1 << last), last + 1, False)
            _place(heap, sets, size + 1, price + cost[last + 1], wider, last + 1, False)
            size += 2
    return found


@njit(cache=True, nogil=True)
def _place(heap: Floats, sets: NDArray[np.int64], size: int, price: np.float32, mask: int, last: int, top: bool) -> None:
    """Put a set into a heap of ``size``: at its end, or in the place of its top."""
    hole = 0 if top else size
    while top:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if price <= heap[child]:
            break
        heap[hole] = heap[child]
        sets[hole] = sets[child]
        hole = child
    while not top and hole > 0 and price < heap[(hole - 1) >> 1]:
        heap[hole] = heap[(hole - 1) >> 1]
        sets[hole] = sets[(hole - 1) >> 1]
        hole = (hole - 1) >> 1
    heap[hole] = price
    sets[hole, 0], sets[hole, 1] = mask, last
