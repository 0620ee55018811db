"""What was shown to whom, so that nothing is shown twice within a window. Three filters behind one interface.

``ExactSeen`` forgets nothing and knows each item. ``WindowedBloom`` keeps a fixed number of bits a user: it never lets a shown item
through within the window, and hides an item that was never shown with a small, stated chance (``loss``). ``CountingBloom`` can also
take an item back; it deletes only what it was given, because a Bloom filter alone cannot tell an absent key from a present one.
Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", CACM 1970; Fan et al., "Summary Cache", SIGCOMM 1998 (counting).

Users have a few hundred bytes each in shared arrays: an object of a Bloom library for every user would cost more than its bits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palate.candidates import DAY, Ints
from palate.schema import nearest

WINDOW = 30 * DAY


class SeenFilter(Protocol):
    """One exposure filter for all users. ``now`` in ms; rows are catalogue rows. Not locked: its owner is.

    An item shown at t is contained at every ``now`` with t <= now < t + window.
    """

    window: int

    def show(self, user: int, items: Ints, now: int) -> None: ...

    def contains(self, user: int, items: Ints, now: int) -> NDArray[np.bool_]: ...

    def forget(self, user: int) -> None: ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the filter holds; ``restore`` of a filter with the same options reads it back."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None: ...

    @property
    def nbytes(self) -> int: ...


class SeenBy:
    """The filter as one user sees it at one moment: what a funnel's filter asks."""

    __slots__ = ("_filter", "_lock", "now", "user")

    def __init__(self, filter: SeenFilter, user: int, now: int, lock: AbstractContextManager[Any] | None = None) -> None:
        self._filter, self.user, self.now = filter, user, now
        self._lock = lock or nullcontext()

    def contains(self, items: Ints) -> NDArray[np.bool_]:
        """Whether each of ``items`` ``[N]`` was shown to the user within the window."""
        with self._lock:
            return self._filter.contains(self.user, np.asarray(items, np.int64), self.now)


class _Journal:
    """(item, time of the last show) of every user, items ascending; entries leave when the window has passed."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._kept: dict[int, tuple[Ints, Ints]] = {}
        self._order: deque[tuple[int, int]] = deque()  # (time, user) of every show, so that idle users are cleared too

    def get(self, user: int) -> tuple[Ints, Ints]:
        none = np.empty(0, np.int64)
        return self._kept.get(user, (none, none))

    def add(self, user: int, items: Ints, now: int) -> Ints:
        """Notes the show; returns the items that were not in the journal."""
        mine, times = self.get(user)
        items = np.unique(np.asarray(items, np.int64))
        items = items[items >= 0]
        if not len(items):
            return items
        place = np.searchsorted(mine, items)
        there = place < len(mine)
        there[there] = mine[place[there]] == items[there]
        times = times.copy()  # a reader may hold the old ones
        times[place[there]] = np.maximum(times[place[there]], now)
        fresh: Ints = items[~there]
        self._kept[user] = (np.insert(mine, place[~there], fresh), np.insert(times, place[~there], now))
        self._order.append((now, user))
        return fresh

    def remove(self, user: int, items: Ints) -> Ints:
        """Takes items out; returns those that were in."""
        mine, times = self.get(user)
        gone = np.isin(mine, items)
        if gone.all():
            self._kept.pop(user, None)
        elif gone.any():
            self._kept[user] = (mine[~gone], times[~gone])
        return mine[gone]

    def expired(self, now: int) -> list[tuple[int, Ints]]:
        """Takes out what is older than the window; returns it by user."""
        found = []
        while self._order and self._order[0][0] <= now - self.window:
            _, user = self._order.popleft()
            mine, times = self.get(user)
            old = times <= now - self.window
            if old.any():
                found.append((user, mine[old]))
                if old.all():
                    del self._kept[user]
                else:
                    self._kept[user] = (mine[~old], times[~old])
        return found

    def forget(self, user: int) -> None:
        self._kept.pop(user, None)
        self._order = deque((time, who) for time, who in self._order if who != user)

    def arrays(self) -> dict[str, NDArray[Any]]:
        users = np.repeat(np.array(list(self._kept), np.int64), [len(items) for items, _ in self._kept.values()])
        none = [np.empty(0, np.int64)]
        items = np.concatenate(none + [items for items, _ in self._kept.values()])
        return {"users": users, "items": items, "times": np.concatenate(none + [times for _, times in self._kept.values()])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        order = np.argsort(arrays["times"], kind="stable")
        for user, item, time in zip(*(arrays[name][order].tolist() for name in ("users", "items", "times")), strict=True):
            self.add(user, np.array([item]), time)

    @property
    def nbytes(self) -> int:
        return sum(200 + items.nbytes + times.nbytes for items, times in self._kept.values()) + 80 * len(self._order)


class ExactSeen:
    """Knows every item shown within the window. Memory: 16 bytes a shown item."""

    def __init__(self, window: int = WINDOW) -> None:
        self.window = _checked(window)
        self._journal = _Journal(window)

    def show(self, user: int, items: Ints, now: int) -> None:
        self._journal.add(user, items, now)
        self._journal.expired(now)

    def shown(self, user: int, now: int) -> Ints:
        """Items shown to ``user`` within the window before ``now``, ascending."""
        items, times = self._journal.get(user)
        return items[times > now - self.window] if len(items) else items

    def contains(self, user: int, items: Ints, now: int) -> NDArray[np.bool_]:
        return np.isin(items, self.shown(user, now))

    def forget(self, user: int) -> None:
        self._journal.forget(user)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self._journal.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._journal.restore(arrays)

    @property
    def nbytes(self) -> int:
        return self._journal.nbytes


def _checked(window: int) -> int:
    if window <= 0:
        raise ValueError(f"the window must be longer than 0 ms, not {window}")
    return window


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


class _Shape:
    """Bits and hashes of a Bloom filter for ``capacity`` keys at the false-positive chance ``error``."""

    def __init__(self, capacity: int, error: float) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if not 0 < error < 1:
            raise ValueError(f"error must lie between 0 and 1, not {error}")
        self.bits = 64 * math.ceil(capacity * -math.log(error) / math.log(2) ** 2 / 64)
        self.hashes = max(1, round(self.bits / capacity * math.log(2)))

    def places(self, items: Ints) -> Ints:
        """Bit places of each item, ``[N, hashes]`` (Kirsch and Mitzenmacher's two hashes)."""
        keys = np.asarray(items, np.int64).astype(np.uint64)
        first = _mix(keys + np.uint64(0x9E3779B97F4A7C15))
        second = _mix(keys ^ np.uint64(0xD1B54A32D192ED03)) | np.uint64(1)
        steps = np.arange(self.hashes, dtype=np.uint64)
        return ((first[:, None] + steps * second[:, None]) % np.uint64(self.bits)).astype(np.int64)


class WindowedBloom:
    """``generations`` Bloom filters a user, each for one slice of time; the oldest is cleared and used again as time moves on.

    A shown item stays contained for at least ``window`` and less than ``window * generations / (generations - 1)``. An item never
    shown is hidden with a chance of at most ``error`` while no more than ``capacity`` items are shown to a user in one slice;
    ``loss`` gives the chance for a user as it is. Memory: ``bytes_per_user``, fixed.
    """

    def __init__(self, window: int = WINDOW, capacity: int = 256, error: float = 0.01, generations: int = 4) -> None:
        if generations < 2:
            raise ValueError(f"generations must be at least 2, not {generations}")
        if not 0 < error < 1:
            raise ValueError(f"error must lie between 0 and 1, not {error}")
        self.window = _checked(window)
        self._shape = _Shape(capacity, error / generations)
        self._count = generations
        self._span = max(1, math.ceil(window / (generations - 1)))
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._words = np.zeros((0, generations, self._shape.bits // 64), np.uint64)
        self._stamps = np.full((0, generations), -1, np.int64)  # slice of time that each filter holds

    @property
    def bytes_per_user(self) -> int:
        return (self._shape.bits // 8 + 8) * self._count

    def _slot(self, user: int, now: int) -> int:
        slot = self._slots.get(user)
        if slot is not None:
            return slot
        if not self._free:
            self._reclaim(now)
        if not self._free:
            size = len(self._words)
            more = max(16, size // 2)
            self._words = np.concatenate([self._words, np.zeros((more, *self._words.shape[1:]), np.uint64)])
            self._stamps = np.concatenate([self._stamps, np.full((more, self._count), -1, np.int64)])
            self._free.extend(range(size + more - 1, size - 1, -1))
        slot = self._slots[user] = self._free.pop()
        return slot

    def _reclaim(self, now: int) -> None:
        """Takes back the bits of users who were shown nothing for a window."""
        newest = self._stamps.max(axis=1, initial=-1)
        for user, slot in list(self._slots.items()):
            if newest[slot] <= now // self._span - self._count:
                self.forget(user)

    def show(self, user: int, items: Ints, now: int) -> None:
        items = np.asarray(items, np.int64)
        items = items[items >= 0]
        if not len(items):
            return
        slot = self._slot(user, now)
        stamp = now // self._span
        place = stamp % self._count
        if self._stamps[slot, place] > stamp:
            return  # shown so long ago that the slice is used again: out of the window
        if self._stamps[slot, place] < stamp:
            self._words[slot, place] = 0
            self._stamps[slot, place] = stamp
        bits = self._shape.places(items).ravel()
        np.bitwise_or.at(self._words[slot, place], bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))

    def contains(self, user: int, items: Ints, now: int) -> NDArray[np.bool_]:
        items = np.asarray(items, np.int64)
        slot = self._slots.get(user)
        found = np.zeros(len(items), bool)
        if slot is None or not len(items):
            return found
        bits = self._shape.places(items)
        words, masks = bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64)
        for place in np.flatnonzero(self._stamps[slot] > now // self._span - self._count):
            found |= ((self._words[slot, place][words] & masks) != 0).all(axis=1)
        found[items < 0] = False
        return found

    def loss(self, user: int, now: int) -> float:
        """The chance that an item never shown to this user is hidden now."""
        slot = self._slots.get(user)
        if slot is None:
            return 0.0
        live = self._words[slot][self._stamps[slot] > now // self._span - self._count]
        full = np.unpackbits(live.view(np.uint8), axis=1).sum(axis=1) / self._shape.bits
        return float(1 - np.prod(1 - full**self._shape.hashes))

    def forget(self, user: int) -> None:
        slot = self._slots.pop(user, None)
        if slot is not None:
            self._words[slot] = 0
            self._stamps[slot] = -1
            self._free.append(slot)

    def arrays(self) -> dict[str, NDArray[Any]]:
        slots = np.array(list(self._slots.values()), np.int64)
        return {"users": np.array(list(self._slots), np.int64), "words": self._words[slots], "stamps": self._stamps[slots]}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays["words"].shape[1:] != self._words.shape[1:]:
            raise ValueError(f"saved filters have the shape {arrays['words'].shape[1:]}, these options want {self._words.shape[1:]}")
        self._words, self._stamps = arrays["words"].copy(), arrays["stamps"].copy()
        self._slots = {user: slot for slot, user in enumerate(arrays["users"].tolist())}
        self._free = []

    @property
    def nbytes(self) -> int:
        return self._words.nbytes + self._stamps.nbytes + 150 * len(self._slots)


class CountingBloom:
    """A Bloom filter of 8-bit counters a user, so that a show can be taken back (``remove``) and leaves when its window has passed.

    Only keys of the user's own journal are ever deleted; a counter that reached 255 stays. Chance of hiding an item never shown: at
    most ``error`` while at most ``capacity`` items are in the window.
    """

    def __init__(self, window: int = WINDOW, capacity: int = 256, error: float = 0.01) -> None:
        self.window = _checked(window)
        self._shape = _Shape(capacity, error)
        self._journal = _Journal(window)
        self._counters: dict[int, NDArray[np.uint8]] = {}

    def show(self, user: int, items: Ints, now: int) -> None:
        self._expire(now)
        self._count(user, self._journal.add(user, items, now))
        self._expire(now)  # what was shown too long ago goes at once

    def _count(self, user: int, items: Ints) -> None:
        if not len(items):
            return
        counters = self._counters.get(user)
        if counters is None:
            counters = self._counters[user] = np.zeros(self._shape.bits, np.uint8)
        for places in self._shape.places(items):
            mine = np.unique(places)
            counters[mine] += counters[mine] < 255

    def _uncount(self, user: int, items: Ints) -> None:
        counters = self._counters[user]
        for places in self._shape.places(items):
            mine = np.unique(places)
            counters[mine] -= counters[mine] < 255
        if not len(self._journal.get(user)[0]):
            del self._counters[user]

    def _expire(self, now: int) -> None:
        for user, items in self._journal.expired(now):
            self._uncount(user, items)

    def remove(self, user: int, items: Ints) -> NDArray[np.bool_]:
        """Takes shows back. True for each item that was there; an absent one changes nothing."""
        items = np.asarray(items, np.int64)
        gone = self._journal.remove(user, items)
        if len(gone):
            self._uncount(user, gone)
        return np.isin(items, gone)

    def contains(self, user: int, items: Ints, now: int) -> NDArray[np.bool_]:
        self._expire(now)
        items = np.asarray(items, np.int64)
        counters = self._counters.get(user)
        if counters is None or not len(items):
            return np.zeros(len(items), bool)
        return (counters[self._shape.places(items)] > 0).all(axis=1) & (items >= 0)

    def forget(self, user: int) -> None:
        self._journal.forget(user)
        self._counters.pop(user, None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self._journal.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._journal.restore(arrays)
        self._counters = {}
        for user in dict.fromkeys(arrays["users"].tolist()):
            self._count(user, self._journal.get(user)[0])

    @property
    def nbytes(self) -> int:
        return self._journal.nbytes + len(self._counters) * (self._shape.bits + 200)


def seen_filter(kind: str, window: int = WINDOW, **options: Any) -> SeenFilter:
    """A filter by name: ``exact``, ``bloom`` (rotating windows) or ``counting``."""
    kinds: dict[str, Any] = {"exact": ExactSeen, "bloom": WindowedBloom, "counting": CountingBloom}
    if kind not in kinds:
        raise ValueError(f"no filter of seen items {kind!r}{nearest(kind, kinds)}")
    made: SeenFilter = kinds[kind](window, **options)
    return made
