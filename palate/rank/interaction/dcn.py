"""DCN: a cross network, which makes products of a bounded degree, beside a tower.

Wang, Fu, Fu, Wang, "Deep & Cross Network for Ad Click Predictions", ADKDD 2017.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.cross import CrossNet
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, share, total
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class DCN(Ranker):
    """logit = w . [x_L, h] + b, with x_L what ``layers`` of ``x_{l+1} = x_0 (x_l . w_l) + b_l + x_l`` make of the fields and h the last hidden layer.

    ``dim`` of each field's vector; ``dropout`` of the fields' vectors where they enter the tower and after each hidden layer. Tasks share
    everything but w and b. All that is asked of a row's fields is linear, so both halves of a request are a few numbers.
    """

    def __init__(self, schema: Schema, dim: int = 16, hidden: tuple[int, ...] = (256, 128), dropout: float = 0.1, layers: int = 3) -> None:
        super().__init__(schema)
        fields, tasks = len(schema.features), len(self.tasks)
        self.embedding = Embedding(schema.features, dim)
        self.cross = CrossNet(fields, dim, layers)
        self.out = nn.Parameter(nn.init.xavier_normal_(torch.empty(fields * dim, tasks)))  # the part of w that reads x_L
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, tasks, dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """The share of ``owners`` (all when none is named) in the tower's ``first [N, H]`` layer and in the ``products [N, L + T]`` of x_0."""
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, lambda fields: self._half(fields, places))
        return self._half(self.embedding(batch, *owners), places)

    def _half(self, fields: Tensor, places: Tensor) -> dict[str, Tensor]:
        products = share(fields, torch.cat([self.cross.weight, self.out], 1), places)
        return {"first": self.tower.partial(self.dropout(fields), places, self.embedding.dim), "products": products}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        layers = self.cross.weight.shape[1]
        times, plus = self.cross.scale(whole["products"][:, :layers])
        return self.tower.rest(whole["first"]) + times * whole["products"][:, layers:] + plus @ self.out
