"""Session: what stood beside the last items in the sessions most like the one that is going on.

Jannach, Ludewig, "When Recurrent Neural Networks Meet the Neighborhood for Session-Based Recommendation", RecSys 2017 (session-kNN); the three
decays: Garg et al., "Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN", SIGIR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from palate.candidates import DAY, SECOND, Candidates, Grounds, Histories, Ints, Ragged, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import Doubles, Table, distinct, flat
from palate.recall.neighbor.similarity import Sparse
from palate.state.past import ragged_places

BLOCK = 256  #: requests answered at once
MINUTE = 60 * SECOND
FAR = 1 << 20  #: more than the places of a session


class Session:
    """``score(i) = sum over the neighbors n of s of sim(s, n) * exp(-|place of i in n - place of i* in n| / beside)``, where

    ``sim(s, n) = sum over shared items of exp(-(places before the end of s) / recent) / sqrt(|s| |n|) * exp(-age of n / age_days)`` and i* is the
    last item of s that n has. An option of 0 leaves its decay out; without all three it is session-kNN with cosine.

    A session ends where ``gap_minutes`` pass until the user's next event. s is the last session of the request's history, its latest ``length``
    items; the ``neighbors`` most like it are found among each item's latest ``sessions`` (0: all), which bounds the work. Sessions of one
    item say nothing and are left out. What a user took several times stands in the session of the last time, for a matrix of
    interactions knows no other. Without a known item there are no candidates.
    """

    def __init__(
        self,
        neighbors: int = 100,
        sessions: int = 500,
        length: int = 20,
        gap_minutes: float = 30.0,
        recent: float = 3.0,
        age_days: float = 30.0,
        beside: float = 3.0,
    ) -> None:
        if neighbors < 1 or length < 1 or gap_minutes <= 0 or min(recent, age_days, beside) < 0:
            raise ValueError("neighbors and length must be 1 or more, gap_minutes above 0, and recent, age_days and beside 0 or more")
        self.neighbors, self.sessions, self.length, self.gap_minutes = neighbors, sessions, length, gap_minutes
        self.recent, self.age_days, self.beside = recent, age_days, beside
        self._lists: Sparse | None = None

    def fit(self, interactions: Interactions) -> Self:
        users = np.repeat(np.arange(interactions.n_users), np.diff(interactions.offsets))
        order = np.lexsort((interactions.items, interactions.times, users))
        users, items, times = users[order], interactions.items[order], interactions.times[order]
        first = np.ones(len(items), bool)
        first[1:] = (np.diff(users) != 0) | (np.diff(times) > self.gap_minutes * MINUTE)
        lengths = np.diff(np.append(np.flatnonzero(first), len(items)))
        kept = np.repeat(lengths > 1, lengths)
        lengths, items, times = lengths[lengths > 1], items[kept], times[kept]
        ages = interactions.now - times[np.cumsum(lengths) - 1]
        return self._set(Sparse.of(offsets_of(lengths), items, np.repeat(ages / DAY, lengths), interactions.n_items))

    def _set(self, lists: Sparse) -> Self:
        """Sessions with their items in order; the value of each entry is its session's age in days at fitting."""
        of = np.repeat(np.arange(len(lists)), lists.lengths)
        order = np.lexsort((lists.values, lists.columns))  # an item's sessions, the latest first
        columns = lists.columns[order]
        kept = order[np.arange(len(order)) - np.searchsorted(columns, columns) < (self.sessions or len(order))]
        aged = np.exp(-lists.values[kept] / self.age_days) if self.age_days else 1.0
        by_item = offsets_of(np.bincount(lists.columns[kept], minlength=lists.width))
        self._by_item = Table.of(by_item, of[kept], aged / np.sqrt(lists.lengths[of[kept]]), len(lists))
        self._lists = lists
        return self

    @property
    def lists(self) -> Sparse:
        """Row n holds the items of session n, in order."""
        if self._lists is None:
            raise RuntimeError("this Session is not fitted")
        return self._lists

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"offsets": self.lists.offsets, "items": self.lists.columns, "ages": self.lists.values, "width": np.array([self.lists.width])}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(Sparse.saved(arrays["offsets"], arrays["items"], arrays["ages"], int(flat(arrays["width"], np.int64)[0])))

    def current(self, request: Request) -> tuple[Ints, Ints, Doubles]:
        """Each request's going session, its items once each, the latest first: ``(offsets [B + 1], items [M], weights [M])``."""
        past, n = request.histories, self.lists.width
        known = (past.items >= 0) & (past.items < n)
        offsets, times = offsets_of(known.astype(np.int64))[past.offsets], past.times[known]
        owner, places = np.repeat(np.arange(len(request)), np.diff(offsets)), np.arange(len(times))
        begins = np.ones(len(times), bool)
        begins[1:] = (np.diff(owner) != 0) | (np.diff(times) > self.gap_minutes * MINUTE)
        started = np.maximum.accumulate(np.where(begins, places, 0))
        going = places >= started[offsets[owner + 1] - 1]
        chosen, bounds = np.flatnonzero(known)[going], offsets_of(going.astype(np.int64))[offsets]
        session = Histories(past.items[chosen], past.times[chosen], past.signals[chosen], past.values[chosen], bounds)
        offsets, items, _ = distinct(session, request.now, n)
        place = np.arange(len(items)) - np.repeat(offsets[:-1], np.diff(offsets))
        kept = place < self.length
        lengths = np.minimum(np.diff(offsets), self.length)
        weights = np.exp(-place[kept] / self.recent) if self.recent else np.ones(lengths.sum())
        return offsets_of(lengths), items[kept], weights / np.sqrt(np.repeat(lengths, lengths))

    def retrieve(self, request: Request, k: int) -> Candidates:
        offsets, items, weights = self.current(request)
        found = []
        for start in range(0, len(request), BLOCK):
            mine = offsets[start : start + BLOCK + 1]
            part = slice(mine[0], mine[-1])
            exclude = None if request.exclude is None else Ragged(request.exclude.values, request.exclude.offsets[start : start + BLOCK + 1])
            table = self._beside(mine - mine[0], items[part], weights[part])
            each = np.arange(len(table) + 1)
            found.append(table.best(each, each[:-1], np.ones(len(table)), k, exclude))
        lengths = [np.empty(0, np.int64), *(np.diff(one.offsets) for one in found)]
        rows = np.concatenate([np.empty(0, np.int64), *(one.items for one in found)])
        scores = np.concatenate([np.empty(0, np.float32), *(one.scores for one in found)])
        return Candidates(rows, scores, offsets_of(np.concatenate(lengths)))

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the going session that most likens the neighbors with a candidate in them to it: what it adds to their similarity."""
        offsets, items, weights = self.current(request)
        near, table, found = self._by_item.best(offsets, items, weights, self.neighbors), self._by_item, Grounds.none(len(candidates.items))
        shape = len(self.lists), self.lists.width
        bounds = np.append(table.starts, len(table.columns))
        likened = csr_matrix((table.values, table.columns, bounds), shape=shape[::-1])
        held = csr_matrix((np.ones(len(self.lists.columns), np.float32), self.lists.columns, self.lists.offsets), shape=shape)
        for b in range(len(request)):
            mine = np.arange(candidates.offsets[b], candidates.offsets[b + 1])
            mine, own = mine[candidates.items[mine] < shape[1]], slice(offsets[b], offsets[b + 1])
            sessions = near.items[near.offsets[b] : near.offsets[b + 1]]
            if len(mine) and len(sessions):
                given = (likened[items[own]][:, sessions] @ held[sessions][:, candidates.items[mine]]).toarray() * weights[own, None]  # [Q, C]
                given[items[own][:, None] == candidates.items[mine]] = 0
                best, some = given.argmax(0), given.max(0) > 0
                found.items[mine[some]], found.strength[mine[some]] = items[own][best[some]], given.max(0)[some]
        return found

    def _beside(self, offsets: Ints, items: Ints, weights: Doubles) -> Table:
        """A row for each going session: the items of its neighbors, with what each gives to their scores."""
        lists, n = self.lists, self.lists.width
        near = self._by_item.best(offsets, items, weights, self.neighbors)
        lengths = lists.lengths[near.items]
        places, bounds = ragged_places(lists.offsets[near.items], lengths)
        of = np.repeat(np.arange(len(near.items)), lengths)
        others, place = lists.columns[places].astype(np.int64), places - lists.offsets[near.items][of]
        shared = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * n + items
        order = np.argsort(shared)
        wanted = near.requests[of] * n + others
        at = order[np.minimum(np.searchsorted(shared[order], wanted), len(order) - 1)] if len(order) else wanted
        rank = np.where(shared[at] == wanted, at, len(shared)) if len(order) else wanted  # items stand latest first, so the least is i*
        star = np.minimum.reduceat(rank * FAR + place, bounds[:-1])[of] % FAR if len(of) else place
        decay = np.exp(-np.abs(place - star) / self.beside) if self.beside else 1.0
        return Table.of(bounds[near.offsets], others, near.scores[of] * decay, n)
