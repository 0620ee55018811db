"""WideDeep: a linear model that remembers exceptions beside a tower that generalises, trained jointly, each in its own way.

Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Portion, Ranker
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.layers.towers import Dropout, Tower
from palate.layers.wide import Crosses, Wide
from palate.schema import Owner, Schema


class WideDeep(Ranker):
    """logit = bias + w . [features, crosses] + tower(fields).

    ``crosses``: pairs (or more) of category features (one may be a sequence) of which the wide part knows every combination, hashed into
    ``buckets`` where there are more than that. The wide part is trained by FTRL with ``l1 l2 beta`` at ``wide_learning_rate``, against the loss
    of both; the rest as the trainer says. The loss is a mean over the batch, so the paper's l1, l2 and beta (1) are to be divided by its size.
    ``dim`` of each field's vector; ``dropout`` of the fields' vectors and after each hidden layer. Tasks share the vectors and hidden layers.
    On the eight fields of MovieLens-100K the wide part gave nothing (AUC .7813 with it).
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        crosses: Crosses = (),
        buckets: int = 2**16,
        l1: float = 0.001,
        l2: float = 0.0,
        wide_learning_rate: float = 0.03,
        beta: float = 0.001,
    ) -> None:
        super().__init__(schema)
        self.wide = Wide(schema, len(self.tasks), crosses, buckets)
        self.embedding = Embedding(schema.features, dim)
        self.dropout = Dropout(dropout)
        self.tower = Tower(len(schema.features) * dim, hidden, len(self.tasks), dropout)
        self.bias = nn.Parameter(torch.zeros(len(self.tasks)))
        self._ftrl = {"learning_rate": wide_learning_rate, "l1": l1, "l2": l2, "beta": beta}

    def portions(self) -> tuple[Portion, ...]:
        return (Portion(tuple(self.wide.parameters()), "ftrl", self._ftrl),)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): the tower's ``first [N, H]``, and what ``Wide`` gives."""
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            first = of_numbers(*numbers, lambda fields: self._half(fields, places))
        else:
            first = self._half(self.embedding(batch, *owners), places)
        return first | self.wide.half(batch, *owners)

    def _half(self, fields: Tensor, places: Tensor) -> dict[str, Tensor]:
        return {"first": self.tower.partial(self.dropout(fields), places, self.embedding.dim)}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        return self.wide.combine(whole) + self.tower.rest(whole["first"]) + self.bias
