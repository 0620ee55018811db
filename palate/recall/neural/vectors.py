"""A vector of each user and each item, and what stands for a user who has none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.layers.bags import bag, distinct, shared
from palate.layers.embedding import Table
from palate.layers.folding import folded


class Vectors(nn.Module):
    """``users [U + 1, D]`` and ``items [I + 1, D]`` with sparse gradients, normal with deviation 0.1.

    ``finish`` regresses the fitted users' vectors on their histories; a user never seen gets what that makes of the history: close to the vector of
    a known user who took the same.
    """

    def __init__(self, interactions: Interactions, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        self.interactions = interactions
        self.users = Table(interactions.n_users + 1, dim, deviation=0.1)
        self.items = Table(interactions.n_items + 1, dim, deviation=0.1)
        self.centre: Tensor
        self.reach: Tensor
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("reach", torch.zeros(interactions.n_items, dim))

    def of_users(self, batch: Batch) -> Tensor:
        """``[B, D]``."""
        ids, own = distinct(batch["history"]), self.users(batch["user"])
        return torch.where(batch["user"][:, None] > 0, own, self.centre + bag(self.reach, ids, shared(ids)))

    def compared(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of a batch of pairs: users ``[B, D]``; what was taken and then the negatives ``[B, 1 + N, D]``."""
        return self.users(batch["user"]), self.items(torch.cat((batch["item"][:, None], batch["negative"]), 1), padding=0)

    @torch.no_grad()
    def finish(self) -> None:
        taken = torch.from_numpy(self.interactions.offsets).diff() > 0
        if bool(taken.any()):
            own = self.users.weight[1:]
            self.centre.copy_(own[taken].mean(0))
            self.reach.copy_(folded(self.interactions, torch.where(taken[:, None], own - self.centre, 0.0)))


def parted(scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of ``scores [B, 1 + N]`` the first column, and the rest where there is a negative (else minus infinity)."""
    return scores[:, 0], scores[:, 1:].masked_fill(batch["negative"] == 0, -torch.inf)
