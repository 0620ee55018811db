"""Catalogue: ids to rows, rows to attributes (forward index), attribute values to rows (inverted index).

Rows are int64, given in order of arrival and never reused. One thread writes; readers take no lock: what they see was whole when
it became visible (a row counts in ``len`` only after its attributes are in place).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars
from numpy.typing import NDArray

from palate.candidates import Ints
from palate.schema import nearest

CREATED = "palate.created"  #: column of ``frame()`` that holds the time of creation
AVAILABLE = "palate.available"  #: column of ``frame()`` that holds whether the item may be offered
REMEMBERED = 65_536  #: changes kept one by one, so that asking for the latest costs nothing
MOST_BYTES = 512  #: length of an id in UTF-8

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def id_fault(value: Any) -> str:
    """What is wrong with an id that comes in, or "". An id is a string of 1 to 512 bytes of UTF-8, not of blanks only, without control
    characters."""
    return unfit(value) or ("consists of blanks" if value.isspace() else "")


def unfit(value: Any) -> str:
    """What keeps a value from being an id of a catalogue. Blanks do not: logs of older releases hold such ids, and are read."""
    if not isinstance(value, str):
        return "is missing" if value is None else f"must be a string, not {type(value).__name__}"
    if not value:
        return "is empty"
    if _FORBIDDEN.search(value):
        return "holds a control character or half a character"
    if len(value) * 4 > MOST_BYTES and len(value.encode()) > MOST_BYTES:
        return f"is longer than {MOST_BYTES} bytes"
    return ""


class Posting:
    """Ascending rows that hold one value. Appending is amortised; a view handed out never changes."""

    __slots__ = ("_buffer", "_size")

    def __init__(self, rows: Sequence[int] = ()) -> None:
        self._buffer: Ints = np.array(rows, np.int64)
        self._size = len(self._buffer)

    def rows(self) -> Ints:
        return self._buffer[: self._size]

    def add(self, row: int) -> None:
        size = self._size
        if size and row <= self._buffer[size - 1]:
            place = int(np.searchsorted(self._buffer[:size], row))
            if self._buffer[place] == row:
                return
            self._buffer = np.insert(self._buffer[:size], place, row)
        else:
            if size == len(self._buffer):
                grown = np.empty(max(4, 2 * size), np.int64)
                grown[:size] = self._buffer
                self._buffer = grown
            self._buffer[size] = row
        self._size = size + 1

    def remove(self, row: int) -> None:
        kept = self.rows()
        kept = kept[kept != row]
        self._size = min(self._size, len(kept))  # first, so that a reader never slices past the end
        self._buffer = kept


def _values_of(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


class Catalogue:
    """The items (or the users) that the system knows.

    ``attributes`` are strings, numbers, flags, lists of strings or of numbers, or None; one attribute keeps to one of these kinds.
    """

    def __init__(self, name: str = "items") -> None:
        self.name = name
        self.ids: list[str] = []  #: id of each row; "" where the row was erased
        self.version = 0  #: grows at every change
        self._row: dict[str, int] = {}
        self._size = 0
        self._columns: dict[str, list[Any]] = {}
        self._kinds: dict[str, str] = {}
        self._created = np.zeros(64, np.int64)
        self._available = np.ones(64, bool)
        self._changed = np.zeros(64, np.int64)
        self._recent: list[int] = []  # row of each change after version ``_recent_from``
        self._recent_from = 0
        self._index: dict[str, dict[Any, Posting]] = {}
        self._writing = threading.RLock()

    # ---- reading

    def __len__(self) -> int:
        return self._size

    def __contains__(self, id: object) -> bool:
        return id in self._row

    def row(self, id: str) -> int:
        """The row of ``id``, -1 if it is not known."""
        return self._row.get(id, -1)

    def rows(self, ids: Iterable[str]) -> Ints:
        """Rows of many ids, int64, -1 for those not known."""
        get = self._row.get
        return np.array([get(one, -1) for one in ids], np.int64)

    @property
    def created(self) -> Ints:
        """When each row was made, ms, 0 unknown. ``[n]``"""
        return self._created[: self._size]

    @property
    def available(self) -> NDArray[np.bool_]:
        """False where the item is withdrawn and must never be offered. ``[n]``"""
        return self._available[: self._size]

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def kind(self, attribute: str) -> str:
        """``"text"``, ``"number"``, ``"list"``, or ``""`` while no row has a value."""
        self._known(attribute)
        return self._kinds.get(attribute, "")

    def column(self, attribute: str) -> list[Any]:
        """Raw values of one attribute by row (the live list: do not change it; it may be longer than ``len`` for a moment)."""
        self._known(attribute)
        return self._columns[attribute]

    def attributes(self, row: int) -> dict[str, Any]:
        """Attributes of one row that have a value."""
        if not 0 <= row < self._size:
            return {}
        return {name: column[row] for name, column in list(self._columns.items()) if column[row] is not None}

    def having(self, attribute: str, value: Any) -> Ints:
        """Ascending rows whose ``attribute`` is, or among its list has, ``value``. Int64."""
        found = self._inverted(attribute).get(value)
        return found.rows() if found is not None else np.empty(0, np.int64)

    def values(self, attribute: str) -> list[Any]:
        """Distinct values of an attribute, in the order they were first met."""
        return [value for value, posting in list(self._inverted(attribute).items()) if len(posting.rows())]

    def changed_since(self, version: int) -> Ints:
        """Ascending rows that were added or changed after ``version``."""
        recent, start = self._recent, self._recent_from
        if version >= start:
            return np.unique(np.array(recent[version - start :], np.int64))
        return np.flatnonzero(self._changed[: self._size] > version)

    # ---- writing

    def add(self, id: str, attributes: Mapping[str, Any] | None = None, created: int | None = None) -> int:
        """A row for ``id`` (an id that has one is updated). Raises ValueError for a bad id or attribute."""
        fault = unfit(id)
        if fault:
            raise ValueError(f"id of {self.name}: {id!r:.80} {fault}")
        with self._writing:
            row = self._row.get(id, -1)
            clean = self.checked(attributes or {})
            if row >= 0:
                if clean:
                    self._write(row, clean)
                return row
            row = self._append(id, created or 0, clean)
            self._row[id] = row
            return row

    def update(self, row: int, attributes: Mapping[str, Any]) -> None:
        """Sets the given attributes of a row; the others stay. None takes a value away."""
        with self._writing:
            if not 0 <= row < self._size:
                raise IndexError(f"{self.name} has no row {row}")
            self._write(row, self.checked(attributes))

    def withdraw(self, row: int, available: bool = False) -> None:
        """The item is not to be offered any more (or, with ``available=True``, again)."""
        with self._writing:
            if not 0 <= row < self._size:
                raise IndexError(f"{self.name} has no row {row}")
            self._available[row] = available
            self._note(row)

    def erase(self, row: int) -> None:
        """Forgets id and attributes of a row for good. The row stays, empty and not available; its id may come again, with a new row."""
        with self._writing:
            if not 0 <= row < self._size:
                raise IndexError(f"{self.name} has no row {row}")
            self._row.pop(self.ids[row], None)
            self.ids[row] = ""
            self._available[row] = False
            self._write(row, dict.fromkeys(self._columns))

    def add_erased(self) -> int:
        """A row that belongs to nobody: keeps the rows after an erased one where they were when the log is read again."""
        with self._writing:
            row = self._append("", 0, {})
            self._available[row] = False
            return row

    def checked(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes as they will be kept; ValueError names the first that cannot be."""
        clean = {}
        for name, value in attributes.items():
            if unfit(name) or name in ("id", CREATED, AVAILABLE):
                raise ValueError(f"attribute of {self.name}: {name!r:.80} is not a name that can be used")
            kept, kind = self._value(name, value)
            known = self._kinds.get(name, "")
            if kind and known and kind != known:
                raise ValueError(f"attribute {name!r} of {self.name} holds a {known}, not {value!r:.80}")
            clean[name] = kept
        return clean

    def _value(self, name: str, value: Any) -> tuple[Any, str]:
        if value is None:
            return None, ""
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode(), "text"
        if isinstance(value, (bool, np.bool_)):
            return bool(value), "number"
        if isinstance(value, (int, np.integer)):
            return (int(value) if abs(int(value)) < 2**63 else float(value)), "number"
        if isinstance(value, (float, np.floating)):
            if math.isnan(value):
                return None, ""
            if math.isinf(value):
                raise ValueError(f"attribute {name!r} of {self.name} is not finite")
            return float(value), "number"
        if isinstance(value, (list, tuple, np.ndarray)):
            kept = [self._value(name, one) for one in value]
            if {kind for _, kind in kept} <= {"text"} or {kind for _, kind in kept} <= {"number"}:
                return [one for one, _ in kept], "list"
        raise ValueError(f"attribute {name!r} of {self.name} must be a string, a number or a list of one of them, not {value!r:.80}")

    def _known(self, attribute: str) -> None:
        if attribute not in self._columns:
            raise KeyError(f"{self.name} have no attribute {attribute!r}{nearest(attribute, self._columns)}")

    def _append(self, id: str, created: int, clean: Mapping[str, Any]) -> int:
        row = self._size
        if row == len(self._created):  # grown copies take the place of the old arrays; views of those stay good
            more = max(64, row)
            self._created = np.concatenate([self._created, np.zeros(more, np.int64)])
            self._available = np.concatenate([self._available, np.ones(more, bool)])
            self._changed = np.concatenate([self._changed, np.zeros(more, np.int64)])
        self._created[row] = created
        self.ids.append(id)
        for column in self._columns.values():
            column.append(None)
        self._fill(row, clean, rows=row + 1)
        self._size = row + 1
        self._note(row)
        return row

    def _write(self, row: int, clean: Mapping[str, Any]) -> None:
        self._fill(row, clean, rows=self._size)
        self._note(row)

    def _fill(self, row: int, clean: Mapping[str, Any], rows: int) -> None:
        for name, value in clean.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = [None] * rows
            if value is not None:
                self._kinds.setdefault(name, self._value(name, value)[1])
            index = self._index.get(name)
            if index is not None:
                for one in _values_of(column[row]):
                    index[one].remove(row)
            column[row] = value
            if index is not None:
                for one in _values_of(value):
                    if one not in index:
                        index[one] = Posting()
                    index[one].add(row)

    def _note(self, row: int) -> None:
        self._changed[row] = self.version + 1
        if len(self._recent) >= REMEMBERED:
            half = REMEMBERED // 2
            self._recent, self._recent_from = self._recent[half:], self._recent_from + half
        self._recent.append(row)
        self.version += 1

    def _inverted(self, attribute: str) -> dict[Any, Posting]:
        index = self._index.get(attribute)
        if index is None:
            self._known(attribute)
            with self._writing:  # only the first question about an attribute waits
                index = self._index.get(attribute)
                if index is None:
                    lists: dict[Any, list[int]] = {}
                    for row, value in enumerate(self._columns[attribute]):
                        for one in _values_of(value):
                            lists.setdefault(one, []).append(row)
                    index = self._index[attribute] = {value: Posting(list(dict.fromkeys(rows))) for value, rows in lists.items()}
        return index

    # ---- whole tables

    @classmethod
    def of(cls, frame: polars.DataFrame, name: str = "items", created: Mapping[str, int] | None = None) -> Catalogue:
        """From a table with a column ``id`` and one column an attribute; also what ``frame()`` gave. Raises ValueError."""
        if "id" not in frame.columns:
            raise ValueError(f"table of {name} has no column 'id'{nearest('id', frame.columns)}")
        made = cls(name)
        size = frame.height
        made.ids = ["" if one is None else one for one in frame["id"].cast(polars.String).to_list()]
        made._row = dict(zip(made.ids, range(size), strict=True))
        made._row.pop("", None)
        empty = made.ids.count("")
        if len(made._row) + empty != size:
            repeated = frame.filter(frame["id"].is_duplicated() & (frame["id"].cast(polars.String) != ""))["id"][0]
            raise ValueError(f"table of {name} has the id {repeated!r} more than once")
        for one in made.ids:
            if one and (len(one) > MOST_BYTES // 4 or not one.isprintable()) and (fault := unfit(one)):
                raise ValueError(f"id of {name}: {one!r:.80} {fault}")
        for column in frame.columns:
            if column in ("id", CREATED, AVAILABLE):
                continue
            values, kind = _raw(frame[column])
            made._columns[column] = values
            if kind:
                made._kinds[column] = kind
        room = max(64, size)
        made._created = np.zeros(room, np.int64)
        made._available = np.ones(room, bool)
        made._changed = np.ones(room, np.int64)
        if CREATED in frame.columns:
            made._created[:size] = frame[CREATED].to_numpy()
        if AVAILABLE in frame.columns:
            made._available[:size] = frame[AVAILABLE].to_numpy()
        if created:
            for one, time in created.items():
                row = made.row(one)
                if row >= 0:
                    made._created[row] = time
        if empty:
            made._available[[row for row, one in enumerate(made.ids) if not one]] = False
        made._size = size
        made.version = made._recent_from = 1 if size else 0
        return made

    def frame(self) -> polars.DataFrame:
        """The whole catalogue as a table that ``of`` reads back: ``id``, the attributes, and ``palate.created``, ``palate.available``."""
        with self._writing:
            size = self._size
            columns = [polars.Series("id", self.ids[:size], polars.String)]
            columns += [_series(name, self._kinds.get(name, ""), values[:size]) for name, values in self._columns.items()]
            columns.append(polars.Series(CREATED, self._created[:size].copy()))
            columns.append(polars.Series(AVAILABLE, self._available[:size].copy()))
            return polars.DataFrame(columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids[: self._size])


def _raw(series: polars.Series) -> tuple[list[Any], str]:
    """A table's column as Python values, and its kind."""
    dtype = series.dtype
    if isinstance(dtype, (polars.List, polars.Array)):
        inner = dtype.inner
        if not (inner.is_numeric() or inner in (polars.String, polars.Categorical, polars.Null, polars.Boolean)):
            raise ValueError(f"column {series.name!r} of type {dtype} cannot be an attribute")
        if isinstance(dtype, polars.Array):
            series = series.arr.to_list()
        return series.list.drop_nulls().to_list(), "list"
    if dtype.is_float():
        series = series.fill_nan(None)
        series = series.set(series.is_infinite().fill_null(False), None)
        return series.cast(polars.Float64).to_list(), "number"
    if dtype.is_temporal():
        return series.cast(polars.Datetime("ms")).cast(polars.Int64).to_list(), "number"
    if dtype.is_numeric() or dtype == polars.Boolean:
        return series.to_list(), "number"
    if dtype == polars.Null:
        return [None] * len(series), ""
    if dtype in (polars.String, polars.Categorical, polars.Enum):
        return series.cast(polars.String).to_list(), "text"
    raise ValueError(f"column {series.name!r} of type {dtype} cannot be an attribute")


def _series(name: str, kind: str, values: list[Any]) -> polars.Series:
    given = [value for value in values if value is not None]
    dtype: Any = polars.String
    if kind == "number":
        if any(isinstance(value, float) for value in given):
            dtype, values = polars.Float64, [None if value is None else float(value) for value in values]
        else:
            dtype = polars.Boolean if given and all(isinstance(value, bool) for value in given) else polars.Int64
            if dtype == polars.Int64:
                values = [None if value is None else int(value) for value in values]
    elif kind == "list":
        inner = [one for value in given for one in value[:1]]
        if any(not isinstance(one, str) for one in inner):
            dtype, values = polars.List(polars.Float64), [None if value is None else [float(one) for one in value] for value in values]
        else:
            dtype = polars.List(polars.String)
    elif not kind:
        dtype = polars.Null
    return polars.Series(name, values, dtype)
