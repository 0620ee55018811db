"""Sheet: static columns of a live catalogue, encoded once and kept by row, so that a request only gathers.

Readers take no lock. A refresh encodes the rows that changed; when the catalogue outgrows the arrays, larger ones take their place at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from palate.candidates import Ints
from palate.features.kinds import Column, Static, Timed
from palate.state.catalogue import Catalogue


class Sheet:
    """Columns by feature name, ``[capacity, ...]``. Rows that the catalogue has not filled, and the last (row -1), read as a stranger."""

    def __init__(self, transforms: Sequence[Static], catalogue: Catalogue) -> None:
        self.transforms = tuple(transforms)
        self.catalogue = catalogue
        self.columns: dict[str, Column] = {}
        self._lock = threading.Lock()
        self._version = catalogue.version
        self._fill(len(catalogue))

    def __len__(self) -> int:
        return len(self.catalogue)

    def gather(self, rows: Ints) -> dict[str, Column]:
        """The columns of these rows ``[N]`` as fresh arrays ``[N, ...]``; -1 is a stranger."""
        columns = self.current()
        try:
            return {name: column.take(rows, 0) for name, column in columns.items()}
        except IndexError:
            raise IndexError(f"the catalogue of {self.catalogue.name} has no row {int(np.max(rows))}: it has {len(self)}") from None

    def current(self) -> dict[str, Column]:
        """The columns ``[capacity, ...]``, after taking in what changed in the catalogue."""
        if self.catalogue.version != self._version:
            with self._lock:
                self._refresh()
        return self.columns

    def everything(self) -> dict[str, Column]:
        """The columns of all rows of the catalogue, in order."""
        columns, size = self.current(), len(self)
        return {name: column[:size] for name, column in columns.items()}

    def _refresh(self) -> None:
        version = self.catalogue.version  # first: what changes from here on is taken in the next time
        changed = self.catalogue.changed_since(self._version)
        if len(changed):
            size = int(changed[-1]) + 1
            if 4 * len(changed) > size > 64:
                self._fill(max(size, len(self.catalogue)))
            else:
                self._grow(size)
                known = [self.catalogue.attributes(row) for row in changed.tolist()]
                for transform in self.transforms:
                    if transform.attribute == "id":
                        values: list[Any] = [self.catalogue.ids[row] for row in changed.tolist()]
                    else:
                        values = [attributes.get(transform.attribute) for attributes in known]
                    for feature, column in zip(transform.names(), transform.encode(values), strict=True):
                        self.columns[feature][changed] = column
        self._version = version

    def _fill(self, size: int) -> None:
        """Everything anew."""
        room = size + size // 4 + 64
        columns = {}
        for transform in self.transforms:
            values = self._values(transform.attribute, size)
            for name, column, stranger in zip(transform.names(), transform.encode(values), transform.encode([None]), strict=True):
                columns[name] = _padded(column, stranger, room)
        self.columns = columns

    def _grow(self, size: int) -> None:
        if any(len(column) <= size for column in self.columns.values()):
            room = size + size // 4 + 64
            self.columns = {name: _padded(column[:-1], column[-1:], room) for name, column in self.columns.items()}

    def _values(self, attribute: str, size: int) -> list[Any]:
        if attribute == "id":
            return self.catalogue.ids[:size]
        if attribute not in self.catalogue.attribute_names:
            return [None] * size
        return self.catalogue.column(attribute)[:size]


class Lookups:
    """What timed transforms look up by row of the catalogues: each of their ``lookups()`` once, of two of one name the wider."""

    def __init__(self, timed: Iterable[Timed], users: Catalogue, items: Catalogue) -> None:
        self._by_name: dict[str, Static] = {}
        for one in (one for transform in timed for one in transform.lookups()):
            known = self._by_name.get(one.feature_name)
            if known is None or getattr(known, "width", 0) < getattr(one, "width", 0):
                self._by_name[one.feature_name] = one
        self._users, self._items = (
            Sheet([one for one in self._by_name.values() if one.owner == owner], of) for owner, of in (("user", users), ("item", items))
        )

    @property
    def items(self) -> dict[str, Column]:
        """Columns ``[capacity, ...]`` by row of the items; the last is a stranger's."""
        return self._items.current()

    @property
    def users(self) -> dict[str, Column]:
        """Columns ``[capacity, ...]`` by row of the users; the last is a stranger's."""
        return self._users.current()

    @property
    def created(self) -> Ints:
        """When each item came into the catalogue, ms, 0 unknown."""
        return self._items.catalogue.created

    def everything(self) -> dict[str, Column]:
        """Columns of all items of the catalogue, in order."""
        return self._items.everything()

    def lookup(self, name: str) -> Static:
        return self._by_name[name]


def _padded(column: Column, stranger: Column, room: int) -> Column:
    out = np.empty((room, *column.shape[1:]), column.dtype)
    out[: len(column)] = column
    out[len(column) :] = stranger
    return out
