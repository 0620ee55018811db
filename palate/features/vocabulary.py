"""Vocabulary: values as embedding ids. 0 is padding, 1 any value that training did not show; the rest are in order of frequency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

from palate.candidates import Ints, offsets_of
from palate.schema import UNKNOWN

FIRST = UNKNOWN + 1  #: id of the first known value


def text(value: Any) -> str | None:
    """The form in which categories are compared, None for a missing one.

    Values are equal if they print alike: ``7``, ``7.0`` and ``"7"`` are one value, ``"07"`` and ``" 7"`` are others; true and false are
    ``"true"`` and ``"false"``. None, NaN, infinite numbers and the empty string are missing. Of a list, the first value counts.
    """
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        if value.is_integer():
            value = int(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return text(value[0]) if len(value) else None
    try:
        return str(value) or None
    except ValueError:  # an int of more digits than Python prints
        return None


def parts(value: Any) -> list[str]:
    """The different values of a multi-valued cell in their order; a single value is a list of one."""
    several = value if isinstance(value, (list, tuple, np.ndarray)) else (value,)
    return list(dict.fromkeys(one for one in map(text, several) if one is not None))


class Vocabulary:
    """``values`` by id: ``values[0]`` has the id 2."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values: tuple[str, ...] = tuple(dict.fromkeys(values))
        self._ids = {value: FIRST + place for place, value in enumerate(self.values)}

    @classmethod
    def fit(cls, counts: Mapping[str, int], min_count: int = 1, limit: int = 0) -> Self:
        """The values seen at least ``min_count`` times, most frequent first (ties by the value), at most ``limit`` of them (0: all)."""
        kept = sorted((value for value, count in counts.items() if count >= min_count), key=lambda value: (-counts[value], value))
        return cls(kept[:limit] if limit else kept)

    @property
    def size(self) -> int:
        """How many ids there are, padding and unknown included."""
        return FIRST + len(self.values)

    def id(self, value: str | None) -> int:
        """The id of a value in its text form."""
        return self._ids.get(value, UNKNOWN) if value is not None else UNKNOWN

    def ids(self, values: Sequence[Any]) -> Ints:
        """int64 ``[N]`` of raw values."""
        known = self._ids.get
        return np.fromiter((known(text(value), UNKNOWN) for value in values), np.int64, len(values))  # type: ignore[arg-type]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The values as UTF-8 ``bytes`` and their ``offsets``."""
        encoded = [value.encode("utf-8", "surrogatepass") for value in self.values]
        return {"bytes": np.frombuffer(b"".join(encoded), np.uint8), "offsets": offsets_of([len(one) for one in encoded])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        whole, offsets = np.asarray(arrays["bytes"], np.uint8).tobytes(), np.asarray(arrays["offsets"]).tolist()
        if not offsets or offsets[0] != 0 or offsets[-1] != len(whole) or any(a > b for a, b in pairwise(offsets)):
            raise ValueError("a saved vocabulary is damaged: its offsets do not fit its bytes")
        return cls(whole[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets))
