"""Bilinear interaction: the pairs of fields, the one turned by a learned matrix, the other as it is.

Huang, Zhang, Zhang, "FiBiNET: Combining Feature Importance and Bilinear Feature Interaction for Click-Through Rate Prediction", RecSys 2019.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["all", "each", "interaction"]


class Bilinear(nn.Module):
    """``[N, F, D] -> [N, F (F - 1) / 2 * D]``: ``(v_i W) * v_j`` for i < j, by entry, row by row of the upper triangle.

    ``kind``: one W for ``all``; one for ``each`` left field i; one for each ``interaction`` (i, j).
    """

    def __init__(self, fields: int, dim: int, kind: Kind = "interaction") -> None:
        super().__init__()
        if fields < 2:
            raise ValueError(f"a bilinear interaction needs two features or more, not {fields}")
        if kind not in ("all", "each", "interaction"):
            raise ValueError(f"kind must be 'all', 'each' or 'interaction', not {kind!r}")
        self.kind, pairs = kind, fields * (fields - 1) // 2
        self.width = pairs * dim
        many = {"all": 1, "each": fields - 1, "interaction": pairs}[kind]  # the last field is never on the left
        self.weight = nn.Parameter(torch.empty(many, dim, dim).normal_(0, dim**-0.5))  # keeps a vector's length, about

    def forward(self, fields: Tensor) -> Tensor:
        left, right = _pairs(fields.shape[1])
        if self.kind == "interaction":
            turned = _by_matrix(fields.index_select(1, left), self.weight)  # [N, P, D]
        else:
            turned = _by_matrix(fields[:, :-1], self.weight).index_select(1, left)
        return (turned * fields.index_select(1, right)).flatten(1)


def _by_matrix(vectors: Tensor, weight: Tensor) -> Tensor:
    """``[N, M, D]``, each of the M by its own matrix of ``[M, D, D]``, or all by the only one."""
    if len(weight) == 1:
        return vectors @ weight[0]
    return torch.bmm(vectors.transpose(0, 1), weight).transpose(0, 1)


@lru_cache(maxsize=64)
def _pairs(size: int) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # first asked for while serving, it must do for training too
        left, right = torch.triu_indices(size, size, offset=1)
        return left.clone(), right.clone()
