"""GDCN: cross layers whose products pass a gate, so that many layers do no harm, below or beside a tower.

Wang et al., "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", CIKM 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.cross import CrossTower, Form, cross_gated
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.schema import Owner, Schema


class GDCN(Ranker):
    """``layers`` of ``x_{l+1} = x_0 * (W x_l + b) * sigmoid(V x_l) + x_l``, then (``form`` ``stacked``) or beside them (``parallel``) a tower.

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
        form: Form = "stacked",
    ) -> None:
        super().__init__(schema)
        self.embedding = Embedding(schema.features, dim)
        self.crossed = CrossTower(cross_gated(len(schema.features), dim, layers), dim, hidden, len(self.tasks), dropout, form)

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
