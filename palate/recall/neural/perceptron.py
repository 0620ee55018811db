"""A tower over a user's and an item's vector side by side, for every pair of a batch of users and all items."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from palate.layers.towers import Tower

ROWS = 65_536  #: pairs that go through a network at once


class Perceptron(nn.Module):
    """``[p; q]`` through layers ``hidden`` with ReLU to one logit. The first product is a sum of the user's share and the item's: each once."""

    def __init__(self, dim: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden needs at least one layer")
        self.dim, self.tower = dim, Tower(2 * dim, hidden, 1, dropout)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """``[B, N]`` of ``users [B, D]``, each with its own ``items [B, N, D]``, or all with the same ``[N, D]``."""
        return self._rest(users @ self.tower.weight[: self.dim], items @ self.tower.weight[self.dim :])

    def of_all(self, users: Tensor, items: Tensor) -> Tensor:
        """The same of ``users [B, D]`` with all ``items [I, D]``, few pairs at a time: ``[B, I]``."""
        shares = items @ self.tower.weight[self.dim :]
        return everybody(lambda part: self._rest(part, shares), users @ self.tower.weight[: self.dim], len(items))

    def _rest(self, users: Tensor, items: Tensor) -> Tensor:
        """What follows of the shares of users ``[B, H]`` and of their items ``[B, N, H]`` or ``[N, H]``."""
        first = users[:, None] + items  # [B, N, H]
        return self.tower.rest(first.flatten(0, 1)).view(first.shape[:2])


def everybody(score: Callable[[Tensor], Tensor], users: Tensor, items: int, rows: int = ROWS) -> Tensor:
    """``score`` of a few users at a time, so that no more than about ``rows`` pairs are in memory: ``[B, items]``."""
    return torch.cat([score(part) for part in users.split(max(1, rows // max(items, 1)))])
