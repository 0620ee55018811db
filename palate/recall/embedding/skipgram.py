"""Steps of skip-gram with negative sampling, compiled: the part that Item2vec and the listing embeddings share."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.datasets.draws import State, draw, drawn

Doubles = NDArray[np.float64]


@njit(cache=True, nogil=True, fastmath=True)
def pull(own: Floats, other: Floats, together: bool, rate: np.float32, moved: Floats) -> None:
    """One step up ``ln sigma(own' other)``, or ``ln sigma(-own' other)`` if they are not ``together``, for ``other``; own's is added to ``moved``."""
    dot = np.float32(0.0)
    for d in range(len(own)):
        dot += own[d] * other[d]
    chance = np.float32(1.0) / (np.float32(1.0) + np.exp(-dot))
    step = rate * ((np.float32(1.0) if together else np.float32(0.0)) - chance)
    for d in range(len(own)):
        moved[d] += step * other[d]
        other[d] += step * own[d]


@njit(cache=True, nogil=True)
def over_sets(
    order: Ints,
    offsets: Ints,
    items: Ints,
    kept: Doubles,
    u: Floats,
    v: Floats,
    contexts: int,
    negatives: int,
    chances: Doubles,
    alias: Ints,
    rate: np.float32,
    state: State,
) -> None:
    """One epoch over the sets in this order: each item (kept with its chance) with ``contexts`` drawn others of its set (0: with all of them)."""
    moved, room = np.empty(u.shape[1], np.float32), np.empty(len(items), np.int64)
    for row in order:
        size = 0
        for e in range(offsets[row], offsets[row + 1]):
            if draw(state, 1 << 30) < kept[items[e]] * (1 << 30):
                room[size] = items[e]
                size += 1
        for place in range(size if size > 1 else 0):
            own = u[room[place]]
            for c in range(min(contexts, size - 1) if contexts else size - 1):
                at = draw(state, size - 1) if 0 < contexts < size - 1 else c
                other = room[at + 1 if at >= place else at]
                moved[:] = np.float32(0.0)
                pull(own, v[other], True, rate, moved)
                for _ in range(negatives):
                    wrong = drawn(state, chances, alias)
                    if wrong != other:
                        pull(own, v[wrong], False, rate, moved)
                for d in range(len(own)):
                    own[d] += moved[d]


@njit(cache=True, nogil=True)
def over_sessions(
    order: Ints,
    offsets: Ints,
    items: Ints,
    bookings: Ints,
    window: int,
    u: Floats,
    v: Floats,
    chances: Doubles,
    alias: Ints,
    markets: Ints,
    market_offsets: Ints,
    market_items: Ints,
    negatives: int,
    market_negatives: int,
    rate: np.float32,
    state: State,
) -> None:
    """One epoch over the sessions in this order. A centre meets its window, the session's booking, and items drawn from everywhere and its market."""
    moved = np.empty(u.shape[1], np.float32)
    for row in order:
        first, last, booking = offsets[row], offsets[row + 1], bookings[row]
        for place in range(first, last if last > first + 1 else first):
            centre = items[place]
            own = u[centre]
            moved[:] = np.float32(0.0)
            for at in range(max(first, place - window), min(last, place + window + 1)):
                if at == place:
                    continue
                pull(own, v[items[at]], True, rate, moved)
                for _ in range(negatives):
                    wrong = drawn(state, chances, alias)
                    if wrong != items[at]:
                        pull(own, v[wrong], False, rate, moved)
            if booking >= 0 and booking != centre:
                pull(own, v[booking], True, rate, moved)
            market = markets[centre]
            if market >= 0:
                start = market_offsets[market]
                for _ in range(market_negatives):
                    wrong = market_items[start + draw(state, market_offsets[market + 1] - start)]
                    if wrong != centre:
                        pull(own, v[wrong], False, rate, moved)
            for d in range(len(own)):
                own[d] += moved[d]
