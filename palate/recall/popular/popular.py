"""Popular: the same list for everybody, most taken first, what was taken lately weighing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import DAY, Candidates, Floats, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import flat, walk
from palate.state.catalogue import Catalogue


class Popular:
    """``score(s) = sum over what was taken of value * 0.5 ** (age / half_life_days)``, age up to the end of the fitted interactions.

    ``half_life_days`` 0: no decay (a short one makes the list one of what is trending). Items that nobody took are not offered, nor
    are those withdrawn from the ``catalogue``, where one is given.
    """

    def __init__(self, half_life_days: float = 30.0, catalogue: Catalogue | None = None) -> None:
        if half_life_days < 0:
            raise ValueError(f"half_life_days must be 0 or more, not {half_life_days}")
        self.half_life_days, self.catalogue = half_life_days, catalogue
        self._scores: Floats | None = None

    def fit(self, interactions: Interactions) -> Self:
        weights = interactions.values.astype(np.float64)
        if self.half_life_days > 0:
            weights *= 0.5 ** (np.maximum(interactions.now - interactions.times, 0) / (self.half_life_days * DAY))
        return self._set(np.bincount(interactions.items, weights=weights, minlength=interactions.n_items).astype(np.float32))

    def _set(self, scores: Floats) -> Self:
        self._scores = scores
        taken = np.flatnonzero(scores > 0)
        self._order = taken[np.argsort(-scores[taken], kind="stable")]
        self._all = np.ones(len(scores), bool)
        return self

    @property
    def scores(self) -> Floats:
        """Decayed count of each item, float32 ``[I]``."""
        if self._scores is None:
            raise RuntimeError("this Popular is not fitted")
        return self._scores

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"scores": self.scores}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["scores"], np.float32))

    def retrieve(self, request: Request, k: int) -> Candidates:
        scores = self.scores
        allowed = self._all if self.catalogue is None or len(self.catalogue) < len(self._all) else self.catalogue.available
        starts = np.zeros(len(request), np.int64)
        items, offsets = walk(self._order, starts, starts + len(self._order), allowed, k, request.exclude)
        return Candidates(items, scores[items], offsets)
