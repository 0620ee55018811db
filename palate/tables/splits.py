"""Splits: which events a model may learn from and which it is judged by. Apply one twice for a validation part.

Rows keep their order. Only ``global_time`` and ``by_session`` draw one line through time for everybody; with the others a model may have
learnt from other users' later events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.tables.events import Events

HALF_HOUR = 1_800_000


@dataclass(frozen=True)
class Split:
    """``cut`` (ms): every event of train is earlier; None where there is no such moment for all users."""

    train: Events
    test: Events
    cut: int | None = None


def global_time(events: Events, ratio: float = 0.8) -> Split:
    """Everything from one moment on is test: the moment of the event at ``ratio`` of all in order of time.

    Events of the same instant stand on the same side, so train may hold a little less than ``ratio``. ValueError where all events
    happened at once.
    """
    _share(ratio)
    _some(events)
    times = np.sort(events.frame["time"].to_numpy())
    cut = int(times[min(int(ratio * len(times)), len(times) - 1)])
    if cut == times[0]:  # the first instant holds more than its share: cut right after it
        later = times[times > cut]
        if not len(later):
            raise ValueError("all events happened at the same moment: there is no time to cut at")
        cut = int(later[0])
    return Split(events.before(cut), events.since(cut), cut)


def leave_last_out(events: Events, last: int = 1) -> Split:
    """Each user's ``last`` latest events are test (of one instant: those further down); users with no more than that are all train."""
    if last < 1:
        raise ValueError(f"last must be at least 1, not {last}")
    _some(events)
    place, count = _places(events)
    return _by(events, (count > last) & (place >= count - last))


def ratio(events: Events, ratio: float = 0.8, seed: int = 0, ordered: bool = True) -> Split:
    """Each user's first ``ceil(ratio * n)`` of n events are train; in order of time, or drawn at random (``ordered=False``)."""
    _share(ratio)
    _some(events)
    place, count = _places(events) if ordered else _places(events, np.random.default_rng(seed).permutation(len(events)))
    return _by(events, place >= np.ceil(ratio * count - 1e-9))


def folds(events: Events, k: int = 5, seed: int = 0) -> list[Split]:
    """k random parts of almost equal size; split i is judged by part i and learns from the others."""
    _some(events)
    if not 2 <= k <= len(events):
        raise ValueError(f"k must lie between 2 and the number of events ({len(events)}), not {k}")
    part = np.random.default_rng(seed).permutation(len(events)) % k
    return [_by(events, part == i) for i in range(k)]


def new_users(events: Events, ratio: float = 0.8, seed: int = 0) -> Split:
    """All events of some users are test: of n users ``ceil(ratio * n)``, drawn at random, are train. For strong generalisation."""
    _share(ratio)
    _some(events)
    users = events.frame["user"].unique().sort()
    kept = np.random.default_rng(seed).permutation(len(users))[: int(np.ceil(ratio * len(users) - 1e-9))]
    return _by(events, ~events.frame["user"].is_in(users[kept].implode()).to_numpy())


def by_session(events: Events, ratio: float = 0.8, session: str | None = None, gap: int = HALF_HOUR) -> Split:
    """Whole sessions: train holds those that ended before the moment at ``ratio`` of all events, test all the others.

    ``session`` names a context column that numbers a user's sessions (null: an event of its own); without it a pause of more than
    ``gap`` ms begins a new session.
    """
    _share(ratio)
    _some(events)
    cut = global_time(events, ratio).cut
    key = sessions(events, gap) if session is None else _session_column(events, session)
    ends = pl.DataFrame({"user": events.frame["user"], "session": key, "time": events.frame["time"]})
    end = ends.select(pl.col("time").max().over("user", "session")).to_series().to_numpy()
    split = _by(events, end >= cut)
    return Split(split.train, split.test, cut)


def sessions(events: Events, gap: int = HALF_HOUR) -> pl.Series:
    """Int64 ``[N]``: the number of each event's session within its user; a pause of more than ``gap`` ms begins a new one."""
    frame = events.frame.select("user", "time").with_row_index("row").sort("user", "time", maintain_order=True)
    starts = (pl.col("time").diff().over("user") > gap).fill_null(False).cast(pl.Int64).cum_sum().over("user")
    return frame.with_columns(starts.alias("session")).sort("row")["session"]


def _session_column(events: Events, name: str) -> pl.Series:
    if name not in events.context:
        raise ValueError(f"no context column {name!r}; known: {', '.join(events.context)}")
    column = events.frame[name].cast(pl.String)
    alone = pl.int_range(len(events), eager=True).cast(pl.String)
    return pl.select(pl.when(column.is_null()).then("alone " + alone).otherwise("named " + column)).to_series()


def _places(events: Events, order: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each event its place (from 0) among its user's, by time or by ``order``, and how many the user has."""
    frame = events.frame.select("user", "time") if order is None else events.frame.select("user").with_columns(time=pl.Series(order))
    found = frame.select(place=pl.col("time").rank("ordinal").over("user"), count=pl.len().over("user"))
    return found["place"].cast(pl.Int64).to_numpy() - 1, found["count"].cast(pl.Int64).to_numpy()


def _by(events: Events, test: NDArray[np.bool_]) -> Split:
    return Split(events.take(~test), events.take(test))


def _share(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie between 0 and 1, not {ratio}")


def _some(events: Events) -> None:
    if not len(events):
        raise ValueError("there are no events to split")
