from __future__ import annotations

from dataclasses import replace

import numpy as np

from palate.candidates import Candidates, Histories
from palate.funnel.explain import Reasons
from palate.funnel.funnel import Route
from tests.funnel.world import world


def test_reasons_name_the_companion_or_the_route() -> None:
    here = world()
    funnel = here.funnel()
    reasons = Reasons(funnel.routes, lambda row: here.items.ids[row])
    request = here.request(np.array([3, 9]))
    page = funnel.recommend(request, 10)
    found = reasons.explain(request, page)
    assert len(found) == len(page.items) == 20
    model = funnel.routes[0].retriever
    for n, (item, text) in enumerate(zip(page.items.tolist(), found, strict=True)):
        b = int(page.requests[n])
        past = request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]][-30:].tolist()
        scores = {}
        for other in past:
            rows, values = model.similar(other, 100)  # type: ignore[attr-defined]
            scores[other] = max((v for r, v in zip(rows.tolist(), values.tolist(), strict=True) if r == item), default=0.0)
        strongest = max(scores.values())
        if strongest > 0:
            assert text.startswith("goes with ")
            assert scores[here.items.row(text.removeprefix("goes with "))] == strongest
        else:
            assert text.startswith("place ")
    assert any(text.startswith("goes with ") for text in found)


def test_without_a_history_the_best_route_is_named() -> None:
    here = world()
    routes = [Route("popular", here.popular(), 50), Route("late", here.popular(), 50)]
    request = replace(here.request(np.array([-1])), histories=Histories.empty(1))
    columns = {"popular.rank": np.array([4, np.nan, np.nan], np.float32), "late.rank": np.array([2, 0, np.nan], np.float32)}
    candidates = Candidates(np.array([1, 2, 3]), np.zeros(3, np.float32), np.array([0, 3]), columns)
    assert Reasons(routes, str).explain(request, candidates) == ["place 3 of late", "place 1 of late", "from the stored list"]
