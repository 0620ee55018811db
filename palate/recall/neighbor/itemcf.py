"""ItemCF: an item scores the sum of its similarities to the items of the history.

Sarwar, Karypis, Konstan, Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001 (cosine, adjusted cosine);
conditional probability: Karypis, CIKM 2001; inverse user frequency: Breese, Heckerman, Kadie, UAI 1998.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np

from palate.datasets.interactions import Interactions
from palate.recall.neighbor.item_to_item import ItemToItem
from palate.recall.neighbor.similarity import CENTRED, CONDITIONAL, COSINE, JACCARD, Sparse, latest, nearest


class ItemCF(ItemToItem):
    """Similar items by the users they share; retrieval and the other options as in ``ItemToItem``.

    ``similarity``: ``cosine`` of the item columns; ``jaccard``; ``conditional``, ``P(s | s')``; ``iuf``, each shared user counting
    ``1 / ln(1 + |I_u|)``, over ``sqrt(|N_i| |N_j|)``; ``adjusted_cosine``, each rating less its user's mean, over the co-raters (explicit
    data: ``Interactions.of(..., weighted=True)``). ``shrink`` is added to the denominator of each. Similarities not above 0 are dropped.
    Fitting uses only a user's latest ``max_items_per_user`` items and of an item only its latest ``max_users_per_item`` users (0: all);
    ``report`` says how many entries that left.
    """

    def __init__(
        self,
        neighbors: int = 100,
        similarity: Literal["cosine", "jaccard", "conditional", "iuf", "adjusted_cosine"] = "cosine",
        shrink: float = 0.0,
        keep: Literal["target", "source"] = "target",
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        max_items_per_user: int = 1000,
        max_users_per_item: int = 0,
        threads: int = 1,
    ) -> None:
        super().__init__(neighbors, keep, weighted, half_life_days, min_value, threads)
        self.similarity, self.shrink, self.explicit = similarity, shrink, similarity == "adjusted_cosine"
        self.max_items_per_user, self.max_users_per_item = max_items_per_user, max_users_per_item

    def fit(self, interactions: Interactions) -> Self:
        capped = latest(interactions, self.max_items_per_user)
        fewer = latest(capped.by_item, self.max_users_per_item) if self.max_users_per_item > 0 else capped
        if len(fewer) < len(capped):
            capped = fewer.by_item
        self.report = {"interactions": len(interactions), "used": len(capped)}
        users = Sparse.of(capped.offsets, capped.items, capped.values, capped.n_items)
        weights = None
        if self.similarity == "adjusted_cosine":
            users = users.less(np.repeat(users.means(), users.lengths))
        elif self.similarity != "cosine":
            users = users.with_values(np.ones(len(capped)))
        items = users.transposed()
        norms = own_norms = items.lengths.astype(np.float64)
        measure = {"jaccard": JACCARD, "conditional": CONDITIONAL, "adjusted_cosine": CENTRED}.get(self.similarity, COSINE)
        if self.similarity == "cosine":
            norms = own_norms = np.sqrt(items.sums(items.values.astype(np.float64) ** 2))
        elif self.similarity == "iuf":
            norms = own_norms = np.sqrt(norms)
            weights = 1 / np.log1p(np.maximum(users.lengths, 1))
        elif self.similarity == "conditional" and self.keep == "source":  # here the row is s': divide by its own count alone
            measure, norms = COSINE, np.ones(len(items))
        rows = np.arange(len(items), dtype=np.int64)
        return self._found(
            nearest(items, own_norms, rows, users, norms, self.neighbors, measure, weights=weights, shrink=self.shrink, threads=self.threads)
        )
