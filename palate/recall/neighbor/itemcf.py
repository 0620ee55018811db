"""ItemCF: an item scores the sum of its similarities to the items of the history.

Sarwar, Karypis, Konstan, Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001 (cosine, adjusted cosine);
conditional probability: Karypis, CIKM 2001; inverse user frequency: Breese, Heckerman, Kadie, UAI 1998; similarities that sum to 1: Deshpande,
Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 2004; baselines: Koren, "Factor in the Neighbors", TKDD 2010.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np

from palate.datasets.interactions import Interactions
from palate.index.topk import NO_BASE, Doubles
from palate.recall.neighbor.item_to_item import ItemToItem
from palate.recall.neighbor.similarity import CENTRED, CONDITIONAL, COSINE, JACCARD, Sparse, latest, nearest


class ItemCF(ItemToItem):
    """Similar items by the users they share; retrieval and the other options as in ``ItemToItem``.

    ``similarity``: ``cosine`` of the item columns; ``jaccard``; ``conditional``, ``P(s | s')``; ``iuf``, each shared user counting
    ``1 / ln(1 + |I_u|)``, over ``sqrt(|N_i| |N_j|)``; ``adjusted_cosine``, each rating less its user's mean, over the co-raters (explicit
    data: ``Interactions.of(..., weighted=True)``). ``shrink`` is added to the denominator of each. Similarities not above 0 are dropped.
    ``prediction``: ``sum``, as in ``ItemToItem``; ``mean``, each item's list of similarities divided by its sum, so that no item is near everything
    only because it has many near ones; ``baseline``, the mean of what r exceeds the item's b by, plus the candidate's own b, where b is an item's
    r summed over its users and divided by all of them (so r must not fade: no ``half_life_days``). On Gowalla ``baseline`` is best, ``sum`` last.
    Fitting uses only a user's latest ``max_items_per_user`` items and of an item only its latest ``max_users_per_item`` users (0: all);
    ``report`` says how many entries that left.
    """

    def __init__(
        self,
        neighbors: int = 100,
        similarity: Literal["cosine", "jaccard", "conditional", "iuf", "adjusted_cosine"] = "cosine",
        shrink: float = 0.0,
        prediction: Literal["sum", "mean", "baseline"] = "sum",
        keep: Literal["target", "source"] = "target",
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        max_items_per_user: int = 1000,
        max_users_per_item: int = 0,
        threads: int = 1,
    ) -> None:
        super().__init__(neighbors, keep, weighted, half_life_days, min_value, threads)
        if prediction == "baseline" and half_life_days:
            raise ValueError(f"the prediction 'baseline' knows no age: half_life_days must be 0, not {half_life_days}")
        self.prediction = prediction
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
        lists = nearest(items, own_norms, rows, users, norms, self.neighbors, measure, weights=weights, shrink=self.shrink, threads=self.threads)
        if self.prediction == "sum":
            return self._found(lists)
        return self._found(lists.normalised(), self._shares(interactions) if self.prediction == "baseline" else NO_BASE)

    def _shares(self, interactions: Interactions) -> Doubles:
        """What r of each item is on average over all users, float64 ``[I]``; 0 for whom did not take it."""
        values = interactions.values if self.weighted else None
        total: Doubles = np.bincount(interactions.items, values, interactions.n_items) / max(interactions.n_users, 1)
        return total
