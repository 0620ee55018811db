"""Lists against relevant items: one number for each user.

``items`` int64 ``[B, K]``: what was recommended, best first, -1 where a list ends early. ``relevant``: the right items of each user.
Every function gives float64 ``[B]``, NaN where a user has no relevant item (such a user is not judged, so not counted in a mean).
An item that a list repeats counts at its first place only. Definitions are those of trec_eval, but for ``average_precision``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Ints, Ragged

Doubles = NDArray[np.float64]


class Hits(NamedTuple):
    """``found`` bool ``[B, K]``: this place holds a relevant item; ``sizes`` int64 ``[B]``: how many relevant items there are;
    ``places`` int64 ``[B, K]``: where in ``relevant.values`` the item stands (-1: nowhere)."""

    found: NDArray[np.bool_]
    sizes: Ints
    places: Ints


def _keys(rows: Ints, items: Ints, span: int) -> Ints:
    return rows * np.int64(span) + items


def find(items: Ints, relevant: Ragged) -> Hits:
    """Which places of ``items`` ``[B, K]`` hold a relevant item. Relevant items named twice count once."""
    items = np.asarray(items, np.int64)
    if items.ndim != 2 or len(items) != len(relevant):
        raise ValueError(f"items must be [B, K] with one row for each of the {len(relevant)} users, not of shape {items.shape}")
    width = items.shape[1]
    span = int(max(items.max(initial=0), relevant.values.max(initial=0))) + 1
    owners = np.repeat(np.arange(len(relevant), dtype=np.int64), np.diff(relevant.offsets))
    right, where = np.unique(_keys(owners, relevant.values, span), return_index=True)
    known = relevant.values[where] >= 0
    right, where = right[known], where[known]
    sizes = np.bincount(owners[where], minlength=len(items)).astype(np.int64)
    places = np.full(items.shape, -1, np.int64)
    if len(right) and width:
        keys = _keys(np.arange(len(items), dtype=np.int64)[:, None], items, span)
        at = np.minimum(np.searchsorted(right, keys), len(right) - 1)
        found = (right[at] == keys) & (items >= 0)
        spots = np.flatnonzero(found)
        _, first = np.unique(keys.ravel()[spots], return_index=True)
        once = np.zeros(items.size, bool)
        once[spots[first]] = True
        found = once.reshape(items.shape)
        places[found] = where[at[found]]
    return Hits(places >= 0, sizes, places)


def _judge(items: Ints, relevant: Ragged, k: int, hits: Hits | None) -> Hits:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    hits = hits or find(items[:, :k], relevant)
    return Hits(hits.found[:, :k], hits.sizes, hits.places[:, :k])


def _share(part: Any, whole: Any, sizes: Ints) -> Doubles:
    """part / whole, NaN for users without relevant items, 0 for 0 / 0."""
    result = np.zeros(len(sizes), np.float64)
    np.divide(part, whole, out=result, where=whole > 0)
    result[sizes == 0] = np.nan
    return result


def recall(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """Share of the relevant items that stand among the first k. ``hits``: what ``find`` gave for these lists, to be used again."""
    found, sizes, _ = _judge(items, relevant, k, hits)
    return _share(found.sum(1), sizes, sizes)


def precision(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """Share of the k places that hold a relevant item; a list shorter than k is divided by k all the same."""
    found, sizes, _ = _judge(items, relevant, k, hits)
    return _share(found.sum(1), np.full(len(sizes), k), sizes)


def f1(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """Harmonic mean of precision and recall at k: 2 hits / (k + relevant)."""
    found, sizes, _ = _judge(items, relevant, k, hits)
    return _share(2 * found.sum(1), sizes + k, sizes)


def hit(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """1 where any of the first k is relevant."""
    found, sizes, _ = _judge(items, relevant, k, hits)
    return _share(found.any(1).astype(np.int64), np.ones(len(sizes)), sizes)


def reciprocal_rank(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """1 / place of the first relevant item among the first k, else 0. Its mean is MRR."""
    found, sizes, _ = _judge(items, relevant, k, hits)
    first = found.argmax(1) if found.shape[1] else np.zeros(len(sizes), np.int64)
    return _share(found.any(1).astype(np.int64), first + 1, sizes)


def average_precision(items: Ints, relevant: Ragged, k: int, hits: Hits | None = None) -> Doubles:
    """Mean over min(k, relevant) of the precision at each hit. Its mean is MAP.

    trec_eval's ``map_cut`` divides by all relevant items instead, so that a perfect list of k does not reach 1.
    """
    found, sizes, _ = _judge(items, relevant, k, hits)
    at = np.arange(1, found.shape[1] + 1)
    total = (found * np.cumsum(found, 1) / at).sum(1)
    return _share(total, np.minimum(sizes, k), sizes)


def ndcg(
    items: Ints,
    relevant: Ragged,
    k: int,
    hits: Hits | None = None,
    grades: Doubles | None = None,
    gain: Literal["linear", "exponential"] = "linear",
) -> Doubles:
    """Discounted cumulative gain of the first k over that of the best list there is; discount 1 / log2(place + 1).

    ``grades`` float ``[len(relevant.values)]`` weigh the relevant items (an item named twice: its first grade); a gain is the grade, or
    2^grade - 1 (Järvelin, Kekäläinen, TOIS 2002; Burges et al., ICML 2005). Without grades every relevant item gains 1.
    """
    found, sizes, places = _judge(items, relevant, k, hits)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    if grades is None:
        best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(sizes, k)]
        return _share((found * discount[: found.shape[1]]).sum(1), best, sizes)
    weights = np.asarray(grades, np.float64)
    if len(weights) != len(relevant.values):
        raise ValueError(f"grades must hold one number for each of the {len(relevant.values)} relevant items, not {len(weights)}")
    if (weights < 0).any():
        raise ValueError("grades must not be negative")
    weights = np.exp2(weights) - 1.0 if gain == "exponential" else weights
    reached = (np.where(found, weights[places], 0.0) * discount[: found.shape[1]]).sum(1)
    owners = np.repeat(np.arange(len(relevant), dtype=np.int64), np.diff(relevant.offsets))
    span = int(relevant.values.max(initial=0)) + 1
    _, where = np.unique(_keys(owners, relevant.values, span), return_index=True)
    where = where[relevant.values[where] >= 0]
    order = where[np.lexsort((-weights[where], owners[where]))]
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    inside = place < k
    best = np.bincount(owners[order[inside]], weights[order[inside]] * discount[place[inside]], minlength=len(sizes))
    return _share(reached, best, sizes)


Metric = Callable[[Ints, Ragged, int, Hits | None], Doubles]

METRICS: dict[str, Metric] = {
    "recall": recall,
    "ndcg": ndcg,
    "hit": hit,
    "mrr": reciprocal_rank,
    "map": average_precision,
    "precision": precision,
    "f1": f1,
}


def judge(items: Ints, relevant: Ragged, ks: Sequence[int] = (5, 10, 20), names: Sequence[str] = tuple(METRICS)) -> dict[str, Doubles]:
    """Every metric of ``names`` at every k, as ``"ndcg@10" -> [B]``; the lists are looked up once."""
    hits = find(items[:, : max(ks)], relevant)
    return {f"{name}@{k}": METRICS[name](items, relevant, k, hits) for name in names for k in ks}


def top(scores: NDArray[np.floating], k: int, exclude: Ragged | None = None) -> Ints:
    """The k best columns of each row of ``scores`` ``[B, I]``: int64 ``[B, k]``, ties by catalogue row, -1 where there are no more.

    Scores that are NaN or -inf are never taken, nor are the items of ``exclude``.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if exclude is not None:
        owners = np.repeat(np.arange(len(scores)), np.diff(exclude.offsets))
        inside = (exclude.values >= 0) & (exclude.values < scores.shape[1])
        scores[owners[inside], exclude.values[inside]] = -np.inf
    width = min(k, scores.shape[1])
    result = np.full((len(scores), k), -1, np.int64)
    if width == 0:
        return result
    least = np.partition(scores, scores.shape[1] - width, axis=1)[:, scores.shape[1] - width]
    rows, items = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
    order = np.lexsort((items, -scores[rows, items], rows))
    rows, items = rows[order], items[order]
    sizes = np.bincount(rows, minlength=len(scores))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    inside = place < k
    result[rows[inside], place[inside]] = items[inside]
    return result


def table(candidates: Candidates, k: int) -> Ints:
    """The first k items of each request as a table: int64 ``[B, k]``, -1 where there are no more."""
    lengths = np.diff(candidates.offsets)
    place = np.arange(len(candidates.items)) - np.repeat(candidates.offsets[:-1], lengths)
    inside = place < k
    result = np.full((len(candidates), k), -1, np.int64)
    result[candidates.requests[inside], place[inside]] = candidates.items[inside]
    return result
