"""Gates: hidden units scaled by what else is known, and a layer that reads its input again through a gate made of its own output.

Swietojanski, Renals, "Learning Hidden Unit Contributions for Unsupervised Speaker Adaptation of Neural Network Acoustic Models", SLT 2014
(LHUC; in rankers: Chang et al., "PEPNet", KDD 2023). The layer that is used twice is RecycleNet's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LHUC(nn.Module):
    """``x * 2 sigmoid(MLP(g))``: ``values [N, width]`` scaled by what ``features [N, inputs]`` say, each between 0 and 2, near 1 at first.

    The MLP has one hidden layer of ``hidden`` with ReLU.
    """

    def __init__(self, inputs: int, width: int, hidden: int = 64) -> None:
        super().__init__()
        if min(inputs, width, hidden) < 1:
            raise ValueError(f"a gate needs inputs, width and hidden of 1 or more, not {inputs}, {width} and {hidden}")
        self.into, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, width)
        for layer in (self.into, self.out):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, values: Tensor, features: Tensor) -> Tensor:
        return values * self.scales(features)

    def scales(self, features: Tensor) -> Tensor:
        """What the values are multiplied by, ``[N, width]``."""
        return 2 * torch.sigmoid(self.out(torch.relu(self.into(features))))


class Recycle(nn.Module):
    """``W1 (x * 2 sigmoid(W2 relu(W1 x + b1) + b2)) + b1``: ``[N, inputs] -> [N, width]``, the ReLU around it left to who follows.

    ``W1, b1`` (``weight bias``) are used twice; ``W2, b2`` (``back``) say how much of each input is wanted at the second reading. In our worlds
    it gained nothing on a plain layer: the same AUC where nothing is crossed, .002 to .016 less where scenes scale what is hidden.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, inputs))
        self.bias = nn.Parameter(torch.zeros(width))
        self.back = nn.Linear(width, inputs)
        nn.init.xavier_normal_(self.weight)
        nn.init.xavier_normal_(self.back.weight)
        nn.init.zeros_(self.back.bias)

    def forward(self, values: Tensor) -> Tensor:
        wanted = 2 * torch.sigmoid(self.back(torch.relu(F.linear(values, self.weight, self.bias))))
        return F.linear(values * wanted, self.weight, self.bias)
