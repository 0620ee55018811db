"""Products of all pairs of fields, usable before any tower.

Inner ones: Qu et al., "Product-based Neural Networks", ICDM 2016. Summed entry by entry: He, Chua, "Neural Factorization Machines", SIGIR 2017.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn


def inner_products(fields: Tensor) -> Tensor:
    """``[N, F, D] -> [N, F (F - 1) / 2]``: <v_i, v_j> for i < j, row by row of the upper triangle."""
    products = fields @ fields.transpose(1, 2)  # [N, F, F]
    return products.flatten(1).index_select(1, _upper(fields.shape[1]))


@lru_cache(maxsize=64)
def _upper(size: int) -> Tensor:
    with torch.inference_mode(False):  # first asked for while serving, it must do for training too
        rows, columns = torch.triu_indices(size, size, offset=1)
        return rows * size + columns


class Pooled(nn.Module):
    """Bi-interaction pooling ``[N, F, D] -> [N, D]``: the sum over i < j of ``v_i * v_j``, entry by entry, in F steps instead of F^2."""

    def __init__(self, fields: int, dim: int) -> None:
        super().__init__()
        self.width = dim

    def forward(self, fields: Tensor) -> Tensor:
        return 0.5 * (fields.sum(1).square() - fields.square().sum(1))
