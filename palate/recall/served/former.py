"""Former: what the user's last pages ranked high and had no place for, offered again while it is fresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from palate.candidates import DAY, Candidates, Request
from palate.datasets.interactions import Interactions
from palate.index.topk import Table


class Former:
    """``score(s) = 0.5 ** (age / half_life_days) / (1 + place)`` of what ``Request.former`` holds: items that a ranker put near the top of an
    earlier page and that were not shown.

    ``place`` is the item's among those that its ranking left over, ``age`` the time since then; beyond ``days`` it is forgotten. What was shown or
    taken meanwhile is not offered. Nothing is fitted. It takes ``former = 50`` or the like in the recipe's ``[state]``, so that a service keeps so
    many items a user; where nothing was served yet, as in training, there are no candidates.
    """

    leftovers: ClassVar[bool] = True  #: it needs [state] former

    def __init__(self, days: float = 3.0, half_life_days: float = 1.0) -> None:
        if days <= 0 or half_life_days <= 0:
            raise ValueError(f"days and half_life_days must be above 0, not {days} and {half_life_days}")
        self.days, self.half_life_days = days, half_life_days
        self._fitted = False

    def fit(self, interactions: Interactions) -> Self:
        return self.from_arrays({})

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        self._fitted = True
        return self

    def retrieve(self, request: Request, k: int) -> Candidates:
        if not self._fitted:
            raise RuntimeError("this Former is not fitted")
        former = request.former
        if former is None or not len(former.items):
            return Candidates.empty(len(request))
        each = np.arange(len(request) + 1)
        age = np.maximum(np.repeat(request.now, np.diff(former.offsets)) - former.times, 0) / DAY
        scores = np.where(age <= self.days, 0.5 ** (age / self.half_life_days) / (1 + former.places), 0.0)  # 0 is not offered
        table = Table.of(former.offsets, former.items, scores, int(former.items.max()) + 1)
        return table.best(each, each[:-1], np.ones(len(request)), k, request.exclude)
