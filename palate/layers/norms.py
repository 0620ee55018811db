"""Batch normalisation of whatever batch comes (Ioffe, Szegedy, ICML 2015), and rows of length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHORTEST = 1e-12  #: rows below it are not stretched to length 1


class BatchNorm(nn.BatchNorm1d):
    """``[N, W] -> [N, W]``; a last batch of one row, which has no deviation, is normalised by the moving averages and leaves them as they are."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and len(values) == 1:
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(values)


def unit(rows: Tensor) -> Tensor:
    """``[N, D]`` with rows of length 1, as ``F.normalize``; the gradient of a whole table takes one matrix of its size, not five."""
    found: Tensor = _Unit.apply(rows)
    return found


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=SHORTEST)
        found = rows / length
        ctx.save_for_backward(found, length)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found, length = ctx.saved_tensors
        along = torch.einsum("nd,nd->n", gradient, found)[:, None]
        return torch.addcmul(gradient, found, along, value=-1).div_(length)
