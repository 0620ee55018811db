"""Batch: column name -> tensor. What a model reads, and all that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Batch(dict[str, Tensor]):
    """Columns by feature name; labels are ``"label:<task>"`` float32 ``[B]`` (NaN: this task has no label here), and ``"weight"``
    float32 ``[B]``, where there is one, is how much each row counts in the loss; ``"kept"`` float32 ``[B]`` the rate at which negatives were kept.

    A batch for a two-tower model may hold more items than users: its first B items are the users' own, the rest are
    negatives. Then ``"log_q"`` float32 ``[items]`` is each item's log-probability of being drawn, ``"item_row"`` int64 ``[items]``
    its catalogue row and ``"user_row"`` int64 ``[B]`` the user's.
    """

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray[Any, Any]], device: str | torch.device = "cpu") -> Batch:
        """A batch over numpy columns (shares their memory on the CPU)."""
        return cls({name: torch.as_tensor(values, device=device) for name, values in columns.items()})

    def to(self, device: str | torch.device) -> Batch:
        return Batch({name: values.to(device) for name, values in self.items()})

    def take(self, chosen: Tensor | slice) -> Batch:
        """The rows at ``chosen`` of every column."""
        return Batch({name: values[chosen] for name, values in self.items()})
