"""Activations that learn where they bend, and a tower that has them.

PReLU: He et al., "Delving Deep into Rectifiers", ICCV 2015. Dice: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.layers.towers import Tower


class Dice(nn.Module):
    """``[N, H] -> [N, H]``: f(s) = p s + (1 - p) alpha s with p = sigmoid((s - E[s]) / sqrt(Var[s] + 1e-8)).

    Mean and variance are the batch's in training and their moving averages afterwards; ``alpha [H]`` is learned and starts at 0. It is PReLU with
    a soft bend where the data is, not at 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        batch_wise = self.training and len(values) > 1  # one row has no variance
        share = torch.sigmoid(F.batch_norm(values, self.mean, self.variance, training=batch_wise, eps=1e-8))
        return values * torch.addcmul(self.alpha, 1 - self.alpha, share)


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {"dice": Dice, "prelu": nn.PReLU}  #: by name, each made for a width


class AdaptiveTower(Tower):
    """A Tower whose hidden layers end in Dice or PReLU, not in ReLU."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float, activation: str) -> None:
        super().__init__(inputs, hidden, outputs, dropout)
        self.activations = nn.ModuleList(ACTIVATIONS[activation](size) for size in hidden)

    def rest(self, first: Tensor, gate: Tensor | None = None) -> Tensor:
        values = first + self.bias
        for activation, layer in zip(self.activations, self.layers, strict=True):
            values = layer(self.dropout(activation(values)))
        return values
