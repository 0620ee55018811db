"""What every transform promises. A transform's fields are the options of a recipe; what it learnt stands beside them.

``Static`` transforms turn one value of a user, an item or the context into columns, so those of the catalogue are encoded once and kept by row.
``Timed`` transforms look at a whole request, because they depend on its time, its history or on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Audiences, Candidates, Counts, Ints, Request
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
        """The names of its columns: ``feature_name`` where there is one, else that first or with an ending each."""
        return (self.feature_name,)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of users, items and the context that it looks at, such as ``"item.year"``."""
        return ()

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

    def note(self) -> str:
        """What a person who trains should hear of what was fitted; "" if nothing."""
        return ""


class Vocal(Transform):
    """Mixed into transforms whose values are ids: the vocabulary is their own, or that of the feature they share."""

    kept: ClassVar[tuple[str, ...]] = ("bytes", "offsets")  #: the arrays that a vocabulary of its own is saved as
    shares: str
    vocabulary: Vocabulary

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        """How often each value occurs, a value of entity n counting ``weights[n]`` times."""
        raise NotImplementedError

    def build(self, counts: Mapping[str, int]) -> Vocabulary:
        """A vocabulary of these counts by this transform's own options."""
        return Vocabulary.fit(counts)

    def restored(self, arrays: Mapping[str, NDArray[Any]]) -> Vocabulary:
        """The vocabulary that was saved as these arrays."""
        return Vocabulary.from_arrays(arrays)


class Static(Transform):
    """Reads ``column``: ``"user.x"``, ``"item.x"`` or ``"context.x"``. ``"user.id"`` and ``"item.id"`` are the catalogue's own ids."""

    column: str

    def check_column(self) -> None:
        check_column(self.column)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def learns(self) -> bool:
        """Whether it cannot be fitted without values of its column."""
        return False

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
    """Reads the request and, if its owner is ``pair``, the candidates; if it is ``item``, rows of items alone."""

    historic: bool = False  #: whether it reads the histories of a request
    audience: int = 0  #: how many of an item's last events the state must keep for it

    def fit(self, rows: EventRows) -> None:
        """Learn from the training events."""

    def lookups(self) -> tuple[Static, ...]:
        """What it wants encoded by row of the catalogues, to look up; the columns by ``feature_name``."""
        return ()

    def encode(self, view: View) -> tuple[Column, ...]:
        """One array for each of ``columns()``: ``[B, ...]`` if the owner is ``user`` or ``context``, ``[N, ...]`` if it is ``pair`` or ``item``."""
        raise NotImplementedError


class Known(Protocol):
    """What a view can look up (``sheet.Lookups``)."""

    @property
    def items(self) -> Mapping[str, Column]: ...  # by lookup's name, [rows, ...]; the last row is a stranger's
    @property
    def users(self) -> Mapping[str, Column]: ...
    @property
    def created(self) -> Ints: ...  # of the items, ms; 0 unknown
    def lookup(self, name: str) -> Static: ...


class View:
    """A request (and its candidates) as the timed transforms see it: what two of them need is computed once.

    ``rows``: the catalogue rows of the items that item and pair columns are of.
    """

    __slots__ = ("_audience", "_items", "_keys", "_known", "_last", "_moments", "_owners", "_users", "candidates", "request", "rows")

    def __init__(self, request: Request, candidates: Candidates | None, known: Known, rows: Ints | None = None) -> None:
        self.request = request
        self.candidates = candidates
        self.rows = candidates.items if rows is None and candidates is not None else rows
        self._known = known
        self._items: NDArray[np.int32] | None = None
        self._users: NDArray[np.int32] | None = None
        self._owners: Ints | None = None
        self._moments: Ints | None = None
        self._audience: Audiences | None = None
        self._keys: dict[str, Column] = {}
        self._last: dict[tuple[int, int], Ints] = {}

    def counts(self, of: str, feature: str) -> tuple[Counts, NDArray[np.int32]]:
        """Counts of the candidates ``[N, signals, windows]`` or of the users ``[B, signals, windows]``, and their protocol."""
        counts = self._counts(feature)
        if of == "user":
            if self._users is None:
                self._users = np.ascontiguousarray(counts.users(self.request.users, self.request.now), np.int32)
            return counts, self._users
        if self._items is None:
            assert self.candidates is not None
            self._items = np.ascontiguousarray(counts.items(self.candidates.items, self.moments), np.int32)
        return counts, self._items

    def _counts(self, feature: str) -> Counts:
        if self.request.counts is None:
            raise ValueError(f"feature {feature!r} counts events, but the request carries no counters: give Request.counts")
        return self.request.counts

    @property
    def owners(self) -> Ints:
        """Which request each candidate belongs to ``[N]``; without candidates, each request itself ``[B]``."""
        if self._owners is None:
            self._owners = np.arange(len(self.request), dtype=np.int64) if self.candidates is None else self.candidates.requests
        return self._owners

    @property
    def moments(self) -> Ints:
        """When the request of each candidate is, ms, ``[N]``."""
        if self._moments is None:
            assert self.candidates is not None
            self._moments = self.request.now.repeat(np.diff(self.candidates.offsets))
        return self._moments

    def audience(self, feature: str, least: int) -> Audiences:
        """Who took each candidate last, before its request; ValueError if the state keeps less than ``least`` events an item."""
        if self._audience is None:
            counts = self._counts(feature)
            check_audience(feature, least, counts)
            assert self.candidates is not None
            self._audience = counts.audience(self.candidates.items, self.moments)
        return self._audience

    def last(self, bit: int, length: int) -> Ints:
        """Positions ``[B, length]`` in the histories of the last ``length`` events that show ``bit`` (0: any), oldest first, then -1."""
        found = self._last.get((bit, length))
        if found is None:
            histories = self.request.histories
            found = self._last[bit, length] = _last(histories.signals, histories.offsets, bit, length)
        return found

    def items(self, name: str) -> Column:
        """A lookup by row of the items' catalogue; the last row is a stranger's."""
        return self._known.items[name]

    def users(self, name: str) -> Column:
        """A lookup by row of the users' catalogue; the last row is a stranger's."""
        return self._known.users[name]

    def created(self) -> Ints:
        """When each candidate came into the catalogue, ms, ``[N]``; 0 where that is not known."""
        assert self.rows is not None
        created = self._known.created
        return np.where(self.rows < 0, 0, created.take(self.rows, mode="clip")) if len(created) else np.zeros(len(self.rows), np.int64)

    def values(self, column: str) -> tuple[Column, Ints]:
        """The lookup of a column, and for each row that is wanted (candidate, item, request) the place in it."""
        side, _, attribute = column.partition(".")
        if side == "item":
            assert self.rows is not None
            table = self._known.items[column]
            if len(self.rows) and int(self.rows.max()) >= len(table):
                raise IndexError(f"the catalogue of items has no row {int(self.rows.max())}")
            return table, self.rows
        found = self._keys.get(column)
        if found is None:
            if side == "context":
                (found,) = self._known.lookup(column).encode(context_of(self.request, attribute))
            else:
                found = self._known.users[column].take(self.request.users, 0)
                given = self.request.attributes.get(attribute) if attribute != "id" else None
                if given is not None:
                    told = [b for b, value in enumerate(checked_length(attribute, given, len(self.request))) if value is not None]
                    (found[told],) = self._known.lookup(column).encode([given[b] for b in told])
            self._keys[column] = found
        return found, self.owners


def windows_of(window: int | Sequence[int]) -> tuple[int | tuple[int, ...], tuple[int, ...]]:
    """The option ``window`` as it is kept, and the windows it names (days; 0: all time); ValueError for one that cannot be."""
    windows = (window,) if isinstance(window, int) else tuple(window)
    if not windows or min(windows) < 0 or len(set(windows)) < len(windows):
        raise ValueError(f"window must be 0 (all time) or a number of days, or a list of different ones, not {window}")
    return (window if isinstance(window, int) else windows), windows


def ending(window: int) -> str:
    """What the name of a column over ``window`` days ends in."""
    return f"{window}d" if window else "all"


def check_column(column: str) -> None:
    """ValueError unless it reads ``user.x``, ``item.x`` or ``context.x``."""
    side, dot, attribute = column.partition(".")
    if side not in SIDES or not dot or not attribute:
        raise ValueError(f"column {column!r} must read 'user.x', 'item.x' or 'context.x'{nearest(side, SIDES).split('; known')[0]}")


def check_audience(feature: str, least: int, counts: Counts) -> None:
    """ValueError if these counters keep less than ``least`` events an item."""
    if counts.kept < least:
        raise ValueError(f"feature {feature!r} needs the last {least} events of each item; the state keeps {counts.kept}: set audience of [state]")


def check_signal(feature: str, signal: str, known: Sequence[str]) -> None:
    """ValueError for a signal that no event can show."""
    if signal not in known:
        raise ValueError(f"feature {feature!r}: no signal {signal!r}{nearest(signal, known)}")


def checked_length(name: str, values: Sequence[Any], size: int) -> Sequence[Any]:
    """The values, if there is one for each of ``size`` rows; else ValueError."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or len(values) != size:
        raise ValueError(f"{name!r} must hold one value for each of {size} rows")
    return values


def context_of(request: Request, attribute: str) -> Sequence[Any]:
    """A context column of a request, one value each ``[B]``; None where nothing is known. The scene is the request's own if not given."""
    values = request.context.get(attribute)
    if values is None:
        return [request.scene if attribute == "scene" else None] * len(request)
    return checked_length(attribute, values, len(request))


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
