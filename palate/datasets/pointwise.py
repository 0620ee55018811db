"""Pointwise: one (user, item, moment) row an example, with a label for each task. What rankers learn from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from palate.batch import Batch
from palate.datasets.columns import Columns, Spans, Values, index


class Pointwise:
    """N rows. Columns that belong to a user or an item may be kept once and pointed at.

    ``columns``: by feature name, ``[N, ...]``. ``labels``: by task, float ``[N]``, NaN where a row has none. ``groups`` int64 ``[N]``: which
    rows belong together (the user's catalogue row, or the request). ``user_columns`` ``[U, ...]`` with ``user_index`` int64 ``[N]``, and
    ``item_columns`` ``[I, ...]`` with ``item_index``, are looked up for each row. ``weights`` float ``[N]``, 0 or more: how much each row
    counts in the loss (None: all the same). Raises ValueError where lengths, rows or weights do not fit.
    """

    def __init__(
        self,
        columns: Mapping[str, Values | Spans],
        labels: Mapping[str, Values],
        groups: Values,
        user_columns: Mapping[str, Values | Spans] | None = None,
        user_index: Values | None = None,
        item_columns: Mapping[str, Values | Spans] | None = None,
        item_index: Values | None = None,
        weights: Values | None = None,
    ) -> None:
        self.groups = torch.as_tensor(groups).long()
        size = len(self.groups)
        self.weights = None if weights is None else torch.as_tensor(weights).float()
        if self.weights is not None and len(self.weights) != size:
            raise ValueError(f"there are {len(self.weights)} weights, but {size} rows")
        if self.weights is not None and not bool((torch.isfinite(self.weights) & (self.weights >= 0)).all()):
            raise ValueError("weights must be finite and 0 or more")
        self.labels = Columns({f"label:{task}": values for task, values in labels.items()}, size)
        self._parts: list[tuple[Columns, Tensor | None]] = [(Columns(columns, size), None)]
        for name, kept, rows in (("user", user_columns, user_index), ("item", item_columns, item_index)):
            if (kept is None) != (rows is None):
                raise ValueError(f"{name}_columns and {name}_index go together")
            if kept is not None and rows is not None:
                part = Columns(kept)
                if len(rows) != size:
                    raise ValueError(f"{name}_index has {len(rows)} rows, the others {size}")
                self._parts.append((part, index(rows, len(part), f"{name} row")))

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The rows ``chosen`` int64 ``[n]``: features, ``label:<task>``, ``group`` and, if it has them, ``weight``. ``generator`` is not used."""
        batch = Batch(group=self.groups.index_select(0, chosen))
        for part, rows in self._parts:
            batch.update(part.take(chosen if rows is None else rows.index_select(0, chosen)))
        batch.update(self.labels.take(chosen))
        if self.weights is not None:
            batch["weight"] = self.weights.index_select(0, chosen)
        return batch

    def by_group(self) -> Grouped:
        """The same rows, drawn a whole group at a time (for losses over a list)."""
        return Grouped(self)


class Grouped:
    """Whole groups of a Pointwise set: ``len`` and ``chosen`` count groups; a batch holds all their rows."""

    def __init__(self, rows: Pointwise) -> None:
        self._rows = rows
        _, group, counts = torch.unique(rows.groups, return_inverse=True, return_counts=True)
        self._order = torch.argsort(group, stable=True)
        self._counts = counts
        self._starts = torch.cumsum(counts, 0) - counts

    def __len__(self) -> int:
        return len(self._counts)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        counts = self._counts[chosen]
        first = torch.cumsum(counts, 0) - counts
        place = torch.arange(int(counts.sum())) + torch.repeat_interleave(self._starts[chosen] - first, counts)
        return self._rows.batch(self._order[place], generator)
