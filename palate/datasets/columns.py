"""Columns that stay in memory and are gathered a batch at a time; sequences as spans of one flat array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Values = np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True)
class Spans:
    """A sequence column ``[N, width]`` that is never written out: row n is ``values[starts[n] : starts[n] + lengths[n]]``, then zeros.

    ``values`` integer ``[M]`` (embedding ids, or catalogue rows with ``lookup`` ``[items]`` giving the id of each), ``starts lengths``
    int64 ``[N]``. Twenty million histories of fifty items that are windows of the same event log take three numbers an event this way.
    """

    values: Values
    starts: Values
    lengths: Values
    width: int
    lookup: Values | None = None

    def __post_init__(self) -> None:
        for name in ("values", "starts", "lengths", "lookup"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, torch.as_tensor(getattr(self, name)))
        starts, lengths = self.starts, self.lengths
        if len(starts) != len(lengths):
            raise ValueError(f"spans have {len(starts)} starts but {len(lengths)} lengths")
        if len(starts) and (int(starts.min()) < 0 or int(lengths.min()) < 0 or int((starts + lengths).max()) > len(self.values)):
            raise ValueError(f"a span reaches outside its {len(self.values)} values")
        if len(lengths) and int(lengths.max()) > self.width:
            raise ValueError(f"a span of {int(lengths.max())} does not fit the width {self.width}")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """int64 ``[chosen, width]``."""
        place = torch.arange(self.width)
        inside = place < torch.as_tensor(self.lengths)[chosen][:, None]
        where = torch.where(inside, torch.as_tensor(self.starts)[chosen][:, None] + place, 0)
        values = torch.as_tensor(self.values)
        found = values[where] if len(values) else torch.zeros_like(where)
        if self.lookup is not None:
            found = torch.as_tensor(self.lookup)[found.long()]
        return torch.where(inside, found.long(), 0)


class Columns:
    """Named columns of one length, gathered by row. Integers leave as int64 and floats as float32, however narrow they are kept."""

    def __init__(self, columns: Mapping[str, Values | Spans], size: int | None = None) -> None:
        self._columns: dict[str, Tensor | Spans] = {}
        for name, values in columns.items():
            kept = values if isinstance(values, Spans) else torch.as_tensor(values)
            if size is not None and len(kept) != size:
                raise ValueError(f"column {name!r} has {len(kept)} rows, the others {size}")
            size = len(kept)
            self._columns[name] = kept
        self.size = size or 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        return iter(self._columns)

    def take(self, chosen: Tensor) -> dict[str, Tensor]:
        """Rows ``chosen`` int64 ``[n]`` of every column."""
        found = {}
        for name, values in self._columns.items():
            one = values[chosen] if isinstance(values, Spans) else values.index_select(0, chosen)
            found[name] = one.float() if one.is_floating_point() else one.long()
        return found


def index(values: Values, size: int, what: str) -> Tensor:
    """``values`` as an int64 tensor of rows below ``size``; ValueError names the first that is not."""
    rows = torch.as_tensor(values).long()
    wrong = torch.nonzero((rows < 0) | (rows >= size))
    if len(wrong):
        place = int(wrong[0])
        raise ValueError(f"{what} {int(rows[place])} of example {place} is not one of {size}")
    return rows
