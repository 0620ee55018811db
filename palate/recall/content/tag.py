"""Tag: the tags a user takes most, and the popular items of each: an inverted index from tag to items."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import DAY, Candidates, Floats, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import flat
from palate.recall.content.shelves import Shelves, known
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
        self.catalogue, self.attribute = catalogue, known(catalogue, attribute)
        self.tags, self.per_tag, self.half_life_days = tags, per_tag, half_life_days
        self.min_value = -np.inf if min_value is None else min_value
        self._shelves: Shelves | None = None
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        return self._set(np.bincount(interactions.items, minlength=interactions.n_items).astype(np.float32))

    def _set(self, popularity: Floats) -> Self:
        self._shelves = Shelves(self.catalogue, self.attribute, popularity, self.per_tag)
        return self

    @property
    def shelves(self) -> Shelves:
        """The inverted index; its ``popularity`` is how many users took each item, float32 ``[I]``."""
        if self._shelves is None:
            raise RuntimeError("this Tag is not fitted")
        return self._shelves

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"popularity": self.shelves.popularity}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["popularity"], np.float32))

    def retrieve(self, request: Request, k: int) -> Candidates:
        shelves = self.shelves
        with self._lock:
            shelves.refresh()
            query = shelves.shares(request, self.tags, self.half_life_days * DAY, self.min_value)
            return shelves.items_of.table.best(*query, k, request.exclude, self.catalogue.available)
