"""Cascade: one model decides, and the next only where that one left room.

Burke, "Hybrid Recommender Systems: Survey and Experiments", UMUAI 2002 (cascade hybrids).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import Candidates, Request
from palate.contracts import Others
from palate.datasets.interactions import Interactions
from palate.recall.hybrid.parts import Hybrid, scaled, union


class Cascade(Hybrid):
    """What ``models`` offer one below the other: the second fills only places that the first leaves, and is asked only where there are any.

    With ``refine`` the others add nothing: they put the first one's ``depth`` items in order, the last model that has an item before the ones
    before it; what none of them has follows in the first one's own order. Of each model ``depth`` items count. Scores are those of each model
    between 1 (the best of its list) and 1 / depth, less 2 for each model that goes before.
    """

    def __init__(self, others: Others, models: tuple[str, ...], refine: bool = False, depth: int = 200) -> None:
        super().__init__(others, models)
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, not {depth}")
        self.refine, self.depth = refine, depth
        self._fitted = False

    def fit(self, interactions: Interactions) -> Self:
        return self.from_arrays({})  # all there is to learn is in its parts

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        self._fitted = True
        return self

    def retrieve(self, request: Request, k: int) -> Candidates:
        if not self._fitted:
            raise RuntimeError("this Cascade is not fitted")
        lists = [self.parts[0].retrieve(request, self.depth)]
        for part in self.parts[1:]:
            asked = np.arange(len(request)) if self.refine else np.flatnonzero(np.diff(union(lists, [one.scores for one in lists])[0].offsets) < k)
            if len(asked):
                lists.append(part.retrieve(request.take(asked), self.depth).spread(asked, len(request)))
        offered, table = union(lists, [scaled(one, self.depth) for one in lists])
        above = np.arange(len(lists))[::-1] if self.refine else np.arange(len(lists))  # models that go before
        scores = np.nanmax(table - 2 * above.astype(np.float32), axis=1)
        if self.refine:
            kept = ~np.isnan(table[:, 0])
            offered, scores = offered.take(kept), scores[kept]
        return offered.rescored(scores).top(max(k, 0))
