"""Signal: a named subset of events. Tasks, counters, histories and relevance all speak in signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 32  #: signals in one recipe: they travel as the bits of a uint32


@dataclass(frozen=True, slots=True)
class Signal:
    """Events whose kind is one of ``kinds`` (empty: any) and whose value lies in ``[min_value, max_value]`` (None: no bound).

    An event without a value (NaN) shows only signals that have no bound.
    """

    name: str
    kinds: tuple[str, ...] = ()
    min_value: float | None = None
    max_value: float | None = None

    def shown_by(self, kind: str, value: float | None) -> bool:
        """Whether one event shows this signal."""
        if self.kinds and kind not in self.kinds:
            return False
        if self.min_value is None and self.max_value is None:
            return True
        if value is None or value != value:
            return False
        return (self.min_value is None or value >= self.min_value) and (self.max_value is None or value <= self.max_value)


def bits(signals: tuple[Signal, ...], kinds: NDArray[np.str_] | NDArray[np.object_], values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """uint32 ``[N]``: bit s is set where event n (its kind and value) shows ``signals[s]``."""
    if len(signals) > MOST:
        raise ValueError(f"a recipe can name {MOST} signals, not {len(signals)}")
    mask = np.zeros(len(values), np.uint32)
    for place, signal in enumerate(signals):
        shown = np.ones(len(values), bool)
        if signal.kinds:
            shown &= np.isin(kinds, signal.kinds)
        if signal.min_value is not None or signal.max_value is not None:
            shown &= ~np.isnan(values)
        if signal.min_value is not None:
            shown &= values >= signal.min_value
        if signal.max_value is not None:
            shown &= values <= signal.max_value
        mask |= shown.astype(np.uint32) << np.uint32(place)
    return mask
