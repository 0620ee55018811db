"""Vectors as a few bytes each: ``PQ`` and ``IVFPQ``. A query is compared with the codewords once, and with a vector by adding up table entries.

Directions become codewords and a vector's length is kept as it is, since it is the length that decides an inner product: Dai et al.,
"Norm-Explicit Quantization: Improving Vector Quantization for Maximum Inner Product Search", AAAI 2020.
Written anew, not faiss's: its PQ can mask no single vector, and its k-means on a few numbers takes several times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.index.approximate import Approximate, Bits, valid
from palate.index.heaps import emptied, put

WORDS = 256  #: codewords of a group: a byte
SAMPLE = 64 * WORDS  #: vectors that codewords are learned from, at most

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Body:
    """Vectors in the order of their lists; slot s holds position ``order[s]``, and ``slot`` is the way back."""

    centroids: Floats  # [lists, dim]
    words: Floats  # [groups, WORDS, group]
    starts: Ints  # [lists + 1]
    codes: Codes  # [N, groups], by slot
    lengths: Floats  # [N], by slot
    order: NDArray[np.int32]  # [N]
    slot: NDArray[np.int32]  # [N]


@njit(cache=True, nogil=True, fastmath=True)
def _coded(residuals: Floats, words: Floats, codes: Codes) -> None:
    """Of each group ``[G]`` of numbers of ``residuals [N, G * g]`` the nearest word."""
    groups, many, width = words.shape
    distances = np.empty(many, np.float32)
    for j in range(groups):
        turned = words[j].T.copy()  # [g, WORDS]
        for n in range(len(residuals)):
            distances[:] = 0
            for d in range(width):
                at = residuals[n, j * width + d]
                for w in range(many):
                    distances[w] += (at - turned[d, w]) ** 2
            best = 0
            for w in range(1, many):
                if distances[w] < distances[best]:
                    best = w
            codes[n, j] = best


@njit(cache=True, nogil=True)
def _means(residuals: Floats, codes: Codes, words: Floats) -> None:
    """Each word becomes the mean of what it stands for; one that stands for nothing takes a vector of the most used word."""
    groups, many, width = words.shape
    for j in range(groups):
        sums, counts = np.zeros((many, width), np.float64), np.zeros(many, np.int64)
        last = np.zeros(many, np.int64)
        for n in range(len(residuals)):
            word = codes[n, j]
            counts[word] += 1
            last[word] = n
            for d in range(width):
                sums[word, d] += residuals[n, j * width + d]
        for w in range(many):
            if counts[w]:
                for d in range(width):
                    words[j, w, d] = sums[w, d] / counts[w]
            else:
                busy = np.argmax(counts)
                counts[busy] //= 2
                for d in range(width):
                    words[j, w, d] = residuals[last[busy], j * width + d]


@njit(cache=True, nogil=True)
def _scan(
    codes: Codes,
    lengths: Floats,
    order: NDArray[np.int32],
    starts: Ints,
    lists: Ints,
    nearness: Floats,
    table: Floats,
    k: int,
    bits: Bits,
) -> tuple[Ints, Floats]:
    """The k best of these lists: the product with a direction is its centroid's (``nearness``) and one entry a group of ``table [G, WORDS]``."""
    best, place, size = np.empty(k, np.float32), np.empty(k, np.int64), 0
    groups = codes.shape[1]
    flat = table.ravel()
    for at in lists:
        base = nearness[at]
        for s in range(starts[at], starts[at + 1]):
            score = base
            for j in range(groups):
                score += flat[j * WORDS + codes[s, j]]
            score *= lengths[s]
            if size == k and not score > best[0]:
                continue
            n = order[s]
            if not valid(bits, n):
                continue
            size = put(best, place, size, score, n)
    return emptied(best, place, size)


class Quantized(Approximate):
    """A subclass says which lists there are (``_centroids``) and how many are read (``_read``). ``group``: how many numbers one byte stands for."""

    least: ClassVar[int] = 4 * WORDS

    def __init__(self, group: int, iterations: int, head: float) -> None:
        super().__init__(head)
        if group < 1 or iterations < 1:
            raise ValueError("group and iterations must be at least 1")
        self.group, self.iterations = group, iterations

    def _centroids(self, vectors: Floats) -> Floats:
        """``[lists, D]``, of length 1 or 0."""
        raise NotImplementedError

    def _read(self, lists: int, k: int, hidden: int, share: float) -> int:
        """How many of the lists a query looks into."""
        raise NotImplementedError

    def _made(self, vectors: Floats) -> Body:
        centroids = self._centroids(vectors)
        random = np.random.default_rng(0)
        some = vectors if len(vectors) <= SAMPLE else vectors[np.sort(random.choice(len(vectors), SAMPLE, replace=False))]
        some, _ = _directions(some)
        rest = self._parted_in_groups(some - centroids[_list_of(some, centroids)])
        groups = rest.shape[1] // self.group
        chosen = rest[random.choice(len(rest), WORDS, replace=False)]
        words = np.ascontiguousarray(chosen.reshape(WORDS, groups, self.group).transpose(1, 0, 2))
        codes = np.empty((len(rest), groups), np.uint8)
        for _ in range(self.iterations):
            _coded(rest, words, codes)
            _means(rest, codes, words)
        none = np.empty(0, np.int32)
        nothing = Body(centroids, words, np.zeros(len(centroids) + 1, np.int64), codes[:0], np.empty(0, np.float32), none, none)
        return self._grown(nothing, vectors)

    def _parted_in_groups(self, residuals: Floats) -> Floats:
        """With zeros behind, so that the groups come out even."""
        return np.pad(residuals, ((0, 0), (0, -residuals.shape[1] % self.group))) if residuals.shape[1] % self.group else residuals

    def _grown(self, body: Body, vectors: Floats) -> Body:
        directions, lengths = _directions(vectors)
        lists = _list_of(directions, body.centroids)
        codes = np.empty((len(vectors), len(body.words)), np.uint8)
        _coded(self._parted_in_groups(directions - body.centroids[lists]), body.words, codes)
        return _sorted(
            body,
            np.concatenate([body.codes[body.slot], codes]),
            np.concatenate([body.lengths[body.slot], lengths]),
            np.concatenate([self._lists(body, body.slot), lists]),
        )

    def _thinned(self, body: Body, at: Ints) -> Body:
        slots = body.slot[at]
        return _sorted(body, body.codes[slots], body.lengths[slots], self._lists(body, slots))

    def _lists(self, body: Body, slots: NDArray[np.int32]) -> Ints:
        return np.searchsorted(body.starts, slots, side="right") - 1

    def _vectors(self, body: Body, at: Ints) -> Floats:
        slots = body.slot[at]
        words = body.words[np.arange(len(body.words)), body.codes[slots]]  # [N, groups, group]
        dim = body.centroids.shape[1]
        directions = body.centroids[self._lists(body, slots)] + words.reshape(len(at), -1)[:, :dim]
        return directions * body.lengths[slots][:, None]

    def _bytes(self, body: Body) -> int:
        return sum(array.nbytes for array in (body.centroids, body.words, body.starts, body.codes, body.lengths, body.order, body.slot))

    def _found(self, body: Body, queries: Floats, k: int, hidden: int, share: float, bits: Bits) -> tuple[Floats, Ints]:
        found, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
        nearness = queries @ body.centroids.T  # [B, lists]
        count = min(self._read(len(body.centroids), k, hidden, share), len(body.centroids))
        padded = self._parted_in_groups(queries).reshape(len(queries), len(body.words), self.group)
        tables = np.einsum("bgd,gwd->bgw", padded, body.words, optimize=True)
        for b in range(len(queries)):
            lists = np.argpartition(-nearness[b], count - 1)[:count] if count < len(body.centroids) else np.arange(count)
            place, scores = _scan(body.codes, body.lengths, body.order, body.starts, lists, nearness[b], np.ascontiguousarray(tables[b]), k, bits)
            found[b, : len(place)], values[b, : len(place)] = place, scores
        return values, found


def _directions(vectors: Floats) -> tuple[Floats, Floats]:
    """Vectors of length 1 (0 for one of length 0) ``[N, D]`` and lengths ``[N]``."""
    lengths = np.linalg.norm(vectors, axis=1).astype(np.float32)
    divisors: Floats = np.where(lengths > 0, lengths, np.float32(1))
    return vectors / divisors[:, None], lengths


def _list_of(vectors: Floats, centroids: Floats) -> Ints:
    """The list of each vector: of the centroid with the largest product."""
    found = np.zeros(len(vectors), np.int64)
    if len(centroids) > 1:
        for start in range(0, len(vectors), 8_192):
            found[start : start + 8_192] = np.argmax(vectors[start : start + 8_192] @ centroids.T, axis=1)
    return found


def _sorted(body: Body, codes: Codes, lengths: Floats, lists: Ints) -> Body:
    """Codes, lengths and lists by position put in the order of their lists."""
    order = np.argsort(lists, kind="stable").astype(np.int32)
    slot = np.empty(len(order), np.int32)
    slot[order] = np.arange(len(order), dtype=np.int32)
    starts = np.zeros(len(body.centroids) + 1, np.int64)
    np.cumsum(np.bincount(lists, minlength=len(body.centroids)), out=starts[1:])
    return Body(body.centroids, body.words, starts, codes[order], lengths[order], order, slot)
