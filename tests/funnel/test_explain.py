from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palate.candidates import Candidates, Grounds, Histories, Request
from palate.funnel.explain import Reasons
from palate.funnel.funnel import Route
from tests.funnel.world import world


def test_reasons_are_the_grounds_of_the_route_that_placed_it_highest() -> None:
    here = world()
    funnel = here.funnel()
    request = here.request(np.array([3, 9]))
    page = funnel.recommend(request, 10)
    found = Reasons(funnel.routes, lambda row: here.items.ids[row]).explain(request, page)
    assert len(found) == len(page.items) == 20
    ranks = {name: page.columns[f"{name}.rank"] for name in ("itemcf", "vector", "popular")}
    said = {name: route.retriever.grounds(request, page) for name, route in zip(ranks, funnel.routes, strict=False) if name != "popular"}  # type: ignore[attr-defined]
    for n, text in enumerate(found):
        able = {name: ranks[name][n] for name, one in said.items() if not np.isnan(ranks[name][n]) and one.items[n] >= 0}
        if able:
            best = min(able, key=able.__getitem__)
            assert text == f"goes with {here.items.ids[said[best].items[n]]}"
        else:
            best = min((name for name in ranks if not np.isnan(ranks[name][n])), key=lambda name: ranks[name][n])
            assert text == f"place {int(ranks[best][n]) + 1} of {best}"
    assert sum(text.startswith("goes with ") for text in found) > 10


def test_vectors_of_a_two_tower_model_name_the_nearest_item() -> None:
    here = world()
    route, request = here.routes()[1].retriever, here.request(np.array([3, 9]))
    candidates = route.retrieve(request, 15)
    found = route.grounds(request, candidates)  # type: ignore[attr-defined]
    vectors = route.vectors(np.arange(len(here.items)))  # type: ignore[attr-defined]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for n, (item, b) in enumerate(zip(candidates.items.tolist(), candidates.requests.tolist(), strict=True)):
        past = request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]].tolist()
        assert found.strength[n] == pytest.approx(max(0.0, *(float(vectors[own] @ vectors[item]) for own in past if own != item)), abs=1e-5)


def test_without_grounds_the_best_route_is_named() -> None:
    here = world()
    routes = [Route("popular", here.popular(), 50), Route("late", here.popular(), 50)]
    request = replace(here.request(np.array([-1])), histories=Histories.empty(1))
    columns = {"popular.rank": np.array([4, np.nan, np.nan], np.float32), "late.rank": np.array([2, 0, np.nan], np.float32)}
    candidates = Candidates(np.array([1, 2, 3]), np.zeros(3, np.float32), np.array([0, 3]), columns)
    assert Reasons(routes, str).explain(request, candidates) == ["place 3 of late", "place 1 of late", "from the stored list"]


class Told:
    """Offers nothing, gives one ground, and remembers whose candidates it was asked about."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[int] = []

    def retrieve(self, request: Request, k: int) -> Candidates:
        return Candidates.empty(len(request))

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        self.asked += candidates.items.tolist()
        if self.fails:
            raise ValueError("broken")
        return Grounds(np.full(len(candidates.items), 7), np.ones(len(candidates.items), np.float32))


def test_a_route_is_asked_only_about_what_it_offered_and_may_fail() -> None:
    good, bad = Told(), Told(fails=True)
    routes = [Route("good", good, 5), Route("bad", bad, 5)]
    columns = {"good.rank": np.array([4, np.nan, 3], np.float32), "bad.rank": np.array([0, 1, np.nan], np.float32)}
    request = Request(np.array([-1]), Histories.empty(1), np.array([5]))
    found = Reasons(routes, str).explain(request, Candidates(np.array([1, 2, 3]), np.zeros(3, np.float32), np.array([0, 3]), columns))
    assert found == ["goes with 7", "place 2 of bad", "goes with 7"]
    assert good.asked == [1, 3]
    assert bad.asked == [1, 2]
