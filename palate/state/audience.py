"""The live twin of ``PastCounts.audience``: each item's last events. A ``LiveHistory`` in which users and items have changed places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Audiences, Ints
from palate.state.history import LiveHistory

SLACK = 16  #: events an item beyond those that are given, so that a request's audience stays that of its ``as_of``


class LiveAudience:
    """The last ``kept`` events of every item (0: nothing is kept). It depends on the set of events, as a history does."""

    def __init__(self, kept: int = 0) -> None:
        if kept < 0:
            raise ValueError(f"an audience must keep 0 or more events, not {kept}")
        self.kept = kept
        self._history = LiveHistory(kept + SLACK) if kept else None

    def load(self, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], keys: Ints) -> None:
        """Fills an empty audience from many events in any order."""
        if self._history is not None:
            self._history.load(items, users, times, signals, np.zeros(len(times), np.float32), keys)

    def add(self, user: int, item: int, time: int, signals: int, key: int) -> None:
        """One event more."""
        if self._history is not None:
            self._history.add(item, user, time, signals, 0.0, key)

    def retake(self, rows: Ints, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], keys: Ints) -> None:
        """The audiences of these item rows made anew of all events of theirs that are left."""
        if self._history is None:
            return
        for row in rows.tolist():
            self._history.forget(row)
        order = np.lexsort((keys, times, items))
        sizes = np.bincount(items)  # of all of an item's events the last ones are enough
        order = order[np.arange(len(order)) >= np.repeat(np.cumsum(sizes) - self._history.limit, sizes)]
        for user, item, time, shown, key in zip(*(x[order].tolist() for x in (users, items, times, signals, keys)), strict=True):
            self._history.add(item, user, time, shown, 0.0, key)

    def before(self, rows: Ints, undone: Sequence[tuple[int, int, int, int]]) -> Audiences:
        """The last ``kept`` events of item rows ``[N]`` without the ``undone`` ones (user, item, time, signals); copies.

        Exact while no more than ``SLACK`` of an item's events are undone.
        """
        if self._history is None:
            nowhere = np.zeros(len(rows), np.int64)
            return Audiences(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint32), nowhere, nowhere)
        users, times, signals, offsets = self._history.gather(rows, self.kept + (SLACK if undone else 0))
        begin, end = offsets[:-1], offsets[1:].copy()
        for user, item, time, shown in undone:
            for n in np.flatnonzero(rows == item).tolist():
                here = slice(begin[n], end[n])
                same = np.flatnonzero((times[here] == time) & (users[here] == user) & (signals[here] == shown))
                if len(same):
                    gone, last = int(begin[n] + same[-1]), int(end[n]) - 1
                    for column in (users, times, signals):
                        column[gone:last] = column[gone + 1 : last + 1]
                    end[n] = last
        return Audiences(users, times, signals, np.maximum(begin, end - self.kept), end)

    @property
    def nbytes(self) -> int:
        return 0 if self._history is None else self._history.nbytes
