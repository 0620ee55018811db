"""The live twins of ``Past``: what every user did last, and counts by window, ready for one request in microseconds.

Both depend on the *set* of events, not on their order of arrival: a history is ordered by (time, key), where the key is a stable
tiebreak of the event; counts are sums. Neither locks: their owner does (``state.embedded``).
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.candidates import DAY, Floats, Histories, Ints, Ragged
from palate.state.catalogue import Catalogue
from palate.state.consumed import Consumed
from palate.state.past import checked_windows
from palate.state.totals import Totals

REMEMBERED = 65_536  #: applied events kept one by one, so that a request's counts stay those of its ``as_of``

_FIRST = 8  # places a user's history starts with; doubled when full, up to the limit


class LiveHistory:
    """The last ``limit`` events of every user, in one arena of arrays.

    A user has a block of 8, 16, ... up to ``limit`` places in it, so memory is bounded by 64 x limit bytes a user (32 where no block had
    to grow) and small for users of few events.
    """

    def __init__(self, limit: int = 200) -> None:
        if limit < 1:
            raise ValueError(f"a history must keep at least 1 event, not {limit}")
        self.limit = limit
        self._items = np.empty(0, np.int64)
        self._times = np.empty(0, np.int64)
        self._keys = np.empty(0, np.int64)
        self._signals = np.empty(0, np.uint32)
        self._values = np.empty(0, np.float32)
        self._used = 0  # places of the arena handed out so far
        self._free: dict[int, list[int]] = {}  # room -> starts of blocks given back
        self._start = array("q")  # by user row
        self._size = array("q")
        self._room = array("q")

    def load(self, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], values: Floats, keys: Ints) -> None:
        """Fills an empty history from many events in any order. Rows of -1 are left out."""
        if self._start:
            raise ValueError("only an empty history can be loaded")
        inverted = np.diff(times) < 0
        inverted |= (np.diff(times) == 0) & (np.diff(keys) < 0)
        order = np.lexsort((keys, times, users)) if inverted.any() else np.argsort(users, kind="stable")
        order = order[(users[order] >= 0) & (items[order] >= 0)]
        owners = users[order]
        n_users = int(owners[-1]) + 1 if len(owners) else 0
        counts = np.bincount(owners, minlength=n_users)
        ends = np.cumsum(counts)
        sizes = np.minimum(counts, self.limit)
        order = order[np.arange(len(order)) >= np.repeat(ends - sizes, counts)]
        rooms = np.where(sizes > 0, np.minimum(self.limit, np.maximum(_FIRST, 2 ** np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64))), 0)
        starts = np.cumsum(rooms) - rooms
        places = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(order))
        self._used = int(rooms.sum())
        self._grow(self._used)
        for name, column in (("_items", items), ("_times", times), ("_signals", signals), ("_values", values), ("_keys", keys)):
            getattr(self, name)[places] = column[order]
        self._start, self._size, self._room = (array("q", x.astype(np.int64).tobytes()) for x in (starts, sizes, rooms))

    def _grow(self, needed: int) -> None:
        if needed <= len(self._items):
            return
        more = max(1024, needed, len(self._items) * 3 // 2)
        for name in ("_items", "_times", "_signals", "_values", "_keys"):
            old = getattr(self, name)
            new = np.zeros(more, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._items, self._times, self._signals, self._values, self._keys

    def _block(self, room: int) -> int:
        free = self._free.get(room)
        if free:
            return free.pop()
        start = self._used
        self._used += room
        self._grow(self._used)
        return start

    def add(self, user: int, item: int, time: int, signals: int, value: float, key: int) -> None:
        """One more event, in its place by (time, key); when the block is full the oldest goes."""
        if user < 0 or item < 0:
            return
        while user >= len(self._start):
            more = max(64, user + 1 - len(self._start), len(self._start) // 2)
            for book in (self._start, self._size, self._room):
                book.frombytes(bytes(8 * more))
        start, size, room = self._start[user], self._size[user], self._room[user]
        times, keys = self._times, self._keys
        place = start + size
        if size and (time, key) < (times[place - 1], keys[place - 1]):
            place = start + int(np.searchsorted(times[start:place], time, side="left"))
            while place < start + size and times[place] == time and keys[place] < key:
                place += 1
        if size == room < self.limit:
            bigger = min(self.limit, max(_FIRST, 2 * room))
            moved = self._block(bigger)
            for column in self._columns():
                column[moved : moved + size] = column[start : start + size]
                column[start : start + size] = 0  # who is forgotten leaves no copy behind
            if room:
                self._free.setdefault(room, []).append(start)
            place += moved - start
            start, room = moved, bigger
            self._start[user], self._room[user] = start, room
        end = start + size
        if size == room:  # at the limit
            if place == start:
                return  # older than all that is kept
            place -= 1
            for column in self._columns():
                column[start:place] = column[start + 1 : place + 1]
        else:
            if place < end:
                for column in self._columns():
                    column[place + 1 : end + 1] = column[place:end]
            self._size[user] = size + 1
        self._items[place] = item
        self._times[place] = time
        self._signals[place] = signals
        self._values[place] = value
        self._keys[place] = key

    def forget(self, user: int) -> None:
        """Removes all of a user, bytes included."""
        if 0 <= user < len(self._start) and self._room[user]:
            start, room = self._start[user], self._room[user]
            for column in self._columns():
                column[start : start + room] = 0
            self._free.setdefault(room, []).append(start)
            self._size[user] = self._room[user] = 0

    def histories(self, users: Sequence[int] | Ints) -> Histories:
        """What these users ``[B]`` did last, oldest first; copies."""
        known = len(self._start)
        if len(users) == 1:
            user = int(users[0])
            if not 0 <= user < known:
                return Histories.empty(1)
            begin = self._start[user]
            size = self._size[user]
            part = slice(begin, begin + size)
            offsets = np.array((0, size), np.int64)
            return Histories(self._items[part].copy(), self._times[part].copy(), self._signals[part].copy(), self._values[part].copy(), offsets)
        blocks = [range(self._start[u], self._start[u] + self._size[u]) if 0 <= u < known else range(0) for u in map(int, users)]
        ragged = Ragged.of([np.arange(block.start, block.stop, dtype=np.int64) for block in blocks])
        places = ragged.values
        return Histories(self._items[places], self._times[places], self._signals[places], self._values[places], ragged.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(column.nbytes for column in self._columns()) + 3 * 8 * len(self._start)


class LiveCounts:
    """``Counts`` of everything applied so far; ``now`` must be later than every applied event.

    ``windows`` in ms, whole ``bucket`` s, 0 all time. Memory: 4 x signals x windows bytes an entity, and the distinct
    (bucket, entity, signal) of the longest window.
    """

    def __init__(self, signals: tuple[str, ...], windows: tuple[int, ...] = (), bucket: int = DAY, n_users: int = 0, n_items: int = 0) -> None:
        self.signals = tuple(signals)
        self.windows = checked_windows(windows, bucket)
        self.bucket = bucket
        self.sequence = 0  #: of the last event applied
        self.latest = -(2**62)  #: time of the latest event applied
        self._sides = {"items": Totals(len(signals), self.windows, bucket), "users": Totals(len(signals), self.windows, bucket)}
        self._sides["items"].grow(n_items)
        self._sides["users"].grow(n_users)
        self._recent: deque[tuple[int, int, int, int, int]] = deque(maxlen=REMEMBERED)
        self._shown = [[s for s in range(len(signals)) if mask >> s & 1] for mask in range(min(256, 1 << len(signals)))]

    def load(self, users: Ints, items: Ints, times: Ints, signals: NDArray[np.uint32], n_users: int = 0, n_items: int = 0) -> None:
        """Fills empty counts from many events in any order."""
        if len(times):
            self.latest = int(times.max())
        self._sides["items"].load(items, times, signals, n_items)
        self._sides["users"].load(users, times, signals, n_users)

    def _bits(self, signals: int) -> list[int]:
        return self._shown[signals] if signals < len(self._shown) else [s for s in range(len(self.signals)) if signals >> s & 1]

    def add(self, user: int, item: int, time: int, signals: int, sequence: int = 0) -> None:
        """One event more."""
        shown = self._bits(signals)
        self._sides["items"].add(item, time, shown)
        self._sides["users"].add(user, time, shown)
        self.latest = max(self.latest, time)
        self.sequence = max(self.sequence, sequence)
        self._recent.append((sequence, user, item, time, signals))

    def remove(self, item: int, time: int, signals: int) -> None:
        """Takes an event out of its item's counts again (its user is forgotten)."""
        self._sides["items"].add(item, time, self._bits(signals), by=-1)

    def forget(self, user: int) -> None:
        """All counts of a user become 0; what the user did to items is taken out by ``remove``."""
        self._sides["users"].remove(user)
        kept = [(sequence, -1 if who == user else who, *rest) for sequence, who, *rest in self._recent if who != user]
        self._recent = deque(kept, maxlen=REMEMBERED)  # type: ignore[arg-type]

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for item rows ``[N]`` at ``now`` ``[N]``."""
        return self._at("items", rows, now)

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for user rows ``[N]`` at ``now`` ``[N]``."""
        return self._at("users", rows, now)

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
        for event in reversed(self._recent):
            if event[0] <= sequence:
                break
            _, user, item, time, signals = event
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
        return sum(totals.nbytes for totals in self._sides.values())


class CountsAsOf:
    """The live counts as one request must see them: those of its ``as_of``, even if events arrive while it is answered."""

    __slots__ = ("_live", "_lock", "sequence", "signals", "windows")

    def __init__(self, live: LiveCounts, lock: threading.Lock, sequence: int) -> None:
        self._live, self._lock, self.sequence = live, lock, sequence
        self.signals, self.windows = live.signals, live.windows

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for item rows ``[N]`` at ``now`` ``[N]``."""
        with self._lock:
            return self._live.corrected("items", rows, now, self.sequence)

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for user rows ``[N]`` at ``now`` ``[N]``."""
        with self._lock:
            return self._live.corrected("users", rows, now, self.sequence)


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
