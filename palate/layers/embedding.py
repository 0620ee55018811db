"""Embeddings of every kind of feature, in one stacked table with sparse gradients. The only file that knows how tables are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.layers import scatter
from palate.schema import UNKNOWN, Feature, Owner


class Table(nn.Module):
    """Rows of floats ``[rows, dim]`` whose gradient is sparse: a step touches the rows it read and no others.

    Not ``sparse``: for a model that reads every row in every step, as a softmax over all items does. With a ``deviation`` the rows are drawn from
    a normal distribution, row 0 (padding) is zero; without one they are left to the owner.
    """

    def __init__(self, rows: int, dim: int, sparse: bool = True, deviation: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(zeros(rows, dim))
        self.sparse = sparse
        if deviation is not None:
            with torch.no_grad():
                self.weight.normal_(0, deviation)
                self.weight[0] = 0

    def forward(self, ids: Tensor, padding: int | None = None) -> Tensor:
        """Rows ``[..., dim]``; the row ``padding`` never gets a gradient."""
        if self.sparse and ids.numel() > 2 * len(self.weight) and ids.device.type == "cpu" and torch.is_grad_enabled():
            return scatter.Looked.apply(self.weight, ids, -1 if padding is None else padding)
        return F.embedding(ids, self.weight, padding_idx=padding, sparse=self.sparse)

    def mean(self, ids: Tensor, padding: int) -> Tensor:
        """Mean over the last axis of ``ids [N, L]`` without the ids equal to ``padding``; zeros where nothing is left."""
        if self.sparse and ids.device.type == "cpu":
            return scatter.Mean.apply(self.weight, ids, padding)
        return F.embedding_bag(ids, self.weight, mode="mean", padding_idx=padding, sparse=self.sparse)


def zeros(*shape: int) -> Tensor:
    """Float32 of this shape in numpy's memory, which asks the system for large pages as torch's does not.

    Rows read here and there in gigabytes otherwise cost more for finding their pages than for their numbers.
    """
    return torch.from_numpy(np.zeros(shape, np.float32))


def once(column: Tensor) -> Tensor:
    """``[1, ...]`` of a column whose rows are all the same memory (one user's, expanded over candidates), else the column."""
    return column[:1] if len(column) > 1 and column.stride(0) == 0 else column


def tables(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``model`` that have sparse gradients, in the model's order."""
    return [module.weight for module in model.modules() if isinstance(module, Table) and module.sparse]


class Embedding(nn.Module):
    """Fields ``[N, F, D]`` of a batch: one vector for each feature.

    A category is a row of the table; a sequence is the mean of its items' rows (padding left out, nothing = zeros); a number is its value times a
    vector learned for the field (a value that is missing or not finite gives zeros); a vector goes through a linear map. A feature
    that ``shares`` another's table has its rows. Fields come in the order of ``names``: categories, sequences, numbers, vectors.
    ``standardise`` centres numbers and narrows the wide ones; without it values are taken as they are. Sequences named in ``unpooled`` are no
    fields: a model asks for the ``rows`` of their places. Sequences and vectors expanded over the batch's rows are computed once.
    """

    def __init__(self, features: Sequence[Feature], dim: int, deviation: float = 0.01, unpooled: Sequence[str] = ()) -> None:
        super().__init__()
        if not features:
            raise ValueError("an embedding needs at least one feature")
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        order = {"category": 0, "sequence": 1, "number": 2, "vector": 3}
        ordered = sorted(features, key=lambda feature: order[feature.kind])
        self.features = tuple(feature for feature in ordered if feature.name not in unpooled)
        self.names = tuple(feature.name for feature in self.features)
        self.dim = dim
        self._start: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        total = 0
        for feature in ordered:
            if feature.kind in ("category", "sequence"):
                if feature.vocab_size <= UNKNOWN:
                    raise ValueError(f"feature {feature.name!r} needs a vocab_size above {UNKNOWN} (0 is padding, 1 unknown)")
                owner = feature.shares if any(f.name == feature.shares for f in ordered) else feature.name
                if owner not in self._start:
                    size = max(f.vocab_size for f in ordered if owner in (f.name, f.shares))
                    self._start[owner], self._rows[owner] = total, size
                    total += size
                self._start[feature.name], self._rows[feature.name] = self._start[owner], self._rows[owner]
        self.table = Table(total, dim) if total else None
        numbers = sum(feature.kind == "number" for feature in self.features)
        self.numbers = nn.Parameter(torch.empty(numbers, dim)) if numbers else None
        self.centre: Tensor
        self.inverse: Tensor  # 1 / deviation, at most 1
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("inverse", torch.ones(numbers))
        self.vectors = nn.ModuleDict({f"{i}": nn.Linear(f.dim, dim, bias=False) for i, f in enumerate(self.features) if f.kind == "vector"})
        self._number_at = {f.name: i for i, f in enumerate(f for f in self.features if f.kind == "number")}
        self._plans: dict[tuple[Owner, ...], Plan] = {}
        self.reset(deviation)

    def reset(self, deviation: float) -> None:
        """Draw the weights anew: normal with this deviation; unknown and padding rows start at zero."""
        with torch.no_grad():
            if self.table is not None:
                self.table.weight.normal_(0, deviation)
                for start in set(self._start.values()):
                    self.table.weight[start : start + UNKNOWN + 1] = 0
            if self.numbers is not None:
                self.numbers.normal_(0, deviation)
            for layer in self.vectors.values():
                layer.weight.normal_(0, deviation)  # type: ignore[operator]

    @torch.no_grad()
    def standardise(self, batch: Batch) -> None:
        """From the finite values of ``batch`` learn each number's mean, and its deviation where that is above 1: they are taken out.

        A narrow number is not widened: it would be learned as fast as the wide ones, and small weights on shares and flags are what
        keeps a ranker of few examples from overfitting. A number that never varies stays as it is.
        """
        for feature, place in self._number_at.items():
            values = column_of(batch, feature, 1, ids=False).double()
            values = values[torch.isfinite(values)]
            if not len(values):
                continue
            mean, deviation = values.mean(), values.std(correction=0)
            if bool(deviation > 1e-6 * mean.abs()):
                self.centre[place], self.inverse[place] = mean, 1 / deviation.clamp(min=1)

    def plan(self, *owners: Owner) -> Plan:
        """What the features of these owners need (all features when none is named)."""
        if owners not in self._plans:
            with torch.inference_mode(False):  # first asked for while serving, it must do for training too
                self._plans[owners] = Plan(self, owners)
        return self._plans[owners]

    def forward(self, batch: Batch, *owners: Owner) -> Tensor:
        """``[N, F, D]`` of the features of ``owners`` (all when none is named). An id outside its vocabulary is a ValueError."""
        plan = self.plan(*owners)
        parts: list[Tensor] = []
        if plan.categories:
            assert self.table is not None
            ids = stacked(batch, plan.categories)  # [N, F]
            if bool(((ids < 0) | (ids >= plan.sizes)).any()):
                raise ValueError(_outside(plan, ids))
            parts.append(self.table(ids + plan.starts))
        for name in plan.sequences:
            assert self.table is not None
            column = column_of(batch, name, 2)
            pooled = self.table.mean(self._placed(name, once(column)), self._start[name])
            parts.append(pooled.expand(len(column), -1)[:, None])
        if plan.numbers:
            values, of_fields = self._numbers(batch, plan)
            parts.append(values[:, :, None] * of_fields)
        for name in plan.vectors:
            layer, column = self.vectors[f"{self.names.index(name)}"], column_of(batch, name, 2, ids=False)
            if column.shape[1] != layer.in_features:
                raise ValueError(f"feature {name!r} must be [N, {layer.in_features}], not {list(column.shape)}")
            vectors = layer(torch.nan_to_num(once(column).float(), 0.0, 0.0, 0.0))
            parts.append(vectors.expand(len(column), -1)[:, None])
        if not parts:
            return torch.zeros(1, 0, self.dim)  # no field of these owners: one row that adds nothing
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"the columns of the batch have different lengths: {', '.join(f'{name} {len(batch[name])}' for name in plan.names)}")
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """``[..., D]`` of the ``ids`` of a category's or sequence's table, one vector each: zeros at padding (whose row learns nothing)."""
        assert self.table is not None
        return self.table(self._placed(name, ids), self._start[name])

    def products(self, name: str, ids: Tensor, vectors: Tensor) -> Tensor:
        """``[N, L]``: the inner products of ``vectors [N, D]`` with the vectors of ``ids [N, L]``. Of a table no longer than L each is made once."""
        assert self.table is not None
        if self._rows[name] > ids.shape[1]:
            return torch.bmm(self.rows(name, ids), vectors[:, :, None])[:, :, 0]
        start = self._start[name]
        every = self.table(torch.arange(start, start + self._rows[name]), start)
        self._check(name, ids)
        return (vectors @ every.T).gather(1, ids)

    def _placed(self, name: str, ids: Tensor) -> Tensor:
        self._check(name, ids)
        return ids + self._start[name]

    def _check(self, name: str, ids: Tensor) -> None:
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self._rows[name]):
            raise ValueError(f"feature {name!r} has ids outside 0..{self._rows[name] - 1}")

    def only_numbers(self, batch: Batch, *owners: Owner) -> tuple[Tensor, Tensor] | None:
        """Values ``[N, F]`` and vectors ``[F, D]`` whose products are the fields, where these owners have numbers and nothing else."""
        plan = self.plan(*owners)
        return self._numbers(batch, plan) if len(plan.numbers) == len(plan) > 0 else None

    def _numbers(self, batch: Batch, plan: Plan) -> tuple[Tensor, Tensor]:
        assert self.numbers is not None
        values = stacked(batch, plan.numbers, ids=False).float()  # [N, F]
        values = (values - self.centre[plan.number_rows]) * self.inverse[plan.number_rows]
        return values.nan_to_num_(0.0, 0.0, 0.0), self.numbers[plan.number_rows]


class Plan:
    """Which features some owners have, by kind, and where they stand among all fields (``places`` int64 ``[F]``)."""

    def __init__(self, embedding: Embedding, owners: tuple[Owner, ...]) -> None:
        chosen = [f for f in embedding.features if not owners or f.owner in owners]
        self.names = tuple(f.name for f in chosen)
        self.places = torch.tensor([embedding.names.index(f.name) for f in chosen], dtype=torch.int64)
        self.categories = [f.name for f in chosen if f.kind == "category"]
        self.sequences = [f.name for f in chosen if f.kind == "sequence"]
        self.numbers = [f.name for f in chosen if f.kind == "number"]
        self.vectors = [f.name for f in chosen if f.kind == "vector"]
        self.starts = torch.tensor([embedding._start[name] for name in self.categories], dtype=torch.int64)
        self.sizes = torch.tensor([embedding._rows[name] for name in self.categories], dtype=torch.int64)
        rows = [embedding._number_at[name] for name in self.numbers]
        every = embedding.numbers is not None and rows == list(range(len(embedding.numbers)))
        self.number_rows = slice(None) if every else torch.tensor(rows, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.names)


def column_of(batch: Batch, name: str, axes: int, ids: bool = True) -> Tensor:
    """The column ``name``; ValueError where it is missing, has other than ``axes`` axes, or should be whole ids and is not."""
    column = batch.get(name)
    if column is None:
        raise ValueError(f"the batch has no column {name!r}; it has {', '.join(sorted(batch)) or 'none'}")
    if column.dim() != axes:
        raise ValueError(f"column {name!r} must be {'[N]' if axes == 1 else '[N, length]'}, not {list(column.shape)}")
    if ids and column.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"column {name!r} must hold whole ids (int64), not {column.dtype}")
    return column


def stacked(batch: Batch, names: Sequence[str], ids: bool = True) -> Tensor:
    """Columns ``[N]`` side by side, ``[N, F]``."""
    found = [column_of(batch, name, 1, ids) for name in names]
    if len({len(column) for column in found}) > 1:
        raise ValueError(f"the columns of the batch have different lengths: {', '.join(f'{name} {len(batch[name])}' for name in names)}")
    return torch.stack(found, 1)


def _outside(plan: Plan, ids: Tensor) -> str:
    for place, name in enumerate(plan.categories):
        wrong = ids[:, place][(ids[:, place] < 0) | (ids[:, place] >= plan.sizes[place])]
        if len(wrong):
            return f"feature {name!r} has the id {int(wrong[0])}, outside 0..{int(plan.sizes[place]) - 1}"
    return "an id is outside its vocabulary"
