"""Annoy: a forest of trees, each of which halves space by planes between two random groups; the parts nearest to the query over all trees are read.

The index of Bernhardsson, "Annoy: Approximate Nearest Neighbors in C++/Python", 2013, after Dasgupta, Freund, "Random Projection Trees and Low
Dimensional Manifolds", STOC 2008. Written anew, so that single vectors can be masked while searching (the library cannot, and is built from
source only); inner products become angles by one more coordinate, as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.index.approximate import Bits, valid
from palate.index.gathering import Gathering, lifted
from palate.index.heaps import rise, sink
from palate.index.topk import Marks

SAMPLE = 32  #: vectors of a part that its two groups are found among
ROUNDS = 4
LEAST = 4  #: a plane that leaves less than a fourth on one side is moved to the middle


class Annoy(Gathering):
    """``trees``; ``leaf``: vectors in a part that is not halved any more. ``search``: how many vectors are compared (0: ``2 trees k``).

    ``head``: share of the longest vectors that are compared exactly.
    """

    def __init__(self, trees: int = 16, leaf: int = 32, search: int = 0, head: float = 0.03, seed: int = 0) -> None:
        super().__init__(head)
        if trees < 1 or leaf < 2 or search < 0:
            raise ValueError("trees must be at least 1, leaf at least 2, search 0 or more")
        self.trees, self.leaf, self.seen, self.seed = trees, leaf, search, seed

    def _planted(self, vectors: Floats) -> tuple[NDArray[Any], ...]:
        size = len(vectors)
        raised, radius = lifted(vectors)
        most = 2 * LEAST * -(-size // self.leaf) + 1
        random = np.random.default_rng(self.seed)
        order = np.empty((self.trees, size), np.int32)
        roots, kept = np.zeros(self.trees, np.int64), []
        for tree in range(self.trees):
            order[tree] = random.permutation(size)
            links, planes = np.zeros((most, 4), np.int32), np.zeros((most, raised.shape[1] + 1), np.float32)
            count = _plant(raised, order[tree], self.leaf, links, planes)
            links[:count, 2:] += np.where(links[:count, 2:3] > 0, roots[tree], 0).astype(np.int32)
            kept.append((links[:count], planes[:count]))
            if tree + 1 < self.trees:
                roots[tree + 1] = roots[tree] + count
        return order, roots, np.concatenate([one[0] for one in kept]), np.concatenate([one[1] for one in kept]), np.array([radius])

    def _gathered(
        self, parts: tuple[NDArray[Any], ...], query: Floats, k: int, hidden: int, share: float, bits: Bits, marks: Marks, out: Ints
    ) -> int:
        wanted = round(max(self.seen or 2 * self.trees * k, k) * min(4, 1 + hidden / k))
        length = np.linalg.norm(query)
        level = query * (parts[-1] / length) if length > 0 else query  # as long as all the raised vectors are
        order, roots, links, planes, _ = parts
        count: int = _gather(order, roots, links, planes, level, wanted, bits, marks, out)
        return count


@njit(cache=True, nogil=True)
def _plane(points: Floats, some: NDArray[np.int32], plane: Floats) -> None:
    """The plane between two groups of the points: its normal of length 1, and last what it is away from 0."""
    dim = points.shape[1]
    step = max(1, len(some) // SAMPLE)
    means = np.empty((2, dim), np.float32)
    means[0], means[1] = points[some[0]], points[some[len(some) // 2]]
    for _ in range(ROUNDS):
        sums, counts = np.zeros((2, dim), np.float32), np.zeros(2, np.int64)
        for at in range(0, len(some), step):
            near, far = np.float32(0.0), np.float32(0.0)
            for d in range(dim):
                near += (points[some[at], d] - means[0, d]) ** 2
                far += (points[some[at], d] - means[1, d]) ** 2
            side = 1 if far < near else 0
            counts[side] += 1
            sums[side] += points[some[at]]
        for side in range(2):
            if counts[side]:
                means[side] = sums[side] / np.float32(counts[side])
    normal = means[1] - means[0]
    length = np.sqrt((normal * normal).sum())
    if length > 0:
        normal /= length
    plane[:dim] = normal
    plane[dim] = (normal * (means[0] + means[1])).sum() / np.float32(2.0)


@njit(cache=True, nogil=True)
def _bar(margins: Floats) -> np.float32:
    """What to add to the plane: 0, or where it leaves less than a fourth on one side, so much that about half lie there."""
    low, high, bar = margins.min(), margins.max(), np.float32(0.0)
    for _ in range(24):
        left = int((margins <= bar).sum())
        if min(left, len(margins) - left) * LEAST >= len(margins):
            break
        if 2 * left < len(margins):
            low = max(low, bar)
        else:
            high = min(high, bar)
        bar = (low + high) / np.float32(2.0)
    return bar


@njit(cache=True, nogil=True)
def _plant(points: Floats, order: NDArray[np.int32], leaf: int, links: NDArray[np.int32], planes: Floats) -> int:
    """One tree: ``links`` (start, stop, left, right; no children: 0) and ``planes`` of its nodes, how many there are; ``order`` is sorted by part."""
    dim = points.shape[1]
    links[0, 0], links[0, 1] = 0, len(order)
    count = 1
    node = 0
    while node < count:  # children come behind their parents
        start, stop = links[node, 0], links[node, 1]
        size = stop - start
        if size > leaf and count + 2 <= len(links):
            some = order[start:stop].copy()
            _plane(points, some, planes[node])
            margins = np.empty(size, np.float32)
            for at in range(size):
                margin = -planes[node, dim]
                for d in range(dim):
                    margin += points[some[at], d] * planes[node, d]
                margins[at] = margin
            bar = _bar(margins)
            planes[node, dim] += bar
            left = start
            for wanted in (True, False):
                for at in range(size):
                    if (margins[at] <= bar) == wanted:
                        order[left] = some[at]
                        left += 1
            left = int((margins <= bar).sum())
            if left == 0 or left == size:  # all the same
                left = size // 2
            for side in range(2):
                links[node, 2 + side] = count
                links[count, 0] = start + (left if side else 0)
                links[count, 1] = stop if side else start + left
                count += 1
        node += 1
    return count


@njit(cache=True, nogil=True)
def _gather(
    order: NDArray[np.int32],
    roots: Ints,
    links: NDArray[np.int32],
    planes: Floats,
    query: Floats,
    wanted: int,
    bits: Bits,
    marks: Marks,
    out: Ints,
) -> int:
    """Parts in order of how far the query is on their side of every plane above them, over all trees, until ``wanted`` are found."""
    waiting, node_of, tree_of = np.empty(len(links), np.float32), np.empty(len(links), np.int64), np.zeros(len(links), np.int64)
    size, count = 0, 0
    for tree in range(len(roots)):
        tree_of[roots[tree]] = tree
        rise(waiting, node_of, size, np.float32(-np.inf), roots[tree])
        size += 1
    while size > 0 and count < wanted:
        reach, node = -waiting[0], node_of[0]
        size -= 1
        if size:
            sink(waiting, node_of, size, waiting[size], node_of[size])
        left, right = links[node, 2], links[node, 3]
        if left > 0:
            margin = -planes[node, len(query) + 1]
            for d in range(len(query)):
                margin += query[d] * planes[node, d]
            tree_of[left], tree_of[right] = tree_of[node], tree_of[node]
            rise(waiting, node_of, size, -min(reach, -margin), left)
            rise(waiting, node_of, size + 1, -min(reach, margin), right)
            size += 2
            continue
        for at in range(links[node, 0], links[node, 1]):
            n = order[tree_of[node], at]
            if marks[n] == 0 and valid(bits, n):
                marks[n] = 1
                out[count] = n
                count += 1
    for at in range(count):
        marks[out[at]] = 0
    return count
