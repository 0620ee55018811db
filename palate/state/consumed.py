"""Which items each user ever had an event with: exactly, in 4 bytes a pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints, offsets_of


def distinct(values: Ints) -> Ints:
    """Each value once, ascending. Sorting is a hundred times faster here than the hash table of ``np.unique``."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


class Consumed:
    """Distinct items by user. What is loaded stands in one array; what comes later in a small sorted array a user."""

    def __init__(self) -> None:
        self._items: NDArray[np.int32] = np.empty(0, np.int32)
        self._offsets: Ints = np.zeros(1, np.int64)
        self._later: dict[int, NDArray[np.int32]] = {}
        self._forgotten: set[int] = set()

    def load(self, users: Ints, items: Ints) -> None:
        """Fills from many events; rows of -1 are left out."""
        known = (users >= 0) & (items >= 0)
        wide = np.int64(items.max(initial=0)) + 1
        pairs = distinct(users[known] * wide + items[known])
        self._items = (pairs % wide).astype(np.int32)
        self._offsets = offsets_of(np.bincount(pairs // wide))

    def _loaded(self, user: int) -> NDArray[np.int32]:
        if not 0 <= user < len(self._offsets) - 1 or user in self._forgotten:
            return self._items[:0]
        return self._items[self._offsets[user] : self._offsets[user + 1]]

    def add(self, user: int, item: int) -> None:
        """One more event of ``user`` with ``item``."""
        if user < 0 or item < 0:
            return
        loaded = self._loaded(user)
        place = int(np.searchsorted(loaded, item))
        if place < len(loaded) and loaded[place] == item:
            return
        later = self._later.get(user)
        if later is None:
            self._later[user] = np.array([item], np.int32)
            return
        place = int(np.searchsorted(later, item))
        if place == len(later) or later[place] != item:
            self._later[user] = np.insert(later, place, item)

    def of(self, user: int) -> Ints:
        """Items of ``user``, each once, int64."""
        later = self._later.get(user)
        loaded = self._loaded(user)
        return (loaded if later is None else np.concatenate([loaded, later])).astype(np.int64)

    def forget(self, user: int) -> None:
        """Removes all of a user, bytes included."""
        self._loaded(user)[:] = 0
        self._later.pop(user, None)
        self._forgotten.add(user)

    @property
    def nbytes(self) -> int:
        return self._items.nbytes + self._offsets.nbytes + sum(200 + later.nbytes for later in self._later.values())
