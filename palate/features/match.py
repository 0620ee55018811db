"""Match: how often the user's history holds what the candidate is: the item itself, its category, its brand, its author."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numba import njit

from palate.candidates import DAY
from palate.features.hashing import Keys
from palate.features.kinds import Column, Static, Timed, View, check_signal, ending, windows_of
from palate.schema import Feature, Owner
from palate.state.rows import EventRows

MOST = 8  #: values of an item that are looked at


@dataclass(eq=False)
class Match(Timed):
    """How many events of the user's history in the last ``window`` days (0: all that is kept) are of the candidate's ``attribute``.

    ``attribute`` is ``id`` or a column of the items; an event counts by the share of the candidate's values that its item has (of the first
    8), so of single-valued ones by 0 or 1. ``signal``: only events that show it. Several windows make a column ``<name>_<window>`` each.
    ``scale``: ``log1p``, ``none``, or ``share`` (of the events in the window; 0 where there are none).
    """

    historic: ClassVar[bool] = True  # type: ignore[misc]

    attribute: str = "id"
    signal: str = ""
    window: int | tuple[int, ...] = 0
    scale: Literal["log1p", "none", "share"] = "log1p"
    label: str = ""
    bit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.window, self.windows = windows_of(self.window)
        if not self.attribute:
            raise ValueError("attribute must be 'id' or a column of the items")

    @property
    def owner(self) -> Owner:
        return "pair"

    @property
    def column(self) -> str:
        return f"item.{self.attribute}"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def default_name(self) -> str:
        return (
            f"match_{self.attribute}" + (f"_{self.signal}" if self.signal else "") + ("" if len(self.windows) > 1 else f"_{ending(self.windows[0])}")
        )

    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.feature_name}_{ending(window)}" for window in self.windows) if len(self.windows) > 1 else (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        return tuple(Feature(name, "pair", "number") for name in self.names())

    def lookups(self) -> tuple[Static, ...]:
        return () if self.attribute == "id" else (Keys(self.column, MOST),)

    def fit(self, rows: EventRows) -> None:
        if self.signal:
            check_signal(self.feature_name, self.signal, rows.names)
            self.bit = int(rows.bit(self.signal))

    def encode(self, view: View) -> tuple[Column, ...]:
        assert view.candidates is not None
        request, rows = view.request, view.candidates.items
        past = request.histories
        if self.attribute == "id":  # rows are keys of their own; what nobody knows is like nothing
            had, own = np.maximum(past.items + 1, 0)[:, None].astype(np.uint64), np.maximum(rows + 1, 0)[:, None].astype(np.uint64)
        else:
            table = view.items(self.column)
            known = np.where((past.items >= 0) & (past.items < len(table)), past.items, len(table) - 1)
            had, own = table.take(known, 0), table.take(rows, 0)
        days = np.array(self.windows, np.int64) * DAY
        found = _matches(had, past.times, past.signals, past.offsets, request.now, own, view.candidates.offsets, self.bit, days, _SCALES[self.scale])
        return tuple(found)

    def learnt(self) -> dict[str, Any]:
        return {"bit": self.bit}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.bit = int(learnt["bit"])


_SCALES = {"none": 0, "log1p": 1, "share": 2}


@njit(cache=True, nogil=True)
def _matches(had, times, signals, offsets, now, own, limits, bit, windows, scale):  # type: ignore[no-untyped-def]
    """float32 ``[windows, N]``. The keys of a request's history are sorted once with their times; a candidate's are searched among them."""
    out = np.zeros((len(windows), len(own)), np.float32)
    nothing = np.uint64(0)
    for b in range(len(limits) - 1):
        if limits[b] == limits[b + 1]:
            continue
        room = (offsets[b + 1] - offsets[b]) * had.shape[1]
        keys, moments = np.empty(room, np.uint64), np.empty(room, np.int64)
        events = np.zeros(len(windows), np.int64)
        size = 0
        for m in range(offsets[b], offsets[b + 1]):
            if bit != 0 and (np.int64(signals[m]) & bit) == 0:
                continue
            for w in range(len(windows)):
                events[w] += windows[w] == 0 or times[m] >= now[b] - windows[w]
            for v in range(had.shape[1]):
                if had[m, v] == nothing:
                    break
                keys[size], moments[size] = had[m, v], times[m]
                size += 1
        order = np.argsort(keys[:size], kind="mergesort")  # stable: of one key, times still rise
        keys, moments = keys[:size][order], moments[:size][order]
        for n in range(limits[b], limits[b + 1]):
            values = 0
            for v in range(own.shape[1]):
                if own[n, v] == nothing:
                    break
                values += 1
                first, last = np.searchsorted(keys, own[n, v]), np.searchsorted(keys, own[n, v], side="right")
                for w in range(len(windows)):
                    start = first
                    if windows[w] != 0:
                        start += np.searchsorted(moments[first:last], now[b] - windows[w])
                    out[w, n] += np.float32(last - start)
            for w in range(len(windows)):
                found = out[w, n] / max(values, 1)
                if scale == 1:
                    found = math.log1p(found)
                elif scale == 2:
                    found = found / max(events[w], 1)
                out[w, n] = found
    return out
