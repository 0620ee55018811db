"""Explain: one short reason for each item, from what the routes said of it and from which item of the history speaks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from palate.candidates import Candidates, Request
from palate.contracts import Grounded
from palate.funnel.funnel import Route

_log = logging.getLogger("palate.funnel")


class Reasons:
    """``Explains`` over a funnel's routes. ``name(row)`` is what an item is called in a sentence.

    An item is explained by the grounds of the route that placed it highest among those that have any ("goes with ..."), and else by the route that
    placed it highest at all. A route whose grounds fail has none.
    """

    def __init__(self, routes: Sequence[Route], name: Callable[[int], str]) -> None:
        self.routes, self.name = tuple(routes), name

    def explain(self, request: Request, candidates: Candidates) -> list[str]:
        """One reason for each candidate ``[N]``."""
        size = len(candidates.items)
        best, found = np.full(size, np.inf), ["from the stored list"] * size
        for grounded in (False, True):  # what has grounds goes before what has not
            if grounded:
                best[:] = np.inf
            for route in self.routes:
                ranks = candidates.columns.get(f"{route.name}.rank")
                if ranks is None:
                    continue
                better = np.flatnonzero(np.asarray(ranks) < best)  # not where it is NaN
                texts = (
                    self._grounds(route, request, candidates.take(better))
                    if grounded
                    else [f"place {int(ranks[n]) + 1} of {route.name}" for n in better]
                )
                for n, text in zip(better.tolist(), texts, strict=True):
                    if text is not None:
                        best[n], found[n] = ranks[n], text
        return found

    def _grounds(self, route: Route, request: Request, candidates: Candidates) -> Sequence[str | None]:
        nothing = [None] * len(candidates.items)
        if not nothing or not isinstance(route.retriever, Grounded):
            return nothing
        try:
            said = route.retriever.grounds(request.showing(route.taken), candidates)
        except Exception as error:  # a page without reasons is a page
            _log.warning("route %s cannot say why", route.name, exc_info=error)
            return nothing
        told = zip(said.items.tolist(), said.strength.tolist(), strict=True)
        return [said.text.format(item=self.name(row) if row >= 0 else "", strength=strength) if strength > 0 else None for row, strength in told]
