"""What each stage of a funnel keeps and adds, measured on one pass over the questions.

Whoever runs the funnel hands over its stages (``Observed``); this file counts how many of the right items each route brings at its
quota, how many survive the merge, the filters and the pre-rank, whether the pre-rank keeps what the ranker would put on top, how good the
ranker's probabilities are, what the final list is worth, and whether it beats every route alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Ints, Ragged, Request, offsets_of
from palate.evaluation.judged import BEFORE, FINAL, Judged, comparisons, exposures, plain
from palate.evaluation.metrics.ranking import judge, table
from palate.evaluation.metrics.statistics import Doubles, bootstrap_means
from palate.evaluation.offline import Progress, Questions, Recommend, asked_in_parts, evaluate
from palate.evaluation.tasks import task_figures
from palate.state.past import Past

COMPARED = ("ndcg@10", "recall@20", "hit@10", "mrr@10")


@dataclass(frozen=True)
class Observed:
    """One batch of requests on its way through the funnel; a stage that the funnel does not have is None.

    ``merged`` and what follows carry the columns ``"<route>.rank"``; ``ranked`` one column for each task with its probability.
    ``unpruned``: the ranker's order of all that the filters passed, as if there were no pre-rank. ``degraded``: stages that did not answer.
    """

    merged: Candidates
    final: Candidates
    filtered: Candidates | None = None
    preranked: Candidates | None = None
    ranked: Candidates | None = None
    unpruned: Candidates | None = None
    degraded: tuple[str, ...] = ()


Observe = Callable[[Request, int], Observed]


class Passage(Protocol):
    """What a funnel's trace tells of one stage: its ``kind`` is recall, merge, filter, prerank, rank or rerank."""

    @property
    def stage(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def outcome(self) -> str: ...

    @property
    def after(self) -> Candidates | None: ...


class Traced(Protocol):
    """A trace that a funnel fills in."""

    @property
    def passages(self) -> Sequence[Passage]: ...


def observer(
    recommend: Callable[..., Candidates], trace: Callable[[], Traced], rank: Callable[[Request, Candidates], Candidates] | None = None
) -> Observe:
    """Turns a funnel's ``recommend(request, k, trace=...)`` into what ``measure`` asks. ``rank`` is the funnel's rank step: it then also
    scores what the pre-rank dropped, to see whether that was right to drop it."""

    def observe(request: Request, k: int) -> Observed:
        told = trace()
        final = recommend(request, k, trace=told)
        after = {one.kind: one.after for one in told.passages if one.after is not None}  # the last of each kind
        filtered, preranked = after.get("filter"), after.get("prerank")
        merged = after.get("merge", final)
        unpruned = rank(request, filtered if filtered is not None else merged) if rank is not None and preranked is not None else None
        failed = tuple(dict.fromkeys(f"{one.stage}: {one.outcome}" for one in told.passages if one.outcome != "ok"))
        return Observed(merged, final, filtered, preranked, after.get("rank"), unpruned, failed)

    return observe


@dataclass(frozen=True)
class Lists:
    """What is needed to judge lists as lists: the catalogue's size, how many users took each item, of how many users, each item's
    attribute values and each question's own items."""

    n_items: int
    takers: NDArray[Any]
    n_users: int
    sets: Ragged | None = None
    profiles: Ragged | None = None

    def of(self, judged: Judged, replicates: int) -> Judged:
        return judged.with_lists(self.n_items, self.takers, self.n_users, self.sets, self.profiles, min(replicates, 200))


@dataclass(frozen=True)
class Measured:
    """``systems``: the final list first, then the list before re-rank, each route alone, and the baselines, on the same questions.

    ``shares``: by name float64 ``[N]``, one share a question; ``sizes``: mean candidates a request after each stage.
    ``tasks``: labels, predictions and users ``[M]`` of each task over the ranked candidates.
    """

    questions: Questions
    systems: dict[str, Judged]
    quotas: dict[str, int]
    shares: dict[str, Doubles]
    sizes: dict[str, float]
    tasks: dict[str, tuple[NDArray[np.float32], NDArray[np.float32], Ints]]
    lists: Lists | None = None
    degraded: dict[str, int] = field(default_factory=dict)  #: stages that did not answer, and in how many batches

    def figures(
        self, replicates: int = 1000, seed: int = 0, metrics: tuple[str, ...] = ("ndcg@10", "recall@20", "hit@10", "mrr@10")
    ) -> dict[str, Any]:
        """Plain JSON of all of it, with bootstrap intervals; the form that ``report`` draws. ``metrics`` are those of the paired tests."""
        names = list(self.shares)
        columns = np.stack([self.shares[name] for name in names], 1) if names else np.empty((0, 0))
        found = bootstrap_means(columns, self.questions.users, replicates, seed=seed)
        shares = {name: plain(one) for name, one in zip(names, found, strict=True)}
        stages = []
        for name, size in self.sizes.items():
            kind = "route" if name in self.quotas else name
            one: dict[str, Any] = {"name": name, "kind": kind, "size": size, "recall": shares[f"recall of {name}"]}
            if kind == "route":
                one |= {"quota": self.quotas[name], "only": shares[f"only {name}"]}
            stages.append(one)
        final = self.systems[FINAL]
        others = [judged for name, judged in self.systems.items() if name != FINAL]
        known = tuple(metric for metric in metrics if metric in final.metrics)
        return {
            "protocol": self.questions.name,
            "label": final.label,
            "questions": len(self.questions),
            "users": len(np.unique(self.questions.users)),
            "dropped": self.questions.dropped,
            "ks": list(final.ks),
            "stages": stages,
            "survival": shares.get("survival"),
            "ranker_top": [{"k": int(name.split(" ")[-1]), "recall": one} for name, one in shares.items() if name.startswith("ranker's top ")],
            "tasks": [task_figures(name, *rows, replicates=replicates, seed=seed) for name, rows in self.tasks.items()],
            "systems": [judged.figures(replicates, seed) for judged in self.systems.values()],
            "popularity": exposures(list(self.systems.values()), self.lists.takers) if self.lists is not None and len(self.questions) else {},
            "degraded": dict(self.degraded),
            "comparisons": comparisons(final, others, known, max(replicates, 1000)) if len(self.questions) else [],
        }


class _Membership:
    """Whether pairs of (question, item) are among given ones, and which."""

    def __init__(self, lists: Ragged, span: int) -> None:
        self.span = np.int64(span)
        keys = np.repeat(np.arange(len(lists), dtype=np.int64), np.diff(lists.offsets)) * self.span + lists.values
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def find(self, questions: Ints, items: Ints) -> Ints:
        """Position in the lists' values, -1 where the pair is not there. ``[N]``"""
        if not len(self.keys):
            return np.full(len(items), -1, np.int64)
        wanted = questions * self.span + items
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.order[at], -1)


def measure(
    observe: Observe,
    past: Past,
    questions: Questions,
    quotas: Mapping[str, int],
    ks: tuple[int, ...] = (5, 10, 20),
    *,
    tasks: Mapping[str, tuple[str, str]] | None = None,
    tops: tuple[int, ...] = (10, 20, 50, 100),
    baselines: Mapping[str, Recommend] | None = None,
    lists: Lists | None = None,
    replicates: int = 200,
    exclude_seen: bool = True,
    chunk: int = 512,
    progress: Progress | None = None,
) -> Measured:
    """Ask every question of the funnel, and of ``baselines``, and measure each stage.

    ``quotas``: what each route may bring. ``tasks``: of each task the signal that is predicted and the signal it is given ("": none). ``tops``:
    how many of the ranker's best the pre-rank is asked about. ``lists`` adds coverage, novelty, diversity, Gini and popularity.
    """
    reserved = {FINAL, BEFORE, "merged", "filtered", "pre-ranked", "final"}
    for name in [*quotas, *(baselines or {})]:
        if name in reserved or (name in quotas and name in (baselines or {})):
            raise ValueError(f"the name {name!r} is taken: a stage, a route or a baseline has it already")
    for name in {one for pair in (tasks or {}).values() for one in pair if one}:
        if name not in questions.names:
            raise ValueError(f"no signal {name!r}; the events show {', '.join(questions.names)}")
    k, n = max(ks), len(questions)
    right = _Membership(questions.relevant, past.n_items)
    later = _Membership(questions.later, past.n_items)
    wanted = np.diff(questions.relevant.offsets).astype(np.float64)
    tally = _Tally(n, wanted)
    pages = {name: np.full((n, k), -1, np.int64) for name in (FINAL, BEFORE, *quotas)}
    columns: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32], Ints]]] = {name: [] for name in tasks or {}}
    degraded: Counter[str] = Counter()
    reranked = False
    for part, request in asked_in_parts(questions, past, k, chunk, exclude_seen):
        seen = observe(request, k)
        degraded.update(seen.degraded)
        passed = seen.filtered if seen.filtered is not None else seen.merged
        tally.routes(part.start, seen.merged, quotas, right)
        tally.stage("merged", part.start, seen.merged, right)
        if seen.filtered is not None:
            tally.stage("filtered", part.start, seen.filtered, right)
        if seen.preranked is not None:
            tally.stage("pre-ranked", part.start, seen.preranked, right)
            tally.survival(part, passed, seen.preranked, right)
            if seen.unpruned is not None:
                tally.tops(part, seen.unpruned, seen.preranked, tops, past.n_items)
        tally.stage("final", part.start, seen.final.top(k), right)
        pages[FINAL][part] = table(seen.final, k)
        for name in quotas:
            pages[name][part] = _alone(passed, name, quotas[name], k)
        if seen.ranked is not None:
            pages[BEFORE][part] = table(seen.ranked, k)
            reranked = True
            where = later.find(part.start + seen.ranked.requests, seen.ranked.items)
            for name, (signal, given) in (tasks or {}).items():
                if name in seen.ranked.columns:
                    labels = _labels(questions, where, signal, given)
                    who = questions.users[part.start + seen.ranked.requests]
                    known = ~np.isnan(labels)
                    columns[name].append((labels[known], seen.ranked.columns[name][known].astype(np.float32), who[known]))
        if progress is not None:
            progress(part.stop, n)
    if not reranked:
        del pages[BEFORE]
    systems = {}
    for name, items in pages.items():
        metrics = judge(items, questions.relevant, ks)
        systems[name] = Judged(name, questions.name, questions.users, questions.now, items, metrics, dict(questions.groups), ks)
    for name, recommend in (baselines or {}).items():
        systems[name] = evaluate(recommend, past, questions, ks, system=name, exclude_seen=exclude_seen, chunk=chunk)
    if lists is not None:
        systems = {name: lists.of(judged, replicates) for name, judged in systems.items()}
    joined = {name: tuple(np.concatenate(parts) for parts in zip(*found, strict=True)) for name, found in columns.items() if found}
    sizes = {name: total / max(n, 1) for name, total in tally.sizes.items()}
    return Measured(questions, systems, dict(quotas), tally.shares, sizes, joined, lists, dict(degraded))  # type: ignore[arg-type]


class _Tally:
    """Shares of the right items, question by question."""

    def __init__(self, questions: int, wanted: Doubles) -> None:
        self.questions = questions
        self.wanted = wanted
        self.shares: dict[str, Doubles] = {}
        self.sizes: dict[str, float] = {}

    def _add(self, name: str, start: int, values: Doubles) -> None:
        self.shares.setdefault(name, np.full(self.questions, np.nan))[start : start + len(values)] = values

    def _hits(self, start: int, candidates: Candidates, right: _Membership) -> NDArray[np.bool_]:
        return right.find(start + candidates.requests, candidates.items) >= 0

    def stage(self, name: str, start: int, candidates: Candidates, right: _Membership) -> None:
        found = np.bincount(candidates.requests, self._hits(start, candidates, right), minlength=len(candidates))
        self._add(f"recall of {name}", start, found / self.wanted[start : start + len(candidates)])
        self.sizes[name] = self.sizes.get(name, 0.0) + len(candidates.items)

    def routes(self, start: int, merged: Candidates, quotas: Mapping[str, int], right: _Membership) -> None:
        hits, requests = self._hits(start, merged, right), merged.requests
        offered = {name: _ranks(merged, name) < quota for name, quota in quotas.items()}
        by = np.sum(list(offered.values()), axis=0) if offered else np.zeros(len(hits))
        wanted = self.wanted[start : start + len(merged)]
        for name, mine in offered.items():
            self._add(f"recall of {name}", start, np.bincount(requests, hits & mine, minlength=len(merged)) / wanted)
            self._add(f"only {name}", start, np.bincount(requests, hits & mine & (by == 1), minlength=len(merged)) / wanted)
            self.sizes[name] = self.sizes.get(name, 0.0) + int(mine.sum())

    def survival(self, part: slice, before: Candidates, after: Candidates, right: _Membership) -> None:
        had, kept = (np.bincount(one.requests, self._hits(part.start, one, right), minlength=len(one)) for one in (before, after))
        share = np.full(len(before), np.nan)
        self._add("survival", part.start, np.divide(kept, had, out=share, where=had > 0))

    def tops(self, part: slice, unpruned: Candidates, kept: Candidates, tops: tuple[int, ...], span: int) -> None:
        there = _Membership(Ragged(kept.items, kept.offsets), span)
        for top in tops:
            best = unpruned.top(top)
            found = np.bincount(best.requests, there.find(best.requests, best.items) >= 0, minlength=len(best))
            size = np.diff(best.offsets)
            share = np.full(len(best), np.nan)
            self._add(f"ranker's top {top}", part.start, np.divide(found, size, out=share, where=size > 0))


def _ranks(candidates: Candidates, route: str) -> NDArray[np.float64]:
    """A route's rank of each candidate, infinite where it did not offer it."""
    ranks = candidates.columns.get(f"{route}.rank")
    if ranks is None:
        return np.full(len(candidates.items), np.inf)
    return np.where(np.isnan(ranks), np.inf, ranks)


def _alone(passed: Candidates, route: str, quota: int, k: int) -> Ints:
    """The page that one route alone would give, after the same filters: int64 ``[B, k]``."""
    ranks = _ranks(passed, route)
    mine = ranks < quota
    items, requests, ranks = passed.items[mine], passed.requests[mine], ranks[mine]
    order = np.lexsort((ranks, requests))
    offsets = offsets_of(np.bincount(requests, minlength=len(passed)))
    return table(Candidates(items[order], np.zeros(len(items), np.float32), offsets), k)


def _labels(questions: Questions, where: Ints, signal: str, given: str) -> NDArray[np.float32]:
    """1 where the user's later events on the candidate show ``signal``, else 0; NaN where they do not show ``given``."""
    shown = np.where(where >= 0, questions.signals[where] if len(questions.signals) else 0, 0).astype(np.uint32)
    labels = ((shown & _bit(questions, signal)) != 0).astype(np.float32)
    if given:
        labels[(shown & _bit(questions, given)) == 0] = np.nan
    return labels


def _bit(questions: Questions, signal: str) -> np.uint32:
    return np.uint32(1 << questions.names.index(signal))
