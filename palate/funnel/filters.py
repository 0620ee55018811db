"""Selectors: what may be shown to whom. They drop and never rescore.

All of these are policies (``policy = True``): where one fails, the funnel serves nothing that it has not passed.
An item that the catalogue does not know passes none of those that look into the catalogue.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.build import OptionError, build
from palate.candidates import Candidates, Ints, Request
from palate.schema import nearest
from palate.state.catalogue import Catalogue

Mask = NDArray[np.bool_]
REMEMBERED = 64  #: conditions of requests whose tables are kept


class Sees(Protocol):
    """What one user was shown, as ``state`` knows it."""

    def contains(self, items: Ints) -> Mask: ...


class Seer(Protocol):
    """Anything that tells what a user (a catalogue row) was shown: the state."""

    def seen(self, user: int) -> Sees: ...


class Selector:
    """Keeps the candidates where ``passing`` is true; hands the same object on where that is all of them."""

    policy: ClassVar[bool] = True

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        """bool ``[N]``."""
        raise NotImplementedError

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        if not len(candidates.items):
            return candidates
        mask = self.passing(request, candidates)
        return candidates if mask.all() else candidates.take(mask)


def _looked_up(table: Mask, rows: Ints) -> Mask:
    """``table[rows]``, False for rows that it does not have."""
    if len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        known = (rows >= 0) & (rows < len(table))
        return known & table[np.where(known, rows, 0)] if len(table) else known
    return table[rows]


class Available(Selector):
    """Items of the catalogue that are not withdrawn."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        return _looked_up(self.catalogue.available, candidates.items)


@njit(cache=True, nogil=True)
def _outside(items: Ints, offsets: Ints, values: Ints, limits: Ints, out: Mask) -> None:
    """``out[n]``: items[n] is not among its request's values."""
    most = 0
    for b in range(len(limits) - 1):
        most = max(most, limits[b + 1] - limits[b])
    slots = 16
    while slots < 2 * most:
        slots *= 2
    mask = slots - 1
    keys = np.full(slots, -1, np.int64)
    used = np.empty(most, np.int64)
    for b in range(len(offsets) - 1):
        filled = 0
        for at in range(limits[b], limits[b + 1]):
            item = values[at]
            if item < 0:
                continue
            slot = (item * 0x9E3779B1 >> 7) & mask
            while keys[slot] != -1 and keys[slot] != item:
                slot = (slot + 1) & mask
            if keys[slot] == -1:
                keys[slot] = item
                used[filled] = slot
                filled += 1
        for n in range(offsets[b], offsets[b + 1]):
            slot = (items[n] * 0x9E3779B1 >> 7) & mask
            while keys[slot] != -1 and keys[slot] != items[n]:
                slot = (slot + 1) & mask
            out[n] = keys[slot] == -1
        for n in range(filled):
            keys[used[n]] = -1


def _own(rows: Ints) -> Ints:
    """As compiled code takes it: another type, or memory that is read-only, would be compiled for anew."""
    return np.require(rows, np.int64, ("C", "W"))


class Exclude(Selector):
    """Not one of ``request.exclude``."""

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        out = np.ones(len(candidates.items), bool)
        if request.exclude is not None and len(request.exclude.values):
            if len(request.exclude) != len(candidates):
                raise ValueError(f"exclude names items for {len(request.exclude)} requests, there are {len(candidates)}")
            _outside(_own(candidates.items), _own(candidates.offsets), _own(request.exclude.values), _own(request.exclude.offsets), out)
        return out


class Seen(Selector):
    """Not shown to this user within the filter's window; a stranger has seen nothing.

    What was shown comes with the request (``parameters["seen"]``, one a user, as of the request's moment), else from ``seer``.
    """

    def __init__(self, seer: Seer | None = None) -> None:
        self.seer = seer

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        out = np.ones(len(candidates.items), bool)
        told: Sequence[Sees] | None = request.parameters.get("seen")
        if told is None and self.seer is None:
            return out
        for b, user in enumerate(request.users.tolist()):
            mine = slice(int(candidates.offsets[b]), int(candidates.offsets[b + 1]))
            if user >= 0 and mine.stop > mine.start:
                sees = told[b] if told is not None else self.seer.seen(user)  # type: ignore[union-attr]
                out[mine] = ~sees.contains(candidates.items[mine])
        return out


class Blocked(Selector):
    """None of these items, named by id; an id that comes into the catalogue later is blocked from then on."""

    def __init__(self, catalogue: Catalogue, items: Sequence[str]) -> None:
        self.catalogue, self.items = catalogue, tuple(items)
        self._rows: tuple[int, Ints] = (-1, np.empty(0, np.int64))

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        version, rows = self._rows
        if version != self.catalogue.version:
            version = self.catalogue.version
            rows = self.catalogue.rows(self.items)
            self._rows = (version, rows)
        out = np.ones(len(candidates.items), bool)
        _outside(_own(candidates.items), np.array((0, len(out)), np.int64), rows, np.array((0, len(rows)), np.int64), out)
        return out


class Where(Selector):
    """A condition on one attribute, as in ``{column = "genres", not_in = ["Horror"]}``; what is given must all hold.

    ``one_of``: has at least one of these values; ``not_in``: has none of them (an item without values passes); ``at_least``,
    ``at_most``: for numbers. Each item's answer is computed once and kept until the item changes.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        column: str,
        one_of: tuple[str | float, ...] = (),
        not_in: tuple[str | float, ...] = (),
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        if not one_of and not not_in and at_least is None and at_most is None:
            raise ValueError("give one_of, not_in, at_least or at_most")
        for bound in (at_least, at_most):
            if bound is not None and not math.isfinite(bound):
                raise ValueError("at_least and at_most must be finite numbers")
        if len(catalogue) and column not in catalogue.attribute_names:
            raise ValueError(f"the items have no column {column!r}{nearest(column, catalogue.attribute_names)}")
        self.catalogue, self.column = catalogue, column
        self.one_of, self.not_in = frozenset(one_of), frozenset(not_in)
        self.at_least, self.at_most = at_least, at_most
        self._table: tuple[int, Mask] = (-1, np.empty(0, bool))
        self._writing = threading.Lock()

    def holds(self, value: Any) -> bool:
        """Whether a raw attribute value meets the condition."""
        values = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
        if self.not_in and any(one in self.not_in for one in values):
            return False
        if self.one_of and not any(one in self.one_of for one in values):
            return False
        if self.at_least is None and self.at_most is None:
            return True
        low, high = -math.inf if self.at_least is None else self.at_least, math.inf if self.at_most is None else self.at_most
        return len(values) == 1 and isinstance(values[0], (int, float)) and low <= values[0] <= high

    def table(self) -> Mask:
        """The answer for each row of the catalogue."""
        version, table = self._table
        if version == self.catalogue.version:
            return table
        with self._writing:
            version, table = self._table
            now, size = self.catalogue.version, len(self.catalogue)  # the version first: a change from here on is taken in next time
            if version == now:
                return table
            column = self.catalogue.column(self.column) if self.column in self.catalogue.attribute_names else [None] * size
            fresh = np.zeros(size, bool)  # readers go on with the old one
            if version < 0:
                fresh[:] = [self.holds(value) for value in column[:size]]
            else:
                fresh[: len(table)] = table
                for row in self.catalogue.changed_since(version).tolist():
                    if row < size:
                        fresh[row] = self.holds(column[row])
            self._table = (now, fresh)
            return fresh

    def rows(self) -> Ints:
        """Ascending rows that meet it: from the inverted index where that knows the answer, as of values that an item must have."""
        if not self.one_of or self.not_in or self.at_least is not None or self.at_most is not None:
            return np.flatnonzero(self.table())
        if self.column not in self.catalogue.attribute_names:
            return np.empty(0, np.int64)
        found = [self.catalogue.having(self.column, value) for value in self.one_of]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        return _looked_up(self.table(), candidates.items)


class Asked(Selector):
    """The conditions that come with a request: ``request.parameters["where"]`` is a list of ``Where`` options."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._known: dict[str, Where] = {}

    def passing(self, request: Request, candidates: Candidates) -> Mask:
        out = np.ones(len(candidates.items), bool)
        for options in request.parameters.get("where", ()):
            out &= self.condition(options).passing(request, candidates)
        return out

    def rows(self, request: Request) -> Ints | None:
        """The only rows that meet every condition of the request, ascending, for an index to choose from; None where it has none."""
        asked = [self.condition(options).rows() for options in request.parameters.get("where", ())]
        return functools.reduce(lambda one, other: np.intersect1d(one, other, assume_unique=True), asked) if asked else None

    def condition(self, options: Mapping[str, Any]) -> Where:
        """The selector of one condition; ``OptionError`` says what is wrong with it."""
        if not isinstance(options, Mapping):
            raise OptionError(f'a condition is a table such as {{"column": "genres", "not_in": ["Horror"]}}, not {options!r}')
        key = repr(sorted(options.items(), key=lambda pair: str(pair[0])))
        known = self._known.get(key)
        if known is None:
            known = build(Where, options, self.catalogue, where="where")
            if len(self._known) >= REMEMBERED:
                self._known = {}
            self._known[key] = known
        return known
