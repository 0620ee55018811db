"""What the moment of a request says by itself: the hour, the day, and how long ago something last happened."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from palate.candidates import DAY, Ints
from palate.features.kinds import Column, Timed, View, check_signal
from palate.features.vocabulary import FIRST
from palate.schema import Feature, Owner
from palate.state.rows import EventRows

HOUR = DAY // 24
EPOCH = datetime.date(1970, 1, 1)
TimePart = Literal["hour", "weekday", "weekend", "month", "holiday"]
SIZES = {"hour": 24, "weekday": 7, "weekend": 2, "month": 12, "holiday": 2}


@dataclass(eq=False)
class TimeParts(Timed):
    """Parts of the moment of a request as ids, a column ``<name>_<part>`` each: 2 + the ``hour`` (0 to 23), the ``weekday`` (0 Monday), whether it
    is ``weekend``, the ``month`` (0 January), whether it is one of the ``holidays`` (dates: "2026-12-24", or "12-24" for every year).

    ``offset`` is how many hours the users' clocks are before UTC. It is fixed: summer time is for the application to know, as context.
    """

    parts: tuple[TimePart, ...] = ("hour", "weekday")
    offset: float = 0.0
    holidays: tuple[str, ...] = ()
    label: str = ""

    def __post_init__(self) -> None:
        self.parts, self.holidays = tuple(self.parts), tuple(self.holidays)
        if not self.parts or len(set(self.parts)) != len(self.parts) or not set(self.parts) <= set(get_args(TimePart)):
            raise ValueError(f"parts must be different ones of {', '.join(get_args(TimePart))}, not {list(self.parts)}")
        if not -24 <= self.offset <= 24:
            raise ValueError(f"offset must be -24 to 24 hours, not {self.offset}")
        if bool(self.holidays) != ("holiday" in self.parts):
            raise ValueError("holidays and the part 'holiday' go together: which dates are free?")
        self._days = np.array([_day(one) for one in self.holidays if len(one) > 5], np.int64)  # since 1970
        self._dates = np.array([_date(one) for one in self.holidays if len(one) <= 5], np.int64)  # 100 months + days

    @property
    def owner(self) -> Owner:
        return "context"

    def default_name(self) -> str:
        return "time"

    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.feature_name}_{part}" for part in self.parts)

    def columns(self) -> tuple[Feature, ...]:
        pairs = zip(self.names(), self.parts, strict=True)
        return tuple(Feature(name, "context", "category", vocab_size=FIRST + SIZES[part]) for name, part in pairs)

    def encode(self, view: View) -> tuple[Column, ...]:
        local = view.request.now + round(self.offset * HOUR)
        return tuple(FIRST + self._part(part, local) for part in self.parts)

    def _part(self, part: str, local: Ints) -> Ints:
        days = local // DAY
        if part == "hour":
            return local % DAY // HOUR
        if part in ("weekday", "weekend"):
            weekday = (days + 3) % 7  # 1970 began on a Thursday
            return weekday if part == "weekday" else (weekday >= 5).astype(np.int64)
        dates = days.astype("datetime64[D]")
        months = dates.astype("datetime64[M]")
        month = months.astype(np.int64) % 12
        if part == "month":
            return month
        date = 100 * (month + 1) + (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
        return (np.isin(days, self._days) | np.isin(date, self._dates)).astype(np.int64)


def _day(written: str) -> int:
    try:
        return (datetime.date.fromisoformat(written) - EPOCH).days
    except ValueError:
        raise ValueError(f"holidays must be dates such as '2026-12-24' or '12-24', not {written!r}") from None


def _date(written: str) -> int:
    found = EPOCH + datetime.timedelta(_day(f"2024-{written}"))  # a year with a 29th of February
    return 100 * found.month + found.day


@dataclass(eq=False)
class Recency(Timed):
    """How fresh something is, 1 / (1 + days / ``half``): 1 just now, 0.5 ``half`` days ago, 0 never or not known.

    ``of``: the ``user``'s last event in the history that is kept, the ``item``'s last event among those that are kept (``audience`` of the
    recipe's [state]), or the ``age`` of the item since it came into the catalogue. ``signal`` looks only at events that show it.
    """

    of: Literal["user", "item", "age"]
    signal: str = ""
    half: float = 7.0
    label: str = ""
    bit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not (self.half > 0 and math.isfinite(self.half)):
            raise ValueError(f"half must be above 0 days, not {self.half}")
        if self.of == "age" and self.signal:
            raise ValueError("signal is for the last event of a user or an item; an item's age knows none")
        self.historic, self.audience = self.of == "user", int(self.of == "item")

    @property
    def owner(self) -> Owner:
        return "user" if self.of == "user" else "pair"

    def default_name(self) -> str:
        return "item_age" if self.of == "age" else f"{self.of}_recency" + (f"_{self.signal}" if self.signal else "")

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, self.owner, "number"),)

    def fit(self, rows: EventRows) -> None:
        if self.signal:
            check_signal(self.feature_name, self.signal, rows.names)
            self.bit = int(rows.bit(self.signal))

    def encode(self, view: View) -> tuple[Column, ...]:
        half = self.half * DAY
        if self.of == "user":
            return (_of_users(view.last(self.bit, 1), view.request.histories.times, view.request.now, half),)
        now = view.moments
        if self.of == "age":
            return (_of_births(view.created(), now, half),)
        taken = view.audience(self.feature_name, self.audience)
        return (_of_items(taken.times, taken.signals, taken.begin, taken.end, self.bit, now, half),)

    def learnt(self) -> dict[str, Any]:
        return {"bit": self.bit}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.bit = int(learnt["bit"])


@njit(cache=True, nogil=True)
def _of_users(positions, times, now, half):  # type: ignore[no-untyped-def]
    out = np.zeros(len(now), np.float32)
    for b in range(len(now)):
        if positions[b, 0] >= 0:
            out[b] = 1.0 / (1.0 + max(now[b] - times[positions[b, 0]], 0) / half)
    return out


@njit(cache=True, nogil=True)
def _of_births(created, now, half):  # type: ignore[no-untyped-def]
    out = np.zeros(len(now), np.float32)
    for n in range(len(now)):
        if created[n] != 0:
            out[n] = 1.0 / (1.0 + max(now[n] - created[n], 0) / half)
    return out


@njit(cache=True, nogil=True)
def _of_items(times, signals, begin, end, bit, now, half):  # type: ignore[no-untyped-def]
    out = np.zeros(len(now), np.float32)
    for n in range(len(now)):
        for place in range(end[n] - 1, begin[n] - 1, -1):
            if bit == 0 or (np.int64(signals[place]) & bit) != 0:
                out[n] = 1.0 / (1.0 + max(now[n] - times[place], 0) / half)
                break
    return out
