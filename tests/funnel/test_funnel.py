"""The whole way: equal lists plain and guarded, what is done without, why an item is there or not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.candidates import Candidates, Request, offsets_of
from palate.funnel.filters import Where
from palate.funnel.funnel import Funnel, Guard, Route, Trace
from palate.rerank.mmr import MMR
from tests.funnel.world import World, lists, world


@pytest.fixture(scope="module")
def here() -> World:
    return world()


class Dead:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or RuntimeError("dead")

    def retrieve(self, request: Request, k: int) -> Candidates:
        raise self.error

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        raise self.error


class Fixed:
    """Offers these items to everybody."""

    def __init__(self, *items: int) -> None:
        self.items = items

    def retrieve(self, request: Request, k: int) -> Candidates:
        mine, size = np.array(self.items[:k], np.int64), len(request)
        scores = (1.0 / np.arange(1, len(mine) + 1)).astype(np.float32)
        return Candidates(np.tile(mine, size), np.tile(scores, size), offsets_of([len(mine)] * size))


def guarded(request: Request, seconds: float = 5.0) -> Request:
    return replace(request, deadline=time.monotonic() + seconds)


def test_plain_and_guarded_and_batched_give_equal_lists(here: World) -> None:
    funnel = here.funnel(rerank=[MMR(here.items, attribute="genres")])
    batch = funnel.recommend(here.request(np.arange(20)), 10)
    assert np.diff(batch.offsets).tolist() == [10] * 20
    for b in range(20):
        request = here.request(np.array([b]))
        plain, lane = funnel.recommend(request, 10), funnel.recommend(guarded(request), 10)
        assert lists(plain)[0] == lists(lane)[0] == lists(batch)[b]
        np.testing.assert_array_equal(plain.scores, lane.scores)
        assert plain.columns.keys() == lane.columns.keys()
        assert request.exclude is not None
        assert not set(plain.items) & set(request.exclude[0])


def test_columns_tell_every_stage(here: World) -> None:
    found = here.funnel().recommend(here.request(np.array([1])), 10)
    wanted = {f"{route}.{what}" for route in ("itemcf", "vector", "popular") for what in ("score", "rank")}
    assert set(found.columns) == wanted | {"merge.score", "prerank.score", "rank.score", "choose", "like", "love"}
    np.testing.assert_array_equal(found.columns["rank.score"], found.scores)
    assert (np.diff(found.scores) <= 0).all()


def test_a_dead_route_is_named_and_the_rest_answers(here: World) -> None:
    routes = [Route("gone", Dead(), 50), *here.routes()]
    request = here.request(np.array([4]))
    without = here.funnel().recommend(request, 10)
    for ask in (request, guarded(request)):
        trace = Trace()
        found = here.funnel(recall=routes).recommend(ask, 10, trace)
        assert trace.degraded == ["gone: error"]
        assert found.items.tolist() == without.items.tolist()
        assert np.isnan(found.columns["gone.score"]).all()


def test_the_order_of_falling_back(here: World) -> None:
    request = here.request(np.array([4]))
    whole, trace = here.funnel(), Trace()
    whole.recommend(request, 10, trace)
    after = {one.stage: one.after for one in trace.passages}
    pre, merged = after["prerank"], after["filter.Exclude"]
    assert pre is not None
    assert merged is not None

    def degraded(funnel: Funnel) -> tuple[list[str], list[int]]:
        trace = Trace()
        found = funnel.recommend(request, 10, trace)
        return trace.degraded, found.items.tolist()

    assert degraded(here.funnel(rank=Dead())) == (["rank: error"], pre.items[:10].tolist())
    assert degraded(here.funnel(rank=Dead(), prerank=Dead())) == (["prerank: error", "rank: error"], merged.items[:10].tolist())
    popular = here.popular().retrieve(request, 10).items.tolist()
    assert degraded(here.funnel(recall=[Route("a", Dead()), Route("b", Dead())])) == (["a: error", "b: error"], popular)
    assert degraded(here.funnel(recall=[Route("a", Dead())], fallback=Dead())) == (["a: error", "fallback: error"], [])

    class Light:
        keep = 25

        def __call__(self, request: Request, candidates: Candidates) -> Candidates:
            raise MemoryError

    trace = Trace()
    here.funnel(prerank=Light()).recommend(request, 10, trace)
    ranked = next(one.after for one in trace.passages if one.stage == "rank")
    assert ranked is not None
    assert len(ranked.items) == 25, "the ranker is not given more because the pre-ranker failed"


def test_the_stored_list_fills_only_who_has_nothing(here: World) -> None:
    class Half(Fixed):
        def retrieve(self, request: Request, k: int) -> Candidates:
            return super().retrieve(request, k).take(np.arange(3 * len(request)) % 6 < 3)

    funnel = Funnel([Route("half", Half(5, 6, 7))], fallback=Fixed(1, 2))
    found = funnel.recommend(here.request(np.arange(4), exclude_seen=False), 10)
    assert lists(found) == [[5, 6, 7], [1, 2], [5, 6, 7], [1, 2]]
    assert np.isnan(found.columns["half.score"][3:5]).all()


def test_policies_fail_closed(here: World) -> None:
    request = here.request(np.array([2]))

    class Once(Where):
        """Fails on the first call."""

        calls = 0

        def __call__(self, request: Request, candidates: Candidates) -> Candidates:
            self.calls += 1
            if self.calls == 1:
                raise OSError
            return super().__call__(request, candidates)

    class Unsure:
        def __call__(self, request: Request, candidates: Candidates) -> Candidates:
            return replace(candidates, scores=candidates.scores * np.float32(np.nan))

    class Rule(Dead):
        policy = True

    for ask in (request, guarded(request)):
        for bad in (Dead(), Unsure()):
            trace = Trace()
            assert here.funnel(filters=[bad]).recommend(ask, 10, trace).items.tolist() == []
            assert trace.degraded[0].startswith(f"filter.{type(bad).__name__}: ")
        trace = Trace()
        assert here.funnel(rerank=[Rule()]).recommend(ask, 10, trace).items.tolist() == []
        trace = Trace()
        found = here.funnel(filters=[Once(here.items, "genres", not_in=("Horror",))]).recommend(ask, 10, trace)
        assert len(found.items) == 10, "what the rule passes on a second try may be served"
        assert trace.degraded == ["filter.Once: error"]
        assert not any("Horror" in here.items.attributes(row)["genres"] for row in found.items.tolist())
    trace = Trace()
    assert len(here.funnel(rerank=[Dead()]).recommend(request, 10, trace).items) == 10, "other steps are skipped"
    assert trace.degraded == ["rerank.Dead: error"]


def test_strict_raises(here: World) -> None:
    request = here.request(np.array([2]))
    with pytest.raises(RuntimeError, match="dead"):
        here.funnel(rank=Dead(), strict=True).recommend(request, 10)
    with pytest.raises(RuntimeError, match="dead"):
        Funnel([Route("gone", Dead())]).recall_stage(request)
    assert here.funnel(rank=Dead()).recall_stage(request).columns.keys() >= {"itemcf.score", "popular.rank"}


def test_answers_that_do_not_fit_are_invalid(here: World) -> None:
    class Wrong:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def retrieve(self, request: Request, k: int) -> Candidates:
            return self.answer

    one = np.array([1], np.int64)
    for answer in (
        Candidates.empty(3),
        Candidates(one, np.array([np.inf], np.float32), np.array([0, 1])),
        Candidates(one, np.array([1.0, 2.0], np.float32), np.array([0, 2])),
        Candidates(one, np.array([1.0], np.float32), np.array([0, 0])),
    ):
        trace = Trace()
        found = Funnel([Route("wrong", Wrong(answer)), Route("right", Fixed(3))]).recommend(here.request(np.array([0])), 5, trace)
        assert found.items.tolist() == [3]
        assert trace.degraded == ["wrong: invalid"]
    trace = Trace()
    Funnel([Route("wrong", Wrong(None)), Route("right", Fixed(3))]).recommend(here.request(np.array([0])), 5, trace)
    assert trace.degraded == ["wrong: error"]


def test_odd_numbers(here: World) -> None:
    funnel = here.funnel()
    request = here.request(np.array([0]))
    assert len(funnel.recommend(request, 0)) == 1
    assert len(funnel.recommend(request, 0).items) == 0
    assert len(funnel.recommend(here.request(np.empty(0, np.int64)), 5)) == 0
    assert len(funnel.recommend(request, 10_000).items) > 60
    assert len(funnel.recommend(here.request(np.array([-1])), 5).items) == 5
    with pytest.raises(ValueError, match="0 or more"):
        funnel.recommend(request, -1)
    with pytest.raises(ValueError, match="two routes"):
        Funnel([Route("a", Fixed(1)), Route("a", Fixed(1))])
    with pytest.raises(ValueError, match="cannot be called 'rank'"):
        Funnel([Route("rank", Fixed(1))])
    with pytest.raises(ValueError, match="quota"):
        Funnel([Route("a", Fixed(1), 0)])
    with pytest.raises(ValueError, match="at least one route"):
        Funnel([])
    assert Funnel([], fallback=Fixed(4, 2)).recommend(request, 5).items.tolist() == [4, 2]
    with pytest.raises(ValueError, match="lane"):
        Guard(width=0)


def test_why_and_why_not_against_the_lists(here: World) -> None:
    trace = Trace()
    page = here.funnel(filters=[*here.funnel().filters, Where(here.items, "genres", not_in=("Horror",))]).recommend(
        here.request(np.arange(3)), 10, trace
    )
    for b in range(3):
        mine = lists(page)[b]
        survivors: dict[str, set[int]] = {one.stage: set(lists(one.after)[b]) for one in trace.passages if one.after is not None}
        order = [one.stage for one in trace.passages if one.kind not in ("recall",)]
        for item in range(0, 400, 3):
            expected: str | None = "recall"
            if item in survivors["merge"]:
                expected = next((stage for stage in order if item not in survivors[stage]), None)
            assert trace.dropped_by(item, b) == expected
            assert (item in mine) == (expected is None)
        gone = trace.dropped(b)
        assert all(trace.dropped_by(int(row), b) == stage for stage, rows in gone.items() for row in rows[:20])
        way = trace.why(mine[0], b)
        assert way[-1] == {"stage": "page", "kind": "page", "place": 0, "score": pytest.approx(float(page.scores[page.offsets[b]]))}
        offered = [entry["stage"] for entry in way if entry["kind"] == "recall" and "place" in entry]
        for route in ("itemcf", "vector", "popular"):
            assert (route in offered) == bool(np.isfinite(page.columns[f"{route}.rank"][page.offsets[b]]))
        horror = next(int(row) for row in gone["filter.Where"])
        assert "Horror" in here.items.attributes(horror)["genres"]
    summary = trace.summary(1)
    assert [entry["stage"] for entry in summary][:4] == ["itemcf", "vector", "popular", "merge"]
    assert all(entry["microseconds"] >= 0 for entry in summary)
    assert summary[-1]["items"] == 10


def test_new_items_reach_the_routes(here: World) -> None:
    fresh = world()
    funnel = fresh.funnel()
    row = fresh.items.add("new", {"genres": ["War"], "year": 1999.0})
    funnel.add(np.array([row]))
    everything = funnel.recall_stage(fresh.request(np.arange(5)))
    vector = funnel.routes[1].retriever
    assert row in vector.retrieve(fresh.request(np.array([0])), 10_000).items
    funnel.remove(np.array([row]))
    assert row not in vector.retrieve(fresh.request(np.array([0])), 10_000).items
    assert len(everything) == 5
    funnel.warm()


def test_the_observer_is_told_of_every_stage_and_cannot_hurt(here: World) -> None:
    told: list[tuple[str, str]] = []

    def observe(stage: str, seconds: float, outcome: str) -> None:
        told.append((stage, outcome))
        assert seconds >= 0
        raise KeyError(stage)

    found = here.funnel(recall=[Route("gone", Dead()), *here.routes()], observe=observe).recommend(here.request(np.array([0])), 10)
    assert len(found.items) == 10
    assert told[0] == ("gone", "error")
    assert [stage for stage, outcome in told if outcome == "ok"] == [
        "itemcf",
        "vector",
        "popular",
        "merge",
        "filter.Available",
        "filter.Exclude",
        "prerank",
        "rank",
    ]


def test_the_ranker_gets_what_the_recipe_says(here: World) -> None:
    """Quotas, priorities and keep are seen in what comes out of each stage."""
    trace = Trace()
    here.funnel().recommend(here.request(np.array([7])), 10, trace)
    sizes = {entry["stage"]: entry["items"] for entry in trace.summary()}
    assert (sizes["itemcf"], sizes["vector"], sizes["popular"]) == (120, 100, 80)
    assert sizes["prerank"] == sizes["rank"] == 60
    assert 120 <= sizes["merge"] <= 300
