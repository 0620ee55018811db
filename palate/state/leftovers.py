"""Leftovers: what rankings held beyond the page, so that a ranker's work on what found no place on the page is not lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.candidates import Ints, Leftovers, offsets_of

_NOTHING = (np.empty(0, np.int64),) * 3


class Left:
    """Of each user at most ``kept`` items that were ranked and not shown, the latest ranking's first. Not locked: its owner is."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._of: dict[int, tuple[Ints, Ints, Ints]] = {}  # items, places, times

    def add(self, user: int, left: Ints, shown: Ints, now: int) -> None:
        """A page: what its ranking had beyond it, best first, and what stood on it, which is left over no more."""
        if user < 0 or not self.kept:
            return
        items, places, times = self._of.get(user, _NOTHING)
        stays = ~np.isin(items, np.concatenate((left, shown)))
        fresh = left[(left >= 0) & ~np.isin(left, shown)][: self.kept]
        rows = np.concatenate((fresh, items[stays]))[: self.kept]
        since = np.concatenate((np.full(len(fresh), now), times[stays]))[: self.kept]
        self._of[user] = rows, np.concatenate((np.arange(len(fresh)), places[stays]))[: self.kept], since

    def forget(self, user: int) -> None:
        self._of.pop(user, None)

    def of(self, users: Sequence[int]) -> Leftovers:
        """What is left over for these users ``[B]``."""
        mine = [self._of.get(user, _NOTHING) for user in users]
        items, places, times = (np.concatenate(column) for column in zip(_NOTHING, *mine, strict=True))
        return Leftovers(items, places, times, offsets_of([len(one[0]) for one in mine]))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(300 + 24 * len(items) for items, _, _ in self._of.values())
