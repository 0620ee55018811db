"""Numbers by their place among those that training showed: on a scale from 0 to 1, or in one of several buckets."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints
from palate.features.kinds import Column, Static
from palate.features.transforms import number
from palate.features.vocabulary import FIRST
from palate.schema import UNKNOWN, Feature

Doubles = NDArray[np.float64]


def numbers(values: Sequence[Any]) -> Doubles:
    """float64 ``[N]``, NaN where a value is missing or no number."""
    return np.fromiter(map(number, values), np.float64, len(values))


@dataclass(eq=False)
class Quantile(Static):
    """The share of the users or items (of the context: events) of training whose number is less, half of the equal ones counted: 0 to 1.

    Known exactly at ``steps`` + 1 quantiles and linear between them. A missing value becomes the mean of the others, about 0.5; ``flag`` adds a
    column ``<name>_missing`` that is 1 there.
    """

    column: str
    steps: int = 100
    flag: bool = False
    label: str = ""
    knots: Doubles = field(init=False, repr=False)
    below: Doubles = field(init=False, repr=False)  # share that is less than a knot
    upto: Doubles = field(init=False, repr=False)  # share that is not more
    fill: float = field(default=0.5, init=False)

    def __post_init__(self) -> None:
        self.check_column()
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"steps must be 1 to 10000, not {self.steps}")
        self._set(np.empty(0), np.empty(0), np.empty(0))

    def _set(self, knots: Doubles, below: Doubles, upto: Doubles) -> None:
        self.knots, self.below, self.upto = knots, below, upto

    @property
    def learns(self) -> bool:
        return True

    def names(self) -> tuple[str, ...]:
        return (self.feature_name, f"{self.feature_name}_missing") if self.flag else (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        return tuple(Feature(name, self.owner, "number") for name in self.names())

    def fit(self, values: Sequence[Any]) -> None:
        known = numbers(values)
        known = np.sort(known[~np.isnan(known)])
        if not len(known):
            return
        places = np.arange(self.steps + 1) * (len(known) - 1) // self.steps
        knots = np.unique(known[places])
        below, upto = (np.searchsorted(known, knots, side=side) / len(known) for side in ("left", "right"))
        self._set(knots, below, upto)
        self.fill = float(self._placed(known).mean())

    def _placed(self, values: Doubles) -> Doubles:
        if not len(self.knots):
            return np.full(len(values), 0.5)
        inside = np.clip(values, self.knots[0], self.knots[-1])
        left = np.searchsorted(self.knots, inside, side="right") - 1
        right = np.minimum(left + 1, len(self.knots) - 1)
        start, end = self.knots[left], self.knots[right]
        way = (inside - start) / np.where(end > start, end - start, 1.0)
        between = self.upto[left] + way * (self.below[right] - self.upto[left])
        placed = np.where(inside == start, (self.below[left] + self.upto[left]) / 2, between)
        return np.where(values < self.knots[0], 0.0, np.where(values > self.knots[-1], 1.0, placed))

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        raw = numbers(values)
        missing = np.isnan(raw)
        placed = np.where(missing, self.fill, self._placed(np.where(missing, 0.0, raw))).astype(np.float32)
        return (placed, missing.astype(np.float32)) if self.flag else (placed,)

    def learnt(self) -> dict[str, Any]:
        return {"knots": self.knots.tolist(), "below": self.below.tolist(), "upto": self.upto.tolist(), "fill": self.fill}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self._set(*(np.array(learnt[key], np.float64) for key in ("knots", "below", "upto")))
        self.fill = float(learnt["fill"])


@dataclass(eq=False)
class Bucket(Static):
    """A number as the id of one of at most ``buckets`` ranges, for a model that gives each a vector; a missing one is 1 (unknown).

    ``by``: ``quantile`` (as many users or items in each), ``width`` (equal widths from the least number to the largest), or ``tree``: the cuts
    are those of a decision tree that tells where the share of events with ``signal`` among those with ``among`` ("": all) differs most, each
    range having at least ``least`` such events. ``edges`` declares the cuts instead: a number equal to one belongs above it.
    """

    column: str
    buckets: int = 10
    by: Literal["quantile", "width", "tree"] = "quantile"
    signal: str = ""
    among: str = ""
    least: int = 50
    edges: tuple[float, ...] = ()
    label: str = ""
    cuts: Doubles = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_column()
        self.edges = tuple(map(float, self.edges))
        if self.buckets < 2:
            raise ValueError(f"buckets must be at least 2, not {self.buckets}")
        if self.least < 1:
            raise ValueError(f"least must be at least 1, not {self.least}")
        if (self.by == "tree") != bool(self.signal) or (self.among and not self.signal):
            raise ValueError("signal (and among) go with by = 'tree', and it with them: whose share is the tree to tell apart?")
        if self.edges and (self.by != "quantile" or list(self.edges) != sorted(set(self.edges)) or not all(map(math.isfinite, self.edges))):
            raise ValueError(f"edges must rise, and go without by, not {list(self.edges)}")
        self.cuts = np.array(self.edges, np.float64)

    @property
    def learns(self) -> bool:
        return not self.edges

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, self.owner, "category", vocab_size=FIRST + len(self.cuts) + 1),)

    def fit(self, values: Sequence[Any], hits: Ints | None = None, trials: Ints | None = None) -> None:
        """``hits`` of ``trials`` events of each value's user or item show the signal (wanted by a tree)."""
        raw = numbers(values)
        there = ~np.isnan(raw)
        known = np.sort(raw[there])
        if self.edges or not len(known):
            return
        if self.by == "width":
            cuts = known[0] + (known[-1] - known[0]) * np.arange(1, self.buckets) / self.buckets
        elif self.by == "quantile":
            cuts = known[np.arange(1, self.buckets) * len(known) // self.buckets]
        else:
            assert hits is not None
            assert trials is not None
            cuts = tree_cuts(raw[there], hits[there], trials[there], self.buckets, self.least)
        self.cuts = np.unique(cuts[cuts > known[0]])

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        raw = numbers(values)
        ids = FIRST + np.searchsorted(self.cuts, raw, side="right")
        return (np.where(np.isnan(raw), UNKNOWN, ids).astype(np.int64),)

    def learnt(self) -> dict[str, Any]:
        return {"cuts": self.cuts.tolist()}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.cuts = np.array(learnt["cuts"], np.float64)


def tree_cuts(values: Doubles, hits: Ints, trials: Ints, leaves: int, least: int) -> Doubles:
    """Where a decision tree of one number cuts it: the leaf whose best cut gains most information on hits and misses is cut next, until there
    are ``leaves``, or no cut gains. Each leaf keeps at least ``least`` trials.

    Breiman et al., "Classification and Regression Trees", 1984, with the entropy as impurity, grown best first.
    """
    levels, place = np.unique(values, return_inverse=True)
    n = np.bincount(place, trials, len(levels)).astype(np.int64)
    k = np.minimum(np.bincount(place, hits, len(levels)).astype(np.int64), n)
    hit, tried = np.r_[0, np.cumsum(k)], np.r_[0, np.cumsum(n)]

    def best(start: int, stop: int) -> tuple[float, int, int, int]:
        """(minus the gain, cut, start, stop) of the levels ``start`` to ``stop``; cut -1 where none gains."""
        inside = np.arange(start + 1, stop)
        left, right = tried[inside] - tried[start], tried[stop] - tried[inside]
        inside = inside[(left >= least) & (right >= least)]
        if not len(inside):
            return 0.0, -1, start, stop
        gains = _entropy(hit[stop] - hit[start], tried[stop] - tried[start]) - (
            _entropy(hit[inside] - hit[start], tried[inside] - tried[start]) + _entropy(hit[stop] - hit[inside], tried[stop] - tried[inside])
        )
        at = int(np.argmax(gains))
        return -float(gains[at]), int(inside[at]) if gains[at] > 1e-9 * max(tried[-1], 1) else -1, start, stop

    open_, cuts = [best(0, len(levels))], list[int]()
    while len(cuts) < leaves - 1 and open_:
        _, cut, start, stop = heapq.heappop(open_)
        if cut < 0:
            break
        cuts.append(cut)
        heapq.heappush(open_, best(start, cut))
        heapq.heappush(open_, best(cut, stop))
    below, above = (np.array([levels[cut + step] for cut in sorted(cuts)], np.float64) for step in (-1, 0))
    middle = below + (above - below) / 2
    return np.where(middle > below, middle, above)


def _entropy(hits: Any, trials: Any) -> Any:
    """Bits of a leaf's labels together."""
    found = np.zeros(np.shape(trials))
    for part in (hits, trials - hits):
        share = part / np.maximum(trials, 1)
        found -= part * np.log2(np.where(share > 0, share, 1.0))
    return found
