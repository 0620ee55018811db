"""Weighted: the sum of what several models think of an item, each weighing what made the best lists of later events.

Burke, "Hybrid Recommender Systems: Survey and Experiments", UMUAI 2002 (weighted hybrids); sums of scaled scores: Fox, Shaw, "Combination of
Multiple Searches", TREC-2, 1994 (CombSUM); scaling: Lee, "Analyses of Multiple Evidence Combination", SIGIR 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from palate.candidates import Candidates, Floats, Ragged, Request
from palate.contracts import Others
from palate.datasets.interactions import Interactions
from palate.index.topk import flat
from palate.recall.hybrid.parts import Hybrid, scaled, union

STEPS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)  #: what one weight is multiplied by, to see whether lists get better
ROUNDS = 4  #: times that all weights are gone through, at most


class Weighted(Hybrid):
    """``score(s) = sum over models m of weight(m) * scaled(m, s)``: of its list of ``depth`` items, its best counts 1 and its worst 1 / depth, 0
    what is not on it.

    ``scale``: between them by score (``range``) or by place (``rank``). Weights sum to 1. Where none are ``fixed`` they are those that make the
    best lists by NDCG@``k`` of what was taken in the last ``held`` (a share) of the events, the models fitted on what came before (so each is trained
    twice): from equal ones, one after another, as long as lists get better. What no model of any weight offers is not offered.
    """

    def __init__(
        self,
        others: Others,
        models: tuple[str, ...],
        fixed: tuple[float, ...] = (),
        scale: Literal["range", "rank"] = "range",
        depth: int = 200,
        held: float = 0.1,
        k: int = 10,
    ) -> None:
        super().__init__(others, models)
        if fixed and (len(fixed) != len(models) or min(fixed) < 0 or sum(fixed) <= 0):
            raise ValueError(f"fixed must be {len(models)} weights of at least 0 and not all 0, not {list(fixed)}")
        if not 0 < held < 1 or depth < 1 or k < 1:
            raise ValueError("held must lie between 0 and 1, and depth and k be 1 or more")
        self.fixed, self.scale, self.depth, self.held, self.k = fixed, scale, depth, held, k
        self._weights: Floats | None = None

    @property
    def weights(self) -> Floats:
        """What each model counts, float32 ``[M]``."""
        if self._weights is None:
            raise RuntimeError("this Weighted is not fitted")
        return self._weights

    def fit(self, interactions: Interactions) -> Self:
        weights = np.array(self.fixed or (1.0,) * len(self.models))
        if not self.fixed and self.others.rehearse is not None:
            trial = self.others.rehearse(self.models, self.held)
            weights = self._chosen(*self._side_by_side([trial.others.named(name) for name in self.models], trial.request), trial.taken)
        return self.from_arrays({"weights": weights / weights.sum()})

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"weights": self.weights}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        weights: Floats = flat(arrays["weights"], np.float32)
        if len(weights) != len(self.models):
            raise ValueError(f"{len(weights)} weights for {len(self.models)} models")
        self._weights = weights
        return self

    def _side_by_side(self, parts: list[Any], request: Request) -> tuple[Candidates, Floats]:
        lists = [part.retrieve(request, self.depth) for part in parts]
        offered, table = union(lists, [scaled(one, self.depth, self.scale == "rank") for one in lists])
        return offered, np.nan_to_num(table)

    def _chosen(self, offered: Candidates, table: Floats, taken: Ragged) -> np.ndarray[Any, Any]:
        """Weights ``[M]`` with the best NDCG found. Requests of whose items none is offered say nothing."""
        wide = np.int64(max(offered.items.max(initial=0), taken.values.max(initial=0)) + 1)
        owner = offered.requests
        relevant = np.isin(owner * wide + offered.items, np.repeat(np.arange(len(taken)), np.diff(taken.offsets)) * wide + taken.values)
        telling = np.bincount(owner, relevant, len(offered))[owner] > 0
        owner, relevant, table = owner[telling], relevant[telling], table[telling]
        ideal = np.cumsum(1 / np.log2(np.arange(2, self.k + 2)))[np.minimum(np.diff(taken.offsets), self.k) - 1][owner]

        def ndcg(weights: np.ndarray[Any, Any]) -> float:
            order = np.lexsort((-(table @ weights.astype(np.float32)), owner))  # ties by row, as it is offered
            place = np.arange(len(order)) - np.searchsorted(owner, owner)
            counts = (place < self.k) & relevant[order]
            return float((1 / np.log2(place[counts] + 2) / ideal[counts]).sum())

        weights = np.ones(len(self.models))
        best = ndcg(weights)
        for _ in range(ROUNDS):
            before = best
            for m in range(len(weights)):
                for trial in [np.where(np.arange(len(weights)) == m, weights * step, weights) for step in STEPS]:
                    if trial.sum() > 0 and (found := ndcg(trial / trial.sum())) > best * (1 + 1e-9):
                        best, weights = found, trial / trial.sum()
            if best <= before:
                break
        return weights

    def retrieve(self, request: Request, k: int) -> Candidates:
        weights = self.weights
        offered, table = self._side_by_side(self.parts, request)
        offered = offered.rescored((table * weights).sum(1))
        return offered.take(offered.scores > 0).top(max(k, 0))
