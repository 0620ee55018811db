"""Judged: the answers of one system to a set of questions, and what they are worth. Two of them can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints, Ragged
from palate.evaluation.metrics import lists
from palate.evaluation.metrics.statistics import Doubles, Interval, Paired, bootstrap_mean, bootstrap_means, draws, interval_of, paired
from palate.schema import nearest

FINAL = "funnel"  #: name of a funnel's final list among the systems
BEFORE = "before re-rank"  #: and of the ranker's own order


@dataclass(frozen=True)
class Judged:
    """``items`` int64 ``[N, K]`` (-1: the list ended), ``metrics`` by name float64 ``[N]``, ``users`` and ``now`` ``[N]`` of the questions.

    A user may have asked several questions: intervals and tests draw users, not questions.
    """

    system: str
    protocol: str
    users: Ints
    now: Ints
    items: Ints
    metrics: Mapping[str, Doubles]
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    ks: tuple[int, ...] = (5, 10, 20)
    label: str = "full ranking"
    totals: Mapping[str, Interval] = field(default_factory=dict)  #: measures of all lists together

    def __len__(self) -> int:
        return len(self.users)

    def values(self, metric: str, group: str = "") -> Doubles:
        """float64, one a question (of the group)."""
        if metric not in self.metrics:
            raise ValueError(f"no metric {metric!r}{nearest(metric, self.metrics)}")
        if not group:
            return self.metrics[metric]
        if group not in self.groups:
            raise ValueError(f"no group {group!r}{nearest(group, self.groups)}")
        return self.metrics[metric][self.groups[group]]

    def mean(self, metric: str, group: str = "") -> float:
        """Mean over questions; NaN where nothing was judged."""
        values = self.values(metric, group)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float("nan")

    def interval(self, metric: str, group: str = "", replicates: int = 1000, seed: int = 0) -> Interval:
        """Mean with its bootstrap interval over users."""
        users = self.users[self.groups[group]] if group else self.users
        return bootstrap_mean(self.values(metric, group), users, replicates, seed=seed)

    def with_lists(
        self,
        n_items: int,
        takers: NDArray[np.number],
        n_users: int,
        sets: Ragged | None = None,
        profiles: Ragged | None = None,
        replicates: int = 200,
    ) -> Judged:
        """Adds what the lists themselves are like at each k: novelty, popularity, long tail, and over all lists coverage and Gini.

        ``takers`` ``[n_items]``: users who took each item; ``sets``: attribute values of each item, for diversity; ``profiles``: what each
        question's user had used, for popularity lift.
        """
        metrics, totals = dict(self.metrics), dict(self.totals)
        for k in self.ks:
            items = self.items[:, :k]
            metrics[f"novelty@{k}"] = lists.novelty(items, takers, n_users)
            metrics[f"popularity@{k}"] = lists.popularity(items, takers)
            metrics[f"long_tail@{k}"] = lists.long_tail(items, takers)
            if sets is not None:
                metrics[f"diversity@{k}"] = lists.diversity(items, sets=sets)
            if profiles is not None:
                metrics[f"popularity_lift@{k}"] = lists.popularity_lift(items, profiles, takers)
            totals[f"coverage@{k}"], totals[f"gini@{k}"] = whole(items, self.users, n_items, replicates)
        return replace(self, metrics=metrics, totals=totals)

    def figures(self, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Everything as plain JSON: each metric with its interval, and by group."""
        names = list(self.metrics)
        values = np.stack([self.metrics[name] for name in names], 1) if names else np.empty((len(self), 0))

        def means(mask: NDArray[np.bool_]) -> dict[str, Any]:
            found = bootstrap_means(values[mask], self.users[mask], replicates, seed=seed)
            return {name: plain(one) for name, one in zip(names, found, strict=True)}

        return {
            "system": self.system,
            "protocol": self.protocol,
            "label": self.label,
            "questions": len(self),
            "users": len(np.unique(self.users)),
            "metrics": means(np.ones(len(self), bool)) | {name: plain(total) for name, total in self.totals.items()},
            "groups": {group: {"questions": int(mask.sum()), "metrics": means(mask)} for group, mask in self.groups.items()},
        }


def plain(interval: Interval) -> dict[str, float | int | None]:
    """JSON of an interval; NaN becomes null."""
    return {name: (None if value != value else round(value, 12)) for name, value in interval._asdict().items()}


def within(interval: Interval, least: float, most: float) -> Interval:
    """The interval cut to what the measure can be."""
    return interval._replace(low=float(np.clip(interval.low, least, most)), high=float(np.clip(interval.high, least, most)))


def whole(items: Ints, users: Ints, n_items: int, replicates: int = 200, level: float = 0.95, seed: int = 0) -> tuple[Interval, Interval]:
    """Coverage and Gini of all lists with bootstrap intervals over users, centred: a redraw of users always shows fewer items."""
    from_users, owners = np.unique(users, return_inverse=True)
    there = items >= 0
    pairs, times = np.unique(np.broadcast_to(owners[:, None], items.shape)[there] * np.int64(n_items) + items[there], return_counts=True)
    who, what = pairs // n_items, pairs % n_items
    coverages, ginis = [], []
    for counts in draws(len(from_users), replicates, seed) if len(from_users) else ():
        for row in counts:
            shown = np.bincount(what, row[who] * times, minlength=n_items)
            coverages.append(float((shown > 0).mean()))
            ginis.append(float(lists.gini_of(shown)))
    values = lists.coverage(items, n_items), lists.gini(items, n_items)
    cover, unequal = (
        interval_of(value, np.array(found), level, len(from_users), centred=True) for value, found in zip(values, (coverages, ginis), strict=True)
    )
    return within(cover, 0.0, 1.0), within(unequal, 0.0, 1.0)


def exposures(systems: Sequence[Judged], takers: NDArray[Any], points: int = 51) -> dict[str, Any]:
    """Plain JSON of who is shown: for each system the share of its places in each tenth of the catalogue (the most taken items first), and
    its Lorenz curve (share of places held by the least shown share of items). ``taken`` is the same of the events themselves."""
    order = np.argsort(-np.asarray(takers, np.float64), kind="stable")
    tenth = np.empty(len(order), np.int64)
    tenth[order] = np.arange(len(order)) * 10 // max(len(order), 1)
    shares = np.linspace(0, 1, points)
    found: dict[str, Any] = {}
    for name, counts in [("taken", np.asarray(takers, np.float64)), *((one.system, lists.exposure(one.items, len(order))) for one in systems)]:
        total = max(float(counts.sum()), 1e-12)
        running = np.concatenate([[0.0], np.cumsum(np.sort(counts)) / total])
        curve = np.interp(shares, np.linspace(0, 1, len(running)), running)
        by_tenth = np.bincount(tenth, counts, minlength=10) / total
        found[name] = {"tenths": by_tenth.round(6).tolist(), "lorenz": {"x": shares.round(4).tolist(), "y": curve.round(6).tolist()}}
    return found


def compare(a: Judged, b: Judged, metric: str = "ndcg@10", group: str = "", replicates: int = 2000, seed: int = 0) -> Paired:
    """Paired test of a against b on the same questions; ValueError where the questions differ."""
    if not (np.array_equal(a.users, b.users) and np.array_equal(a.now, b.now)):
        raise ValueError(f"{a.system or 'a'} and {b.system or 'b'} answered different questions")
    if a.label != b.label:
        raise ValueError(f"{a.system or 'a'} ({a.label}) and {b.system or 'b'} ({b.label}) cannot be compared")
    users = a.users[a.groups[group]] if group else a.users
    return paired(a.values(metric, group), b.values(metric, group), users, replicates, seed=seed)


def comparisons(a: Judged, others: Sequence[Judged], metrics: Sequence[str] = ("ndcg@10",), replicates: int = 2000) -> list[dict[str, Any]]:
    """a against each of the others by each metric, as plain JSON rows."""
    rows = []
    for other in others:
        for metric in metrics:
            found = compare(a, other, metric, replicates=replicates)
            numbers = {name: (None if value != value else value) for name, value in found._asdict().items()}
            rows.append({"system": a.system, "against": other.system, "metric": metric, **numbers})
    return rows
