"""Batch normalisation of whatever batch comes. Ioffe, Szegedy, ICML 2015."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm1d):
    """``[N, W] -> [N, W]``; a last batch of one row, which has no deviation, is normalised by the moving averages and leaves them as they are."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and len(values) == 1:
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(values)
