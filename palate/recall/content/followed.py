"""Followed: new and popular items of the authors that a user follows, or took most from."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import DAY, Candidates, Floats, Ints, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import Doubles, flat
from palate.recall.content.shelves import Shelves, known
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue


class Followed:
    """``score(s) = sum over the user's authors of s of weight(author) * (ln(2 + popularity(s)) + fresh * 0.5 ** (age(s) / fresh_days))``.

    The user's authors are those that ``follows`` lists (an attribute of the request or of the user: a name or names of authors; what is none is
    passed over), and the ``authors`` taken from most. The weight is the author's share of the known history, and 1 more for one that is followed:
    so whom a user follows goes before whom a user only takes from. A history item counts 1, halved in ``half_life_days`` (0: never). ``age`` is the
    time since the item was made (where the catalogue knows it); one made just now counts as if e^``fresh`` times as many had taken it. Of each
    author the ``per_author`` most taken and as many newest items are held (0: all). Both catalogues are read live. Nobody followed and nothing
    taken: no candidates.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        askers: Askers | None = None,
        author: str = "author",
        follows: str = "follows",
        authors: int = 5,
        per_author: int = 200,
        fresh: float = 3.0,
        fresh_days: float = 7.0,
        half_life_days: float = 0.0,
    ) -> None:
        if authors < 0 or per_author < 0 or fresh < 0 or fresh_days <= 0:
            raise ValueError("authors, per_author and fresh must be 0 or more, and fresh_days above 0")
        self.catalogue, self.author = catalogue, known(catalogue, author)
        self.askers, self.follows = askers or Askers(Catalogue("users")), follows
        self.authors, self.per_author = authors, per_author
        self.fresh, self.fresh_days, self.half_life_days = fresh, fresh_days, half_life_days
        self._shelves: Shelves | None = None
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        return self._set(np.bincount(interactions.items, minlength=interactions.n_items).astype(np.float32))

    def _set(self, popularity: Floats) -> Self:
        self._shelves = Shelves(self.catalogue, self.author, popularity, self.per_author, self.per_author)
        return self

    @property
    def shelves(self) -> Shelves:
        """The items of each author."""
        if self._shelves is None:
            raise RuntimeError("this Followed is not fitted")
        return self._shelves

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"popularity": self.shelves.popularity}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["popularity"], np.float32))

    def _authors(self, request: Request) -> tuple[Ints, Ints, Doubles]:
        """Each requester's authors as a query: ``(offsets [B + 1], shelves [M], weights [M])``; one that has two reasons stands twice."""
        places, told = self.shelves.places, self.askers.told(request, self.follows)
        offsets, taken, weights = self.shelves.shares(request, self.authors, self.half_life_days * DAY)
        named = [one if isinstance(one, (list, tuple)) else [one] for one in told]
        lists = [list(dict.fromkeys(places[author] for author in one if isinstance(author, (str, int, float)) and author in places)) for one in named]
        lengths = np.array([len(one) for one in lists], np.int64)
        followed = np.array([place for one in lists for place in one], np.int64)
        size = np.arange(len(request))
        order = np.argsort(np.concatenate((np.repeat(size, np.diff(offsets)), np.repeat(size, lengths))), kind="stable")
        rows, values = np.concatenate((taken, followed))[order], np.concatenate((weights, np.ones(len(followed))))[order]
        return offsets_of(np.diff(offsets) + lengths), rows, values

    def retrieve(self, request: Request, k: int) -> Candidates:
        shelves = self.shelves
        with self._lock:
            shelves.refresh()
            table = shelves.items_of.table
            found = table.best(*self._authors(request), table.n if k > 0 else 0, request.exclude, self.catalogue.available)
            made, worth = self.catalogue.created[found.items], shelves.worth(found.items)
        age = np.maximum(request.now[found.requests] - made, 0) / (self.fresh_days * DAY)
        fresh = np.where(made > 0, self.fresh * 0.5**age, 0.0)
        return found.rescored((found.scores * (1 + fresh / worth)).astype(np.float32)).top(k)
