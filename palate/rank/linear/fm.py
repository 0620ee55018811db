"""FM: every pair of features weighs in by the inner product of two learned vectors, summed in linear time.

Rendle, "Factorization Machines", ICDM 2010.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.schema import Owner, Schema


class FM(Ranker):
    """logit = bias + sum of w_i x_i + sum over i < j of <v_i, v_j> x_i x_j, the last as half of (sum v_i x_i)^2 - sum of (v_i x_i)^2.

    ``dim`` of each v; ``deviation`` of the normal distribution that they start from. Each task has its own weights and vectors. All features of the
    schema are variables, so side information is whatever it holds; a sequence or vector counts as one, its mean or linear map.
    """

    def __init__(self, schema: Schema, dim: int = 16, deviation: float = 0.05) -> None:
        super().__init__(schema)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        if not deviation > 0:
            raise ValueError(f"deviation must be above 0, not {deviation}")
        self.dim = dim
        self.embedding = Embedding(schema.features, len(self.tasks) * (dim + 1), deviation)  # a task's v and then its w: one look-up
        self.bias = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``linear [N, T]``, ``sum [N, T, D]``, ``square [N, T]`` (summed over D)."""
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, self._half, squared=("square",))
        return self._half(self.embedding(batch, *owners))

    def _half(self, fields: Tensor) -> dict[str, Tensor]:
        both = fields.view(*fields.shape[:2], len(self.tasks), self.dim + 1)  # [N, F, T, D + 1]
        vectors = both[..., : self.dim]
        return {"linear": both[..., self.dim].sum(1), "sum": vectors.sum(1), "square": vectors.square().sum((1, 3))}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        return self.bias + whole["linear"] + 0.5 * (whole["sum"].square().sum(2) - whole["square"])
