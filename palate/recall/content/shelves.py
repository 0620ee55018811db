"""Items by the values of one attribute, live: an inverted index of the most taken. What Tag, Followed and SimilarAuthors have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from palate.candidates import Floats, Ints, Request
from palate.index.topk import Doubles, distinct
from palate.recall.content.lists import Lists
from palate.schema import nearest
from palate.state.catalogue import Catalogue


def known(catalogue: Catalogue, attribute: str) -> str:
    """The attribute, if the catalogue has it (an empty one may get it yet); else ValueError."""
    if len(catalogue) and attribute not in catalogue.attribute_names:
        raise ValueError(f"the catalogue of {catalogue.name} has no attribute {attribute!r}{nearest(attribute, catalogue.attribute_names)}")
    return attribute


class Shelves:
    """One shelf for each value that ``attribute`` has, by its place in ``places``; of each the ``most`` most taken items are held (0: all), the
    ``newest`` latest made, and every one that came after fitting (its row is beyond ``popularity``). An item is worth ``ln(2 + popularity)``.

    ``refresh`` brings them up to the catalogue's version. Not for more than one thread at a time: who shares them holds a lock.
    """

    def __init__(self, catalogue: Catalogue, attribute: str, popularity: Floats, most: int, newest: int = 0, values: Iterable[Any] = ()) -> None:
        self.catalogue, self.attribute, self.popularity, self.most, self.newest = catalogue, attribute, popularity, most, newest
        self.places: dict[Any, int] = {value: place for place, value in enumerate(values)}
        self.values_of, self.items_of = Lists(), Lists()  # of an item, of a shelf
        self._version = -1

    def refresh(self) -> None:
        """Only changed items and the values they had or have are looked at."""
        catalogue, version = self.catalogue, self.catalogue.version
        if version == self._version:
            return
        n = len(catalogue)  # a writer may be at work: rows from here on belong to the next version
        changed = np.arange(n) if self._version < 0 else catalogue.changed_since(self._version)
        column = catalogue.column(self.attribute) if self.attribute in catalogue.attribute_names else []
        stale: set[int] = set()
        self.values_of.size(n, 0)
        for row in changed[changed < n].tolist():
            value = column[row] if row < len(column) else None
            values = list(dict.fromkeys(value)) if isinstance(value, list) else [] if value is None else [value]
            places = [self.places.setdefault(one, len(self.places)) for one in values]
            if self._version >= 0:
                stale.update(self.values_of.columns_of(row).tolist())
            stale.update(places)
            self.values_of.put(row, np.array(places, np.int32), np.ones(len(places), np.float32))
        names = list(self.places)
        for place in stale:
            rows = catalogue.having(self.attribute, names[place])
            self.items_of.put(place, *self._held(rows[rows < n]))
        self.values_of.size(n, len(self.places))
        self.items_of.size(len(self.places), n)
        self._version = version

    def _held(self, rows: Ints) -> tuple[np.ndarray[Any, Any], Floats]:
        worth = self.worth(rows)
        if 0 < self.most < len(rows):
            kept = np.argsort(-worth, kind="stable")[: self.most]
            kept = np.union1d(kept, np.flatnonzero(rows >= len(self.popularity)))
            if self.newest:
                kept = np.union1d(kept, np.argsort(-self.catalogue.created[rows], kind="stable")[: self.newest])
            rows, worth = rows[kept], worth[kept]
        return rows.astype(np.int32), worth

    def worth(self, rows: Ints) -> Floats:
        """``ln(2 + popularity)`` of each item, float32; 0 was the popularity of those that came after fitting."""
        popularity = np.zeros(len(rows), np.float32)
        fitted = rows < len(self.popularity)
        popularity[fitted] = self.popularity[rows[fitted]]
        return np.log(2 + popularity)

    def shares(self, request: Request, most: int, half_life: float = 0.0, min_value: float = -np.inf) -> tuple[Ints, Ints, Doubles]:
        """The ``most`` shelves that each history's items stand on oftenest, with their shares in all that these stand on: a query of a ``Table``."""
        offsets, items, weights = distinct(request.histories, request.now, self.values_of.rows, half_life=half_life, min_value=min_value)
        every = self.values_of.table.best(offsets, items, weights, len(self.places))
        totals = np.bincount(every.requests, weights=every.scores, minlength=len(request))
        top = every.top(most)
        return top.offsets, top.items, top.scores / totals[top.requests]
