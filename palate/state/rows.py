"""EventRows: events as arrays of catalogue rows, in order of time. What counters, histories and interactions are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Floats, Ints


@dataclass(frozen=True, slots=True)
class EventRows:
    """N events, oldest first; events of the same instant stand in the order they were given.

    ``users``, ``items`` int64 catalogue rows; ``times`` int64 ms; ``signals`` uint32 bits; ``values`` float32 (NaN: none).
    """

    users: Ints
    items: Ints
    times: Ints
    signals: NDArray[np.uint32]
    values: Floats
    names: tuple[str, ...]  # the signals' names, bit by bit

    def __len__(self) -> int:
        return len(self.times)

    def take(self, chosen: NDArray[np.bool_] | Ints | slice) -> EventRows:
        """The events at ``chosen`` (a mask, ascending positions, or a slice)."""
        return EventRows(self.users[chosen], self.items[chosen], self.times[chosen], self.signals[chosen], self.values[chosen], self.names)

    def before(self, moment: int) -> EventRows:
        """Events strictly earlier than ``moment`` (ms)."""
        return self.take(slice(0, int(np.searchsorted(self.times, moment, side="left"))))

    def since(self, moment: int) -> EventRows:
        """Events at ``moment`` (ms) or later."""
        return self.take(slice(int(np.searchsorted(self.times, moment, side="left")), None))

    def bit(self, signal: str) -> np.uint32:
        """The bit of a signal by name."""
        return np.uint32(1 << self.names.index(signal))

    def showing(self, signal: str) -> EventRows:
        """Only events that show this signal."""
        return self.take((self.signals & self.bit(signal)) != 0)
