"""Columns of users, items and the moment: categories, tags, numbers and vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from palate.features.kinds import Column, Part, Static, Vocal
from palate.features.vocabulary import Vocabulary, parts, text
from palate.schema import UNKNOWN, Feature

LARGEST = 1e30  #: a number beyond this counts as missing: its square must be finite
FARTHEST = 10.0  #: standardised numbers are cut at so many deviations


def number(value: Any) -> float:
    """A value as a float; NaN if it is missing, no number, infinite or beyond ±1e30. Text that reads as a number is one."""
    if value is None:
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if -LARGEST <= found <= LARGEST else math.nan


@dataclass(eq=False)
class Category(Vocal, Static):
    """A value as an id of a vocabulary of the values that training showed; any other, and a missing one, is 1 (unknown).

    Values are compared as text: 7, 7.0 and "7" are one (``vocabulary.text``). A value's count is the number of training events whose
    user or item has it; ``min_count`` and ``limit`` (most frequent kept, 0: all) cut the rare. ``values`` declares the vocabulary instead
    of learning it. ``shares`` names a feature whose vocabulary and embedding table this one uses; it learns from both columns.
    """

    column: str
    min_count: int = 1
    limit: int = 0
    values: tuple[str, ...] = ()
    shares: str = ""
    part: Part = ""
    label: str = ""
    vocabulary: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_column()
        self.values = tuple(self.values)
        _check_vocabulary(self.min_count, self.limit)
        if self.shares and (self.min_count, self.limit, self.values) != (1, 0, ()):
            raise ValueError(f"{self.feature_name!r} uses the vocabulary of {self.shares!r}: set min_count, limit and values there")

    @property
    def learns(self) -> bool:
        return not (self.values or self.shares)

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, self.owner, "category", vocab_size=self.vocabulary.size, shares=self.shares),)

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for value, weight in zip(values, weights, strict=True):
            if isinstance(value, (list, tuple, np.ndarray)):
                raise ValueError(f"feature {self.feature_name!r}: column {self.column!r} holds several values a row: take Tags")
            if (known := text(value)) is not None:
                counts[known] = counts.get(known, 0) + weight
        return counts

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        return Vocabulary(self.values) if self.values else Vocabulary.fit(counts, self.min_count, self.limit)

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        return (self.vocabulary.ids(values),)


@dataclass(eq=False)
class Tags(Vocal, Static):
    """Several values as ids, the first ``length`` of them, padded with 0 on the right; repeated ones count once.

    A row without any value reads ``[1, 0, ...]``, so no row is empty. Options as for Category.
    """

    column: str
    length: int = 8
    min_count: int = 1
    limit: int = 0
    values: tuple[str, ...] = ()
    shares: str = ""
    label: str = ""
    vocabulary: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_column()
        self.values = tuple(self.values)
        _check_vocabulary(self.min_count, self.limit)
        if self.length < 1:
            raise ValueError(f"length must be at least 1, not {self.length}")
        if self.shares and (self.min_count, self.limit, self.values) != (1, 0, ()):
            raise ValueError(f"{self.feature_name!r} uses the vocabulary of {self.shares!r}: set min_count, limit and values there")

    @property
    def learns(self) -> bool:
        return not (self.values or self.shares)

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, self.owner, "sequence", vocab_size=self.vocabulary.size, length=self.length, shares=self.shares),)

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for value, weight in zip(values, weights, strict=True):
            for known in parts(value):
                counts[known] = counts.get(known, 0) + weight
        return counts

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        return Vocabulary(self.values) if self.values else Vocabulary.fit(counts, self.min_count, self.limit)

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        out = np.zeros((len(values), self.length), np.int64)
        for n, value in enumerate(values):
            ids = list(dict.fromkeys(self.vocabulary.id(one) for one in parts(value)))[: self.length] or [UNKNOWN]
            out[n, : len(ids)] = ids
        return (out,)


@dataclass(eq=False)
class Number(Static):
    """A number, scaled by what training showed (each user or item seen counts once).

    ``scale``: ``none``; ``log1p`` (sign(x) log(1 + \\|x\\|)); ``standard`` ((x - mean) / deviation, cut at ±10); ``minmax`` (into [0, 1],
    cut there). A missing value becomes the mean of the scaled ones; ``flag`` adds a column ``<name>_missing`` that is 1 there.
    """

    column: str
    scale: Literal["none", "log1p", "standard", "minmax"] = "none"
    flag: bool = False
    label: str = ""
    shift: float = field(default=0.0, init=False)
    spread: float = field(default=1.0, init=False)
    fill: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.check_column()

    @property
    def learns(self) -> bool:
        return self.scale in ("standard", "minmax")

    def names(self) -> tuple[str, ...]:
        return (self.feature_name, f"{self.feature_name}_missing") if self.flag else (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        return tuple(Feature(name, self.owner, "number") for name in self.names())

    def fit(self, values: Sequence[Any]) -> None:
        known = np.array([number(value) for value in values], np.float64)
        known = np.sort(known[~np.isnan(known)])  # sorted: the sums do not depend on the catalogue's order
        self.shift, self.spread, self.fill = 0.0, 1.0, 0.0
        if not len(known):
            return
        if self.scale == "standard":
            self.shift, self.spread = float(known.mean()), float(known.std())
        elif self.scale == "minmax":
            self.shift, self.spread = float(known[0]), float(known[-1] - known[0])
        if not self.spread > max(1e-9 * abs(self.shift), 1 / LARGEST):  # all equal, as far as floats tell
            self.spread = 1.0
        self.fill = float(self._scaled(known).mean())

    def _scaled(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.scale == "log1p":  # the C library's, one by one: the same to the last bit for one value and for many
            return np.fromiter((math.copysign(math.log1p(abs(value)), value) for value in values.tolist()), np.float64, len(values))
        if self.scale == "none":
            return values
        scaled = (values - self.shift) / self.spread
        return np.clip(scaled, -FARTHEST, FARTHEST) if self.scale == "standard" else np.clip(scaled, 0.0, 1.0)

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        raw = np.fromiter(map(number, values), np.float64, len(values))
        missing = np.isnan(raw)
        scaled = np.where(missing, self.fill, self._scaled(np.where(missing, 0.0, raw))).astype(np.float32)
        return (scaled, missing.astype(np.float32)) if self.flag else (scaled,)

    def learnt(self) -> dict[str, Any]:
        return {"shift": self.shift, "spread": self.spread, "fill": self.fill}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.shift, self.spread, self.fill = (float(learnt[key]) for key in ("shift", "spread", "fill"))


@dataclass(eq=False)
class Vector(Static):
    """A precomputed vector of ``dim`` numbers (a list in the column); ``scale = "unit"`` gives it length 1.

    One that is missing, of another length or not finite becomes zeros. Fitting stops if no row of training has a vector of that length.
    """

    column: str
    dim: int
    scale: Literal["none", "unit"] = "none"
    label: str = ""

    def __post_init__(self) -> None:
        self.check_column()
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}")

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, self.owner, "vector", dim=self.dim),)

    def fit(self, values: Sequence[Any]) -> None:
        lengths = {len(value) for value in values if isinstance(value, (list, tuple, np.ndarray))}
        if values and self.dim not in lengths:
            found = f"the longest has {max(lengths)}" if lengths else "it holds no lists"
            raise ValueError(f"feature {self.feature_name!r}: no vector of {self.dim} numbers in column {self.column!r}; {found}")

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        out = np.zeros((len(values), self.dim), np.float32)
        for n, value in enumerate(values):
            if isinstance(value, (list, tuple, np.ndarray)) and len(value) == self.dim:
                try:
                    row = np.array(value, np.float64)  # entry by entry it took four times as long
                except (TypeError, ValueError, OverflowError):
                    continue
                if row.shape != (self.dim,) or not (np.abs(row) <= LARGEST).all():
                    continue
                if self.scale == "unit" and (size := math.sqrt(float(row @ row))) > 0:
                    row /= size
                out[n] = row
        return (out,)


def _check_vocabulary(min_count: int, limit: int) -> None:
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, not {min_count}")
    if limit < 0:
        raise ValueError(f"limit must be 0 (no limit) or more, not {limit}")
