"""Who asks and what is known (``Request``), and the items on their way through the funnel (``Candidates``).

Both are batched over requests, hold numpy arrays and are never mutated. Items and users are catalogue rows (int64);
-1 stands for one that the catalogue does not know. Times are int64 milliseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

SECOND = 1_000  #: milliseconds
DAY = 86_400_000  #: milliseconds


def offsets_of(lengths: Ints | Sequence[int]) -> Ints:
    """Offsets ``[B + 1]`` of ragged rows with these lengths ``[B]``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, slots=True)
class Ragged:
    """Lists of catalogue rows of different lengths: list b is ``values[offsets[b]:offsets[b + 1]]``."""

    values: Ints
    offsets: Ints

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | Ints]) -> Ragged:
        offsets = offsets_of([len(one) for one in lists])
        values = np.concatenate([np.asarray(one, np.int64) for one in lists]) if len(lists) else np.empty(0, np.int64)
        return cls(values, offsets)

    @classmethod
    def empty(cls, size: int) -> Ragged:
        return cls(np.empty(0, np.int64), np.zeros(size + 1, np.int64))

    def __getitem__(self, index: int) -> Ints:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Histories:
    """What each user of a request did before ``now``, oldest first.

    ``items`` int64 ``[M]``, ``times`` int64 ``[M]`` ms, ``signals`` uint32 ``[M]`` (bit s set: the event shows signal s of the
    recipe), ``values`` float32 ``[M]`` (NaN where an event has none), ``offsets`` int64 ``[B + 1]``.
    """

    items: Ints
    times: Ints
    signals: NDArray[np.uint32]
    values: Floats
    offsets: Ints

    @classmethod
    def empty(cls, size: int) -> Histories:
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty(0, np.uint32), np.empty(0, np.float32), np.zeros(size + 1, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Counts(Protocol):
    """Integer counts of events before ``now``; ``state.counters`` has a bulk and a live implementation that agree bit for bit.

    A window of n buckets reaches from n - 1 whole buckets before the bucket that holds ``now`` up to, not including, ``now``.
    Window 0 means all time. Rows out of range, and -1, count 0.
    """

    signals: tuple[str, ...]
    windows: tuple[int, ...]  # milliseconds, whole buckets

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]: ...  # [N], [N] -> [N, signals, windows]

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]: ...  # [N], [N] -> [N, signals, windows]


@dataclass(frozen=True, slots=True)
class Request:
    """B people who ask at once (one, when serving).

    ``users`` int64 ``[B]`` (-1: never seen). ``now`` int64 ``[B]``. ``attributes`` of the user and ``context`` of the moment: by name,
    one entry a request; what is given here goes before what the catalogue knows. ``exclude``: items that must not come back.
    ``as_of``: sequence number of the last event applied. ``deadline``: ``time.monotonic()`` seconds.
    """

    users: Ints
    histories: Histories
    now: Ints
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    context: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scene: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    exclude: Ragged | None = None
    counts: Counts | None = None
    as_of: int = 0
    deadline: float | None = None
    rng: np.random.Generator | None = None

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items offered to each request, best first: those of request b are ``items[offsets[b]:offsets[b + 1]]``.

    ``scores`` float32 ``[N]``; ``columns`` hold more per candidate ``[N]``: ``"<route>.score"`` and ``"<route>.rank"`` (0 best; NaN
    where the route did not offer it), each task's probability, ``"propensity"`` and the like.
    """

    items: Ints
    scores: Floats
    offsets: Ints
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def empty(cls, size: int) -> Candidates:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(size + 1, np.int64))

    def __len__(self) -> int:
        """How many requests (not how many items) there are."""
        return len(self.offsets) - 1

    @property
    def requests(self) -> Ints:
        """Which request each candidate belongs to, int64 ``[N]``."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def take(self, chosen: NDArray[Any]) -> Candidates:
        """The candidates at ``chosen`` (a mask, or positions in ascending order of request)."""
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        if len(self) == 1:
            offsets = np.array((0, len(chosen)), np.int64)
        else:
            offsets = offsets_of(np.bincount(self.requests[chosen], minlength=len(self)))
        return Candidates(self.items[chosen], self.scores[chosen], offsets, {k: v[chosen] for k, v in self.columns.items()})

    def with_columns(self, **columns: NDArray[Any]) -> Candidates:
        """The same candidates with these columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    def rescored(self, scores: Floats, **columns: NDArray[Any]) -> Candidates:
        """New scores, and the order they give: best first within each request, ties by catalogue row."""
        scores = np.asarray(scores, np.float32)
        if len(self) == 1:
            order = np.lexsort((self.items, -scores))
        else:
            order = np.lexsort((self.items, -scores, self.requests))
        merged = {**self.columns, **columns}
        return Candidates(self.items[order], scores[order], self.offsets, {k: v[order] for k, v in merged.items()})

    def top(self, k: int) -> Candidates:
        """The first k of each request."""
        if len(self) == 1:
            return self if len(self.items) <= k else self.take(np.arange(k))
        place = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return self.take(place < k)
