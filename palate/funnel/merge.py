"""Snake merge: the routes take turns, each giving its best item that nobody gave before.

In every round each route, from the highest priority to the lowest, adds the next item on its list that is not in the merged list
yet, until the lists end. The merged score is ``1 / (1 + place)``: it says nothing but the place, so that what follows can sort by score and find
the snake's order again. What each route thought of an item stays in the columns ``"<route>.score"`` and ``"<route>.rank"``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Candidates, Floats, Ints, offsets_of


@njit(cache=True, nogil=True)
def _snake(items: Ints, scores: Floats, starts: Ints, order: Ints, quotas: Ints, slots: int, merged: Ints, table: Floats, sizes: Ints) -> int:
    """starts ``[R, B + 1]``: where each route's list of each request begins and ends; table ``[2 R, M]``. Returns how many were merged."""
    routes, requests = starts.shape[0], starts.shape[1] - 1
    keys = np.full(slots, -1, np.int64)  # open addressing: which items this request has, and where
    places = np.empty(slots, np.int64)
    used = np.empty(slots, np.int64)
    cursors = np.empty(routes, np.int64)
    ends = np.empty(routes, np.int64)
    mask = slots - 1
    size = 0
    for b in range(requests):
        first = size
        filled = 0
        for r in range(routes):
            cursors[r] = starts[r, b]
            ends[r] = min(starts[r, b + 1], starts[r, b] + quotas[r])
        going = True
        while going:
            going = False
            for turn in range(routes):
                r = order[turn]
                while cursors[r] < ends[r]:
                    at = cursors[r]
                    cursors[r] += 1
                    item = items[at]
                    if item < 0:
                        continue
                    slot = (item * 0x9E3779B1 >> 7) & mask
                    while keys[slot] != -1 and keys[slot] != item:
                        slot = (slot + 1) & mask
                    fresh = keys[slot] == -1
                    if fresh:
                        keys[slot] = item
                        places[slot] = size
                        used[filled] = slot
                        filled += 1
                        merged[size] = item
                        size += 1
                    place = places[slot]
                    if np.isnan(table[routes + r, place]):  # a list that names an item twice keeps the better place
                        table[r, place] = scores[at]
                        table[routes + r, place] = at - starts[r, b]
                    if fresh:
                        going = True
                        break
        for n in range(filled):
            keys[used[n]] = -1
        sizes[b] = size - first
    return size


@njit(cache=True, nogil=True)
def finite(scores: Floats) -> bool:
    """Whether no score is NaN or infinite."""
    for score in scores:  # noqa: SIM110 compiled: a plain loop
        if not np.isfinite(score):
            return False
    return True


_PLACES: Floats = (1.0 / np.arange(1, 4097)).astype(np.float32)


def place_scores(offsets: Ints) -> Floats:
    """``1 / (1 + place)`` for lists with these offsets, float32 ``[N]``: strictly falling within each list."""
    size = int(offsets[-1])
    if len(offsets) == 2 and size <= len(_PLACES):
        return _PLACES[:size]
    place = np.arange(size) - np.repeat(offsets[:-1], np.diff(offsets))
    return (1.0 / (1 + place)).astype(np.float32)


def snake_merge(names: Sequence[str], offered: Sequence[Candidates], quotas: Sequence[int], priorities: Sequence[int] | None = None) -> Candidates:
    """Merge what R routes offered to the same B requests.

    ``quotas``: how many of its first items each route may give. ``priorities``: who goes first in each round (higher first; equal ones in
    the order of ``names``). Items of -1 are passed over. ``ValueError`` where the routes answer different numbers of requests.
    """
    routes = len(names)
    if not routes:
        raise ValueError("there is nothing to merge: give at least one route")
    requests = len(offered[0])
    if any(len(one) != requests for one in offered):
        raise ValueError(f"routes answered different numbers of requests: {dict(zip(names, map(len, offered), strict=True))}")
    starts = np.empty((routes, requests + 1), np.int64)
    begin = 0
    for r, one in enumerate(offered):
        np.add(one.offsets, begin, out=starts[r])
        begin += len(one.items)
    items: Ints = np.concatenate([one.items for one in offered], dtype=np.int64)
    scores: Floats = np.concatenate([one.scores for one in offered], dtype=np.float32)
    order: Ints = np.arange(routes) if priorities is None else np.argsort(-np.asarray(priorities, np.int64), kind="stable")
    if requests == 1:
        most = len(items)
    else:
        most = int(np.minimum(np.diff(starts), np.asarray(quotas, np.int64)[:, None]).sum(0).max(initial=0))
    merged = np.empty(len(items), np.int64)
    table = np.full((2 * routes, len(items)), np.nan, np.float32)
    sizes = np.empty(requests, np.int64)
    slots = 1 << max(4, (2 * most).bit_length())
    size = _snake(items, scores, starts, order, np.asarray(quotas, np.int64), slots, merged, table, sizes)
    columns: dict[str, NDArray[np.float32]] = {}
    for r, name in enumerate(names):
        columns[f"{name}.score"] = table[r, :size]
        columns[f"{name}.rank"] = table[routes + r, :size]
    offsets = offsets_of(sizes)
    return Candidates(merged[:size], place_scores(offsets), offsets, columns)
