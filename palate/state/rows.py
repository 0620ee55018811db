"""EventRows: events as arrays of catalogue rows, in order of time. What counters, histories and interactions are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.state.catalogue import Catalogue
from palate.tables.signals import Signal, bits

if TYPE_CHECKING:
    from palate.tables.events import Events

CHUNK = 1_000_000


@dataclass(frozen=True, slots=True)
class EventRows:
    """N events, oldest first; events of the same instant stand in the order they were given.

    ``users``, ``items`` int64 catalogue rows; ``times`` int64 ms; ``signals`` uint32 bits; ``values`` float32 (NaN: none). ``context``: the
    device, the place and what else was known at the moment, by name, object ``[N]`` (None: not known).
    """

    users: Ints
    items: Ints
    times: Ints
    signals: NDArray[np.uint32]
    values: Floats
    names: tuple[str, ...]  # the signals' names, bit by bit
    context: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.times)

    def take(self, chosen: NDArray[np.bool_] | Ints | slice) -> EventRows:
        """The events at ``chosen`` (a mask, ascending positions, or a slice)."""
        context = {name: values[chosen] for name, values in self.context.items()}
        return EventRows(self.users[chosen], self.items[chosen], self.times[chosen], self.signals[chosen], self.values[chosen], self.names, context)

    def before(self, moment: int) -> EventRows:
        """Events strictly earlier than ``moment`` (ms)."""
        return self.take(slice(0, int(np.searchsorted(self.times, moment, side="left"))))

    def since(self, moment: int) -> EventRows:
        """Events at ``moment`` (ms) or later."""
        return self.take(slice(int(np.searchsorted(self.times, moment, side="left")), None))

    def joined(self, other: EventRows) -> EventRows:
        """Both, in order of time; of one instant, these first."""
        order = np.argsort(np.concatenate((self.times, other.times)), kind="stable")
        columns = {
            name: np.concatenate((getattr(self, name), getattr(other, name)))[order] for name in ("users", "items", "times", "signals", "values")
        }
        context = {}
        for name in dict.fromkeys((*self.context, *other.context)):
            parts = [rows.context.get(name, np.full(len(rows), None, object)) for rows in (self, other)]
            context[name] = np.concatenate(parts)[order]
        return EventRows(**columns, names=self.names, context=context)

    def bit(self, signal: str) -> np.uint32:
        """The bit of a signal by name."""
        return np.uint32(1 << self.names.index(signal))

    def showing(self, signal: str) -> EventRows:
        """Only events that show this signal."""
        return self.take((self.signals & self.bit(signal)) != 0)


def event_rows(events: Events, users: Catalogue, items: Catalogue, signals: tuple[Signal, ...], context: Sequence[str] = ()) -> EventRows:
    """Events as catalogue rows, sorted by time; events of the same instant keep the order of the table. Ids not known become -1.

    Reads the columns ``user item time kind value`` of ``events.frame``, and those of ``context`` that it has.
    """
    frame = events.frame
    times = frame["time"].to_numpy().astype(np.int64, copy=False)
    order = np.argsort(times, kind="stable")
    values = frame["value"].cast(polars.Float32).fill_null(float("nan")).to_numpy()[order]
    kinds, codes = _factorised(frame["kind"])
    codes = codes[order]
    named = np.array([*kinds, ""], dtype=np.str_)
    shown = np.empty(len(order), np.uint32)
    for start in range(0, len(order), CHUNK):  # strings of a few events at a time: all of them at once would be gigabytes
        part = slice(start, start + CHUNK)
        shown[part] = bits(signals, named[codes[part]], values[part])
    names = tuple(signal.name for signal in signals)
    told = {name: objects(frame[name].to_list())[order] for name in context if name in frame.columns}
    return EventRows(_rows_of(frame["user"], users)[order], _rows_of(frame["item"], items)[order], times[order], shown, values, names, told)


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """Values as an array of objects, lists among them as they are."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _factorised(series: polars.Series) -> tuple[list[str], Ints]:
    """Distinct values of a column, and each row's place among them."""
    distinct = series.unique(maintain_order=True).drop_nulls().cast(polars.String).to_list()
    table = polars.DataFrame({"value": polars.Series(distinct, dtype=polars.String), "code": np.arange(len(distinct), dtype=np.int64)})
    joined = series.cast(polars.String).to_frame("value").join(table, on="value", how="left", maintain_order="left")
    return distinct, joined["code"].fill_null(-1).to_numpy()


def _rows_of(series: polars.Series, catalogue: Catalogue) -> Ints:
    distinct, codes = _factorised(series)
    if not distinct:
        return np.full(len(series), -1, np.int64)
    rows: Ints = np.append(catalogue.rows(distinct), -1)[codes]
    return rows
