"""UserCF: what the users most like the one who asks have taken.

Breese, Heckerman, Kadie, "Empirical Analysis of Predictive Algorithms for Collaborative Filtering", UAI 1998; ratings: Resnick et al.,
"GroupLens: An Open Architecture for Collaborative Filtering of Netnews", CSCW 1994.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from scipy.sparse import csr_matrix

from palate.candidates import Candidates, Floats, Grounds, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import distinct
from palate.recall.neighbor.similarity import CENTRED, COSINE, JACCARD, Doubles, Sparse, latest, nearest

_NO_NORMS = np.empty(0)


class UserCF:
    """``score(u, s) = sum over the k users v most similar to u of sim(u, v) * r(v, s)``, the similarity taken with the request's history.

    ``similarity``: ``cosine`` of what both took; ``pearson``, each rating less its user's mean, over the items both rated (explicit data:
    ``Interactions.of(..., weighted=True)``); ``jaccard``; ``damped``: hot items say less, ``sum over shared i of 1 / ln(1 + |N_i|)`` over
    ``sqrt(|I_u| |I_v|)``. ``shrink`` is added to the denominator; only similarities above 0 count. The one who asks is never among the
    neighbours. ``weighted``: cosine uses the history's values (pearson always does). ``min_value``: history events below it do not count.
    ``max_users_per_item``: only the latest so many users of an item are looked at (0: all), which bounds the work of a request.
    An empty or unknown history gets no candidates.
    """

    def __init__(
        self,
        neighbors: int = 50,
        similarity: Literal["cosine", "pearson", "jaccard", "damped"] = "cosine",
        shrink: float = 0.0,
        weighted: bool = False,
        min_value: float | None = None,
        max_users_per_item: int = 2000,
    ) -> None:
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, not {neighbors}")
        self.neighbors, self.similarity, self.shrink, self.max_users_per_item = neighbors, similarity, shrink, max_users_per_item
        self.explicit = similarity == "pearson"
        self.weighted = (weighted and similarity == "cosine") or self.explicit
        self.min_value = -np.inf if min_value is None else min_value
        self.report: dict[str, int] = {}
        self._users: Sparse | None = None

    def fit(self, interactions: Interactions) -> Self:
        looked_at = latest(interactions.by_item, self.max_users_per_item)
        self.report = {"interactions": len(interactions), "used": len(looked_at)}
        users = Sparse.of(interactions.offsets, interactions.items, interactions.values, interactions.n_items)
        return self._set(users, Sparse.of(looked_at.offsets, looked_at.items, looked_at.values, len(users)))

    def _set(self, users: Sparse, by_item: Sparse) -> Self:
        self._raw = by_item
        values = users.values.astype(np.float64)
        self._means = users.means()
        self._weights: Doubles | None = None
        self._norms: Doubles = users.lengths.astype(np.float64)
        if self.similarity == "pearson":
            by_item = by_item.less(self._means[by_item.columns])
        elif self.similarity == "cosine":
            self._norms = np.sqrt(users.sums(values**2))
        else:
            by_item = by_item.with_values(np.ones(len(by_item.values)))
        if self.similarity == "damped":
            taken = np.bincount(users.columns, minlength=users.width)
            self._weights = 1 / np.log1p(np.maximum(taken, 1))
            self._norms = np.sqrt(self._norms)
        self._by_item = by_item
        self._users, self._table = users, users.table()
        return self

    @property
    def users(self) -> Sparse:
        """Row v holds what user v took, with its value."""
        if self._users is None:
            raise RuntimeError("this UserCF is not fitted")
        return self._users

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {
            "offsets": self.users.offsets,
            "items": self.users.columns,
            "values": self.users.values,
            "item_offsets": self._raw.offsets,
            "item_users": self._raw.columns,
            "item_values": self._raw.values,
        }

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        n_items, n_users = len(arrays["item_offsets"]) - 1, len(arrays["offsets"]) - 1
        by_item = Sparse.saved(arrays["item_offsets"], arrays["item_users"], arrays["item_values"], n_users)
        return self._set(Sparse.saved(arrays["offsets"], arrays["items"], arrays["values"], n_items), by_item)

    def neighborhood(self, request: Request) -> Sparse:
        """The users most like each requester, best first, with their similarity: rows are requests, columns user rows."""
        return self._neighborhood(request, self._history(request))

    def _history(self, request: Request) -> Sparse:
        n = self.users.width
        offsets, items, weights = distinct(request.histories, request.now, n, min_value=self.min_value, weighted=self.weighted)
        return Sparse.of(offsets, items, weights, n)

    def _neighborhood(self, request: Request, rows: Sparse) -> Sparse:
        measure = COSINE
        if self.similarity == "cosine" and self.weighted:
            norms = np.sqrt(rows.sums(rows.values.astype(np.float64) ** 2))
        elif self.similarity == "pearson":
            rows, norms, measure = rows.less(np.repeat(rows.means(), rows.lengths)), _NO_NORMS, CENTRED
        elif self.similarity == "jaccard":
            norms, measure = rows.lengths.astype(np.float64), JACCARD
        else:  # every value is 1
            norms = np.sqrt(rows.lengths)
        weights = self._weights
        return nearest(rows, norms, request.users, self._by_item, self._norms, self.neighbors, measure, weights=weights, shrink=self.shrink)

    def retrieve(self, request: Request, k: int) -> Candidates:
        near = self.neighborhood(request)
        return self._table.best(near.offsets, near.columns.astype(np.int64), near.values.astype(np.float64), k, request.exclude)

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """How many of the users most like the requester took a candidate."""
        near, users = self.neighborhood(request), self.users
        known = candidates.items < users.width
        alike = csr_matrix((np.ones(len(near.columns), np.float32), near.columns, near.offsets), shape=(len(near), len(users)))
        took = csr_matrix((np.ones(len(users.columns), np.float32), users.columns, users.offsets), shape=(len(users), users.width))
        counts = np.zeros(len(known), np.float32)
        counts[known] = np.asarray((alike @ took)[candidates.requests[known], candidates.items[known]]).ravel()
        return Grounds(np.full(len(known), -1), counts, "taken by {strength:.0f} of the users most like you")

    def ratings(self, request: Request, candidates: Candidates) -> Floats:
        """Expected rating of each candidate, float32 ``[N]``: ``mean_u + sum sim (r - mean_v) / sum |sim|`` over the neighbours who rated it.

        The requester's mean where no neighbour rated the item.
        """
        history = self._history(request)
        near, mean = self._neighborhood(request, history), history.means()
        users, shape = self.users, (len(self.users), self.users.width)
        similar = csr_matrix((near.values, near.columns, near.offsets), shape=(len(near), shape[0]))
        away = csr_matrix((users.values - np.repeat(self._means, users.lengths), users.columns, users.offsets), shape=shape)
        rated = csr_matrix((np.ones_like(users.values), users.columns, users.offsets), shape=shape)
        at = candidates.requests, candidates.items
        above, below = (np.asarray((similar @ part)[at], np.float64).ravel() for part in (away, rated))
        expected: Floats = (mean[at[0]] + above / np.where(below > 0, below, 1.0)).astype(np.float32)
        return expected
