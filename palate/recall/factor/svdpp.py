"""SVD++: BiasSVD whose user is also the sum of what was rated at all, whatever the ratings.

Koren, "Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model", KDD 2008, equation 15.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from palate.candidates import Floats, Histories, Ints
from palate.index.topk import plain
from palate.recall.factor.biassvd import BiasSVD


class SVDpp(BiasSVD):
    """``r = mean + b_u + b_i + q_i' (p_u + |N(u)|^-1/2 sum over j in N(u) of y_j)``, N(u) the items that u rated.

    The y_j are regularized as the rest. Steps are taken rating by rating, user after user, as in the paper. A request is answered from its history
    alone: all known items of it imply their part of the user; b_u and p_u are then solved for from those events that have a value (0 if none
    has), as in BiasSVD.
    """

    def implicit_factors(self, n_items: int, generator: np.random.Generator) -> Floats:
        return generator.normal(0, 0.1, (n_items, self.dim)).astype(np.float32)

    def implied(self, offsets: Ints, items: Ints) -> Floats:
        lengths = np.diff(offsets)
        shares = np.repeat(np.maximum(lengths, 1) ** -0.5, lengths).astype(np.float32)
        summed: Floats = csr_matrix((shares, items, offsets), shape=(len(lengths), len(self._implicit))) @ self._implicit
        return summed

    def rated(self, histories: Histories, now: Ints) -> tuple[Ints, Any, Floats]:
        valued = ~np.isnan(histories.values)
        offsets = np.concatenate(([0], np.cumsum(valued)))[histories.offsets]
        items, times, signals = histories.items[valued], histories.times[valued], histories.signals[valued]
        return super().rated(Histories(items, times, signals, histories.values[valued], offsets), now)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return super().arrays() | {"implicit": self._implicit}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        implicit: Floats = plain(arrays["implicit"], np.float32)
        if implicit.shape != (len(arrays["items"]), self.dim):
            raise ValueError(f"implicit factors of shape {implicit.shape} do not fit {len(arrays['items'])} items and dim = {self.dim}")
        self._implicit = implicit
        return super().from_arrays(arrays)
