"""Content: items whose attributes resemble those of the items a user liked.

Pazzani, Billsus, "Content-Based Recommendation Systems", The Adaptive Web, 2007.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import Candidates, Floats, Ints, Ragged, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.retrievers import FromHistory
from palate.recall.content.lists import Lists
from palate.recall.content.shelves import known
from palate.recall.content.vectors import Vectors
from palate.state.catalogue import Catalogue


class Content(FromHistory):
    """``score(s)`` = cosine of s's vector and the user's profile, the weighted mean of the vectors of the known history's items.

    An item's vector (``content.vectors``): tags and categories by TF-IDF, numbers by where they lie, TF-IDF of the words of each column
    in ``text``; each attribute given weighs the same. ``attributes`` empty: all that are not in ``text``. A history item weighs 1, or with
    ``weighted`` its event's value, halved in ``half_life_days`` (0: never); events below ``min_value`` are not liked and do not count.
    The catalogue is read live: a new item, changed attributes or a withdrawal counts at the next request (vocabularies stay as fitted).
    Users and interactions are not looked at. A history without a known attribute gets no candidates.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        attributes: tuple[str, ...] = (),
        text: tuple[str, ...] = (),
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
    ) -> None:
        super().__init__(weighted, half_life_days, min_value)
        for name in (*attributes, *text):
            known(catalogue, name)
        self.catalogue, self.attributes, self.text = catalogue, attributes, text
        self._vectors: Vectors | None = None
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        names = self.attributes or tuple(name for name in self.catalogue.attribute_names if name not in self.text)
        return self._set(Vectors.fitted(self.catalogue, names, self.text))

    def _set(self, vectors: Vectors) -> Self:
        self._vectors, self._version = vectors, -1
        return self

    @property
    def vectors(self) -> Vectors:
        """What was fitted: how an item becomes a vector."""
        if self._vectors is None:
            raise RuntimeError("this Content is not fitted")
        return self._vectors

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"vectors": self.vectors.to_array()}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(Vectors.from_array(arrays["vectors"]))

    def _refresh(self) -> None:
        """Bring vectors and postings up to the catalogue's version."""
        vectors, catalogue, version = self.vectors, self.catalogue, self.catalogue.version
        if version == self._version:
            return
        n = len(catalogue)  # a writer may be at work: rows from here on belong to the next version
        read = vectors.reader(catalogue)
        if self._version < 0:
            self._fill([read(row) for row in range(n)])
        else:
            changed = catalogue.changed_since(self._version)
            for row in changed[changed < n].tolist():
                self._change(row, *read(row))
        self._version = version

    def _fill(self, encoded: list[tuple[np.ndarray[Any, Any], Floats]]) -> None:
        n, width = len(encoded), self.vectors.width
        lengths = np.array([len(columns) for columns, _ in encoded], np.int64)
        columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in encoded)])
        values = np.concatenate([np.empty(0, np.float32), *(values for _, values in encoded)])
        self._of_items = Lists.of(lengths, columns, values, width)
        order = np.argsort(columns, kind="stable")
        rows = np.repeat(np.arange(n, dtype=np.int32), lengths)[order]
        self._of_terms = Lists.of(np.bincount(columns, minlength=width), rows, values[order], n)

    def _change(self, row: int, columns: np.ndarray[Any, Any], values: Floats) -> None:
        self._of_terms.size(0, row + 1)
        for column in self._of_items.columns_of(row).tolist():
            self._of_terms.clear(column, row)
        self._of_items.put(row, columns, values)
        for column, value in zip(columns.tolist(), values.tolist(), strict=True):
            self._of_terms.append(column, row, value)

    def _like(self, offsets: Ints, terms: Ints, weights: np.ndarray[Any, Any], k: int, exclude: Ragged | None) -> Candidates:
        lengths = np.sqrt(np.bincount(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), weights**2, len(offsets) - 1))
        found = self._of_terms.table.best(offsets, terms, weights, k, exclude, self.catalogue.available)
        return Candidates(found.items, (found.scores / lengths[found.requests]).astype(np.float32), found.offsets)

    def retrieve(self, request: Request, k: int) -> Candidates:
        with self._lock:
            self._refresh()
            profile = self._of_items.table.best(*self.read(request, self._of_items.rows), self.vectors.width)
            return self._like(profile.offsets, profile.items, profile.scores.astype(np.float64), k, request.exclude)

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """Items whose vectors point the same way: int64 rows and cosines, best first."""
        with self._lock:
            self._refresh()
            terms = self._of_items.columns_of(item) if item >= 0 else np.empty(0, np.int32)
            values = self._of_items.values_of(item) if item >= 0 else np.empty(0, np.float32)
            found = self._like(offsets_of([len(terms)]), terms.astype(np.int64), values.astype(np.float64), k, Ragged.of([[item]]))
            return found.items, found.scores
