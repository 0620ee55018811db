"""Compressed interaction network: products of whole vectors, one order higher in each layer.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CIN(nn.Module):
    """``X^k_h = sum over i, j of W^{k,h}_ij X^{k-1}_i * X^0_j`` (entry by entry), each X^k_h summed over its D entries: ``[N, F, D] -> [N, width]``.

    ``maps``: how many vectors each layer makes. ``split``: one half of a layer's vectors go to the next layer and the other half to the
    result, instead of all to both (of the last layer all are given). As in the paper nothing bends between the layers, so a vector that only
    its sum is wanted of is never made: the sum is the same map of the inner products <X^{k-1}_i, X^0_j>, D times cheaper.
    """

    def __init__(self, fields: int, dim: int, maps: Sequence[int] = (32, 32), split: bool = False) -> None:
        super().__init__()
        if not maps or min(maps) < 1 + split:
            raise ValueError(f"maps must be one or more sizes of {1 + split} or more, not {tuple(maps)}")
        self.weights = nn.ParameterList()
        self.onward: list[int] = []  # how many of a layer's vectors the next one reads: the first of them
        self.width, before = 0, fields
        for place, size in enumerate(maps):
            last = place == len(maps) - 1
            self.weights.append(nn.Parameter(nn.init.xavier_normal_(torch.empty(before * fields, size))))
            self.onward.append(0 if last else size // 2 if split else size)
            self.width += size - size // 2 if split and not last else size
            before = self.onward[-1]
        self.split = split

    def forward(self, fields: Tensor) -> Tensor:
        first = values = fields.transpose(1, 2).contiguous()  # [N, D, F]
        given = []
        for weight, onward in zip(self.weights, self.onward, strict=True):
            sums = (values.transpose(1, 2) @ first).flatten(1)  # [N, H F]: inner products
            given.append(sums @ (weight[:, onward:] if self.split else weight))
            if onward:
                products = (values[..., None] * first[:, :, None]).flatten(2)  # [N, D, H F]
                values = products @ (weight[:, :onward] if self.split else weight)
        return torch.cat(given, 1)
