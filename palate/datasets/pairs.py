"""Pairs: a user at a moment and the item taken then. What retrieval models learn from; negatives are made for each batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from palate.batch import Batch
from palate.datasets.columns import Columns, Spans, Values, index
from palate.datasets.negatives import log_mixed


class Pairs:
    """E examples (user, item taken), all in memory, gathered a batch at a time.

    ``items`` int64 ``[E]``: the positive's catalogue row. ``users`` int64 ``[E]``: the user's (-1 unknown). ``item_columns``: by feature name
    ``[I, ...]``, one row for each item of the catalogue. ``user_columns``: ``[E, ...]``, or ``[U, ...]`` looked up by ``user_index`` int64 ``[E]``;
    ``moment_columns`` ``[E, ...]`` for what changes with the moment (histories, context) beside such a ``user_index``. ``uniform``: how many
    items are drawn uniformly from the catalogue for each batch, as negatives beside the other users' items.

    Negatives come from taken items and uniform draws only: there is no way to hand in exposures (see ``datasets/negatives.py``).
    """

    single: ClassVar[bool] = True  #: a taken item can be left out of what is learnt without becoming a negative

    def __init__(
        self,
        items: Values,
        users: Values,
        item_columns: Mapping[str, Values | Spans],
        user_columns: Mapping[str, Values | Spans],
        user_index: Values | None = None,
        moment_columns: Mapping[str, Values | Spans] | None = None,
        uniform: int = 0,
    ) -> None:
        if uniform < 0:
            raise ValueError(f"uniform must be 0 or more, not {uniform}")
        self._item_columns = Columns(item_columns)
        self.items = index(items, len(self._item_columns), "item row")
        self.users = torch.as_tensor(users).long()
        size = len(self.items)
        if len(self.users) != size:
            raise ValueError(f"{len(self.users)} users but {size} items")
        self._user_columns = Columns(user_columns, size if user_index is None else None)
        self._user_index = None if user_index is None else index(user_index, len(self._user_columns), "user row")
        if self._user_index is not None and len(self._user_index) != size:
            raise ValueError(f"user_index has {len(self._user_index)} rows, the others {size}")
        self._moment_columns = Columns(moment_columns or {}, size)
        self.uniform = uniform
        self._counts = torch.bincount(self.items, minlength=len(self._item_columns))
        self._log_q: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        """User columns ``[B]``, item columns ``[B + uniform]`` (the users' own first), ``log_q item_row [B + uniform]``, ``user_row [B]``."""
        batch = Batch(user_row=self.users[chosen])
        batch.update(self._user_columns.take(chosen if self._user_index is None else self._user_index[chosen]))
        batch.update(self._moment_columns.take(chosen))
        items = self.items[chosen]
        if self.uniform:
            drawn = torch.randint(len(self._item_columns), (self.uniform,), generator=generator)
            items = torch.cat((items, drawn))
        batch.update(self._item_columns.take(items))
        batch["item_row"] = items
        batch["log_q"] = self._log_probability(len(chosen))[items]
        return batch

    def _log_probability(self, size: int) -> Tensor:
        if size not in self._log_q:  # one for full batches, one for the last: never more than a few
            if len(self._log_q) > 8:
                self._log_q.clear()
            self._log_q[size] = log_mixed(self._counts, size, self.uniform)
        return self._log_q[size]
