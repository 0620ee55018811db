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
    counts in the loss (None: all the same). ``kept`` float ``[N]``, above 0: the rate at which negatives such as this row's were kept (see
    ``Thinned``). Raises ValueError where lengths, rows, weights or rates do not fit.
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
        kept: Values | None = None,
    ) -> None:
        self.groups = torch.as_tensor(groups).long()
        size = len(self.groups)
        self.weights = None if weights is None else torch.as_tensor(weights).float()
        if self.weights is not None and len(self.weights) != size:
            raise ValueError(f"there are {len(self.weights)} weights, but {size} rows")
        if self.weights is not None and not bool((torch.isfinite(self.weights) & (self.weights >= 0)).all()):
            raise ValueError("weights must be finite and 0 or more")
        self.kept = None if kept is None else torch.as_tensor(kept).float()
        if self.kept is not None and (len(self.kept) != size or not bool(((self.kept > 0) & (self.kept <= 1)).all())):
            raise ValueError(f"kept must be {size} rates above 0 and at most 1")
        self.labels = Columns({f"label:{task}": values for task, values in labels.items()}, size)
        self._parts: list[tuple[Columns, Tensor | None]] = [(Columns(columns, size), None)]
        for name, looked_up, rows in (("user", user_columns, user_index), ("item", item_columns, item_index)):
            if (looked_up is None) != (rows is None):
                raise ValueError(f"{name}_columns and {name}_index go together")
            if looked_up is not None and rows is not None:
                part = Columns(looked_up)
                if len(rows) != size:
                    raise ValueError(f"{name}_index has {len(rows)} rows, the others {size}")
                self._parts.append((part, index(rows, len(part), f"{name} row")))

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The rows ``chosen`` int64 ``[n]``: features, ``label:<task>``, ``group`` and, if it has them, ``weight`` and ``kept``."""
        batch = Batch(group=self.groups.index_select(0, chosen))
        for part, rows in self._parts:
            batch.update(part.take(chosen if rows is None else rows.index_select(0, chosen)))
        batch.update(self.labels.take(chosen))
        for name, values in (("weight", self.weights), ("kept", self.kept)):
            if values is not None:
                batch[name] = values.index_select(0, chosen)
        return batch

    def thinned(self, rate: float, seed: int = 0) -> Thinned:
        """All rows but for those whose first label is 0, of which a share of ``rate`` is kept, by chance."""
        return Thinned(self, rate, seed)

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


class Thinned:
    """Rows of a Pointwise set with few of its negatives: a batch has beside the rest ``kept`` float32 ``[B]``, the rate at which its negatives were.

    The odds of a click among the rows that are left are 1 / rate times too high. A ranker that reads ``kept`` trains on sigmoid(z - ln rate),
    so that sigmoid(z) is the probability among all rows (He et al., ADKDD 2014, section 6.3: p / (p + (1 - p) / w) is the same).
    """

    def __init__(self, rows: Pointwise, rate: float, seed: int) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"the share of negatives that is kept must be above 0 and at most 1, not {rate}")
        self._rows, self.rate = rows, rate
        first = next(iter(rows.labels.take(torch.arange(len(rows))).values()))
        drawn = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed))
        self._chosen = torch.nonzero((first != 0) | (drawn < rate))[:, 0]

    def __len__(self) -> int:
        return len(self._chosen)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        batch = self._rows.batch(self._chosen[chosen], generator)
        batch["kept"] = self.rate * batch.get("kept", torch.ones(len(chosen)))
        return batch
