"""Tag: the tags a user takes most, and the popular items of each: an inverted index from tag to items."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import DAY, Candidates, Floats, Ints, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import distinct, flat
from palate.recall.content.lists import Lists
from palate.schema import nearest
from palate.state.catalogue import Catalogue


class Tag:
    """``score(s) = sum over the user's top ``tags`` that s has of share(tag) * ln(2 + popularity(s))``.

    A tag's share is how often the known history's items have it, over all that they have; each item counts 1, halved in
    ``half_life_days`` (0: never), and not at all where its event's value is below ``min_value``. Of each tag the ``per_tag`` most popular
    items are held (0: all), and every item newer than the fit. The catalogue is read live: a new item, a changed tag or a withdrawal
    counts at the next request. A history without a tag gets no candidates.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        attribute: str = "genres",
        tags: int = 3,
        per_tag: int = 2000,
        half_life_days: float = 0.0,
        min_value: float | None = None,
    ) -> None:
        if tags < 1:
            raise ValueError(f"tags must be at least 1, not {tags}")
        if len(catalogue) and attribute not in catalogue.attribute_names:
            raise ValueError(f"the catalogue of {catalogue.name} has no attribute {attribute!r}{nearest(attribute, catalogue.attribute_names)}")
        self.catalogue, self.attribute, self.tags, self.per_tag, self.half_life_days = catalogue, attribute, tags, per_tag, half_life_days
        self.min_value = -np.inf if min_value is None else min_value
        self._popularity: Floats | None = None
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        return self._set(np.bincount(interactions.items, minlength=interactions.n_items).astype(np.float32))

    def _set(self, popularity: Floats) -> Self:
        self._popularity, self._version = popularity, -1
        self._places: dict[Any, int] = {}  # tag -> row of the inverted index
        self._tags_of, self._items_of = Lists(), Lists()
        return self

    @property
    def popularity(self) -> Floats:
        """How many users took each item, float32 ``[I]``."""
        if self._popularity is None:
            raise RuntimeError("this Tag is not fitted")
        return self._popularity

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"popularity": self.popularity}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["popularity"], np.float32))

    def _refresh(self) -> None:
        """Bring both indexes up to the catalogue's version; only changed items and the tags they had or have are looked at."""
        catalogue, version = self.catalogue, self.catalogue.version
        if version == self._version:
            return
        n = len(catalogue)  # a writer may be at work: rows from here on belong to the next version
        changed = np.arange(n) if self._version < 0 else catalogue.changed_since(self._version)
        column = catalogue.column(self.attribute) if self.attribute in catalogue.attribute_names else []
        stale: set[int] = set()
        self._tags_of.size(n, 0)
        for row in changed[changed < n].tolist():
            value = column[row] if row < len(column) else None
            tags = list(dict.fromkeys(value)) if isinstance(value, list) else [] if value is None else [value]
            places = [self._places.setdefault(tag, len(self._places)) for tag in tags]
            if self._version >= 0:
                stale.update(self._tags_of.columns_of(row).tolist())
            stale.update(places)
            self._tags_of.put(row, np.array(places, np.int32), np.ones(len(places), np.float32))
        names = list(self._places)
        for place in stale:
            rows = catalogue.having(self.attribute, names[place])
            rows = rows[rows < n]
            worth = self._worth(rows)
            if 0 < self.per_tag < len(rows):
                known = len(self.popularity)
                kept = np.argsort(-worth, kind="stable")[: self.per_tag]
                kept = np.union1d(kept, np.flatnonzero(rows >= known))
                rows, worth = rows[kept], worth[kept]
            self._items_of.put(place, rows.astype(np.int32), worth)
        self._tags_of.size(n, len(self._places))
        self._items_of.size(len(self._places), n)
        self._version = version

    def _worth(self, rows: Ints) -> Floats:
        popularity = np.zeros(len(rows), np.float32)
        known = rows < len(self.popularity)
        popularity[known] = self.popularity[rows[known]]
        return np.log(2 + popularity)

    def retrieve(self, request: Request, k: int) -> Candidates:
        if self._popularity is None:
            raise RuntimeError("this Tag is not fitted")
        with self._lock:
            self._refresh()
            half_life, n = self.half_life_days * DAY, self._tags_of.rows
            query = distinct(request.histories, request.now, n, half_life=half_life, min_value=self.min_value)
            top = self._tags_of.table.best(*query, len(self._places))
            totals = np.bincount(top.requests, weights=top.scores, minlength=len(request))
            top = top.top(self.tags)
            shares = top.scores / totals[top.requests]
            return self._items_of.table.best(top.offsets, top.items, shares, k, request.exclude, self.catalogue.available)
