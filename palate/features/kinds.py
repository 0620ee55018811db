"""What every transform promises. A transform's fields are the options of a recipe; what it learnt stands beside them.

``Static`` transforms turn one value of a user, an item or the context into columns, so those of the catalogue are encoded once and kept by row.
``Timed`` transforms look at a whole request, because they depend on its time, its history or on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Candidates, Counts, Ints, Request
from palate.features.vocabulary import Vocabulary
from palate.schema import Feature, Owner, nearest
from palate.state.rows import EventRows

Part = Literal["", "user_id", "item_id", "history", "domain"]
Column = NDArray[Any]
SIDES = ("user", "item", "context")


class Transform:
    """One entry of a recipe's features; makes one column or more. Errors are ValueErrors that name the feature."""

    part: Part = ""
    label: str = ""

    @property
    def owner(self) -> Owner:
        """To whom its columns belong."""
        raise NotImplementedError

    @cached_property
    def feature_name(self) -> str:
        """The name of its first column: ``label`` if one was given."""
        return self.label or self.default_name()

    def default_name(self) -> str:
        raise NotImplementedError

    def names(self) -> tuple[str, ...]:
        """The names of its columns, the first being ``feature_name``."""
        return (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        """What it makes, for the schema; complete once it is fitted."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON holds them."""
        return {f.name: list(value) if isinstance(value := getattr(self, f.name), tuple) else value for f in fields(self) if f.init}  # type: ignore[arg-type]

    def learnt(self) -> dict[str, Any]:
        """What was fitted, as JSON (vocabularies apart)."""
        return {}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        """Take back what ``learnt`` gave."""


class Vocal(Transform):
    """Mixed into transforms whose values are ids: the vocabulary is their own, or that of the feature they share."""

    shares: str
    vocabulary: Vocabulary

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        """How often each value occurs, a value of entity n counting ``weights[n]`` times."""
        raise NotImplementedError

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        """A vocabulary of these counts by this transform's own options."""
        return Vocabulary.fit(counts)


class Static(Transform):
    """Reads ``column``: ``"user.x"``, ``"item.x"`` or ``"context.x"``. ``"user.id"`` and ``"item.id"`` are the catalogue's own ids."""

    column: str

    def check_column(self) -> None:
        side, dot, attribute = self.column.partition(".")
        if side not in SIDES or not dot or not attribute:
            raise ValueError(f"column {self.column!r} must read 'user.x', 'item.x' or 'context.x'{nearest(side, SIDES).split('; known')[0]}")

    @property
    def owner(self) -> Owner:
        return self.column.partition(".")[0]  # type: ignore[return-value]

    @property
    def attribute(self) -> str:
        return self.column.partition(".")[2]

    def default_name(self) -> str:
        return self.column.replace(".", "_")

    def fit(self, values: Sequence[Any]) -> None:
        """Learn from the values of the users, items or events seen in training (each user and each item once)."""

    def encode(self, values: Sequence[Any]) -> tuple[Column, ...]:
        """One array ``[N, ...]`` for each of ``columns()``; a missing value (None) has an encoding too."""
        raise NotImplementedError


class Timed(Transform):
    """Reads the request and, if its owner is ``pair``, the candidates."""

    def fit(self, rows: EventRows) -> None:
        """Learn from the training events."""

    def encode(self, view: View) -> tuple[Column, ...]:
        """One array for each of ``columns()``: ``[B, ...]`` if the owner is ``user``, ``[N, ...]`` if it is ``pair``."""
        raise NotImplementedError


class View:
    """A request (and its candidates) as the timed transforms see it: what two of them need is computed once."""

    __slots__ = ("_items", "_last", "_users", "candidates", "request", "tables")

    def __init__(self, request: Request, candidates: Candidates | None, tables: Mapping[str, Ints]) -> None:
        self.request = request
        self.candidates = candidates
        self.tables = tables  # by history feature: embedding id of each item row
        self._items: NDArray[np.int32] | None = None
        self._users: NDArray[np.int32] | None = None
        self._last: dict[tuple[int, int], Ints] = {}

    def counts(self, of: str, feature: str) -> tuple[Counts, NDArray[np.int32]]:
        """Counts of the candidates ``[N, signals, windows]`` or of the users ``[B, signals, windows]``, and their protocol."""
        counts = self.request.counts
        if counts is None:
            raise ValueError(f"feature {feature!r} counts events, but the request carries no counters: give Request.counts")
        if of == "user":
            if self._users is None:
                self._users = np.ascontiguousarray(counts.users(self.request.users, self.request.now), np.int32)
            return counts, self._users
        if self._items is None:
            assert self.candidates is not None
            now = self.request.now.repeat(np.diff(self.candidates.offsets))
            self._items = np.ascontiguousarray(counts.items(self.candidates.items, now), np.int32)
        return counts, self._items

    def last(self, bit: int, length: int) -> Ints:
        """Positions ``[B, length]`` in the histories of the last ``length`` events that show ``bit`` (0: any), oldest first, then -1."""
        found = self._last.get((bit, length))
        if found is None:
            histories = self.request.histories
            found = self._last[bit, length] = _last(histories.signals, histories.offsets, bit, length)
        return found


@njit(cache=True, nogil=True)
def _last(signals, offsets, bit, length):  # type: ignore[no-untyped-def]
    out = np.full((len(offsets) - 1, length), -1, np.int64)
    for b in range(len(offsets) - 1):
        start, found, n = offsets[b + 1], 0, offsets[b + 1]
        while n > offsets[b] and found < length:  # backwards to the oldest event that is kept
            n -= 1
            if bit == 0 or (np.int64(signals[n]) & bit) != 0:
                found += 1
                start = n
        place = 0
        for n in range(start, offsets[b + 1]):
            if bit == 0 or (np.int64(signals[n]) & bit) != 0:
                out[b, place] = n
                place += 1
    return out
