"""FID: a value as a hashed id, so that no vocabulary has to be kept and values that come later have a place of their own at once.

Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009; ids of a slot and a signature as in Liu et al.,
"Monolith: Real Time Recommendation System With Collisionless Embedding Table", ORSUM 2022.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints
from palate.features.kinds import Column, Part, Static, Vocal
from palate.features.vocabulary import FIRST, Vocabulary, parts, text
from palate.schema import PADDING, UNKNOWN, Feature

BITS = 48  #: low bits of an id, those of the value's hash; the slot stands above them
SLOTS = 1 << 15
_LOW = (1 << BITS) - 1


def slot_of(column: str) -> int:
    """The slot of a column that was given none: 15 bits of a hash of its name."""
    return int.from_bytes(hashlib.blake2b(column.encode(), digest_size=2).digest(), "big") % SLOTS


def fid(slot: int, value: str) -> int:
    """The id of a value in its text form, below 2^63: the slot in the 15 high bits, the low 48 of a 64-bit hash of the value below."""
    hashed = int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return slot << BITS | hashed & _LOW


def shared(buckets: Ints) -> int:
    """How many of different values, given the bucket of each, have their bucket with another."""
    _, counts = np.unique(buckets, return_counts=True)
    return int(counts[counts > 1].sum())


def told(name: str, seen: int, buckets: int, collided: int) -> str:
    """The rate of collisions in a sentence; "" where nothing was seen."""
    return f"{name}: {seen:,} values in {buckets:,} buckets, {collided / seen:.1%} of them share one" if seen else ""


class Hashes(Vocabulary):
    """A vocabulary of any value there may be: ids are the low bits of ``fid``, the value's alone, modulo ``buckets``, after padding and unknown (a
    missing value)."""

    def __init__(self, slot: int, buckets: int) -> None:
        super().__init__(())
        self.slot, self.buckets = slot, buckets

    @property
    def size(self) -> int:
        return FIRST + self.buckets

    def id(self, value: str | None) -> int:
        return UNKNOWN if value is None else FIRST + (fid(self.slot, value) & _LOW) % self.buckets

    def ids(self, values: Sequence[Any]) -> Ints:
        return np.fromiter(map(self.id, map(text, values)), np.int64, len(values))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}


@dataclass(eq=False)
class FID(Vocal, Static):
    """A value as one of ``buckets`` hashed ids; a missing one is 1 (unknown). Numbers and text that print alike are one value, as in Category.

    ``length`` above 1 takes several values a row, padded with 0 on the right, as Tags does. ``slot`` (0 to 32767; -1: by the column's name)
    tells the ids ``hashing.fid`` of different columns apart; which bucket of its own table a value has does not depend on it. How many of the
    values that training showed share a bucket is in ``learnt`` and is told when training begins. ``shares`` names a feature whose ids and
    embedding table this one uses.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    column: str
    buckets: int = 262_144
    length: int = 1
    slot: int = -1
    shares: str = ""
    part: Part = ""
    label: str = ""
    vocabulary: Vocabulary = field(init=False, repr=False)
    seen: int = field(default=0, init=False)
    collided: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.check_column()
        check_buckets(self.buckets, self.length)
        if not -1 <= self.slot < SLOTS:
            raise ValueError(f"slot must be 0 to {SLOTS - 1}, or -1 for that of the column's name, not {self.slot}")
        if self.shares and (self.buckets, self.slot) != (262_144, -1):
            raise ValueError(f"{self.feature_name!r} uses the ids of {self.shares!r}: set buckets and slot there")

    @property
    def place(self) -> int:
        """The slot it has."""
        return slot_of(self.column) if self.slot < 0 else self.slot

    def columns(self) -> tuple[Feature, ...]:
        several = {"length": self.length} if self.length > 1 else {}
        kind = "sequence" if several else "category"
        return (Feature(self.feature_name, self.owner, kind, vocab_size=self.vocabulary.size, shares=self.shares, **several),)  # type: ignore[arg-type]

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for value, weight in zip(values, weights, strict=True):
            check_single(self.feature_name, self.column, value, self.length)
            for known in parts(value):
                counts[known] = counts.get(known, 0) + weight
        return counts

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        made = Hashes(self.place, self.buckets)
        self.seen, self.collided = len(counts), shared(made.ids(list(counts)))
        return made

    def restored(self, arrays: Mapping[str, NDArray[Any]]) -> Vocabulary:
        return Hashes(self.place, self.buckets)

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        if self.length == 1:
            return (self.vocabulary.ids(values),)
        out = np.full((len(values), self.length), PADDING, np.int64)
        for n, value in enumerate(values):
            ids = list(dict.fromkeys(self.vocabulary.id(one) for one in parts(value)))[: self.length] or [UNKNOWN]
            out[n, : len(ids)] = ids
        return (out,)

    def learnt(self) -> dict[str, Any]:
        return {"seen": self.seen, "collided": self.collided}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.seen, self.collided = int(learnt["seen"]), int(learnt["collided"])

    def note(self) -> str:
        return "" if self.shares else told(self.feature_name, self.seen, self.buckets, self.collided)


@dataclass(eq=False)
class Keys(Static):
    """The ``fid`` of each of a column's values, uint64 ``[N, width]``, 0 where there is none: what timed transforms compare and cross.

    No feature of its own; named by its column.
    """

    column: str
    width: int = 1

    def default_name(self) -> str:
        return self.column

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        out, slot = np.zeros((len(values), self.width), np.uint64), slot_of(self.column)
        for n, value in enumerate(values):
            for place, one in enumerate(parts(value)[: self.width]):
                out[n, place] = fid(slot, one) or 1
        return (out,)


def check_buckets(buckets: int, length: int) -> None:
    if not 1 <= buckets <= 1 << 40:
        raise ValueError(f"buckets must be 1 to 2^40, not {buckets}")
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")


def check_single(feature: str, column: str, value: Any, length: int) -> None:
    """ValueError for a row of several values where there is room for one."""
    if length == 1 and isinstance(value, (list, tuple, np.ndarray)) and len(value) > 1:
        raise ValueError(f"feature {feature!r}: column {column!r} holds several values a row: give it a length above 1")
