"""The columns of a batch as numbers that trees can split, float32 ``[N, C]``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.schema import PADDING, Feature, Schema

BLOCK = 65_536  #: rows encoded at a time
FOLDS = 5

Floats = NDArray[np.float32]


class Inputs:
    """What trees see of each kind of feature.

    A category with at most ``categories`` ids stays one: LightGBM splits such a column by sets of ids. A larger one becomes two numbers, the
    logarithm of how often its id was seen and the task's mean label there, drawn towards the mean of all by ``smoothing`` rows (Micci-Barreca,
    SIGKDD Explorations 2001); an id never seen has that mean. A row that is learnt from sees the mean of other rows: those of the other folds of its
    groups, or, where an id has no other group (the user, where a group is a user), of its rows. A sequence becomes its length, the share of each
    id in it where there are at most ``categories``, and, where it shares the table of a category, how many of its places hold the row's own id.
    A number stays as it is, a vector becomes its entries; what is not finite is missing.
    """

    def __init__(self, schema: Schema, categories: int, smoothing: float) -> None:
        if categories < 0:
            raise ValueError(f"categories must be 0 or more, not {categories}")
        if not smoothing > 0:
            raise ValueError(f"smoothing must be above 0, not {smoothing}")
        self.schema, self.limit, self.smoothing = schema, categories, smoothing
        every = [feature for feature in schema.features if feature.kind == "category"]
        self.wide = [feature for feature in every if feature.vocab_size > categories]
        self.narrow = [feature for feature in every if feature.vocab_size <= categories]
        self.counts: dict[str, Floats] = {}  # by wide category, [ids]
        self.means: dict[str, Floats] = {}  # by wide category, [T, ids]

    @property
    def split_by_sets(self) -> list[int]:
        """Which columns are categories."""
        return list(range(len(self.narrow)))

    @property
    def width(self) -> int:
        """How many columns a task's trees look at."""
        wide = 0
        for feature in self.schema.features:
            if feature.kind == "category":
                wide += 2 if feature.vocab_size > self.limit else 1
            elif feature.kind == "sequence":
                wide += 1 + (feature.vocab_size - 1 if feature.vocab_size <= self.limit else 0) + len(self._shared(feature))
            else:
                wide += feature.dim if feature.kind == "vector" else 1
        return wide

    def _shared(self, sequence: Feature) -> list[Feature]:
        return [feature for feature in self.narrow + self.wide if sequence.shares == feature.name]

    def fit(self, rows: Pointwise) -> tuple[Floats, list[Floats]]:
        """Learn counts and means from ``rows``; their columns ``[N, C]``, and for each task those of its means ``[N, W]``, each row's of others."""
        every = self.told(rows)
        groups = torch.unique(every["group"], return_inverse=True)[1].numpy()
        shuffled = np.random.default_rng(0).permutation(int(groups.max(initial=-1)) + 1)
        weights = every["weight"].double().numpy() if "weight" in every else np.ones(len(rows))
        found: list[list[Floats]] = [[] for _ in self.schema.labels]
        for feature in self.wide:
            ids, size = _ids(every, feature).numpy(), feature.vocab_size
            self.counts[feature.name] = np.log1p(np.bincount(ids, minlength=size)).astype(np.float32)
            alone = len(np.unique(ids * np.int64(len(shuffled)) + groups)) == len(np.unique(ids))
            folds = (np.random.default_rng(1).permutation(len(ids)) if alone else shuffled[groups]) % FOLDS
            means = []
            for t, label in enumerate(self.schema.labels):
                values = every[f"label:{label.name}"].double().numpy()
                known = np.where(np.isnan(values), 0.0, weights)
                values = np.nan_to_num(values) * known
                places = ids * FOLDS + folds
                seen, total = (np.bincount(places, column, size * FOLDS).reshape(size, FOLDS) for column in (known, values))
                mean = total.sum() / max(seen.sum(), 1e-12)
                scale = self.smoothing * (known.sum() / max(np.count_nonzero(known), 1))  # the smoothing counts rows, of mean weight
                if not scale:
                    scale = 1.0
                means.append((total.sum(1) + scale * mean) / (seen.sum(1) + scale))
                others_seen, others = seen.sum(1, keepdims=True) - seen, total.sum(1, keepdims=True) - total
                found[t].append(((others + scale * mean) / (others_seen.clip(0) + scale))[ids, folds].astype(np.float32))
            self.means[feature.name] = np.stack(means).astype(np.float32)
        return self.every(rows), [np.stack(part, 1) if part else np.empty((len(rows), 0), np.float32) for part in found]

    def told(self, rows: Pointwise) -> Batch:
        """Of all rows what is not among the ``columns``: labels, groups, weights and rates, and the ids of the wide categories."""
        wanted = {"group", "weight", "kept", *(f"label:{label.name}" for label in self.schema.labels), *(feature.name for feature in self.wide)}
        parts = [{name: batch[name] for name in wanted & batch.keys()} for batch in _blocks(rows)]
        return Batch({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def every(self, rows: Pointwise) -> Floats:
        """The ``columns`` of all rows, made some at a time: histories need far more room than what trees see of them."""
        return np.concatenate([self.columns(batch) for batch in _blocks(rows)])

    def columns(self, batch: Batch) -> Floats:
        """All that no label had a say in, ``[N, C]``. ValueError names a column that is missing or holds what it cannot."""
        parts: list[Tensor] = [_ids(batch, feature)[:, None] for feature in self.narrow]
        parts += [torch.from_numpy(self.counts[feature.name])[_ids(batch, feature)][:, None] for feature in self.wide]
        for feature in self.schema.features:
            if feature.kind == "number":
                parts.append(_column(batch, feature, 1)[:, None])
            elif feature.kind == "vector":
                parts.append(_column(batch, feature, 2))
            elif feature.kind == "sequence":
                parts += self._sequence(batch, feature)
        if len({len(part) for part in parts}) > 1:
            lengths = ", ".join(f"{feature.name} {len(batch[feature.name])}" for feature in self.schema.features)
            raise ValueError(f"the columns of the batch have different lengths: {lengths}")
        made: Floats = torch.cat([part.float() for part in parts], 1).numpy()
        made[~np.isfinite(made)] = np.nan
        return made

    def _sequence(self, batch: Batch, feature: Feature) -> Iterator[Tensor]:
        ids = _ids(batch, feature)  # [N, L]
        there = ids != PADDING
        length = there.sum(1, keepdim=True)
        yield length
        if feature.vocab_size <= self.limit:
            counts = torch.zeros(len(ids), feature.vocab_size).scatter_add_(1, ids, there.float())
            yield counts[:, PADDING + 1 :] / length.clamp(min=1)
        for other in self._shared(feature):
            own = _ids(batch, other)
            if len(own) == len(ids):
                yield ((ids == own[:, None]) & there).sum(1, keepdim=True)

    def task_means(self, batch: Batch, task: int) -> Floats:
        """The task's mean labels of the wide categories' ids, ``[N, W]``."""
        size = len(next(iter(batch.values()))) if batch else 0
        parts = [self.means[feature.name][task][_ids(batch, feature).numpy()] for feature in self.wide]
        return np.stack(parts, 1) if parts else np.empty((size, 0), np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {f"counts/{name}": values for name, values in self.counts.items()}
        return found | {f"means/{name}": values for name, values in self.means.items()}

    def read(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what ``arrays`` gave; ValueError where it is not this schema's."""
        for feature in self.wide:
            for kept, name, shape in (
                (self.counts, "counts", (feature.vocab_size,)),
                (self.means, "means", (len(self.schema.labels), feature.vocab_size)),
            ):
                values = arrays[f"{name}/{feature.name}"]
                if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
                    raise ValueError(f"{name} of {feature.name} must be finite float32 {list(shape)}")
                kept[feature.name] = np.array(values)


def _blocks(rows: Pointwise) -> Iterator[Batch]:
    for chosen in torch.arange(len(rows)).split(BLOCK):
        yield rows.batch(chosen)


def _column(batch: Batch, feature: Feature, axes: int) -> Tensor:
    values = batch.get(feature.name)
    if values is None:
        raise ValueError(f"the batch has no column {feature.name!r}; it has {', '.join(sorted(batch)) or 'none'}")
    if values.dim() != axes or (feature.kind == "vector" and values.shape[1] != feature.dim):
        wanted = f"[N, {feature.dim}]" if feature.kind == "vector" else "[N]" if axes == 1 else "[N, length]"
        raise ValueError(f"feature {feature.name!r} must be {wanted}, not {list(values.shape)}")
    return values


def _ids(batch: Batch, feature: Feature) -> Tensor:
    ids = _column(batch, feature, 2 if feature.kind == "sequence" else 1)
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"feature {feature.name!r} must hold whole ids (int64), not {ids.dtype}")
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= feature.vocab_size):
        wrong = ids[(ids < 0) | (ids >= feature.vocab_size)]
        raise ValueError(f"feature {feature.name!r} has the id {int(wrong[0])}, outside 0..{feature.vocab_size - 1}")
    return ids.long()
