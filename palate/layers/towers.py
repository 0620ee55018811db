"""Perceptrons: a plain tower, and a first layer that can be computed in halves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from palate.layers.gates import LHUC, Recycle

Block = Literal["plain", "lhuc", "recycle"]


class Dropout(nn.Module):
    """Zeroes each entry with probability ``rate`` in training and scales the rest by 1 / (1 - rate). Srivastava et al., JMLR 2014.

    One random byte an entry (so ``rate`` is rounded to 1/256): drawing them was the dearest part of a small tower's step on a CPU.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {rate}")
        self.dropped = min(round(rate * 256), 255)

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return values
        words = torch.randint(-(2**63), 2**63 - 1, ((values.numel() + 7) // 8,), device=values.device)
        below = self.dropped - 1
        kept = words.view(torch.uint8)[: values.numel()].clamp_(below, self.dropped).sub_(below)  # 0 or 1, without a slow tensor of bools
        return values * kept.view(values.shape).to(values.dtype).mul_(256 / (256 - self.dropped))


class Tower(nn.Module):
    """Linear layers with ReLU and dropout between them: ``[N, inputs] -> [N, hidden[0]] -> ... -> [N, outputs]``.

    The first layer's product is a sum over parts of the input: ``partial`` gives each part's share ahead, ``rest`` all that follows.

    ``block``: hidden layers as they are (``plain``); each scaled by a gate that sees the ``gate`` features ``[N, gate]`` (``lhuc``; see
    ``gates.py``); or reading its input twice (``recycle``: from the second hidden layer on, the first being a sum over parts).
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0, block: Block = "plain", gate: int = 0) -> None:
        super().__init__()
        if min((*hidden, 1)) < 1:
            raise ValueError(f"hidden sizes must be 1 or more, not {tuple(hidden)}")
        if block not in get_args(Block):
            raise ValueError(f"block must be one of {', '.join(get_args(Block))}, not {block!r}")
        needed = {"plain": 0, "lhuc": 1, "recycle": 2}[block]
        if len(hidden) < needed:
            raise ValueError(f"block {block!r} needs hidden to have {needed} or more layers, not {tuple(hidden)}")
        sizes = [inputs, *hidden, outputs]
        self.width = sizes[1]  #: of the first layer's result
        self.weight = nn.Parameter(torch.empty(inputs, self.width))  # inputs first: the rows of some fields are then whole blocks of memory
        self.bias = nn.Parameter(torch.zeros(self.width))
        between = Recycle if block == "recycle" else nn.Linear
        self.layers = nn.ModuleList((between if n < len(hidden) else nn.Linear)(*pair) for n, pair in enumerate(pairwise(sizes[1:]), 1))
        self.dropout = Dropout(dropout)
        nn.init.xavier_normal_(self.weight)
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.scales = LHUC(gate, sum(hidden)) if block == "lhuc" else None
        self.hidden = tuple(hidden)
        self.plain = block == "plain"

    @property
    def last_bias(self) -> Tensor:
        """The bias ``[outputs]`` of the last layer."""
        return self.layers[-1].bias if len(self.layers) else self.bias  # type: ignore[return-value]

    def forward(self, values: Tensor, gate: Tensor | None = None) -> Tensor:
        return self.rest(values @ self.weight, gate)

    def partial(self, values: Tensor, places: Tensor, width: int) -> Tensor:
        """The first layer's share ``[N, H]``, without its bias, of the fields ``values [N, f, width]`` that stand at ``places [f]`` among all."""
        weight: Tensor = self.weight
        if len(places) * width != len(weight):
            weight = weight.view(-1, width, self.width).index_select(0, places).flatten(0, 1)
        return values.flatten(1) @ weight

    def rest(self, first: Tensor, gate: Tensor | None = None) -> Tensor:
        """Everything after the first layer's product: ``[N, H] -> [N, outputs]``; ``gate [N, gate]`` or ``[1, gate]`` where the block has gates."""
        values = first + self.bias
        if self.scales is not None:
            assert gate is not None, "a tower with gates is given their features"
            scales = self.scales.scales(gate).split(self.hidden, 1)
            for layer, scale in zip(self.layers, scales, strict=True):
                values = layer(self.dropout(torch.relu_(values) * scale))
            return values
        for layer in self.layers:
            values = layer(self.dropout(torch.relu_(values)))
        return values
