"""Attribute values of catalogue rows as arrays that a compiled loop can read; they follow the catalogue as it changes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Request
from palate.schema import nearest
from palate.state.catalogue import Catalogue

MOST_VALUES = 32  #: values of one item that count; further ones are left out


def page_length(request: Request) -> int:
    """How many places the page has, 0 where nobody said: the whole list."""
    return int(request.parameters.get("k", 0) or 0)


def check_attribute(catalogue: Catalogue, attribute: str) -> None:
    """ValueError for an attribute that no item has, unless the catalogue is still empty."""
    if not attribute:
        raise ValueError("attribute must name a column of the items")
    if len(catalogue) and attribute not in catalogue.attribute_names:
        raise ValueError(f"{catalogue.name} have no attribute {attribute!r}{nearest(attribute, catalogue.attribute_names)}")


class Follower:
    """An array over catalogue rows, brought up to date when it is read. ``make(values of rows)`` is what a kind of array adds."""

    def __init__(self, catalogue: Catalogue, attribute: str) -> None:
        check_attribute(catalogue, attribute)
        self.catalogue = catalogue
        self.attribute = attribute
        self._version = -1
        self._refreshing = threading.Lock()

    def _refresh(self) -> None:
        if self.catalogue.version == self._version:
            return
        with self._refreshing:
            version = self.catalogue.version
            if version == self._version:
                return
            known = self.attribute in self.catalogue.attribute_names
            column = self.catalogue.column(self.attribute) if known else []
            size = len(self.catalogue)
            rows = np.arange(size) if self._version < 0 else self.catalogue.changed_since(self._version)
            self._write(rows[rows < size], [column[row] if row < len(column) else None for row in rows if row < size], size)
            self._version = version

    def _write(self, rows: NDArray[np.int64], values: list[Any], size: int) -> None:
        raise NotImplementedError


def _grown(array: NDArray[Any], rows: int, width: int, empty: float) -> NDArray[Any]:
    """A copy with room for ``rows`` x ``width``; readers of the old one are not disturbed."""
    grown = np.full((max(rows, 2 * len(array) if rows > len(array) else len(array)), max(width, array.shape[1])), empty, array.dtype)
    grown[: len(array), : array.shape[1]] = array
    return grown


class Tags(Follower):
    """Values as codes: int32 ``[rows, W]``, each item's distinct values first, then -1. A number counts as one value."""

    def __init__(self, catalogue: Catalogue, attribute: str) -> None:
        super().__init__(catalogue, attribute)
        self._codes = np.full((0, 1), -1, np.int32)
        self._values: dict[Any, int] = {}

    def codes(self) -> tuple[NDArray[np.int32], int]:
        """The table, and how many distinct values there are."""
        self._refresh()
        return self._codes, len(self._values)

    def _write(self, rows: NDArray[np.int64], values: list[Any], size: int) -> None:
        encoded = []
        for value in values:
            many = value if isinstance(value, list) else () if value is None else (value,)
            encoded.append(list(dict.fromkeys(self._values.setdefault(one, len(self._values)) for one in many))[:MOST_VALUES])
        width = max((len(one) for one in encoded), default=1)
        if size > len(self._codes) or width > self._codes.shape[1]:
            self._codes = _grown(self._codes, size, width, -1)
        for row, one in zip(rows, encoded, strict=True):
            self._codes[row, : len(one)] = one
            self._codes[row, len(one) :] = -1


class Vectors(Follower):
    """Lists of numbers as unit vectors: float32 ``[rows, D]``; an item without one, or of another length, is the zero vector."""

    def __init__(self, catalogue: Catalogue, attribute: str) -> None:
        super().__init__(catalogue, attribute)
        self._vectors = np.zeros((0, 1), np.float32)
        self._dim = 0

    def vectors(self) -> NDArray[np.float32]:
        self._refresh()
        return self._vectors

    def _write(self, rows: NDArray[np.int64], values: list[Any], size: int) -> None:
        good = [value if isinstance(value, list) and value and not isinstance(value[0], str) else None for value in values]
        self._dim = self._dim or next((len(value) for value in good if value is not None), 0)
        if size > len(self._vectors) or max(1, self._dim) > self._vectors.shape[1]:
            self._vectors = _grown(self._vectors, size, max(1, self._dim), 0.0)
        for row, value in zip(rows, good, strict=True):
            self._vectors[row] = unit(np.asarray(value, np.float32)[None])[0] if value is not None and len(value) == self._dim else 0.0


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length one, float32; zero rows stay zero."""
    vectors = np.asarray(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
