"""History: the last items a user took, or an attribute of them, as ids of the vocabulary of the items' own feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numba import njit

from palate.features.kinds import Column, Part, Static, Timed, View, Vocal, check_signal
from palate.features.transforms import Category
from palate.features.vocabulary import Vocabulary, text
from palate.schema import PADDING, UNKNOWN, Feature, Owner
from palate.state.rows import EventRows

GAPS = 42  #: ids of time gaps: 2 + the number of binary digits of the seconds, up to 39


@dataclass(eq=False)
class History(Vocal, Timed):
    """int64 ``[B, length]``: the last ``length`` events before now, oldest first, padded with 0 on the right.

    ``attribute`` is what each item is shown by: ``id`` or a column of the items. Of a multi-valued one each item's first value counts, so
    that place l of every history with the same ``signal`` and ``length`` is the same event. ``signal`` keeps only events that show it.
    The vocabulary is that of ``shares``, else of the first Category or Tags over the same column, else its own. ``gaps`` adds
    ``<name>_gaps``: how long before now, as an id that grows with the logarithm of the seconds (2: the same second; 2 + d: d binary digits).
    """

    historic: ClassVar[bool] = True  # type: ignore[misc]

    attribute: str = "id"
    length: int = 50
    signal: str | None = None
    gaps: bool = False
    shares: str = ""
    part: Part = ""
    label: str = ""
    vocabulary: Vocabulary = field(init=False, repr=False)
    bit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, not {self.length}")
        if not self.attribute:
            raise ValueError("attribute must be 'id' or a column of the items")

    @property
    def owner(self) -> Owner:
        return "user"

    @property
    def column(self) -> str:
        return f"item.{self.attribute}"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def lookups(self) -> tuple[Static, ...]:
        return (self.table(),)

    def default_name(self) -> str:
        return f"history_{self.attribute}" + (f"_{self.signal}" if self.signal else "")

    def names(self) -> tuple[str, ...]:
        return (self.feature_name, f"{self.feature_name}_gaps") if self.gaps else (self.feature_name,)

    def columns(self) -> tuple[Feature, ...]:
        own = Feature(self.feature_name, "user", "sequence", vocab_size=self.vocabulary.size, length=self.length, shares=self.shares)
        gaps = Feature(f"{self.feature_name}_gaps", "user", "sequence", vocab_size=GAPS, length=self.length)
        return (own, gaps) if self.gaps else (own,)

    def fit(self, rows: EventRows) -> None:
        if self.signal is not None:
            check_signal(self.feature_name, self.signal, rows.names)
            self.bit = int(rows.bit(self.signal))

    def tally(self, values: Sequence[Any], weights: Sequence[int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for value, weight in zip(values, weights, strict=True):
            if (known := text(value)) is not None:
                counts[known] = counts.get(known, 0) + weight
        return counts

    def table(self) -> Category:
        """What turns an item's attribute into the id that stands for it in a history."""
        lookup = Category(self.column, label=self.feature_name)
        lookup.vocabulary = self.vocabulary
        return lookup

    def encode(self, view: View) -> tuple[Column, ...]:
        request, positions = view.request, view.last(self.bit, self.length)
        ids = _ids(positions, request.histories.items, view.items(self.feature_name))
        return (ids, _gaps(positions, request.histories.times, request.now)) if self.gaps else (ids,)

    def learnt(self) -> dict[str, Any]:
        return {"bit": self.bit}

    def restore(self, learnt: Mapping[str, Any]) -> None:
        self.bit = int(learnt["bit"])


@njit(cache=True, nogil=True)
def _ids(positions, items, table):  # type: ignore[no-untyped-def]
    out = np.full(positions.shape, PADDING, np.int64)
    for b in range(positions.shape[0]):
        for place in range(positions.shape[1]):
            if positions[b, place] < 0:
                break
            row = items[positions[b, place]]
            out[b, place] = table[row] if 0 <= row < len(table) else UNKNOWN
    return out


@njit(cache=True, nogil=True)
def _gaps(positions, times, now):  # type: ignore[no-untyped-def]
    out = np.full(positions.shape, PADDING, np.int64)
    for b in range(positions.shape[0]):
        for place in range(positions.shape[1]):
            if positions[b, place] < 0:
                break
            seconds, digits = max(now[b] - times[positions[b, place]], 0) // 1000, 0
            while seconds > 0 and digits < GAPS - 3:
                seconds >>= 1
                digits += 1
            out[b, place] = 2 + digits
    return out
