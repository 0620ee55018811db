"""Switching: which model answers depends on how much is known of who asks, and on whether it is sure.

Burke, "Hybrid Recommender Systems: Survey and Experiments", UMUAI 2002 (switching hybrids); NewsDude's way: Billsus, Pazzani, UMUAI 2000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import Candidates, Request, offsets_of
from palate.contracts import Others
from palate.datasets.interactions import Interactions
from palate.index.topk import flat
from palate.recall.hybrid.parts import Hybrid


class Switching(Hybrid):
    """``models`` from the one that needs least to the one that needs most: with fewer than ``events[0]`` events the first answers, with fewer than
    ``events[1]`` the second, and so on.

    An event counts if it shows the signal that models are fitted on and its item was there at fitting. A model that offers nothing, or whose best
    score is below ``confidence`` (in its own units; None: any will do), is not sure: the one before it in ``models`` answers instead, and the
    first always does. Scores are those of whoever answers.
    """

    def __init__(self, others: Others, models: tuple[str, ...], events: tuple[int, ...] = (5,), confidence: float | None = None) -> None:
        super().__init__(others, models)
        if len(events) != len(models) - 1 or any(one >= other for one, other in zip((0, *events), events, strict=False)):
            raise ValueError(f"events must be {len(models) - 1} rising numbers above 0, one less than models, not {list(events)}")
        self.events, self.confidence = events, -np.inf if confidence is None else confidence
        self._items = -1

    def fit(self, interactions: Interactions) -> Self:
        return self.from_arrays({"items": np.array([interactions.n_items])})

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"items": np.array([self._items])}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        self._items = int(flat(arrays["items"], np.int64)[0])
        return self

    def levels(self, request: Request) -> np.ndarray[Any, Any]:
        """Which model answers each request if it is sure, ``[B]``."""
        past = request.showing(self.others.taken).histories
        known = offsets_of(((past.items >= 0) & (past.items < self._items)).astype(np.int64))[past.offsets]
        return np.searchsorted(self.events, np.diff(known), side="right")

    def retrieve(self, request: Request, k: int) -> Candidates:
        if self._items < 0:
            raise RuntimeError("this Switching is not fitted")
        level, found = self.levels(request), Candidates.empty(len(request))
        for m in reversed(range(len(self.parts))):
            asked = np.flatnonzero(level == m)
            if not len(asked):
                continue
            one = self.parts[m].retrieve(request.take(asked), k)
            best = np.full(len(asked), -np.inf)
            there = np.diff(one.offsets) > 0
            best[there] = one.scores[one.offsets[:-1][there]]
            sure = (there & (best >= self.confidence)) | (m == 0)
            level[asked[~sure]] = m - 1
            found = found.beside(one.take(sure[one.requests]).spread(asked, len(request)))
        return found
