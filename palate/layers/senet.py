"""Squeeze and excitation over fields: each field weighs what the means of all fields say.

Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018; over fields: Huang, Zhang, Zhang, "FiBiNET", RecSys 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SENet(nn.Module):
    """``[N, F, D] -> [N, F, D]``: a = relu(W2 relu(W1 z)) with z the mean of each field's entries; field f becomes a_f times itself.

    W1 has ``F / reduction`` rows, at least one; there are no biases.
    """

    def __init__(self, fields: int, reduction: int = 3) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be 1 or more, not {reduction}")
        squeezed = max(fields // reduction, 1)
        self.into, self.out = nn.Linear(fields, squeezed, bias=False), nn.Linear(squeezed, fields, bias=False)

    def forward(self, fields: Tensor) -> Tensor:
        return fields * self.weights(fields)[:, :, None]

    def weights(self, fields: Tensor) -> Tensor:
        """a, ``[N, F]``."""
        return torch.relu(self.out(torch.relu(self.into(fields.mean(2)))))
