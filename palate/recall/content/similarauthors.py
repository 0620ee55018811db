"""SimilarAuthors: popular items of the authors whose takers are those of the user's own authors.

Item-to-item collaborative filtering (Sarwar et al., "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001) with authors in
the place of items.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from palate.candidates import DAY, Candidates, Floats, Ints, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import Table, flat
from palate.recall.content.shelves import Shelves, known
from palate.state.catalogue import Catalogue

BLOCK = 512  #: authors compared with all others at once


class SimilarAuthors:
    """``score(s) = sum over authors a of s of ln(2 + popularity(s)) * sum over the user's authors b of share(b) * sim(a, b)``.

    ``sim`` is the cosine of who took anything from a and from b, ``|U_a and U_b| / (sqrt(|U_a| |U_b|) + shrink)``; each author keeps the
    ``neighbors`` most similar others. The user's are the ``authors`` taken from most, a history item counting 1, halved in ``half_life_days``
    (0: never). An author's own items are what ``Followed`` is for: here they come in only through another of the user's authors. Of each author
    the ``per_author`` most taken items are held (0: all). The catalogue's items are read live; authors are compared as they were at fitting.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        author: str = "author",
        neighbors: int = 20,
        authors: int = 5,
        per_author: int = 200,
        shrink: float = 0.0,
        half_life_days: float = 0.0,
    ) -> None:
        if neighbors < 1 or authors < 1 or shrink < 0:
            raise ValueError("neighbors and authors must be 1 or more, and shrink 0 or more")
        self.catalogue, self.author = catalogue, known(catalogue, author)
        self.neighbors, self.authors, self.per_author, self.shrink, self.half_life_days = neighbors, authors, per_author, shrink, half_life_days
        self._shelves: Shelves | None = None
        self._lock = threading.Lock()

    def fit(self, interactions: Interactions) -> Self:
        n = interactions.n_items
        column = self.catalogue.column(self.author)[:n] if self.author in self.catalogue.attribute_names else []
        names: dict[Any, int] = {}
        pairs = [
            (row, names.setdefault(one, len(names)))
            for row, value in enumerate(column)
            for one in (dict.fromkeys(value) if isinstance(value, list) else [] if value is None else [value])
        ]
        of_item = csr_matrix((np.ones(len(pairs), np.float32), np.array(pairs, np.int64).reshape(-1, 2).T), (n, len(names)))
        taken = csr_matrix((np.ones(len(interactions), np.float32), interactions.items, interactions.offsets), (interactions.n_users, n)) @ of_item
        taken.data[:] = 1.0  # whether anything, not how much
        popularity = np.bincount(interactions.items, minlength=n).astype(np.float32)
        return self._set(popularity, list(names), *self._similar(taken.tocsr()))

    def _similar(self, taken: csr_matrix) -> tuple[Ints, Ints, Floats]:
        """Each author's nearest others as CSR, from users x authors."""
        by_author, norm = taken.T.tocsr(), np.sqrt(np.asarray(taken.sum(0)).ravel())
        lengths, columns, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for start in range(0, len(norm), BLOCK):
            shared = (by_author[start : start + BLOCK] @ taken).tocoo()
            rows, others = shared.row.astype(np.int64), shared.col.astype(np.int64)
            sims = shared.data / (norm[rows + start] * norm[others] + self.shrink)
            order = np.lexsort((others, -sims, rows))
            order = order[rows[order] + start != others[order]]
            place = np.arange(len(order)) - np.searchsorted(rows[order], rows[order])
            order = order[place < self.neighbors]
            lengths.append(np.bincount(rows[order], minlength=min(BLOCK, len(norm) - start)))
            columns.append(others[order])
            values.append(sims[order].astype(np.float32))
        return offsets_of(np.concatenate(lengths)), np.concatenate(columns), np.concatenate(values)

    def _set(self, popularity: Floats, names: Sequence[Any], offsets: Ints, columns: Ints, similarities: Floats) -> Self:
        if len(offsets) != len(names) + 1 or offsets[-1] != len(columns) or len(columns) != len(similarities) or (np.diff(offsets) < 0).any():
            raise ValueError("offsets do not lead through the authors")
        if len(columns) and (columns.min() < 0 or columns.max() >= len(names)):
            raise ValueError(f"an author lies outside the {len(names)} known")
        self._names, self._similarities = list(names), (offsets, columns, similarities)
        self._near = Table.of(offsets, columns, similarities, len(names))
        self._shelves = Shelves(self.catalogue, self.author, popularity, self.per_author, values=names)
        return self

    @property
    def shelves(self) -> Shelves:
        """The items of each author."""
        if self._shelves is None:
            raise RuntimeError("this SimilarAuthors is not fitted")
        return self._shelves

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        popularity, (offsets, columns, similarities) = self.shelves.popularity, self._similarities
        names = np.frombuffer(json.dumps(self._names).encode(), np.uint8)
        return {"popularity": popularity, "names": names, "offsets": offsets, "authors": columns, "similarities": similarities}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        offsets, columns = (flat(arrays[name], np.int64) for name in ("offsets", "authors"))
        popularity, similarities = (flat(arrays[name], np.float32) for name in ("popularity", "similarities"))
        return self._set(popularity, json.loads(bytes(flat(arrays["names"], np.uint8))), offsets, columns, similarities)

    def retrieve(self, request: Request, k: int) -> Candidates:
        shelves = self.shelves
        with self._lock:
            shelves.refresh()
            offsets, own, shares = shelves.shares(request, self.authors, self.half_life_days * DAY)
            fitted = own < len(self._near)  # an author who came after fitting has no like
            near = self._near.best(offsets_of(fitted.astype(np.int64))[offsets], own[fitted], shares[fitted], len(self._near))
            weights = near.scores.astype(np.float64)
            return shelves.items_of.table.best(near.offsets, near.items, weights, k, request.exclude, self.catalogue.available)
