"""AllInteraction: every feature against a few learned mixes of all features, instead of every feature against every other.

The compressed inner products X (W X)' of Zhang et al., "Wukong: Towards a Scaling Law for Large-Scale Recommendation", ICML 2024, section 3.3, which
grow linearly with the features; those of all pairs are in Naumov et al., "Deep Learning Recommendation Model", arXiv 1906.00091, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.gates import LHUC
from palate.layers.halves import placed, total
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class AllInteraction(Ranker):
    """logit = tower([fields, gate * X (W X)']): X ``[F, D]`` the fields, W ``[mixes, F]``, so ``F * mixes`` inner products.

    ``gates``: each product is scaled by 2 sigmoid of a perceptron that sees all fields; without, by 1. ``dropout`` of what enters the tower
    and after each hidden layer. Tasks share all but the tower's output.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        mixes: int = 16,
        gates: bool = False,
    ) -> None:
        super().__init__(schema)
        if mixes < 1:
            raise ValueError(f"mixes must be 1 or more, not {mixes}")
        fields = len(schema.features)
        self.embedding = Embedding(schema.features, dim, deviation=0.05)
        self.mix = nn.Parameter(torch.empty(mixes, fields).normal_(0, fields**-0.5))  # W
        self.gate = LHUC(fields * dim, fields * mixes) if gates else None
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, len(self.tasks), dropout)
        self.crossed = nn.Linear(fields * mixes, self.tower.width, bias=False)  # the products' share of the tower's first layer

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``first [N, H]``, and ``fields [N, F, D]`` with zeros for other owners'."""
        embedding = self.embedding
        fields, places = embedding(batch, *owners), embedding.plan(*owners).places
        first = self.tower.partial(self.dropout(fields), places, embedding.dim)
        return {"first": first, "fields": placed(fields, places, embedding.plan().places)}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        fields = whole["fields"]
        products = (fields @ (self.mix @ fields).transpose(1, 2)).flatten(1)  # [N, F mixes]
        if self.gate is not None:
            products = self.gate(products, fields.flatten(1))
        return self.tower.rest(whole["first"] + self.crossed(self.dropout(products)))
