"""Wide: a linear model over features and declared crosses of them, in halves that add up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.layers.embedding import Embedding, Table, column_of, once
from palate.schema import PADDING, Owner, Schema

Crosses = tuple[tuple[str, ...], ...]

_NONE = -(2**61)  #: stands for padding: no sum with it reaches 0
_BITS = 2**56 - 1


class Wide(nn.Module):
    """``[N, T]``: the weights of a batch's features, times their values, plus those of its crosses. All start at 0.

    A cross of some categories has a weight for each combination of their ids, one of ``buckets`` by hash where there are more combinations than
    that. At most one of them may be a sequence: its events are then crossed one by one, and the mean counts (padding left out, nothing = 0).
    """

    def __init__(self, schema: Schema, tasks: int, crosses: Crosses = (), buckets: int = 2**16) -> None:
        super().__init__()
        if buckets < 1:
            raise ValueError(f"buckets must be 1 or more, not {buckets}")
        self.embedding = Embedding(schema.features, tasks, deviation=0.0)
        self.crosses = [[schema[name] for name in cross] for cross in crosses]
        self._strides = list[list[int]]()  # of each cross: what an id is multiplied by where all combinations have a row; none where hashed
        self._starts, self._sizes, total = list[int](), list[int](), 1  # row 0 is for what is not there
        for cross, features in zip(crosses, self.crosses, strict=True):
            sequences = sum(feature.kind == "sequence" for feature in features)
            if len(set(cross)) < 2 or sequences > 1 or any(feature.kind not in ("category", "sequence") for feature in features):
                raise ValueError(f"crosses: {' x '.join(cross)} must be two or more categories, at most one of them a sequence")
            combinations, strides = 1, list[int]()
            for feature in features:
                strides.append(combinations)
                combinations *= feature.vocab_size
            self._strides.append(strides if combinations <= buckets else [])
            self._starts.append(total)
            self._sizes.append(min(combinations, buckets))
            total += self._sizes[-1]
        self.crossed = Table(total, tasks) if crosses else None
        if self.crossed is not None:
            nn.init.zeros_(self.crossed.weight)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [N, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``linear [N, T]`` and each cross's share of the hash, int64 ``[N, L or 1]``."""
        linear = self.embedding(batch, *owners).sum(1)
        half = {"linear": linear}
        for place, features in enumerate(self.crosses):
            share = torch.zeros(len(linear), 1, dtype=torch.int64)
            for at, feature in enumerate(features):
                if not owners or feature.owner in owners:
                    share = share + self._share(batch, place, at)
            half[f"cross {place}"] = share
        return half

    def combine(self, whole: Mapping[str, Tensor]) -> Tensor:
        """``[N, T]`` of the sum of halves."""
        found = whole["linear"]
        if self.crossed is None:
            return found
        rows = [self._rows(place, whole[f"cross {place}"]) for place in range(len(self.crosses))]
        single = [row for row in rows if row.shape[1] == 1]
        if single:
            found = found + self.crossed(torch.cat(single, 1), 0).sum(1)
        for row in rows:
            if row.shape[1] > 1:
                found = found + self.crossed.mean(row, 0)
        return found

    def _share(self, batch: Batch, place: int, at: int) -> Tensor:
        feature, strides = self.crosses[place][at], self._strides[place]
        sequence = feature.kind == "sequence"
        ids = once(column_of(batch, feature.name, 2 if sequence else 1)).long()
        share = ids * strides[at] if strides else _mixed(ids + (at + 1) * 2**40)
        return share.masked_fill(ids == PADDING, _NONE) if sequence else share[:, None]

    def _rows(self, place: int, share: Tensor) -> Tensor:
        rows = share if self._strides[place] else _mixed(share) % self._sizes[place]
        return torch.where(share < 0, 0, rows + self._starts[place])


def _mixed(values: Tensor) -> Tensor:
    """56 bits that depend on every bit of each int64. After Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014."""
    values = values * -0x61C8864680B583EB
    values = (values ^ (values >> 30)) * -0x40A7B892E31B1A47
    return (values ^ (values >> 27)) & _BITS
