"""The funnel: routes -> merge -> filters -> pre-rank -> rank -> re-rank -> page, in bulk offline and under deadlines while serving.

A stage that raises, gives scores that are not finite, or (guarded) does not come back in time is skipped and named in the trace's ``degraded``.
What follows works with what there is: without the ranker the pre-ranker's order stands, without that the merged one; without any
candidate the stored list of ``fallback``. A policy (a filter, or a re-rank step with ``policy = True``) is never skipped: where it fails,
nothing that it has not passed is served.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate.candidates import Candidates, Ints, Request
from palate.contracts import Retriever, Step
from palate.funnel.guard import Breaker, Busy, Guard
from palate.funnel.merge import finite, snake_merge
from palate.funnel.trace import Passage, Trace

__all__ = ["Busy", "Funnel", "Guard", "Passage", "Route", "Trace"]

SPARE = 200  #: how many more items than asked for the fallback gives, for the filters to drop
SHARE = 0.8  #: of a request's time in which anything that can be skipped must have begun
_log = logging.getLogger("palate.funnel")

Observer = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Route:
    """A retriever in the funnel: it gives up to ``quota`` items; in the merge a higher ``priority`` goes first.

    ``taken``: the bit of the signal that an event must show to stand in the histories that the retriever sees (0: any event).
    """

    name: str
    retriever: Retriever
    quota: int = 200
    priority: int = 0
    deadline_ms: float = 100.0
    taken: int = 0


@dataclass(slots=True)
class _Stage:
    name: str
    kind: str
    call: Callable[[_Walk], Candidates]
    seconds: float
    policy: bool
    breaker: Breaker
    route: int = -1
    warned: bool = False

    @property
    def needed(self) -> bool:
        """Whether it must run even when time is short."""
        return self.policy or self.kind in ("merge", "fallback")


class Funnel:
    """``recall``: routes; ``filters``, ``prerank``, ``rank``, ``rerank``: steps. Reads as the product: what runs is what is listed.

    ``fallback`` offers the stored list for the case that nothing else is left. Deadlines in ms for each filter and re-rank step and for the
    rest; routes have their own. A request that has more time than the guard's ``budget`` (as when a service warms up) gives each stage more
    in proportion. ``guard``: options of guarded running. ``observe(stage, seconds, outcome)`` is told of every call
    of a stage. ``strict``: unguarded, raise what a stage raises instead of going on without it.
    """

    def __init__(
        self,
        recall: Sequence[Route],
        filters: Sequence[Step] = (),
        prerank: Step | None = None,
        rank: Step | None = None,
        rerank: Sequence[Step] = (),
        *,
        fallback: Retriever | None = None,
        filter_ms: float = 50.0,
        prerank_ms: float = 100.0,
        rank_ms: float = 150.0,
        rerank_ms: float = 50.0,
        fallback_ms: float = 50.0,
        guard: Guard | None = None,
        observe: Observer | None = None,
        strict: bool = False,
    ) -> None:
        self.routes = tuple(recall)
        self.filters, self.prerank, self.rank, self.rerank = tuple(filters), prerank, rank, tuple(rerank)
        self.fallback, self.observe, self.strict = fallback, observe, strict
        self._guarded_always = guard is not None
        self.guard = guard or Guard()
        if not self.routes and fallback is None:
            raise ValueError("a funnel needs at least one route, or a fallback")
        names = [route.name for route in self.routes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two routes are called {name!r}")
            if name in ("merge", "prerank", "rank"):
                raise ValueError(f"a route cannot be called {name!r}: the funnel's own column {name}.score would hide its scores")
        for route in self.routes:
            if route.quota < 1 or route.deadline_ms <= 0:
                raise ValueError(f"route {route.name!r}: quota must be at least 1 and deadline_ms above 0")
        self._names, self._quotas = names, [route.quota for route in self.routes]
        self._priorities = [route.priority for route in self.routes]
        self._policies = [step for step in (*self.filters, *self.rerank) if step in self.filters or getattr(step, "policy", False)]
        self._stages: list[_Stage] = []
        for place, route in enumerate(self.routes):
            self._add(route.name, "recall", _route(place, route), route.deadline_ms).route = place
        self._add("merge", "merge", self._merge, filter_ms)
        for step in self.filters:
            self._add(f"filter.{type(step).__name__}", "filter", _step(step), filter_ms, policy=True)
        if prerank is not None:
            self._add("prerank", "prerank", _step(prerank, "prerank.score"), prerank_ms)
        if rank is not None:
            self._add("rank", "rank", _step(rank, "rank.score"), rank_ms)
        for step in self.rerank:
            self._add(f"rerank.{type(step).__name__}", "rerank", _step(step), rerank_ms, policy=bool(getattr(step, "policy", False)))
        if fallback is not None:
            self._add("fallback", "fallback", self._stored, fallback_ms)
        self.shortest = min(stage.seconds for stage in self._stages)

    def _add(self, name: str, kind: str, call: Callable[[_Walk], Candidates], deadline_ms: float, policy: bool = False) -> _Stage:
        same = sum(stage.name.split("#")[0] == name for stage in self._stages)
        stage = _Stage(f"{name}#{same + 1}" if same else name, kind, call, deadline_ms / 1e3, policy, self.guard.breaker())
        self._stages.append(stage)
        return stage

    @property
    def breakers(self) -> dict[str, Breaker]:
        """Each stage's breaker, by the stage's name."""
        return {stage.name: stage.breaker for stage in self._stages}

    def recommend(self, request: Request, k: int, trace: Trace | None = None) -> Candidates:
        """At most k items for each request, best first; columns tell each stage's score. ``trace`` is filled in.

        A request with a ``deadline`` runs guarded (so does every one if the funnel was given a guard): the answer is there by then.
        Raises ``Busy`` when no lane was free in that time, ``ValueError`` for a negative k.
        """
        if k < 0:
            raise ValueError(f"k must be 0 or more, not {k}")
        trace = Trace() if trace is None else trace
        if not len(request) or not k:
            return Candidates.empty(len(request))
        guarded = self._guarded_always or request.deadline is not None
        request = replace(request, parameters={**request.parameters, "k": k})
        walk = _Walk(self, self._stages, request, k, trace, guarded)
        if guarded:
            self.guard.run(walk, walk.end)
        else:
            walk.to_the_end()
        page = walk.candidates.top(k)
        trace.note(Passage("page", "page", "ok", 0.0, page))
        return page

    def recall_stage(self, request: Request, trace: Trace | None = None) -> Candidates:
        """What the routes offer, merged and nothing more; unguarded. What a stage raises is raised."""
        walk = _Walk(self, self._stages[: len(self.routes) + 1], request, 0, trace or Trace(), False)
        walk.strict = True
        walk.to_the_end()
        return walk.candidates

    def add(self, rows: Ints) -> None:
        """Tell the routes that can take in items while serving of these new or changed ones."""
        for retriever in self._retrievers():
            if callable(getattr(retriever, "add", None)):
                retriever.add(rows)

    def remove(self, rows: Ints) -> None:
        """Tell the routes that can that these items are gone."""
        for retriever in self._retrievers():
            if callable(getattr(retriever, "remove", None)):
                retriever.remove(rows)

    def warm(self) -> None:
        """Compute ahead what steps keep for each item."""
        for step in (self.prerank, self.rank):
            side = getattr(step, "items", None)
            if callable(getattr(side, "warm", None)):
                side.warm()  # type: ignore[union-attr]

    def _retrievers(self) -> Iterable[Any]:
        return {id(one): one for one in [*(route.retriever for route in self.routes), self.fallback] if one is not None}.values()

    def _merge(self, walk: _Walk) -> Candidates:
        nothing = Candidates.empty(len(walk.request))
        if not self.routes:
            return nothing
        merged = snake_merge(self._names, [one or nothing for one in walk.offered], self._quotas, self._priorities)
        return merged.with_columns(**{"merge.score": merged.scores})

    def _stored(self, walk: _Walk) -> Candidates:
        """The fallback's list, through every policy, for the requests that have nothing."""
        assert self.fallback is not None
        stored = self.fallback.retrieve(walk.request, walk.k + SPARE)
        for step in self._policies:
            stored = step(walk.request, stored)
        have = walk.candidates
        if not len(have.items):
            return Candidates(stored.items, stored.scores, stored.offsets, dict(stored.columns))
        empty = np.diff(have.offsets) == 0
        stored = stored.take(empty[stored.requests])
        lengths = np.diff(have.offsets) + np.diff(stored.offsets)
        order = np.argsort(np.concatenate([have.requests, stored.requests]), kind="stable")
        columns = {}
        for name, values in have.columns.items():
            blank = np.full(len(stored.items), np.nan if values.dtype.kind == "f" else 0, values.dtype)
            columns[name] = np.concatenate([values, blank])[order]
        items, scores = np.concatenate([have.items, stored.items])[order], np.concatenate([have.scores, stored.scores])[order]
        return Candidates(items, scores, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), columns)


def _route(place: int, route: Route) -> Callable[[_Walk], Candidates]:
    if route.taken:
        return lambda walk: route.retriever.retrieve(walk.showing(route.taken), route.quota)
    return lambda walk: route.retriever.retrieve(walk.request, route.quota)


def _step(step: Step, column: str = "") -> Callable[[_Walk], Candidates]:
    if not column:
        return lambda walk: step(walk.request, walk.candidates)

    def scored(walk: _Walk) -> Candidates:
        found = step(walk.request, walk.candidates)
        return found.with_columns(**{column: found.scores})

    return scored


class _Invalid(ValueError):
    """A stage's answer cannot be used."""


def _checked(found: Candidates, requests: int) -> Candidates:
    scores = found.scores
    if len(found) != requests:
        raise _Invalid(f"answered {len(found)} requests, asked {requests}")
    if len(found.items) != len(scores) or found.offsets[-1] != len(scores):
        raise _Invalid("items, scores and offsets do not fit")
    plain = scores.dtype == np.float32 and scores.flags.c_contiguous and scores.flags.writeable
    if not (finite(scores) if plain else np.isfinite(scores).all()):
        raise _Invalid("scores that are not finite")
    return found


class _Walk:
    """One request on its way through the stages. Only the publishing calls change it; guarded, they run under the job's lock."""

    def __init__(self, funnel: Funnel, stages: Sequence[_Stage], request: Request, k: int, trace: Trace, guarded: bool) -> None:
        self.request, self.k, self.trace, self.guarded = request, k, trace, guarded
        self.strict = funnel.strict and not guarded
        self.stage = -1
        self.candidates = Candidates.empty(len(request))
        self.offered: list[Candidates | None] = [None] * len(funnel.routes)
        self._stages, self._funnel = stages, funnel
        self._closed = False  # a policy failed: what was there is gone
        self._hopeless = False  # and it hangs, so there is no use in asking it again for the stored list
        self._begun = 0.0
        self._showing: dict[int, Request] = {}
        now = time.monotonic()
        budget = funnel.guard.budget if request.deadline is None else request.deadline - now
        self.end = now + budget if guarded else np.inf
        self.soft_end = now + SHARE * budget if guarded else np.inf
        self._stretch = max(1.0, budget / funnel.guard.budget)
        self.shortest = self._stretch * funnel.shortest

    def showing(self, bit: int) -> Request:
        """The request as those see it who take only this; they share it."""
        found = self._showing.get(bit)
        if found is None:
            found = self._showing[bit] = self.request.showing(bit)
        return found

    def to_the_end(self) -> None:
        while self.next(time.monotonic()) is not None:
            self.run()()

    def next(self, now: float) -> float | None:
        while True:
            self.stage += 1
            if self.stage >= len(self._stages):
                self.stage = len(self._stages)
                return None
            stage = self._stages[self.stage]
            if not self._wanted(stage):
                continue
            self._begun = now
            end = self.end if stage.needed else self.soft_end
            if now >= end:
                self._lost(stage, "skipped", now)
            elif self.guarded and not stage.breaker.allows(now):
                self._lost(stage, "open", now)
            else:
                return float(min(now + self._stretch * stage.seconds, end))

    def _wanted(self, stage: _Stage) -> bool:
        if stage.kind == "fallback":
            return not self._hopeless and bool((np.diff(self.candidates.offsets) == 0).any())
        if self._closed:
            return False
        return stage.kind in ("recall", "merge") or len(self.candidates.items) > 0

    def run(self) -> Callable[[], None]:
        stage = self._stages[self.stage]
        try:
            found = _checked(stage.call(self), len(self.request))
        except _Invalid as error:
            if self.strict:
                raise
            text = str(error)
            return lambda: self._lost(stage, "invalid", time.monotonic(), text)
        except BaseException as error:
            if self.strict or not (self.guarded or isinstance(error, Exception)):
                raise
            if not stage.warned:
                stage.warned = True
                _log.warning("stage %s failed; the funnel goes on without it", stage.name, exc_info=error)
            text = type(error).__name__
            return lambda: self._lost(stage, "error", time.monotonic(), text)
        return lambda: self._won(stage, found)

    def overdue(self, now: float) -> None:
        stage = self._stages[self.stage]
        stage.breaker.left(1)
        self._lost(stage, "timeout", now)

    def returned(self, stage: int) -> None:
        self._stages[stage].breaker.left(-1)

    def _won(self, stage: _Stage, found: Candidates) -> None:
        if self.guarded:
            stage.breaker.succeeded()
        self._told(stage, "ok", time.monotonic(), found, "")
        if stage.route >= 0:
            self.offered[stage.route] = found
        else:
            self.candidates = found

    def _lost(self, stage: _Stage, outcome: str, now: float, message: str = "") -> None:
        if self.guarded and outcome in ("error", "invalid", "timeout"):
            stage.breaker.failed(now)
        if stage.policy:
            self._closed = True
            self._hopeless = outcome in ("timeout", "open", "skipped")
            self.candidates = Candidates.empty(len(self.request))
        elif stage.kind == "prerank":
            self.candidates = self.candidates.top(max(getattr(self._funnel.prerank, "keep", len(self.candidates.items)), self.k))
        self._told(stage, outcome, now, None, message)

    def _told(self, stage: _Stage, outcome: str, now: float, after: Candidates | None, message: str) -> None:
        seconds = now - self._begun
        self.trace.note(Passage(stage.name, stage.kind, outcome, seconds, after, message))
        if self._funnel.observe is not None:
            try:
                self._funnel.observe(stage.name, seconds, outcome)
            except Exception:
                _log.exception("the observer of stages failed")
