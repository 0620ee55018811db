"""The lists themselves: how much of the catalogue they show, how new, how varied, how unequal, how popular.

``items`` int64 ``[B, K]``: what was recommended, -1 where a list ends early. Measures of one list give float64 ``[B]`` (NaN: the list
is too short to have it), measures of all lists give one number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints, Ragged

Doubles = NDArray[np.float64]


def exposure(items: Ints, n_items: int) -> Ints:
    """How many lists show each item, int64 ``[n_items]``."""
    shown = items[items >= 0]
    if len(shown) and int(shown.max()) >= n_items:
        raise ValueError(f"a list holds item {int(shown.max())}, the catalogue has {n_items}")
    return np.bincount(shown, minlength=n_items).astype(np.int64)


def coverage(items: Ints, n_items: int) -> float:
    """Share of the catalogue that stands in any list."""
    return float((exposure(items, n_items) > 0).mean()) if n_items else float("nan")


def gini_of(counts: NDArray[np.number]) -> float | Doubles:
    """Gini index of counts ``[n]`` (or of each row ``[R, n]``): 0 all equal, near 1 all in one; NaN where all are 0."""
    values = np.sort(np.asarray(counts, np.float64), axis=-1)
    n = values.shape[-1]
    total = values.sum(-1)
    place = np.arange(1, n + 1)
    result = np.full(values.shape[:-1], np.nan)
    np.divide((2 * place - n - 1) @ np.moveaxis(values, -1, 0), n * total, out=result, where=total > 0)
    return float(result) if result.ndim == 0 else result


def gini(items: Ints, n_items: int) -> float:
    """Gini index of how often each item of the catalogue is shown."""
    return float(gini_of(exposure(items, n_items)))


def _mean(values: Doubles, there: NDArray[np.bool_]) -> Doubles:
    sizes = there.sum(1)
    result = np.full(len(there), np.nan)
    np.divide(np.where(there, values, 0.0).sum(1), sizes, out=result, where=sizes > 0)
    return result


def novelty(items: Ints, takers: NDArray[np.number], n_users: int) -> Doubles:
    """Mean self-information of a list's items in bits ``[B]``: log2(users / users who took the item) (Zhou et al., PNAS 2010).

    ``takers`` ``[n_items]``: how many users took each item; an item that nobody took counts as taken by one.
    """
    bits = np.log2(n_users / np.maximum(np.asarray(takers, np.float64), 1.0))
    return _mean(bits[items], items >= 0)


def popularity(items: Ints, counts: NDArray[np.number]) -> Doubles:
    """Mean of the items' counts in each list ``[B]`` (average recommendation popularity)."""
    return _mean(np.asarray(counts, np.float64)[items], items >= 0)


def popularity_lift(items: Ints, profiles: Ragged, counts: NDArray[np.number]) -> Doubles:
    """Popularity bias of each list ``[B]``: how much more popular its items are than those the user took, as a share of the latter.

    0: as popular as the profile; 0.5: half as much again (Abdollahpouri et al., RMSE at RecSys 2019). NaN without a profile.
    """
    counts = np.asarray(counts, np.float64)
    owners = np.repeat(np.arange(len(profiles)), np.diff(profiles.offsets))
    sizes = np.diff(profiles.offsets)
    own = np.full(len(profiles), np.nan)
    np.divide(np.bincount(owners, counts[profiles.values], minlength=len(profiles)), sizes, out=own, where=sizes > 0)
    result = np.full(len(profiles), np.nan)
    np.divide(popularity(items, counts) - own, own, out=result, where=own > 0)
    return result


def long_tail(items: Ints, counts: NDArray[np.number], head: float = 0.2) -> Doubles:
    """Share of each list ``[B]`` outside the ``head`` most popular share of the catalogue (ties by catalogue row)."""
    counts = np.asarray(counts, np.float64)
    tail = np.ones(len(counts))
    tail[np.argsort(-counts, kind="stable")[: int(np.ceil(head * len(counts)))]] = 0.0
    return _mean(tail[items], items >= 0)


def diversity(
    items: Ints,
    vectors: NDArray[np.floating] | None = None,
    sets: Ragged | None = None,
    similarity: NDArray[np.floating] | None = None,
    chunk: int = 2048,
) -> Doubles:
    """Mean of 1 - similarity over the pairs of each list ``[B]`` (Ziegler et al., WWW 2005); NaN with fewer than two items.

    Give one of: ``vectors`` ``[n_items, D]`` (cosine; a zero vector is like nothing), ``sets`` one list of values for each item
    (Jaccard; two empty sets are not alike), ``similarity`` ``[n_items, n_items]``.
    """
    if sum(given is not None for given in (vectors, sets, similarity)) != 1:
        raise ValueError("diversity needs exactly one of vectors, sets and similarity")
    there = items >= 0
    sizes = there.sum(1).astype(np.float64)
    total = np.empty(len(items))
    for start in range(0, len(items), chunk):
        part, mask = items[start : start + chunk], there[start : start + chunk]
        if vectors is not None:
            picked = np.asarray(vectors, np.float64)[part] * mask[..., None]  # [b, K, D]
            length = np.linalg.norm(picked, axis=2, keepdims=True)
            picked = np.divide(picked, length, out=np.zeros_like(picked), where=length > 0)
            alike = (picked.sum(1) ** 2).sum(1) - (picked**2).sum((1, 2))
        else:
            pairs = np.asarray(similarity, np.float64)[part[:, :, None], part[:, None, :]] if sets is None else _jaccard(part, sets)
            alike = (pairs * (mask[:, :, None] & mask[:, None, :])).sum((1, 2)) - (np.diagonal(pairs, axis1=1, axis2=2) * mask).sum(1)
        total[start : start + chunk] = alike
    result = np.full(len(items), np.nan)
    np.divide(total, sizes * (sizes - 1), out=result, where=sizes > 1)
    return 1.0 - result


def _jaccard(items: Ints, sets: Ragged) -> Doubles:
    """Jaccard similarity of all pairs of each list: ``[B, K]`` -> ``[B, K, K]``."""
    width = int(sets.values.max(initial=-1)) + 1
    many = np.zeros((len(sets), width), np.float32)
    many[np.repeat(np.arange(len(sets)), np.diff(sets.offsets)), sets.values] = 1.0
    picked = many[items] * (items >= 0)[..., None]  # [B, K, values]
    both = np.matmul(picked, picked.transpose(0, 2, 1)).astype(np.float64)
    sizes = picked.sum(2, dtype=np.float64)
    either = sizes[:, :, None] + sizes[:, None, :] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)
