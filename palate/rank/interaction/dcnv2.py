"""DCNv2: cross layers with a matrix (full, of low rank, or a mixture of low ranks), below or beside a tower.

Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems", WWW 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.cross import CrossTower, Form, cross_v2
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.schema import Owner, Schema


class DCNv2(Ranker):
    """``layers`` of ``x_{l+1} = x_0 * (W x_l + b) + x_l``, then (``form`` ``stacked``) or beside them (``parallel``) a tower.

    ``rank``: 0 for a full W, else W = U V' of that rank; with more than one of ``experts`` a mixture of maps of that rank,
    ``sum over e of G_e(x) U_e tanh(C_e tanh(V_e' x))``.
    ``dim`` of each field's vector; ``dropout`` where the tower begins and after each hidden layer. Tasks share everything but what reads the
    last layers.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        layers: int = 3,
        rank: int = 0,
        experts: int = 1,
        form: Form = "stacked",
    ) -> None:
        super().__init__(schema)
        self.embedding = Embedding(schema.features, dim)
        cross = cross_v2(len(schema.features), dim, layers, rank, experts)
        self.crossed = CrossTower(cross, dim, hidden, len(self.tasks), dropout, form)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.crossed.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """The share of ``owners`` (all when none is named) in ``fields [N, F, D]`` and in the first ``products`` (see ``CrossTower``)."""
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, lambda fields: self.crossed.shares(fields, places))
        return self.crossed.shares(self.embedding(batch, *owners), places)

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        return self.crossed(total(halves))
