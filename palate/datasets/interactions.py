"""Interactions: who took what, as sparse rows both ways. The training set of every model without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from palate.candidates import Floats, Ints
from palate.schema import nearest
from palate.state.rows import EventRows


@dataclass(frozen=True)
class Interactions:
    """A sparse users x items matrix in CSR form, one entry for each pair; items of a user ascend by row.

    ``offsets`` int64 ``[U + 1]``, ``items`` int64 ``[E]``, ``values`` float32 ``[E]`` (strength of the pair), ``times`` int64 ``[E]`` (ms
    of the pair's last event), ``n_items`` the catalogue's size at fitting, ``now`` ms: the moment up to which events were used. ``signals`` uint32
    ``[E]`` are the bits of all signals that the pair's events showed, ``names`` what they are called; None and () where it is not known.
    """

    offsets: Ints
    items: Ints
    values: Floats
    times: Ints
    n_items: int
    now: int = 0
    signals: NDArray[np.uint32] | None = None
    names: tuple[str, ...] = ()

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def matrix(self) -> csr_matrix:
        """float32 ``[U, I]``."""
        return csr_matrix((self.values, self.items, self.offsets), shape=(self.n_users, self.n_items))

    @cached_property
    def by_item(self) -> Interactions:
        """The transpose: ``offsets`` over items, ``items`` holding user rows (ascending)."""
        order = np.argsort(self.items, kind="stable")
        users = np.repeat(np.arange(self.n_users, dtype=np.int64), np.diff(self.offsets))
        offsets = np.zeros(self.n_items + 1, np.int64)
        np.cumsum(np.bincount(self.items, minlength=self.n_items), out=offsets[1:])
        signals = None if self.signals is None else self.signals[order]
        return Interactions(offsets, users[order], self.values[order], self.times[order], self.n_users, self.now, signals, self.names)

    @classmethod
    def empty(cls, n_users: int, n_items: int) -> Interactions:
        """Of so many users and items, nothing taken."""
        none = np.empty(0, np.int64)
        return cls(np.zeros(n_users + 1, np.int64), none, np.empty(0, np.float32), none, n_items)

    @classmethod
    def of(cls, rows: EventRows, n_users: int, n_items: int, *, weighted: bool = False, now: int | None = None) -> Interactions:
        """From events: repeated pairs become one entry whose time is the last one's.

        ``values`` are 1; or with ``weighted`` the last value, and events without one are left out: a click is no rating of 1. So are rows of -1.
        """
        known = (rows.users >= 0) & (rows.items >= 0)
        if weighted:
            known &= ~np.isnan(rows.values)
        users, items, times, values = rows.users[known], rows.items[known], rows.times[known], rows.values[known]
        key = users * np.int64(max(n_items, 1)) + items
        order = np.argsort(key, kind="stable")  # rows are in order of time, so the last of a run is the latest
        key = key[order]
        last = np.ones(len(key), bool)
        last[:-1] = key[1:] != key[:-1]
        chosen = order[last]
        offsets = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users[chosen], minlength=n_users), out=offsets[1:])
        strength = values[chosen].astype(np.float32) if weighted else np.ones(len(chosen), np.float32)
        if now is None:
            now = int(times[-1]) + 1 if len(times) else 0
        shown = np.bitwise_or.reduceat(rows.signals[known][order], np.flatnonzero(np.roll(last, 1))) if len(order) else np.empty(0, np.uint32)
        return cls(offsets, items[chosen], strength, times[chosen], n_items, now, shown, rows.names)

    def showing(self, name: str) -> NDArray[np.bool_]:
        """Which pairs showed this signal, ``[E]``; ValueError names the nearest one known."""
        if name not in self.names or self.signals is None:
            raise ValueError(f"no signal {name!r} is known of these interactions{nearest(name, self.names)}")
        return (self.signals >> np.uint32(self.names.index(name)) & np.uint32(1)).astype(bool)
