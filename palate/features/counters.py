"""Point-in-time counters of users and items, and what each recall route said of a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import DAY, Counts, Floats, Ints
from palate.features.kinds import Column, Timed, View, check_signal, ending, windows_of
from palate.features.prior import beta_prior
from palate.schema import Feature, Owner, nearest
from palate.state.rows import EventRows


class Counted(Timed):
    """What Count, Rate and the flags have in common: ``of`` whom they count, and in which windows. Several make a column each."""

    of: Literal["item", "user"]
    windows: tuple[int, ...] = (0,)
    _found: tuple[Any, tuple[tuple[int, ...], tuple[int, ...]]] | None = None  # the places in the counters asked last

    @property
    def owner(self) -> Owner:
        return "user" if self.of == "user" else "pair"

    @property
    def period(self) -> str:
        """What the default name ends in: the window, where there is one."""
        return f"_{ending(self.windows[0])}" if len(self.windows) == 1 else ""

    def names(self) -> tuple[str, ...]:
        several = len(self.windows) > 1
        return tuple(f"{self.feature_name}_{ending(window)}" for window in self.windows) if several else (self.feature_name,)

    def counted(self) -> tuple[str, ...]:
        """The signals it counts."""
        raise NotImplementedError

    def fit(self, rows: EventRows) -> None:
        for signal in self.counted():
            check_signal(self.feature_name, signal, rows.names)

    def places(self, counts: Counts) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The windows' places in the counters, and the signals'; ValueError if the state does not count them."""
        asked = (counts.windows, counts.signals)
        if self._found is not None and self._found[0] == asked:
            return self._found[1]
        for window in self.windows:
            if window * DAY not in counts.windows:
                kept = ", ".join(f"{window / DAY:g}" for window in counts.windows) or "none"
                raise ValueError(f"feature {self.feature_name!r} needs counts over {window} days (0: all time); the state keeps windows of: {kept}")
        for signal in self.counted():
            if signal not in counts.signals:
                raise ValueError(f"feature {self.feature_name!r} needs counts of {signal!r}; the state has none{nearest(signal, counts.signals)}")
        found = tuple(counts.windows.index(window * DAY) for window in self.windows), tuple(map(counts.signals.index, self.counted()))
        self._found = asked, found
        return found

    def columns(self) -> tuple[Feature, ...]:
        return tuple(Feature(name, self.owner, "number") for name in self.names())


@dataclass(eq=False)
class Count(Counted):
    """How many events with ``signal`` the candidate (``of = "item"``) or the user had in the last ``window`` days (0: ever) before now.

    ``window`` may be a list: a column ``<name>_<window>`` each. ``scale``: ``log1p`` or ``none``.
    """

    of: Literal["item", "user"]
    signal: str
    window: int | tuple[int, ...] = 0
    scale: Literal["log1p", "none"] = "log1p"
    label: str = ""

    def __post_init__(self) -> None:
        self.window, self.windows = windows_of(self.window)

    def default_name(self) -> str:
        return f"{self.of}_{self.signal}_count{self.period}"

    def counted(self) -> tuple[str, ...]:
        return (self.signal,)

    def encode(self, view: View) -> tuple[Column, ...]:
        counts, values = view.counts(self.of, self.feature_name)
        windows, (signal,) = self.places(counts)
        if self.scale == "log1p":
            return tuple(_log1p(values, signal, window) for window in windows)
        return tuple(values[:, signal, window].astype(np.float32) for window in windows)


@dataclass(eq=False)
class Rate(Counted):
    """(events with ``signal`` + prior · p) / (events with ``among`` + prior) in the last ``window`` days (0: ever) before now.

    p is the share over all training events; ``prior`` is how many events it weighs. ``prior = "fit"`` takes both from the beta distribution
    under which the counts of all items (or users) in training, over spans of ``window`` days, are most likely. ``window`` may be a list.
    """

    of: Literal["item", "user"]
    signal: str
    among: str
    window: int | tuple[int, ...] = 0
    prior: float | Literal["fit"] = 20.0
    label: str = ""
    priors: tuple[tuple[float, float], ...] = field(default=(), init=False)  # p and its weight, for each window

    def __post_init__(self) -> None:
        self.window, self.windows = windows_of(self.window)
        if self.prior != "fit" and not (self.prior >= 0 and math.isfinite(self.prior)):
            raise ValueError(f"prior must be 0 or more, or 'fit', not {self.prior}")

    def default_name(self) -> str:
        return f"{self.of}_{self.signal}_rate{self.period}"

    def counted(self) -> tuple[str, ...]:
        return (self.signal, self.among)

    def fit(self, rows: EventRows) -> None:
        super().fit(rows)
        shown, among = ((rows.signals & rows.bit(signal)) != 0 for signal in self.counted())
        if self.prior == "fit":
            self.priors = tuple(beta_prior(*self._spans(rows, window, shown, among)) for window in self.windows)
        else:
            share = int(shown.sum()) / int(among.sum()) if among.any() else 0.0
            self.priors = ((share, float(self.prior)),) * len(self.windows)

    def _spans(self, rows: EventRows, window: int, shown: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Events with the signal and with the other of each item (or user) in each span of ``window`` days."""
        of = rows.items if self.of == "item" else rows.users
        span = rows.times // (window * DAY) if window else np.zeros(len(rows), np.int64)
        span = span - span.min(initial=0)
        _, place = np.unique(of * (span.max(initial=0) + 1) + span, return_inverse=True)  # one number each: thirty times faster than pairs
        return np.bincount(place, shown).astype(np.int64), np.bincount(place, among).astype(np.int64)

    def encode(self, view: View) -> tuple[Column, ...]:
        counts, values = view.counts(self.of, self.feature_name)
        windows, (signal, among) = self.places(counts)
        pairs = zip(windows, self.priors, strict=True)
        return tuple(_smoothed(values[:, signal, window], values[:, among, window], *prior) for window, prior in pairs)

    def learnt(self) -> dict[str, Any]:
        return {"priors": [list(prior) for prior in self.priors]}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.priors = tuple((float(share), float(weight)) for share, weight in learnt["priors"])


def _smoothed(hits: NDArray[np.int32], trials: NDArray[np.int32], share: float, weight: float) -> Floats:
    if weight == 0.0:  # nothing was seen: the share of all
        never = trials == 0
        return np.where(never, share, hits / np.where(never, 1.0, trials)).astype(np.float32)
    return ((hits + weight * share) / (trials + weight)).astype(np.float32)


@dataclass(eq=False)
class Active(Counted):
    """1 where the user (``of = "user"``) or the candidate had at least ``least`` events with ``signal`` in the last ``window`` days (0: ever)
    before now, else 0. ``window`` may be a list.
    """

    of: Literal["item", "user"]
    signal: str
    window: int | tuple[int, ...] = 7
    least: int = 1
    label: str = ""

    def __post_init__(self) -> None:
        self.window, self.windows = windows_of(self.window)
        if self.least < 1:
            raise ValueError(f"least must be at least 1, not {self.least}")

    def default_name(self) -> str:
        return f"{self.of}_{self.signal}_active{self.period}"

    def counted(self) -> tuple[str, ...]:
        return (self.signal,)

    def encode(self, view: View) -> tuple[Column, ...]:
        counts, values = view.counts(self.of, self.feature_name)
        windows, (signal,) = self.places(counts)
        return tuple((values[:, signal, window] >= self.least).astype(np.float32) for window in windows)


@dataclass(eq=False)
class Newcomer(Counted):
    """1 where the user (``of = "user"``) or the candidate had fewer than ``events`` events with ``signal`` ever before now, else 0."""

    of: Literal["item", "user"]
    signal: str
    events: int = 5
    label: str = ""

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"events must be at least 1, not {self.events}")

    def default_name(self) -> str:
        return f"{self.of}_new"

    def counted(self) -> tuple[str, ...]:
        return (self.signal,)

    def encode(self, view: View) -> tuple[Column, ...]:
        counts, values = view.counts(self.of, self.feature_name)
        (window,), (signal,) = self.places(counts)
        return ((values[:, signal, window] < self.events).astype(np.float32),)


class Routed(Timed):
    """What RouteScore and RouteRank have in common: a column that recall left with the candidates."""

    route: str

    @property
    def owner(self) -> Owner:
        return "pair"

    def raw(self, view: View, column: str) -> Floats | None:
        """The column, float32 ``[N]``; None if no candidate of any request came with it (a route that failed)."""
        assert view.candidates is not None
        found = view.candidates.columns.get(f"{self.route}.{column}")
        return None if found is None else np.ascontiguousarray(found, np.float32)


@dataclass(eq=False)
class RouteScore(Routed):
    """A recall route's score of the candidate; 0 where the route did not offer it.

    ``scale``: ``request`` ((x - mean) / deviation over the candidates of the same request that the route offered), ``fitted`` (the same
    with the mean and deviation that ``FeaturePipeline.fit_routes`` saw) or ``none``. Use ``fitted`` where training looks at a sample
    of a request's candidates. ``flag`` adds a column ``<name>_offered``, 1 where the route offered the candidate; without it RouteRank
    of the same route tells the two apart.
    """

    route: str
    scale: Literal["request", "fitted", "none"] = "request"
    flag: bool = True
    label: str = ""
    shift: float = field(default=0.0, init=False)
    spread: float = field(default=0.0, init=False)  # 0: not fitted yet

    def default_name(self) -> str:
        return f"{self.route}_score"

    def names(self) -> tuple[str, ...]:
        return (self.feature_name, f"{self.feature_name}_offered") if self.flag else (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        return tuple(Feature(name, "pair", "number") for name in self.names())

    def fit_route(self, scores: Floats) -> None:
        """Learn the mean and deviation of the route's scores ``[N]`` (NaN: not offered)."""
        known = np.sort(scores[np.isfinite(scores)].astype(np.float64))
        self.shift, deviation = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
        self.spread = deviation if deviation > 1e-9 * abs(self.shift) else 1.0

    def encode(self, view: View) -> tuple[Column, ...]:
        assert view.candidates is not None
        if self.scale == "fitted" and not self.spread:
            raise ValueError(f"feature {self.feature_name!r} has scale = 'fitted': call fit_routes(candidates) first, or take scale = 'request'")
        raw = self.raw(view, "score")
        if raw is None:
            out = np.zeros((2, len(view.candidates.items)), np.float32)
        else:
            shift, spread = (0.0, 1.0) if self.scale == "none" else (self.shift, self.spread)
            out = _scores(raw, view.candidates.offsets, self.scale == "request", shift, spread)
        return (out[0], out[1]) if self.flag else (out[0],)

    def learnt(self) -> dict[str, Any]:
        return {"shift": self.shift, "spread": self.spread}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.shift, self.spread = float(learnt["shift"]), float(learnt["spread"])


@dataclass(eq=False)
class RouteRank(Routed):
    """A recall route's rank of the candidate as 1 / (1 + rank / half): 1 for its best, 0.5 at rank ``half``, 0 where it was not offered."""

    route: str
    half: float = 10.0
    label: str = ""

    def __post_init__(self) -> None:
        if not (self.half > 0 and math.isfinite(self.half)):
            raise ValueError(f"half must be above 0, not {self.half}")

    def default_name(self) -> str:
        return f"{self.route}_rank"

    def columns(self) -> tuple[Feature, ...]:
        return (Feature(self.feature_name, "pair", "number"),)

    def encode(self, view: View) -> tuple[Column, ...]:
        assert view.candidates is not None
        raw = self.raw(view, "rank")
        return (np.zeros(len(view.candidates.items), np.float32) if raw is None else _ranks(raw, self.half),)


@njit(cache=True, nogil=True)
def _log1p(counts, signal, window):  # type: ignore[no-untyped-def]
    out = np.empty(len(counts), np.float32)
    for n in range(len(counts)):
        out[n] = math.log1p(counts[n, signal, window])
    return out


@njit(cache=True, nogil=True)
def _scores(raw, offsets, by_request, shift, spread):  # type: ignore[no-untyped-def]
    out = np.zeros((2, len(raw)), np.float32)
    for b in range(len(offsets) - 1):
        if by_request:
            total, known = 0.0, 0
            for n in range(offsets[b], offsets[b + 1]):
                if np.isfinite(raw[n]):
                    total += raw[n]
                    known += 1
            shift = total / max(known, 1)
            total = 0.0
            for n in range(offsets[b], offsets[b + 1]):
                if np.isfinite(raw[n]):
                    total += (raw[n] - shift) ** 2
            spread = math.sqrt(total / max(known, 1))
            if not spread > 1e-6 * abs(shift):  # all equal, but for the rounding of float32
                spread = 1.0
        for n in range(offsets[b], offsets[b + 1]):
            if np.isfinite(raw[n]):
                out[0, n] = (raw[n] - shift) / spread
                out[1, n] = 1.0
    return out


@njit(cache=True, nogil=True)
def _ranks(raw, half):  # type: ignore[no-untyped-def]
    out = np.zeros(len(raw), np.float32)
    for n in range(len(raw)):
        if raw[n] >= 0:
            out[n] = 1.0 / (1.0 + raw[n] / half)
    return out
