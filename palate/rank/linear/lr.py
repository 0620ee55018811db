"""LR: logistic regression over all features and over declared crosses of them.

Richardson, Dominowska, Ragno, "Predicting Clicks: Estimating the Click-Through Rate for New Ads", WWW 2007; as trained in McMahan et al.,
"Ad Click Prediction: a View from the Trenches", KDD 2013.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.halves import total
from palate.layers.wide import Crosses, Wide
from palate.schema import Owner, Schema


class LR(Ranker):
    """logit = bias + sum of w_i x_i + sum of the weights of the crosses. Every task has weights of its own, which start at 0.

    ``crosses``: pairs (or more) of category features, each combination with a weight, hashed into ``buckets`` where there are more than that.
    Penalties are the trainer's: ``l2``, or with ``optimizer`` and ``tables`` = ``ftrl`` also ``l1``, which leaves most weights exactly 0.
    """

    def __init__(self, schema: Schema, crosses: Crosses = (), buckets: int = 2**16) -> None:
        super().__init__(schema)
        self.wide = Wide(schema, len(self.tasks), crosses, buckets)
        self.bias = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): see ``Wide``."""
        return self.wide.half(batch, *owners)

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        return self.wide.combine(total(halves)) + self.bias
