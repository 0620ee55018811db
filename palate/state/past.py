"""Past: what was known at any moment, exactly, for many requests at once. The yardstick of the live state and the maker of examples.

Events are sorted once by (entity, time). A moment is a place in the order of time, so "events of this entity before this moment" is
one binary search among the entity's own places; a window is the difference of two running counts.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import DAY, Audiences, Counts, Histories, Ints, Ragged, Request, offsets_of
from palate.state.consumed import distinct
from palate.state.rows import EventRows


def checked_windows(windows: tuple[int, ...], bucket: int) -> tuple[int, ...]:
    """The windows, if each is 0 (all time) or whole buckets; else ValueError."""
    if bucket <= 0:
        raise ValueError(f"a bucket must last more than 0 ms, not {bucket}")
    for window in windows:
        if window < 0 or window % bucket:
            raise ValueError(f"a window must be 0 (all time) or whole buckets of {bucket} ms, not {window}")
    return tuple(windows)


def window_start(now: Ints, window: int, bucket: int) -> Ints:
    """First moment of the window that ends at ``now``: n - 1 whole buckets before the bucket that holds ``now``."""
    start: Ints = (now // bucket - (window // bucket - 1)) * bucket
    return start


def ragged_places(begin: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Places ``begin[b] .. begin[b] + lengths[b]`` of every b in a row, and their offsets."""
    offsets = offsets_of(lengths)
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1], dtype=np.int64), offsets


@njit(cache=True, nogil=True)
def _until(offsets: Ints, places: Ints, rows: Ints, moments: Ints, out: Ints) -> None:
    for n in range(len(rows)):
        row, moment = rows[n], moments[n]
        low = high = 0
        if 0 <= row < len(offsets) - 1:
            low, high = offsets[row], offsets[row + 1]
        while low < high:
            middle = (low + high) >> 1
            if places[middle] < moment:
                low = middle + 1
            else:
                high = middle
        out[n] = low


class _Side:
    """Events of one kind of entity, sorted by (entity, time): those of entity e are ``places[offsets[e]:offsets[e + 1]]``, places in time."""

    def __init__(self, entities: Ints, places: Ints) -> None:
        mine = entities[places]
        self.places = places[np.argsort(mine, kind="stable")]  # places ascend, so within an entity time does
        self.offsets = offsets_of(np.bincount(mine)) if len(mine) else np.zeros(1, np.int64)

    def begin(self, rows: Ints) -> Ints:
        """Where each entity's events start. Entities that have none, or -1, get an empty range."""
        known = (rows >= 0) & (rows < len(self.offsets) - 1)
        return np.where(known, self.offsets[np.where(known, rows, 0)], 0)

    def until(self, rows: Ints, moments: Ints) -> Ints:
        """Where each entity's events before the place ``moments`` in time end."""
        out = np.empty(len(rows), np.int64)
        fixed = np.require(rows, np.int64, ("C", "W")), np.require(moments, np.int64, ("C", "W"))
        _until(self.offsets, self.places, *fixed, out)
        return out

    @property
    def nbytes(self) -> int:
        return self.places.nbytes + self.offsets.nbytes


class PastCounts:
    """``Counts`` over all of the past: any ``now`` may be asked for. Memory: (8 + 4 signals) bytes an event and side.

    ``kept``: how many of each item's last events ``audience`` gives.
    """

    def __init__(self, rows: EventRows, windows: tuple[int, ...], bucket: int, kept: int = 0) -> None:
        self.signals = rows.names
        self.windows = checked_windows(windows, bucket)
        self.kept = kept
        self._bucket = bucket
        self._rows = rows

    @cached_property
    def _items(self) -> tuple[_Side, NDArray[np.int32]]:
        return self._side(self._rows.items)

    @cached_property
    def _users(self) -> tuple[_Side, NDArray[np.int32]]:
        return self._side(self._rows.users)

    def _side(self, entities: Ints) -> tuple[_Side, NDArray[np.int32]]:
        side = _Side(entities, np.flatnonzero(entities >= 0))
        running = np.zeros((len(side.places) + 1, len(self.signals)), np.int32)
        shown = self._rows.signals[side.places]
        for s in range(len(self.signals)):
            np.cumsum((shown >> np.uint32(s)) & np.uint32(1), out=running[1:, s], dtype=np.int32)
        return side, running

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for item rows ``[N]`` at ``now`` ``[N]``."""
        return self._count(*self._items, rows, now)

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for user rows ``[N]`` at ``now`` ``[N]``."""
        return self._count(*self._users, rows, now)

    @cached_property
    def _takers(self) -> tuple[_Side, Ints, Ints, NDArray[np.uint32]]:
        rows = self._rows
        side = _Side(rows.items, np.flatnonzero((rows.users >= 0) & (rows.items >= 0)))
        return side, rows.users[side.places], rows.times[side.places], rows.signals[side.places]

    def audience(self, rows: Ints, now: Ints) -> Audiences:
        """The last ``kept`` events of item rows ``[N]`` strictly before ``now`` ``[N]``."""
        side, users, times, signals = self._takers
        rows = np.maximum(np.asarray(rows, np.int64), -1)
        end = side.until(rows, np.searchsorted(self._rows.times, np.broadcast_to(np.asarray(now, np.int64), rows.shape)))
        begin = np.maximum(side.begin(rows), end - self.kept)
        return Audiences(users, times, signals, np.minimum(begin, end), end)

    def _count(self, side: _Side, running: NDArray[np.int32], rows: Ints, now: Ints) -> NDArray[np.int32]:
        rows = np.maximum(np.asarray(rows, np.int64), -1)
        now = np.broadcast_to(np.asarray(now, np.int64), rows.shape)
        times = self._rows.times
        moments, which = np.unique(now, return_inverse=True)  # many pairs share a moment
        upto = running[side.until(rows, np.searchsorted(times, moments)[which])]
        counts = np.empty((len(rows), len(self.signals), len(self.windows)), np.int32)
        for w, window in enumerate(self.windows):
            if window:
                first = np.searchsorted(times, window_start(moments, window, self._bucket))[which]
                start = running[side.until(rows, first)]
            else:
                start = running[side.begin(rows)]
            counts[:, :, w] = upto - start
        counts[rows < 0] = 0
        return counts


class Past:
    """Histories, counts and requests at any moment, from all events.

    ``windows`` are milliseconds, whole ``bucket`` s (0: all time); ``limit`` is how many events of a user's history are given, the latest,
    ``audience`` how many of an item's. Memory is linear in events.
    """

    def __init__(
        self,
        rows: EventRows,
        n_users: int,
        n_items: int,
        windows: tuple[int, ...] = (),
        bucket: int = DAY,
        limit: int = 200,
        audience: int = 0,
    ) -> None:
        if len(rows) and (np.diff(rows.times) < 0).any():
            raise ValueError("events must be in order of time")
        self.rows = rows
        self.n_users = n_users
        self.n_items = n_items
        self.limit = limit
        self.counts: Counts = PastCounts(rows, windows, bucket, audience)

    @cached_property
    def _known(self) -> _Side:
        return _Side(self.rows.users, np.flatnonzero((self.rows.users >= 0) & (self.rows.items >= 0)))

    def _ranges(self, users: Ints, now: Ints) -> tuple[Ints, Ints]:
        users = np.asarray(users, np.int64)
        moments = np.searchsorted(self.rows.times, np.asarray(now, np.int64))
        begin = self._known.begin(users)
        end = self._known.until(users, moments)
        return begin, np.where(users >= 0, end, begin)

    def histories(self, users: Ints, now: Ints, limit: int | None = None) -> Histories:
        """What each of ``users`` ``[B]`` did strictly before ``now`` ``[B]``: the last ``limit`` events, oldest first."""
        begin, end = self._ranges(users, now)
        lengths = np.minimum(end - begin, self.limit if limit is None else limit)
        places, offsets = ragged_places(end - lengths, lengths)
        chosen = self._known.places[places]
        rows = self.rows
        return Histories(rows.items[chosen], rows.times[chosen], rows.signals[chosen], rows.values[chosen], offsets)

    def spans(self, users: Ints, now: Ints, length: int, bit: int = 0) -> tuple[NDArray[np.int32], Ints, Ints]:
        """``histories`` that are not written out, of the events that show ``bit`` (0: any), at most ``length``, the latest.

        Items int32 ``[M]`` of all such events by (user, time), and for each of ``users`` ``[B]`` at ``now`` ``[B]`` where in it the history begins
        and how long it is: the latest events with the bit among the latest ``limit`` of all.
        """
        begin, end = self._ranges(users, now)
        begin, places = np.maximum(begin, end - self.limit), self._known.places
        if bit:
            shown = (self.rows.signals[places] & np.uint32(bit)) != 0
            before = offsets_of(shown)
            begin, end, places = before[begin], before[end], places[shown]
        begin = np.maximum(begin, end - length)
        return self.rows.items[places].astype(np.int32), begin, end - begin

    @cached_property
    def _wide(self) -> np.int64:
        return np.int64(max(self.n_items, int(self.rows.items.max(initial=0)) + 1))

    def consumed(self, users: Ints, now: Ints) -> Ragged:
        """Every item each user had an event with before ``now``, each once, ascending."""
        begin, end = self._ranges(users, now)
        places, offsets = ragged_places(begin, end - begin)
        wide = self._wide
        owner = np.repeat(np.arange(len(begin), dtype=np.int64), np.diff(offsets))
        pairs = distinct(owner * wide + self.rows.items[self._known.places[places]])
        return Ragged(pairs % wide, offsets_of(np.bincount(pairs // wide, minlength=len(begin))))

    def context(self, users: Ints, now: Ints) -> dict[str, Any]:
        """The context in which ``users`` ``[B]`` came at ``now`` ``[B]`` or, if they did not, the next time: a request at that moment would
        have known it. None where they never came again. Empty if the events have no context.
        """
        if not self.rows.context:
            return {}
        _, first = self._ranges(users, now)
        _, end = self._ranges(users, np.full(len(first), np.iinfo(np.int64).max))
        came = first < end
        chosen = self._known.places[first[came]]
        found = {}
        for name, values in self.rows.context.items():
            found[name] = np.full(len(came), None, object)
            found[name][came] = values[chosen]
        return found

    def request(self, users: Ints, now: Ints, *, exclude_seen: bool = True, **request_fields: Any) -> Request:
        """The request that ``users`` ``[B]`` would have made at ``now`` ``[B]``; ``exclude`` holds all they had used before."""
        users = np.asarray(users, np.int64)
        now = np.asarray(now, np.int64)
        if "context" not in request_fields:
            request_fields["context"] = self.context(users, now)
        if exclude_seen and "exclude" not in request_fields:
            request_fields["exclude"] = self.consumed(users, now)
        return Request(users, self.histories(users, now), now, counts=self.counts, **request_fields)
