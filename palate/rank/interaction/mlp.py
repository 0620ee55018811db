"""MLP: a plain tower over the embeddings of all features, shared by all tasks.

Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, placed, total
from palate.layers.lean import LeanHalves
from palate.layers.towers import Block, Dropout, Tower
from palate.schema import MissingFeature, Owner, Schema


class MLP(Ranker):
    """``dim`` of each field's vector, ``hidden`` layers of the tower; ``dropout`` of the fields' vectors and after each hidden layer.

    ``block`` of the hidden layers: ``plain``; ``lhuc``, their units scaled by who asks and where (the features of user and context);
    ``recycle``, from the second layer on each reads its input twice (no gain over ``plain`` in our worlds).
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        block: Block = "plain",
    ) -> None:
        super().__init__(schema)
        self.embedding = Embedding(schema.features, dim)
        self.dropout = Dropout(dropout)
        gate = len(schema.of("user", "context")) * dim
        if block == "lhuc" and not gate:
            raise MissingFeature("block 'lhuc' needs a feature of the user or the context")
        self.tower = Tower(len(schema.features) * dim, hidden, len(self.tasks), dropout, block, gate)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """The share of ``owners`` (all when none is named) in the first layer, ``first [N, H]``, and in what its gates see, ``gate``."""
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, lambda fields: self._half(fields, places))
        return self._half(self.embedding(batch, *owners), places)

    def _half(self, fields: Tensor, places: Tensor) -> dict[str, Tensor]:
        half = {"first": self.tower.partial(self.dropout(fields), places, self.embedding.dim)}
        if self.tower.scales is None:
            return half
        return half | {"gate": placed(fields, places, self.embedding.plan("user", "context").places).flatten(1)}

    def exported(self) -> LeanHalves | None:
        own = all(getattr(type(self), name) is getattr(MLP, name) for name in ("forward", "predict", "half", "_half", "combine"))
        return LeanHalves.of(self.embedding, self.tower, None, None, len(self.tasks)) if own else None

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        return self.tower.rest(whole["first"], whole.get("gate"))
