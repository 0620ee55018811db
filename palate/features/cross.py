"""Cross: two or three columns as one, for what a model that only adds them up cannot tell.

Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016: the cross-product transformations of its wide part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.features.hashing import Keys, check_buckets, check_single, shared, told
from palate.features.kinds import Column, Static, Timed, View, check_column
from palate.features.vocabulary import FIRST
from palate.schema import PADDING, UNKNOWN, Feature, Owner


@dataclass(eq=False)
class Cross(Timed):
    """Each pair (or triple) of values of two (or three) columns ``of`` users, items and the context, hashed into one of ``buckets`` ids; 1
    (unknown) where a column has no value.

    It belongs to the item if all columns are items', to the user if all are users', to the context if none is an item's, else to the pair.
    ``length`` above 1 takes columns of several values: so many pairs, the last column's values turning fastest, padded with 0. How many of the
    pairs that training showed share a bucket is in ``learnt`` and is told when training begins.
    """

    of: tuple[str, ...]
    buckets: int = 262_144
    length: int = 1
    label: str = ""
    seen: int = field(default=0, init=False)
    collided: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.of = tuple(self.of)
        if not 2 <= len(set(self.of)) == len(self.of) <= 3:
            raise ValueError(f"of must be two or three different columns, not {list(self.of)}")
        for column in self.of:
            check_column(column)
        check_buckets(self.buckets, self.length)

    @property
    def owner(self) -> Owner:
        sides = {column.partition(".")[0] for column in self.of}
        return sides.pop() if len(sides) == 1 else "pair" if "item" in sides else "context"  # type: ignore[return-value]

    @property
    def reads(self) -> tuple[str, ...]:
        return self.of

    def default_name(self) -> str:
        return "_x_".join(column.replace(".", "_") for column in self.of)

    def columns(self) -> tuple[Feature, ...]:
        if self.length == 1:
            return (Feature(self.feature_name, self.owner, "category", vocab_size=FIRST + self.buckets),)
        return (Feature(self.feature_name, self.owner, "sequence", vocab_size=FIRST + self.buckets, length=self.length),)

    def lookups(self) -> tuple[Static, ...]:
        return tuple(Keys(column, self.length) for column in self.of)

    def check(self, column: str, values: Sequence[Any]) -> None:
        """ValueError where a row of a column has several values and ``length`` has room for one."""
        for value in values:
            check_single(self.feature_name, column, value, self.length)

    def fit_pairs(self, views: Iterable[View]) -> None:
        """Count the pairs of the training events, and those that share a bucket."""
        found = np.empty(0, np.uint64)
        for view in views:
            found = np.unique(np.concatenate((found, self.hashes(view).ravel())))
        found = found[found != 0]
        self.seen, self.collided = len(found), shared(found % np.uint64(self.buckets))

    def hashes(self, view: View) -> NDArray[np.uint64]:
        """A hash of each pair, uint64 ``[N, length]``, then 0."""
        tables = [view.values(column) for column in self.of]
        if len(tables) == 2:
            tables.append((np.ones((1, 1), np.uint64), np.zeros(len(tables[0][1]), np.int64)))
        (one, at_one), (two, at_two), (three, at_three) = tables
        return _crossed(one, at_one, two, at_two, three, at_three, self.length)

    def encode(self, view: View) -> tuple[Column, ...]:
        ids = _ids(self.hashes(view), np.uint64(self.buckets))
        return (ids if self.length > 1 else ids[:, 0],)

    def learnt(self) -> dict[str, Any]:
        return {"seen": self.seen, "collided": self.collided}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.seen, self.collided = int(learnt["seen"]), int(learnt["collided"])

    def note(self) -> str:
        return told(self.feature_name, self.seen, self.buckets, self.collided)


@njit(cache=True, nogil=True)
def _mixed(value):  # type: ignore[no-untyped-def]
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def _crossed(one, at_one, two, at_two, three, at_three, length):  # type: ignore[no-untyped-def]
    out = np.zeros((len(at_one), length), np.uint64)
    nothing = np.uint64(0)
    for n in range(len(at_one)):
        place = 0
        a, b, c = one[at_one[n]], two[at_two[n]], three[at_three[n]]
        for i in range(min(len(a), length)):
            for j in range(min(len(b), length)):
                for k in range(min(len(c), length)):
                    if place == length or a[i] == nothing or b[j] == nothing or c[k] == nothing:
                        break
                    found = _mixed(_mixed(_mixed(a[i]) + b[j]) + c[k])
                    out[n, place] = found if found != nothing else np.uint64(1)
                    place += 1
    return out


@njit(cache=True, nogil=True)
def _ids(hashes, buckets):  # type: ignore[no-untyped-def]
    out = np.full(hashes.shape, PADDING, np.int64)
    for n in range(hashes.shape[0]):
        out[n, 0] = UNKNOWN
        for place in range(hashes.shape[1]):
            if hashes[n, place] == np.uint64(0):
                break
            out[n, place] = FIRST + np.int64(hashes[n, place] % buckets)
    return out
