"""Sparse rows that change one at a time: the live half of Tag and Content."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Floats, Ints, offsets_of
from palate.index.topk import Table


class Lists:
    """Rows of (column, value) in one arena; a row that grows moves to its end, so a change costs no more than the row.

    ``table`` is the current state for scoring. Not for more than one thread at a time: who shares it holds a lock.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._used = 0
        self._room: Ints = np.empty(0, np.int64)
        self.table = Table(np.empty(0), np.empty(0), np.empty(0), np.empty(0), 0)

    @classmethod
    def of(cls, lengths: Ints, columns: NDArray[np.int32], values: Floats, width: int) -> Lists:
        """All rows at once: row r is the next ``lengths[r]`` entries."""
        made = cls()
        offsets = offsets_of(lengths)
        made.rows, made._used, made._room = len(lengths), len(columns), np.array(lengths, np.int64)
        made.table = Table(offsets[:-1], offsets[1:].copy(), columns, values, width)
        return made

    def size(self, rows: int, width: int) -> None:
        """At least so many rows (new ones are empty) and columns."""
        table = self.table
        table.n = max(table.n, width)
        if rows > len(table.starts):
            more = max(rows - len(table.starts), len(table.starts) // 2)
            none = np.zeros(more, np.int64)
            self._room = np.concatenate([self._room, none])
            table.starts, table.stops = np.concatenate([table.starts, none]), np.concatenate([table.stops, none])
        self.rows = max(self.rows, rows)

    def columns_of(self, row: int) -> NDArray[np.int32]:
        """Columns of one row (a view); none for a row that is not there."""
        return self.table.columns[self.table.starts[row] : self.table.stops[row]] if row < self.rows else self.table.columns[:0]

    def values_of(self, row: int) -> Floats:
        """Values of one row (a view)."""
        return self.table.values[self.table.starts[row] : self.table.stops[row]] if row < self.rows else self.table.values[:0]

    def put(self, row: int, columns: NDArray[np.int32], values: Floats) -> None:
        """Row ``row`` holds exactly these from now on."""
        self.size(row + 1, 0)
        size = len(columns)
        if size > self._room[row]:
            self._move(row, size + size // 4)
        start = self.table.starts[row]
        self.table.columns[start : start + size] = columns
        self.table.values[start : start + size] = values
        self.table.stops[row] = start + size

    def append(self, row: int, column: int, value: float) -> None:
        """One more entry at the row's end."""
        self.size(row + 1, column + 1)
        columns, values = self.columns_of(row), self.values_of(row)
        if len(columns) == self._room[row]:
            self._move(row, max(4, 2 * len(columns)))
            start = self.table.starts[row]
            self.table.columns[start : start + len(columns)] = columns
            self.table.values[start : start + len(columns)] = values
            self.table.stops[row] = start + len(columns)
        stop = self.table.stops[row]
        self.table.columns[stop], self.table.values[stop] = column, value
        self.table.stops[row] = stop + 1

    def clear(self, row: int, column: int) -> None:
        """The row gives nothing to this column any more."""
        columns, values = self.columns_of(row), self.values_of(row)
        kept = columns != column
        size = np.count_nonzero(kept)
        columns[:size], values[:size] = columns[kept], values[kept]
        self.table.stops[row] -= len(columns) - size

    def _move(self, row: int, room: int) -> None:
        """A place of ``room`` entries at the end of the arena; the row's content is for the caller to write."""
        table = self.table
        if self._used + room > len(table.columns):
            more = max(room, len(table.columns) // 2)
            table.columns = np.concatenate([table.columns, np.zeros(more, np.int32)])
            table.values = np.concatenate([table.values, np.zeros(more, np.float32)])
        table.starts[row] = table.stops[row] = self._used
        self._room[row] = room
        self._used += room
