"""The live twin of ``PastCounts``: counts by window and each item's last events, ready for one request in microseconds.

Like the histories they depend on the *set* of events, not on their order of arrival: lists are ordered by (time, key), where the key is a
stable tiebreak of the event; counts are sums. Nothing here locks: its owner does (``state.embedded``).
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from palate.candidates import DAY, Audiences, Ints
from palate.state.audience import LiveAudience
from palate.state.catalogue import Catalogue
from palate.state.consumed import Consumed
from palate.state.history import LiveHistory
from palate.state.past import checked_windows
from palate.state.totals import Totals

REMEMBERED = 65_536  #: applied events kept one by one, so that a request's counts stay those of its ``as_of``


class LiveCounts:
    """``Counts`` of everything applied so far; ``now`` must be later than every applied event.

    ``windows`` in ms, whole ``bucket`` s, 0 all time; ``audience``: how many of an item's last events are kept. Memory: 4 x signals x windows
    bytes an entity, the distinct (bucket, entity, signal) of the longest window, and 32 bytes an event of an audience.
    """

    def __init__(
        self,
        signals: tuple[str, ...],
        windows: tuple[int, ...] = (),
        bucket: int = DAY,
        n_users: int = 0,
        n_items: int = 0,
        audience: int = 0,
    ) -> None:
        self.signals = tuple(signals)
        self._takers = LiveAudience(audience)
        self.windows = checked_windows(windows, bucket)
        self.bucket = bucket
        self.sequence = 0  #: of the last event applied
        self.latest = -(2**62)  #: time of the latest event applied
        self._sides = {"items": Totals(len(signals), self.windows, bucket), "users": Totals(len(signals), self.windows, bucket)}
        self._sides["items"].grow(n_items)
        self._sides["users"].grow(n_users)
        self._recent: deque[tuple[int, int, int, int, int]] = deque(maxlen=REMEMBERED)
        self._shown = [[s for s in range(len(signals)) if mask >> s & 1] for mask in range(min(256, 1 << len(signals)))]

    @property
    def kept(self) -> int:
        """How many of an item's last events ``audience`` gives."""
        return self._takers.kept

    def load(
        self, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], n_users: int = 0, n_items: int = 0, keys: Ints | None = None
    ) -> None:
        """Fills empty counts from many events in any order; ``keys`` order those of one instant (None: as they stand)."""
        if len(times):
            self.latest = int(times.max())
        self._takers.load(users, items, times, signals, np.arange(len(times), dtype=np.int64) if keys is None else keys)
        self._sides["items"].load(items, times, signals, n_items)
        self._sides["users"].load(users, times, signals, n_users)

    def _bits(self, signals: int) -> list[int]:
        return self._shown[signals] if signals < len(self._shown) else [s for s in range(len(self.signals)) if signals >> s & 1]

    def add(self, user: int, item: int, time: int, signals: int, sequence: int = 0, key: int | None = None) -> None:
        """One event more; ``key`` orders those of one instant (None: the sequence does)."""
        shown = self._bits(signals)
        self._takers.add(user, item, time, signals, sequence if key is None else key)
        self._sides["items"].add(item, time, shown)
        self._sides["users"].add(user, time, shown)
        self.latest = max(self.latest, time)
        self.sequence = max(self.sequence, sequence)
        self._recent.append((sequence, user, item, time, signals))

    def remove(self, item: int, time: int, signals: int) -> None:
        """Takes an event out of its item's counts again (its user is forgotten); ``retake`` is to follow."""
        self._sides["items"].add(item, time, self._bits(signals), by=-1)

    def retake(self, rows: Ints, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], keys: Ints) -> None:
        """The audiences of these item rows made anew of the events on them that are left."""
        self._takers.retake(rows, users, items, times, signals, keys)

    def forget(self, user: int) -> None:
        """All counts of a user become 0; what the user did to items is taken out by ``remove``."""
        self._sides["users"].remove(user)
        self._recent = deque((event for event in self._recent if event[1] != user), maxlen=REMEMBERED)

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for item rows ``[N]`` at ``now`` ``[N]``."""
        return self._at("items", rows, now)

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for user rows ``[N]`` at ``now`` ``[N]``."""
        return self._at("users", rows, now)

    def audience(self, rows: Ints, now: Ints, sequence: int | None = None) -> Audiences:
        """The last ``kept`` events of item rows ``[N]`` when ``sequence`` was the last event applied (None: now); copies."""
        rows = np.asarray(rows, np.int64)
        if sequence is None or sequence >= self.sequence:
            moment = int(np.min(now, initial=2**62))
            if moment <= self.latest and len(rows):
                raise ValueError(f"live counts know only moments after the latest event ({self.latest}), not {moment}")
            return self._takers.before(rows, ())
        return self._takers.before(rows, [event[1:] for event in self._since(sequence) if event[1] >= 0])

    def _since(self, sequence: int) -> Iterator[tuple[int, int, int, int, int]]:
        """What was applied after ``sequence``, the latest first."""
        return itertools.takewhile(lambda event: event[0] > sequence, reversed(self._recent))

    def _at(self, side: str, rows: Ints, now: Ints) -> NDArray[np.int32]:
        rows = np.asarray(rows, np.int64)
        totals = self._sides[side]
        moments = np.asarray(now, np.int64)
        if moments.size == 0:
            return np.zeros((len(rows), len(self.signals), len(self.windows)), np.int32)
        first, last = int(moments.min()), int(moments.max())
        if first <= self.latest:
            raise ValueError(f"live counts know only moments after the latest event ({self.latest}), not {first}")
        first, last = first // self.bucket, last // self.bucket
        if first == last:
            return totals.take(rows, first)
        buckets = np.broadcast_to(moments // self.bucket, rows.shape)
        found = np.empty((len(rows), len(self.signals), len(self.windows)), np.int32)
        for one in np.unique(buckets):
            mine = buckets == one
            found[mine] = totals.take(rows[mine], int(one))
        return found

    def corrected(self, side: str, rows: Ints, now: Ints, sequence: int) -> NDArray[np.int32]:
        """Counts as they were at ``now`` when ``sequence`` was the last event applied, whatever came since.

        Exact while fewer than ``REMEMBERED`` events came since, none of them more than a bucket after ``now``.
        """
        if sequence >= self.sequence:
            return self._at(side, rows, now)
        rows = np.asarray(rows, np.int64)
        buckets = np.broadcast_to(np.asarray(now, np.int64) // self.bucket, rows.shape)
        found = np.empty((len(rows), len(self.signals), len(self.windows)), np.int32)
        for bucket in np.unique(buckets):
            mine = np.flatnonzero(buckets == bucket)
            found[mine] = self._sides[side].take(rows[mine], int(bucket))
        for _, user, item, time, signals in self._since(sequence):
            touched = np.flatnonzero(rows == (item if side == "items" else user))
            shown = self._bits(signals)
            for place in touched:
                ages = int(buckets[place]) - time // self.bucket
                for w, window in enumerate(self.windows):
                    if not window or 0 <= ages < window // self.bucket:
                        found[place, shown, w] -= 1
        return found

    def content(self) -> dict[str, tuple[Ints, Ints]]:
        """What a digest is made of, by side."""
        return {side: totals.content() for side, totals in self._sides.items()}

    @property
    def nbytes(self) -> int:
        """Bytes held, about."""
        return sum(totals.nbytes for totals in self._sides.values()) + self._takers.nbytes


class CountsAsOf:
    """The live counts as one request must see them: those of its ``as_of``, even if events arrive while it is answered."""

    __slots__ = ("_live", "_lock", "kept", "sequence", "signals", "windows")

    def __init__(self, live: LiveCounts, lock: threading.Lock, sequence: int) -> None:
        self._live, self._lock, self.sequence = live, lock, sequence
        self.signals, self.windows, self.kept = live.signals, live.windows, live.kept

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for item rows ``[N]`` at ``now`` ``[N]``."""
        with self._lock:
            return self._live.corrected("items", rows, now, self.sequence)

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for user rows ``[N]`` at ``now`` ``[N]``."""
        with self._lock:
            return self._live.corrected("users", rows, now, self.sequence)

    def audience(self, rows: Ints, now: Ints) -> Audiences:
        """The last ``kept`` events of item rows ``[N]`` before ``now`` ``[N]``."""
        with self._lock:
            return self._live.audience(rows, now, self.sequence)


def key_of(event_id: str) -> int:
    """Stable tiebreak of events of one instant: 62 bits of a hash of the event's id."""
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big") >> 2


def digest(history: LiveHistory, counts: LiveCounts, consumed: Consumed, users: Catalogue, items: Catalogue) -> str:
    """A hash of all three by id, so that it does not depend on which row an id was given."""

    def named(catalogue: Catalogue) -> NDArray[np.uint64]:
        hashes = (hashlib.blake2b(one.encode(), digest_size=8).digest() for one in catalogue.ids)
        return np.frombuffer(b"".join(hashes), np.uint64)

    names = {"users": named(users), "items": named(items)}
    whole = hashlib.blake2b(digest_size=16)
    for row, id in sorted(enumerate(users.ids), key=lambda pair: pair[1]):
        mine, used = history.histories([row]), consumed.of(row)
        if len(mine.items) or len(used):
            whole.update(id.encode() + b"\0" + len(mine.items).to_bytes(4, "big"))
            for column in (names["items"][mine.items], mine.times, mine.signals, mine.values, np.sort(names["items"][used])):
                whole.update(column.tobytes())
    for side, tables in counts.content().items():
        for table in tables:
            entity, signal = np.divmod(table[:, -2], max(1, len(counts.signals)))
            columns = [*table[:, :-2].T, names[side][entity], signal, table[:, -1]]
            order = np.lexsort(columns[-2::-1])
            whole.update(len(table).to_bytes(8, "big") + b"".join(column[order].tobytes() for column in columns))
    return whole.hexdigest()
