"""Who asks and what is known (``Request``), and the items on their way through the funnel (``Candidates``).

Both are batched over requests, hold numpy arrays and are never mutated. Items and users are catalogue rows (int64);
-1 stands for one that the catalogue does not know. Times are int64 milliseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

SECOND = 1_000  #: milliseconds
DAY = 86_400_000  #: milliseconds
SOME = 256  #: requests up to which each one is sorted by itself
FEW = 65_536  #: candidates up to which columns are gathered only when they are read; beyond it they would hold on to too much memory


def offsets_of(lengths: Ints | Sequence[int]) -> Ints:
    """Offsets ``[B + 1]`` of ragged rows with these lengths ``[B]``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def spans(offsets: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """Where the values of the chosen lists stand, and the offsets they then have."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    made = offsets_of(lengths)
    return np.repeat(offsets[chosen] - made[:-1], lengths) + np.arange(made[-1]), made


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

    def take(self, places: Ints, offsets: Ints) -> Histories:
        """The events at these places, as the histories that ``offsets`` make of them."""
        return Histories(self.items[places], self.times[places], self.signals[places], self.values[places], offsets)


@dataclass(frozen=True, slots=True)
class Audiences:
    """Who took each of N items last: item n's events are places ``begin[n]`` to ``end[n]`` of the arrays, oldest first.

    ``users`` int64, ``times`` int64 ms, ``signals`` uint32; events of users or items that nobody knows are left out.
    """

    users: Ints
    times: Ints
    signals: NDArray[np.uint32]
    begin: Ints
    end: Ints


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What earlier pages of each user of a request ranked high but did not show, in no order: those of request b are at ``offsets[b]`` to
    ``offsets[b + 1]``.

    ``items`` int64 ``[M]``, each once a user; ``places`` int64 ``[M]``: how many others of its ranking, not shown either, stood before it; ``times``
    int64 ms ``[M]``: when that was; ``offsets`` int64 ``[B + 1]``.
    """

    items: Ints
    places: Ints
    times: Ints
    offsets: Ints


class Counts(Protocol):
    """Integer counts of events before ``now``, and each item's last events: bulk (``state.past``) and live (``state.live``) ones agree bit for bit.

    A window of n buckets reaches from n - 1 whole buckets before the bucket that holds ``now`` up to, not including, ``now``.
    Window 0 means all time. Rows out of range, and -1, count 0. ``kept`` is how many of an item's last events are known.
    """

    signals: tuple[str, ...]
    windows: tuple[int, ...]  # milliseconds, whole buckets
    kept: int

    def items(self, rows: Ints, now: Ints) -> NDArray[np.int32]: ...  # [N], [N] -> [N, signals, windows]

    def users(self, rows: Ints, now: Ints) -> NDArray[np.int32]: ...  # [N], [N] -> [N, signals, windows]

    def audience(self, rows: Ints, now: Ints) -> Audiences: ...  # of item rows [N] before now [N]


@dataclass(frozen=True, slots=True)
class Request:
    """B people who ask at once (one, when serving).

    ``users`` int64 ``[B]`` (-1: never seen). ``now`` int64 ``[B]``. ``attributes`` of the user and ``context`` of the moment: by name,
    one entry a request; what is given here goes before what the catalogue knows. ``exclude``: items that must not come back. ``former``: what
    earlier pages left over, where that is kept.
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
    former: Leftovers | None = None

    def __len__(self) -> int:
        return len(self.users)

    def showing(self, bit: int) -> Request:
        """The same with histories of only those events that show ``bit`` (0: any)."""
        past = self.histories
        shown = (past.signals & np.uint32(bit)) != 0
        if not bit or shown.all():
            return self
        return replace(self, histories=past.take(np.flatnonzero(shown), offsets_of(shown.astype(np.int64))[past.offsets]))

    def take(self, chosen: Ints) -> Request:
        """The requests at these ascending positions; ``parameters`` are those of all."""
        past, size = self.histories, len(self)
        if len(chosen) == size:
            return self
        places, offsets = spans(past.offsets, chosen)
        exclude = self.exclude
        if exclude is not None:
            kept, bounds = spans(exclude.offsets, chosen)
            exclude = Ragged(exclude.values[kept], bounds)
        former = self.former
        if former is not None:
            kept, bounds = spans(former.offsets, chosen)
            former = Leftovers(former.items[kept], former.places[kept], former.times[kept], bounds)
        given = [{name: [values[b] for b in chosen] for name, values in told.items()} for told in (self.attributes, self.context)]
        return replace(
            self,
            users=self.users[chosen],
            histories=past.take(places, offsets),
            now=self.now[chosen],
            attributes=given[0],
            context=given[1],
            exclude=exclude,
            former=former,
        )


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why each of N candidates is offered: ``items`` int64 ``[N]`` the item of the history that speaks most for it (-1: none), ``strength`` float32
    ``[N]`` how much, in the model's own measure (0: nothing does). ``text`` says it, of ``{item}`` and ``{strength}``."""

    items: Ints
    strength: Floats
    text: str = "goes with {item}"

    @classmethod
    def none(cls, size: int) -> Grounds:
        return cls(np.full(size, -1, np.int64), np.zeros(size, np.float32))


class Picked(Mapping[str, NDArray[Any]]):
    """Columns of chosen candidates, each gathered when it is first read: of most of them a page's few rows are all that is ever wanted.

    ``parts``: columns, and the positions chosen of them (None: all); a later part goes before an earlier one.
    """

    __slots__ = ("_made", "_parts")

    def __init__(self, *parts: tuple[Mapping[str, NDArray[Any]], Ints | None]) -> None:
        self._parts = parts
        self._made: dict[str, NDArray[Any]] = {}

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Picked:
        return columns if isinstance(columns, Picked) else cls((columns, None))

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self._made.get(name)
        if found is None:
            for columns, chosen in reversed(self._parts):
                if name in columns:
                    found = self._made[name] = columns[name] if chosen is None else columns[name][chosen]
                    return found
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return any(name in columns for columns, _ in self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for columns, _ in self._parts for name in columns})

    def __len__(self) -> int:
        return len(set().union(*(columns for columns, _ in self._parts)))

    def take(self, chosen: Ints) -> Picked:
        """The columns of the candidates at these positions."""
        return Picked(*((columns, chosen if before is None else before[chosen]) for columns, before in self._parts))

    def joined(self, columns: Mapping[str, NDArray[Any]]) -> Picked:
        """These columns added or put in the place of others."""
        return Picked(*self._parts, (columns, None)) if columns else self


def _gathered(columns: Mapping[str, NDArray[Any]], chosen: Ints) -> Mapping[str, NDArray[Any]]:
    if len(chosen) <= FEW:
        return Picked.of(columns).take(chosen) if columns else {}
    return {name: values[chosen] for name, values in columns.items()}


def _joined(columns: Mapping[str, NDArray[Any]], more: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    return columns.joined(more) if isinstance(columns, Picked) else {**columns, **more}


def _best_first(items: Ints, scores: Floats, offsets: Ints) -> Ints:
    """Positions by request, falling score, ties by rising row: the last two in one integer, whose order numpy finds fastest."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFF_FFFF))
    keys = -rising.astype(np.int64)
    keys <<= 32
    keys += items
    if len(offsets) == 2:
        return np.argsort(keys)
    if len(offsets) <= SOME:
        order = np.empty(len(keys), np.int64)
        limits = offsets.tolist()
        for start, stop in pairwise(limits):
            np.add(keys[start:stop].argsort(), start, out=order[start:stop])
        return order
    return np.lexsort((keys, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))))


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
        return Candidates(self.items[chosen], self.scores[chosen], offsets, _gathered(self.columns, chosen))

    def with_columns(self, **columns: NDArray[Any]) -> Candidates:
        """The same candidates with these columns added or replaced."""
        return Candidates(self.items, self.scores, self.offsets, _joined(self.columns, columns))

    def rescored(self, scores: Floats, **columns: NDArray[Any]) -> Candidates:
        """New scores, and the order they give: best first within each request, ties by catalogue row."""
        scores = np.asarray(scores, np.float32)
        order = _best_first(self.items, scores, self.offsets)
        return Candidates(self.items[order], scores[order], self.offsets, _gathered(_joined(self.columns, columns), order))

    def spread(self, places: Ints, size: int) -> Candidates:
        """The same lists as those of ``places`` (ascending) among ``size`` requests; the others have none."""
        lengths = np.zeros(size, np.int64)
        lengths[places] = np.diff(self.offsets)
        return Candidates(self.items, self.scores, offsets_of(lengths), self.columns)

    def beside(self, other: Candidates) -> Candidates:
        """Both, without columns; of one request these first, whatever the scores."""
        order = np.argsort(np.concatenate((self.requests, other.requests)), kind="stable")
        items, scores = np.concatenate((self.items, other.items)), np.concatenate((self.scores, other.scores))
        return Candidates(items[order], scores[order], self.offsets + other.offsets)

    def top(self, k: int) -> Candidates:
        """The first k of each request."""
        if len(self) == 1:
            return self if len(self.items) <= k else self.take(np.arange(k))
        place = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return self.take(place < k)
