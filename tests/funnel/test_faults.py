"""Every stage made to fail in every way while serving: answered in time, named, and nothing unfiltered. Then breakers and lanes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.candidates import Candidates, Request
from palate.funnel.filters import Available, Exclude
from palate.funnel.funnel import Busy, Funnel, Guard, Route, Trace
from palate.funnel.guard import Breaker
from palate.funnel.steps import Rank
from palate.rerank.mmr import MMR
from tests.funnel.world import World, world

BUDGET = 0.5  #: seconds for a request
DEADLINE = 80.0  #: ms for a stage
STAGES = ("route", "filter", "prerank", "rank", "rerank", "encode")
KINDS = ("error", "hang", "slow", "NaN")


@pytest.fixture(scope="module")
def here() -> World:
    made = world()
    made.funnel(rerank=[MMR(made.items, attribute="genres")]).recommend(made.request(np.array([0])), 10)  # compiled parts are ready
    return made


class Fault:
    """What happens inside a stage; a hung call hangs until ``let_go``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.let_go = threading.Event()
        self.calls = 0
        self.off = False

    def around(self, call: Callable[..., Any], spoil: Callable[[Any], Any]) -> Callable[..., Any]:
        def spoilt(*arguments: Any) -> Any:
            self.calls += 1
            if self.off:
                return call(*arguments)
            if self.kind == "error":
                raise RuntimeError("planted")
            if self.kind == "hang":
                self.let_go.wait(60)
            if self.kind == "slow":
                time.sleep(2.5 * DEADLINE / 1e3)
            answer = call(*arguments)
            return spoil(answer) if self.kind == "NaN" else answer

        return spoilt


@pytest.fixture
def fault() -> Iterator[Callable[[str], Fault]]:
    made: list[Fault] = []

    def make(kind: str) -> Fault:
        made.append(Fault(kind))
        return made[-1]

    yield make
    for one in made:
        one.let_go.set()


def without_numbers(candidates: Candidates) -> Candidates:
    return replace(candidates, scores=np.full_like(candidates.scores, np.nan))


class Step:
    def __init__(self, call: Callable[..., Candidates], keep: int = 60) -> None:
        self.call, self.keep = call, keep

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        return self.call(request, candidates)


class Offering:
    def __init__(self, call: Callable[..., Candidates]) -> None:
        self.retrieve = call


class Encoding:
    """A pipeline whose ``encode_pairs`` is another."""

    def __init__(self, pipeline: Any, call: Callable[..., Any]) -> None:
        self._pipeline, self.encode_pairs = pipeline, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def broken(here: World, stage: str, fault: Fault, **options: Any) -> tuple[Funnel, str]:
    """A funnel with the fault in one stage, and that stage's name."""
    parts: dict[str, Any] = {"rerank": [MMR(here.items, attribute="genres")]}
    whole = here.funnel(**parts)
    routes, name = [replace(route, deadline_ms=DEADLINE) for route in whole.routes], stage
    if stage == "route":
        routes[0] = replace(routes[0], retriever=Offering(fault.around(routes[0].retriever.retrieve, without_numbers)))
        name = "itemcf"
    elif stage == "filter":
        parts["filters"], name = [Available(here.items), Step(fault.around(Exclude(), without_numbers))], "filter.Step"
    elif stage == "prerank":
        parts["prerank"] = Step(fault.around(whole.prerank, without_numbers))  # type: ignore[arg-type]
    elif stage == "rank":
        parts["rank"] = Step(fault.around(whole.rank, without_numbers))  # type: ignore[arg-type]
    elif stage == "rerank":
        parts["rerank"], name = [Step(fault.around(whole.rerank[0], without_numbers))], "rerank.Step"
    else:
        spoil = fault.around(here.pipeline.encode_pairs, lambda columns: {n: np.full_like(v, np.nan) for n, v in columns.items()})
        parts["rank"], name = Rank(here.deepfm(), Encoding(here.pipeline, spoil)), "rank"  # type: ignore[arg-type]
    limits = dict.fromkeys(("filter_ms", "prerank_ms", "rank_ms", "rerank_ms", "fallback_ms"), DEADLINE)
    return here.funnel(recall=routes, **{**limits, **parts, **options}), name


@pytest.mark.parametrize(("stage", "kind"), list(itertools.product(STAGES, KINDS)))
def test_answered_in_time_and_named(here: World, fault: Callable[[str], Fault], stage: str, kind: str) -> None:
    planted = fault(kind)
    funnel, name = broken(here, stage, planted)
    request = here.request(np.array([5]))
    assert request.exclude is not None
    trace, begun = Trace(), time.monotonic()
    found = funnel.recommend(replace(request, deadline=begun + BUDGET), 10, trace)
    took = time.monotonic() - begun
    assert planted.calls >= 1
    assert took <= 1.1 * BUDGET
    outcome = {"error": "error", "hang": "timeout", "slow": "timeout", "NaN": "error" if stage == "encode" else "invalid"}[kind]
    again = [f"fallback: {outcome}"] if stage == "filter" and outcome != "timeout" else []  # the stored list goes through the same filter
    assert trace.degraded == [f"{name}: {outcome}", *again]
    if stage == "filter":
        assert len(found.items) == 0, "nothing that the policy has not passed"
    else:
        assert len(found.items) == 10
        assert np.isfinite(found.scores).all()
        assert not set(found.items) & set(request.exclude[0])
        assert here.items.available[found.items].all()
    if kind in ("hang", "slow"):
        assert took >= DEADLINE / 1e3
        assert funnel.breakers[name].behind == 1


def test_a_request_with_much_time_gives_its_stages_more(here: World, fault: Callable[[str], Fault]) -> None:
    """So that what is compiled or read at the first request does not count as a failure."""
    funnel, _ = broken(here, "rank", fault("slow"))
    trace = Trace()
    funnel.recommend(replace(here.request(np.array([5])), deadline=time.monotonic() + 30), 10, trace)
    assert trace.degraded == []


def test_two_stages_hang_at_once(here: World, fault: Callable[[str], Fault]) -> None:
    first, second = fault("hang"), fault("hang")
    funnel, _ = broken(here, "rank", first)
    other, _ = broken(here, "route", second)
    both = here.funnel(recall=[replace(route, deadline_ms=DEADLINE) for route in other.routes], rank=funnel.rank, rank_ms=DEADLINE)
    trace, begun = Trace(), time.monotonic()
    found = both.recommend(replace(here.request(np.array([5])), deadline=begun + BUDGET), 10, trace)
    assert time.monotonic() - begun <= 1.1 * BUDGET
    assert trace.degraded == ["itemcf: timeout", "rank: timeout"]
    assert len(found.items) == 10


def test_everything_hangs_and_the_time_is_kept(here: World, fault: Callable[[str], Fault]) -> None:
    faults = [fault("hang") for _ in range(12)]
    routes = [Route(f"r{n}", Offering(one.around(here.popular().retrieve, without_numbers)), deadline_ms=100) for n, one in enumerate(faults)]
    funnel = here.funnel(recall=routes)
    request = here.request(np.array([5]))
    trace, begun = Trace(), time.monotonic()
    found = funnel.recommend(replace(request, deadline=begun + BUDGET), 10, trace)
    assert time.monotonic() - begun <= 1.1 * BUDGET
    assert "r0: timeout" in trace.degraded
    assert "r11: skipped" in trace.degraded, "time for the stored list is kept back"
    assert found.items.tolist() == here.popular().retrieve(request, 10).items.tolist()


def test_a_breaker_opens_and_recovers(here: World, fault: Callable[[str], Fault]) -> None:
    planted = fault("hang")
    guard = Guard(failures=2, rest=0.3)
    funnel, name = broken(here, "route", planted, guard=guard)
    request = here.request(np.array([5]))

    def ask() -> tuple[list[str], float]:
        trace, begun = Trace(), time.monotonic()
        assert len(funnel.recommend(request, 10, trace).items) == 10
        return trace.degraded, time.monotonic() - begun

    breaker = funnel.breakers[name]
    for _ in range(2):
        assert ask()[0] == ["itemcf: timeout"]
    assert breaker.state == "open"
    degraded, took = ask()
    assert degraded == ["itemcf: open"]
    assert took < DEADLINE / 1e3, "nobody waits for a stage whose breaker is open"
    assert planted.calls == 2
    time.sleep(0.35)
    assert breaker.state == "half-open"
    assert ask()[0] == ["itemcf: timeout"], "one trial"
    assert ask()[0] == ["itemcf: open"]
    planted.off = True
    planted.let_go.set()
    time.sleep(0.35)
    assert ask()[0] == []
    assert breaker.state == "closed"
    deadline = time.monotonic() + 5
    while breaker.behind and time.monotonic() < deadline:
        time.sleep(0.01)
    assert breaker.behind == 0, "calls that were left behind have come back"


def test_calls_left_behind_are_capped(here: World, fault: Callable[[str], Fault]) -> None:
    planted = fault("hang")
    funnel, name = broken(here, "route", planted, guard=Guard(failures=100, abandoned=3))
    before = threading.active_count()
    for _ in range(6):
        funnel.recommend(here.request(np.array([5])), 10)
    assert planted.calls == 3
    assert funnel.breakers[name].state == "open"
    assert threading.active_count() - before <= 3 + funnel.guard.lanes.width
    planted.let_go.set()
    deadline = time.monotonic() + 5
    while threading.active_count() - before > funnel.guard.lanes.width and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() - before <= funnel.guard.lanes.width, "lanes that come back and are not needed end"


def test_one_lane_and_many_callers(here: World) -> None:
    funnel = here.funnel(guard=Guard(budget=20.0, width=1))
    expected = {user: funnel.recommend(here.request(np.array([user])), 10).items.tolist() for user in range(8)}
    wrong: list[Any] = []

    def ask(user: int) -> None:
        for _ in range(10):
            found = funnel.recommend(here.request(np.array([user])), 10).items.tolist()
            if found != expected[user]:
                wrong.append((user, found))

    callers = [threading.Thread(target=ask, args=(user,)) for user in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_callers_with_hung_stages_do_not_starve_each_other(here: World, fault: Callable[[str], Fault]) -> None:
    planted = fault("hang")
    funnel, _ = broken(here, "rank", planted, guard=Guard(budget=5.0, width=1, failures=1000, abandoned=1000))
    answers: list[int] = []

    def ask() -> None:
        answers.append(len(funnel.recommend(here.request(np.array([3])), 10).items))

    callers = [threading.Thread(target=ask) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [10] * 6


def test_busy_when_no_lane_is_free(here: World, fault: Callable[[str], Fault]) -> None:
    planted = fault("hang")
    funnel, _ = broken(here, "rank", planted, guard=Guard(budget=5.0, width=1), rank_ms=2_000.0)
    request = here.request(np.array([3]))
    slow = threading.Thread(target=lambda: funnel.recommend(request, 10))
    slow.start()
    while not planted.calls:
        time.sleep(0.005)
    begun = time.monotonic()
    with pytest.raises(Busy):
        funnel.recommend(replace(request, deadline=begun + 0.1), 10)
    assert time.monotonic() - begun < 0.3
    planted.let_go.set()
    slow.join()
    assert len(funnel.recommend(request, 10).items) == 10, "a job that was given up does not disturb the next"


def test_breaker_lets_one_trial_through() -> None:
    breaker = Breaker(failures=2, rest=0.0, abandoned=2)
    breaker.failed(1.0)
    assert breaker.allows(1.0)
    breaker.succeeded()
    breaker.failed(2.0)
    assert breaker.state == "closed", "failures in a row are counted"
    breaker.failed(2.0)
    assert breaker.allows(2.0)
    assert not breaker.allows(2.0), "only one at a time"
    breaker.failed(3.0)
    assert breaker.allows(3.0)
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.left(2)
    assert not breaker.allows(9.0)
    breaker.left(-1)
    assert breaker.allows(9.0)
