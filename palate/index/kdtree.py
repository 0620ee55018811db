"""KDTree: space halved again and again across its widest coordinate; parts that cannot hold a better vector are not looked into.

Bentley, "Multidimensional Binary Search Trees Used for Associative Searching", CACM 1975; the nearest part first, and no more than a number
of vectors, after Beis, Lowe, "Shape Indexing Using Approximate Nearest-Neighbour Search in High-Dimensional Spaces", CVPR 1997. Inner products
become distances by one more coordinate (``gathering.lifted``). It degenerates in many dimensions: from about 15 on nearly every part can hold
a better vector, and an exact search compares nearly all of them, slower than ``Exact`` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.index.approximate import Bits, valid
from palate.index.gathering import Body, Gathering, lifted
from palate.index.heaps import emptied, put, rise, sink

SLACK = 1e-5  #: share of the greatest product by which a bound may be wrong in 32 bits


class KDTree(Gathering):
    """``leaf``: vectors in a part that is not halved any more. ``search``: how many vectors are compared at most (0: the answer is exact).

    ``head``: share of the longest vectors that are kept out of the tree: what is left varies less in length, so that bounds are tighter.
    """

    def __init__(self, leaf: int = 16, search: int = 0, head: float = 0.03) -> None:
        super().__init__(head)
        if leaf < 1 or search < 0:
            raise ValueError("leaf must be at least 1, search 0 or more")
        self.leaf, self.seen = leaf, search

    def _planted(self, vectors: Floats) -> tuple[NDArray[Any], ...]:
        raised, most = lifted(vectors)
        size = len(vectors)
        depth = 0
        while size > self.leaf << depth:
            depth += 1
        nodes = 2 ** (depth + 1) - 1
        order, ends = np.arange(size), np.zeros((nodes, 2), np.int64)
        low, high = np.empty((nodes, raised.shape[1]), np.float32), np.empty((nodes, raised.shape[1]), np.float32)
        ends[0] = 0, size
        for node in range(nodes):
            start, stop = ends[node].tolist()
            some = raised[order[start:stop]]
            low[node], high[node] = some.min(0, initial=np.inf), some.max(0, initial=-np.inf)
            if 2 * node + 1 < nodes:
                middle = (start + stop) // 2
                if middle > start:
                    halves = np.argpartition(some[:, np.argmax(some.var(0))], middle - start)
                    order[start:stop] = order[start:stop][halves]
                ends[2 * node + 1], ends[2 * node + 2] = (start, middle), (middle, stop)
        return order, ends, low, high, np.array([most], np.float32)

    def _found(self, body: Body, queries: Floats, k: int, hidden: int, share: float, bits: Bits) -> tuple[Floats, Ints]:
        found, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
        most = max(self.seen, k) if self.seen else len(body.vectors)
        order, ends, low, high, radius = body.parts
        for b, query in enumerate(queries):
            place, scores = _nearest(body.vectors, order, ends, low, high, radius, query, k, most, bits)
            found[b, : len(place)], values[b, : len(place)] = place, scores
        return values, found


@njit(cache=True, nogil=True)
def _most(low: Floats, high: Floats, query: Floats, length: float, longest: float) -> float:
    """The greatest inner product with the query that a vector in this box can have: from its least distance to the raised query."""
    squares = 0.0
    for d in range(len(low)):
        at = query[d] if d < len(query) else np.float32(0.0)
        off = max(low[d] - at, at - high[d], np.float32(0.0))
        squares += off * off
    return (length + longest - squares) / 2


@njit(cache=True, nogil=True)
def _nearest(
    vectors: Floats, order: Ints, ends: Ints, low: Floats, high: Floats, radius: Floats, query: Floats, k: int, most: int, bits: Bits
) -> tuple[Ints, Floats]:
    nodes = len(ends)
    best, place, size = np.empty(k, np.float32), np.empty(k, np.int64), 0
    open_, node_of, waiting = np.empty(nodes, np.float32), np.empty(nodes, np.int64), 1  # bounds, negated: the greatest on top
    open_[0], node_of[0] = -np.inf, 0
    longest = float(radius[0]) ** 2
    length = 0.0
    for d in range(len(query)):
        length += query[d] * query[d]
    slack = SLACK * np.sqrt(length * longest)
    compared = 0
    while waiting > 0 and compared < most:
        bound, node = -open_[0], node_of[0]
        waiting -= 1
        if waiting:
            sink(open_, node_of, waiting, open_[waiting], node_of[waiting])
        if size == k and bound + slack < best[0]:
            break
        if 2 * node + 1 < nodes:
            for child in (2 * node + 1, 2 * node + 2):
                if ends[child, 1] > ends[child, 0]:
                    reach = _most(low[child], high[child], query, length, longest)
                    if size < k or reach + slack >= best[0]:
                        rise(open_, node_of, waiting, np.float32(-reach), child)
                        waiting += 1
            continue
        for at in range(ends[node, 0], ends[node, 1]):
            n = order[at]
            if not valid(bits, n):
                continue
            compared += 1
            score = np.float32(0.0)
            for d in range(len(query)):
                score += vectors[n, d] * query[d]
            if size < k or score > best[0] or (score == best[0] and n < place[0]):
                size = put(best, place, size, score, n)
    return emptied(best, place, size)
