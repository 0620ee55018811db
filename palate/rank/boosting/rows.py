"""Rows as trees learn from them, and the small sums over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.batch import Batch

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """What one task's trees learn from: ``columns [N, C]``; ``labels weights groups [N]``; ``offset [N]``, added to the trees' sum in training."""

    columns: Floats
    labels: Doubles
    weights: Doubles
    offset: Doubles
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[Any]) -> Rows:
        return Rows(*(getattr(self, name)[chosen] for name in ("columns", "labels", "weights", "offset", "groups")))

    @property
    def known(self) -> Rows:
        """Those that have the label and a weight."""
        there = np.isfinite(self.labels) & (self.weights > 0)
        return self if there.all() else self.take(np.flatnonzero(there))

    def shifted(self, by: float) -> Rows:
        return replace(self, offset=self.offset + by)


def rows_of(batch: Batch, tasks: Sequence[str], task: int, columns: Floats) -> Rows:
    """The rows of a batch for one of the ``tasks``, seen as ``columns``."""
    labels = batch[f"label:{tasks[task]}"].double().numpy()
    weights = batch["weight"].double().numpy() if "weight" in batch else np.ones(len(labels))
    offset = np.zeros(len(labels))
    if not task and "kept" in batch:  # as in Ranker.thinned: trees are right among all rows, also those that were left out
        offset -= np.log(batch["kept"].double().numpy())
    return Rows(columns, labels, weights, offset, batch["group"].numpy())


def vector(arrays: Mapping[str, NDArray[Any]], name: str, size: int) -> NDArray[np.float64]:
    """That array, if it is finite float64 ``[size]``."""
    values = arrays[name]
    if values.dtype != np.float64 or values.shape != (size,) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite float64 [{size}]")
    return np.array(values)


def base(rows: Rows, number: bool) -> float:
    """The log-odds of the label among all rows, or the mean of a number."""
    if not len(rows):
        return 0.0
    if number:
        return float(np.average(rows.labels, weights=rows.weights))
    weights = np.where(rows.labels > 0, rows.weights, rows.weights * np.exp(rows.offset))  # a negative stands for those that were left out
    rate, margin = float(np.average(rows.labels, weights=weights)), 0.5 / len(rows)
    return math.log(max(rate, margin) / max(1 - rate, margin))


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * values))
