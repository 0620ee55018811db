"""MMR: each place goes to the item that is relevant and unlike what already stands above it.

Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries", SIGIR 1998:
argmax over the rest of  relevance * score - (1 - relevance) * max similarity to a chosen item.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Candidates, Ints, Request
from palate.rerank.attributes import Tags, Vectors, page_length, unit
from palate.state.catalogue import Catalogue


class MMR:
    """Reorders the first places of each list by maximal marginal relevance; scores stay as they are.

    ``relevance`` 1 keeps the ranker's order, 0 looks at similarity alone. Scores are brought to [0, 1] within each list, so that the
    balance means the same for every ranker. Similarity is of one ``attribute``: Jaccard for texts and lists of texts, cosine for lists
    of numbers; an item without values is like no other. Without ``attribute`` the first that holds lists is taken, or else the first text
    that several items share. ``vectors`` float ``[n_items, D]``, given from Python, go before the attribute.
    Only the first ``pool`` candidates compete (0: all); ties go to the better ranked. Exact greedy.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        relevance: float = 0.7,
        attribute: str = "",
        pool: int = 0,
        vectors: np.ndarray | None = None,
    ) -> None:
        if not 0 <= relevance <= 1:
            raise ValueError(f"relevance must lie between 0 and 1, not {relevance}")
        if pool < 0:
            raise ValueError(f"pool must not be negative, is {pool}")
        if not attribute and vectors is None:
            attribute = _telling(catalogue)
        self.relevance, self.pool = relevance, pool
        self._given = unit(np.zeros((0, 1)) if vectors is None else vectors)
        self._tags = Tags(catalogue, attribute) if vectors is None and not _numeric(catalogue, attribute) else None
        self._vectors = Vectors(catalogue, attribute) if vectors is None and self._tags is None else None

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        k = page_length(request)
        if self._tags is not None:
            codes, values = self._tags.codes()
            order = _by_tags(candidates.items, candidates.scores, candidates.offsets, codes, values, self.relevance, k, self.pool)
        else:
            vectors = self._vectors.vectors() if self._vectors is not None else self._given
            order = _by_vectors(candidates.items, candidates.scores, candidates.offsets, vectors, self.relevance, k, self.pool)
        return candidates.take(order)


def _telling(catalogue: Catalogue) -> str:
    """The attribute that tells best which items are alike; ValueError where there is none."""
    names = catalogue.attribute_names
    for name in names:
        if catalogue.kind(name) == "list":
            return name
    for name in names:
        if catalogue.kind(name) == "text" and 2 * len(catalogue.values(name)) <= len(catalogue):
            return name
    raise ValueError(f"MMR needs an attribute that tells which {catalogue.name} are alike; there is none that holds lists or shared texts")


def _numeric(catalogue: Catalogue, attribute: str) -> bool:
    """Whether the attribute's first value is a list of numbers."""
    if attribute not in catalogue.attribute_names:
        return False
    first = next((value for value in catalogue.column(attribute) if value), None)
    return isinstance(first, list) and not isinstance(first[0], str)


@njit(cache=True, nogil=True)
def _scaled(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores brought to [0, 1]; one that is not finite counts as the least."""
    low, high = np.inf, -np.inf
    for score in scores:
        if np.isfinite(score):
            low, high = min(low, score), max(high, score)
    result = np.zeros(len(scores))
    if high > low:
        for i in range(len(scores)):
            if np.isfinite(scores[i]):
                result[i] = (scores[i] - low) / (high - low)
    return result


@njit(cache=True, nogil=True)
def _next(relevant: NDArray[np.float64], alike: NDArray[np.float64], free: NDArray[np.bool_], relevance: float) -> int:
    best, value = -1, -np.inf
    for i in range(len(free)):
        if free[i]:
            one = relevance * relevant[i] - (1.0 - relevance) * alike[i]
            if one > value:
                best, value = i, one
    return best


@njit(cache=True, nogil=True)
def _by_tags(
    items: Ints, scores: NDArray[np.float32], offsets: Ints, codes: NDArray[np.int32], values: int, relevance: float, k: int, pool: int
) -> Ints:
    order = np.empty(len(items), np.int64)
    width = codes.shape[1]
    stamp = np.zeros(values + 1, np.int64)  # the last draw that had this value: no clearing between draws
    draw = 0
    for b in range(len(offsets) - 1):
        start, end = offsets[b], offsets[b + 1]
        n = end - start
        m = min(n, pool) if pool > 0 else n
        places = min(k, m) if k > 0 else m
        mine = np.full((m, width), -1, np.int32)
        sizes = np.zeros(m, np.int64)
        for i in range(m):
            row = items[start + i]
            if 0 <= row < len(codes):
                for w in range(width):
                    if codes[row, w] < 0 or codes[row, w] >= values:
                        break
                    mine[i, w] = codes[row, w]
                    sizes[i] += 1
        relevant, alike, free = _scaled(scores[start : start + m]), np.zeros(m), np.ones(m, np.bool_)
        for place in range(places):
            chosen = _next(relevant, alike, free, relevance)
            order[start + place] = start + chosen
            free[chosen] = False
            draw += 1
            for w in range(sizes[chosen]):
                stamp[mine[chosen, w]] = draw
            for i in range(m):
                if free[i]:
                    both = 0
                    for w in range(sizes[i]):
                        both += stamp[mine[i, w]] == draw
                    if both > 0:
                        alike[i] = max(alike[i], both / (sizes[i] + sizes[chosen] - both))
        at = start + places
        for i in range(n):
            if i >= m or free[i]:
                order[at] = start + i
                at += 1
    return order


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    total = np.float32(0.0)
    for d in range(len(left)):
        total += left[d] * right[d]
    return float(total)


@njit(cache=True, nogil=True)
def _by_vectors(items: Ints, scores: NDArray[np.float32], offsets: Ints, vectors: NDArray[np.float32], relevance: float, k: int, pool: int) -> Ints:
    order = np.empty(len(items), np.int64)
    for b in range(len(offsets) - 1):
        start, end = offsets[b], offsets[b + 1]
        n = end - start
        m = min(n, pool) if pool > 0 else n
        places = min(k, m) if k > 0 else m
        mine = np.zeros((m, vectors.shape[1]), np.float32)
        for i in range(m):
            row = items[start + i]
            if 0 <= row < len(vectors):
                mine[i] = vectors[row]
        relevant, alike, free = _scaled(scores[start : start + m]), np.full(m, -1.0), np.ones(m, np.bool_)
        for place in range(places):
            chosen = _next(relevant, alike, free, relevance)
            order[start + place] = start + chosen
            free[chosen] = False
            for i in range(m):
                if free[i]:
                    alike[i] = max(alike[i], _dot(mine[i], mine[chosen]))
        at = start + places
        for i in range(n):
            if i >= m or free[i]:
                order[at] = start + i
                at += 1
    return order
