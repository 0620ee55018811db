"""FFM: a factorization machine in which a feature has one vector for each field that it meets.

Juan, Zhuang, Chin, Lin, "Field-aware Factorization Machines for CTR Prediction", RecSys 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding, tables
from palate.schema import Schema


class FFM(Ranker):
    """logit = bias + sum of w_i + sum over fields i < j of <v_{i, j}, v_{j, i}>; v_{i, j} is what the feature of field i shows to field j.

    ``dim`` of each v, far smaller than an FM's since there are as many as fields; ``deviation`` of what they start from, above 0 as in the paper
    (half of a normal distribution). Each task has its own weights and vectors. The paper has no linear weights w; later code has, and so has
    this: w_i stands where v_{i, i} would, which nothing else needs.
    """

    def __init__(self, schema: Schema, dim: int = 4, deviation: float = 0.05) -> None:
        super().__init__(schema)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        if not deviation > 0:
            raise ValueError(f"deviation must be above 0, not {deviation}")
        fields, tasks = len(schema.features), len(self.tasks)
        self.shape = (fields, tasks, fields, dim)  # of all that a row knows
        self.embedding = Embedding(schema.features, tasks * fields * dim, deviation)
        self.bias = nn.Parameter(torch.zeros(tasks))
        with torch.no_grad():
            for weight in tables(self):
                weight.abs_()
        self.mirror: Tensor  # where v[j, i] stands, for each v[i, j]
        places = torch.arange(fields * tasks * fields).view(fields, tasks, fields)
        self.register_buffer("mirror", places.transpose(0, 2).flatten(), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        return self.bias + _Pairs.apply(self.embedding(batch).view(-1, *self.shape), self.mirror)  # [B, T]


class _Pairs(torch.autograd.Function):
    """Sum of v[i, i, 0] (which is w[i]) and of <v[i, j], v[j, i]> over i < j: ``[B, F, T, F, D] -> [B, T]``.

    Written out because the gradient of v[i, j] is v[j, i], which forward has at hand: a third of the work.
    """

    @staticmethod
    def forward(context: Any, vectors: Tensor, mirror: Tensor) -> Tensor:
        other = vectors.flatten(1, 3).index_select(1, mirror).view_as(vectors)
        other.diagonal(dim1=1, dim2=3).zero_()[:, :, 0] = 1.0
        context.save_for_backward(other)
        single = vectors.diagonal(dim1=1, dim2=3)[:, :, 0].sum(2)  # [B, T]
        return 0.5 * (single + (vectors * other).sum((1, 3, 4)))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (other,) = context.saved_tensors
        return other * gradient[:, None, :, None, None], None
