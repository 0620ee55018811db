"""What every user did last, ready for one request in microseconds. Does not lock: its owner does (``state.embedded``)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Histories, Ints, Ragged, offsets_of

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

    def gather(self, users: Ints, most: int) -> tuple[Ints, Ints, NDArray[np.uint32], Ints]:
        """Items, times and signals of the last ``most`` events of these users ``[B]``, oldest first, and their offsets; copies. For many users."""
        if not self._start:
            none = np.empty(0, np.int64)
            return none, none, np.empty(0, np.uint32), np.zeros(len(users) + 1, np.int64)
        start, size = np.frombuffer(self._start, np.int64), np.frombuffer(self._size, np.int64)
        known = (users >= 0) & (users < len(start))
        size = np.where(known, size.take(users, mode="clip"), 0)
        lengths = np.minimum(size, most)
        offsets = offsets_of(lengths)
        items, times, signals = (np.empty(offsets[-1], dtype) for dtype in (np.int64, np.int64, np.uint32))
        _gather(start.take(users, mode="clip") + size - lengths, offsets, self._items, self._times, self._signals, items, times, signals)
        return items, times, signals, offsets

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(column.nbytes for column in self._columns()) + 3 * 8 * len(self._start)


@njit(cache=True, nogil=True)
def _gather(start, offsets, items, times, signals, items_out, times_out, signals_out):  # type: ignore[no-untyped-def]
    for b in range(len(start)):
        for n in range(offsets[b], offsets[b + 1]):
            place = start[b] + n - offsets[b]
            items_out[n] = items[place]
            times_out[n] = times[place]
            signals_out[n] = signals[place]
