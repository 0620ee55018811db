"""What the two multinomial autoencoders are made of: an encoder of bags and a decoder to all items."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.layers.bags import bag, shared
from palate.layers.softmax import multinomial
from palate.layers.towers import Dropout


class Encoder(nn.Module):
    """Bags ``[B, L]`` to ``[B, sizes[-1]]``: tanh between the layers, none after the last, which may be ``times`` as wide.

    The first layer's product with a row of zeros and ones as long as the catalogue is a sum over the items that are there.
    """

    def __init__(self, items: int, sizes: tuple[int, ...], dropout: float, times: int = 1) -> None:
        super().__init__()
        if min(sizes) < 1:
            raise ValueError(f"dim and hidden sizes must be 1 or more, not {sizes}")
        sizes = (*sizes[:-1], sizes[-1] * times)
        self.weight = nn.Parameter(torch.empty(items, sizes[0]))
        self.bias = nn.Parameter(torch.zeros(sizes[0]))
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.dropout = Dropout(dropout)
        nn.init.xavier_normal_(self.weight)
        begin(self.layers)

    def forward(self, ids: Tensor) -> Tensor:
        values = bag(self.weight, ids, self.dropout(shared(ids))) + self.bias
        for layer in self.layers:
            values = layer(torch.tanh(values))
        return values


class Decoder(nn.Module):
    """``[B, sizes[0]]`` to logits ``[B, items]``: tanh after each layer between. The last is an inner product: of ``lifted`` with ``items``."""

    def __init__(self, sizes: tuple[int, ...], items: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], items)
        begin([*self.layers, self.last])

    def below(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = torch.tanh(layer(values))
        return values

    def loss(self, values: Tensor, ids: Tensor) -> Tensor:
        """-sum of log softmax(logits) over what is in the bags ``ids [B, L]``; the mean over bags."""
        return multinomial(self.below(values), self.last.weight, ids, self.last.bias)

    def lifted(self, values: Tensor) -> Tensor:
        """``[B, H + 1]``: what the last layer reads, and a 1 for its bias."""
        return F.pad(self.below(values), (0, 1), value=1.0)

    def items(self) -> Tensor:
        """``[items, H + 1]``: the last layer's weights, and its biases."""
        return torch.cat((self.last.weight, self.last.bias[:, None]), 1)


def begin(layers: nn.ModuleList | list[nn.Module]) -> None:
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
