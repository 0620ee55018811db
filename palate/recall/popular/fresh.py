"""Fresh: the newest items first; an item added a moment ago leads the list of the next request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import DAY, Candidates, Ints, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import flat, plain, walk
from palate.state.catalogue import Catalogue


class Fresh:
    """Items by the moment they were made, latest first; ``score = -age in days`` at the request's ``now``.

    The moment is the catalogue's ``created``, and where that is unknown the item's first fitted event. Items of unknown moment, those
    withdrawn, those made after ``now`` and (``days`` above 0) those older than ``days`` are not offered. The catalogue is read live.
    """

    def __init__(self, catalogue: Catalogue, days: float = 0.0) -> None:
        if days < 0:
            raise ValueError(f"days must be 0 or more, not {days}")
        self.catalogue, self.days = catalogue, days
        self._first: Ints | None = None
        self._version = -1
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        first = np.full(interactions.n_items, np.iinfo(np.int64).max)
        np.minimum.at(first, interactions.items, interactions.times)
        first[first == np.iinfo(np.int64).max] = 0
        return self._set(first)

    def _set(self, first: Ints) -> Self:
        self._first, self._version = first, -1
        self._order = np.empty(0, np.int64), np.empty(0, np.int64)
        return self

    @property
    def first(self) -> Ints:
        """Time of each item's first fitted event, ms, 0 unknown. ``[I]``"""
        if self._first is None:
            raise RuntimeError("this Fresh is not fitted")
        return self._first

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"first": self.first}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["first"], np.int64))

    def _made(self, rows: Ints) -> Ints:
        made = self.catalogue.created[rows]
        old = (made == 0) & (rows < len(self.first))
        made[old] = self.first[rows[old]]
        return made

    def _refresh(self) -> tuple[Ints, Ints]:
        """The order and, in it, minus the moments, at the catalogue's version; after a change only the changed rows are moved."""
        with self._lock:
            version = self.catalogue.version
            if version != self._version:
                everything = self._version < 0
                changed = np.arange(len(self.catalogue), dtype=np.int64) if everything else self.catalogue.changed_since(self._version)
                order, minus = self._order
                if len(order):
                    kept = ~np.isin(order, changed)
                    order, minus = order[kept], minus[kept]
                added_minus = -self._made(changed)
                added, added_minus = changed[added_minus != 0], added_minus[added_minus != 0]
                by_age = np.lexsort((added, added_minus))
                added, added_minus = added[by_age], added_minus[by_age]
                places = np.searchsorted(minus, added_minus, side="right")
                self._order = np.insert(order, places, added), np.insert(minus, places, added_minus)
                self._version = version
            return self._order

    def retrieve(self, request: Request, k: int) -> Candidates:
        if self._first is None:
            raise RuntimeError("this Fresh is not fitted")
        if self._first is None:
            raise RuntimeError("this Fresh is not fitted")
        order, minus = self._refresh()
        now = plain(request.now, np.int64)
        starts = np.searchsorted(minus, -now)
        stops = np.full(len(now), len(order)) if self.days <= 0 else np.searchsorted(minus, int(self.days * DAY) - now, side="right")
        items, offsets = walk(order, starts, stops, self.catalogue.available, k, request.exclude)
        found = Candidates(items, np.empty(len(items), np.float32), offsets)
        age = now[found.requests] - self._made(items)
        return found.rescored((-age / DAY).astype(np.float32))
