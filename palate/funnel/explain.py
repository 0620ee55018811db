"""Explain: one short reason for each item, from what the routes said of it and from which item of the history goes with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from palate.candidates import Candidates, Request
from palate.contracts import Similar
from palate.funnel.funnel import Route

LOOKED_BACK = 30  #: latest history items that are asked what goes with them
NEAR = 100  #: items that count as going with one


class Reasons:
    """``Explains`` over a funnel's routes. ``name(row)`` is what an item is called in a sentence.

    An item for which a route that knows similar items finds a companion in the history is explained by it ("goes with ..."), the strongest
    of the first such route; any other by the route that placed it highest.
    """

    def __init__(self, routes: Sequence[Route], name: Callable[[int], str]) -> None:
        self.routes, self.name = tuple(routes), name
        self._similar = next((route.retriever for route in self.routes if isinstance(route.retriever, Similar)), None)

    def explain(self, request: Request, candidates: Candidates) -> list[str]:
        """One reason for each candidate ``[N]``."""
        found = []
        for b in range(len(request)):
            past = request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]]
            mine = range(int(candidates.offsets[b]), int(candidates.offsets[b + 1]))
            companions = self._companions(past[-LOOKED_BACK:].tolist(), {int(candidates.items[n]) for n in mine})
            for n in mine:
                item = int(candidates.items[n])
                found.append(f"goes with {self.name(companions[item])}" if item in companions else self._place(candidates, n))
        return found

    def _companions(self, past: Sequence[int], wanted: set[int]) -> dict[int, int]:
        """For each wanted item the history item that it goes with most, where there is one."""
        best: dict[int, tuple[float, int]] = {}
        if self._similar is not None:
            for other in dict.fromkeys(row for row in reversed(past) if row >= 0):
                rows, scores = self._similar.similar(other, NEAR)
                for row, score in zip(rows.tolist(), np.asarray(scores).tolist(), strict=True):
                    if row in wanted and row != other and score > best.get(row, (0.0, 0))[0]:
                        best[row] = (score, other)
        return {row: other for row, (_, other) in best.items()}

    def _place(self, candidates: Candidates, n: int) -> str:
        places = {}
        for route in self.routes:
            rank = candidates.columns.get(f"{route.name}.rank")
            if rank is not None and not np.isnan(rank[n]):
                places[route.name] = int(rank[n]) + 1
        if not places:
            return "from the stored list"
        name = min(places, key=places.__getitem__)
        return f"place {places[name]} of {name}"
