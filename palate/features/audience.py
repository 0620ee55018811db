"""Audience: of what kind the people are who took an item lately."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numba import njit

from palate.candidates import Floats
from palate.features.kinds import Column, Static, Timed, View, Vocal, check_signal
from palate.features.numbers import Bucket
from palate.features.transforms import Category
from palate.features.vocabulary import FIRST, Vocabulary, text
from palate.schema import Feature, Owner
from palate.state.rows import EventRows


@dataclass(eq=False)
class Audience(Vocal, Timed):
    """The shares of the values of a user ``attribute`` among the last ``length`` events of the candidate before now, a vector that sums to 1.

    Its places are the attribute's ``values``, or the ``limit`` most frequent in training; other values and missing ones count nowhere. Of a
    number ``edges`` make groups: n edges, n + 1 groups. Of several values the first counts, and of a user what is known now. ``prior``
    events are added that are shared out as all events of training are. ``signal``: only events that show it. The state keeps so many events
    an item as ``audience`` of the recipe's [state] says.
    """

    shares: ClassVar[str] = ""  # type: ignore[misc]

    attribute: str
    length: int = 50
    signal: str = ""
    limit: int = 8
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    prior: float = 5.0
    label: str = ""
    vocabulary: Vocabulary = field(init=False, repr=False)
    usual: Floats = field(init=False, repr=False)
    bit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.values, self.edges = tuple(self.values), tuple(map(float, self.edges))
        for name in ("length", "limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (self.prior >= 0 and math.isfinite(self.prior)):
            raise ValueError(f"prior must be 0 or more, not {self.prior}")
        if self.values and self.edges:
            raise ValueError("edges are for numbers and values for the rest: give one of them")
        if not self.attribute or self.attribute == "id":
            raise ValueError("attribute must be a column of the users")
        self.table()
        self.audience = self.length

    @property
    def owner(self) -> Owner:
        return "pair"

    @property
    def column(self) -> str:
        return f"user.{self.attribute}"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def default_name(self) -> str:
        return f"item_audience_{self.attribute}" + (f"_{self.signal}" if self.signal else "")

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, "pair", "vector", dim=len(self.usual)),)

    def table(self) -> Category | Bucket:
        """What turns a user's attribute into the id of its group."""
        if self.edges:
            return Bucket(self.column, edges=self.edges, label=self.feature_name)
        made = Category(self.column, label=self.feature_name)
        made.vocabulary = getattr(self, "vocabulary", Vocabulary(()))
        return made

    def lookups(self) -> tuple[Static, ...]:
        return (self.table(),)

    def fit(self, rows: EventRows) -> None:
        if self.signal:
            check_signal(self.feature_name, self.signal, rows.names)
            self.bit = int(rows.bit(self.signal))

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        if self.edges:
            values = [str(group - FIRST) if group >= FIRST else None for group in self.table().encode(values)[0].tolist()]
        counts: dict[str, int] = {}
        for value, weight in zip(values, weights, strict=True):
            if (known := text(value)) is not None:
                counts[known] = counts.get(known, 0) + weight
        return counts

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        groups = tuple(map(str, range(len(self.edges) + 1))) if self.edges else self.values
        made = Vocabulary(groups) if groups else Vocabulary.fit(counts, limit=self.limit)
        found = np.array([counts.get(value, 0) for value in made.values] or [0], np.float64)
        self.usual = (found / found.sum() if found.any() else np.full(len(found), 1 / len(found))).astype(np.float32)
        return made

    def encode(self, view: View) -> tuple[Column, ...]:
        taken = view.audience(self.feature_name, self.audience)
        groups = view.users(self.feature_name)
        return (_shares(taken.users, taken.signals, taken.begin, taken.end, self.bit, self.length, groups, self.usual, self.prior),)

    def learnt(self) -> dict[str, Any]:
        return {"bit": self.bit, "usual": self.usual.tolist()}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.bit, self.usual = int(learnt["bit"]), np.array(learnt["usual"], np.float32)


@njit(cache=True, nogil=True)
def _shares(users, signals, begin, end, bit, length, groups, usual, prior):  # type: ignore[no-untyped-def]
    out = np.empty((len(begin), len(usual)), np.float32)
    counts = np.empty(len(usual), np.int64)
    for n in range(len(begin)):
        counts[:] = 0
        found, known, place = 0, 0, end[n]
        while place > begin[n] and found < length:
            place -= 1
            if bit == 0 or (np.int64(signals[place]) & bit) != 0:
                found += 1
                group = groups[users[place]] - FIRST if users[place] < len(groups) else -1
                if group >= 0:
                    counts[group] += 1
                    known += 1
        for g in range(len(usual)):
            out[n, g] = (counts[g] + prior * usual[g]) / (known + prior) if known + prior > 0 else usual[g]
    return out
