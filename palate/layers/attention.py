"""Multi-head self-attention over fields: each field is made anew out of those that matter to it.

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.layers.towers import Dropout


class Interacting(nn.Module):
    """``ReLU(concatenated over heads of softmax(Q x (K x)') V x + R x)``, ``[N, F, inputs] -> [N, F, heads per_head]``.

    Q, K, V of each head and R are linear maps without bias; the inner products are not scaled (as in the paper). ``dropout`` of the weights
    that the softmax gives.
    """

    def __init__(self, inputs: int, heads: int, per_head: int, dropout: float = 0.0, residual: bool = True) -> None:
        super().__init__()
        self.heads, self.parts = heads, 3 + residual
        maps = [nn.init.xavier_normal_(torch.empty(inputs, heads * per_head)) for _ in range(self.parts)]
        self.weight = nn.Parameter(torch.cat(maps, 1))  # Q, K, V (and R), one product for all
        self.dropout = Dropout(dropout)

    def forward(self, fields: Tensor) -> Tensor:
        asked, keys, values, *kept = (fields @ self.weight).chunk(self.parts, 2)  # each [N, F, heads per_head]
        query, key, value = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (asked, keys, values))
        weights = self.dropout(torch.softmax(query @ key.transpose(2, 3), 3))  # [N, heads, F, F]
        mixed = (weights @ value).transpose(1, 2).flatten(2)  # [N, F, heads per_head]
        return torch.relu(mixed + kept[0] if kept else mixed)


class Attention(nn.Module):
    """``blocks`` of ``Interacting`` one on the other, the fields that come out side by side: ``[N, F, D] -> [N, F heads per_head]``."""

    def __init__(
        self, fields: int, dim: int, heads: int = 2, per_head: int = 16, blocks: int = 1, dropout: float = 0.0, residual: bool = True
    ) -> None:
        super().__init__()
        for name, value in {"heads": heads, "per_head": per_head, "blocks": blocks}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        inner = heads * per_head
        self.blocks = nn.Sequential(*(Interacting(inner if n else dim, heads, per_head, dropout, residual) for n in range(blocks)))
        self.width = fields * inner

    def forward(self, fields: Tensor) -> Tensor:
        return self.blocks(fields).flatten(1)
