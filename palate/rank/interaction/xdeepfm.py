"""xDeepFM: a compressed interaction network, which crosses whole vectors, beside a linear part and a tower.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.cin import CIN
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, placed, total
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class xDeepFM(Ranker):
    """logit = linear + w . CIN(fields) + tower(fields) + b.

    ``maps``: how many vectors each layer of the CIN makes; ``split``: one half of them goes on to the next layer and the other into the result
    (else all go both ways). ``dim`` of each field's vector; ``dropout`` of the fields' vectors where they enter the tower and after each hidden
    layer. Tasks share everything but the linear weights, w and the tower's output.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        maps: tuple[int, ...] = (32, 32),
        split: bool = False,
    ) -> None:
        super().__init__(schema)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        self.dim, fields, tasks = dim, len(schema.features), len(self.tasks)
        self.embedding = Embedding(schema.features, dim + tasks)  # the linear weights are the last T columns: one look-up
        self.cin = CIN(fields, dim, maps, split)
        self.out = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.cin.width, tasks)))  # w
        self.bias = nn.Parameter(torch.zeros(tasks))
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, tasks, dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``linear [N, T]``, ``first [N, H]`` (the tower's), ``fields [N, F, D]`` among zeros."""
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, lambda fields: self._half(fields, places))
        return self._half(self.embedding(batch, *owners), places)

    def _half(self, both: Tensor, places: Tensor) -> dict[str, Tensor]:
        fields, linear = both[..., : self.dim], both[..., self.dim :].sum(1)  # [N, F, D], [N, T]
        first = self.tower.partial(self.dropout(fields), places, self.dim)
        every = self.embedding.plan().places
        return {"linear": linear, "first": first, "fields": fields if len(places) == len(every) else placed(fields, places, every)}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        return self.bias + whole["linear"] + self.cin(whole["fields"]) @ self.out + self.tower.rest(whole["first"])
