"""The vectors of a graph of users and items, before and after propagation, and those of users it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.layers import losses
from palate.layers.bags import bag, distinct, shared
from palate.recall.graph.propagation import Edges, propagated


class Graph(nn.Module):
    """One vector a node; what a user or an item is known by is the mean of it (if ``own``) and of what 1 .. ``layers`` steps over the graph bring.

    ``weight [U + I, D]`` is learned. In eval mode the propagated vectors stand in buffers, which outlive the graph: a model read back has none.
    A user who is not in the graph gets what the same steps bring from the items of the history, at one edge for each; of their own they have
    nothing.
    """

    def __init__(self, interactions: Interactions, dim: int, layers: int, own: bool = True) -> None:
        super().__init__()
        if dim < 1 or layers < 1:
            raise ValueError(f"dim and layers must be 1 or more, not {dim} and {layers}")
        self.users, self.layers, self.own, self.edges = interactions.n_users, layers, own, Edges(interactions)
        self.whole: Tensor
        self.known: Tensor
        self.reach: Tensor  # [I, D]: what an item brings to a new user in all steps, but for the user's degree
        self.register_buffer("whole", self.edges.normalised(), persistent=False)
        self.register_buffer("known", torch.zeros(self.edges.nodes, dim))
        self.register_buffer("reach", torch.zeros(interactions.n_items, dim))
        self.weight = nn.Parameter(torch.empty(self.edges.nodes, dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, steps: Sequence[Tensor] = (), disturb: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """``[U + I, D]`` propagated by the matrices ``steps``; by the whole graph's, ``layers`` times, where none is given."""
        steps = steps or [self.whole] * self.layers
        return propagated(self.weight, steps, self.own, disturb) / (len(steps) + self.own)

    def compared(self, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores ``[B]`` of what was taken and ``[B, N]`` of the negatives (minus infinity where there is none) by ``vectors [U + I, D]``."""
        users, negatives = vectors.index_select(0, batch["user"] - 1), batch["negative"]
        positive = (users * vectors.index_select(0, batch["item"] - 1 + self.users)).sum(1)
        against = F.embedding((negatives - 1).clamp(min=0) + self.users, vectors)  # [B, N, D]
        return positive, torch.einsum("bd,bnd->bn", users, against).masked_fill(negatives == 0, -torch.inf)

    def penalty(self, batch: Batch) -> Tensor:
        """Half the squares of the ``weight`` rows that a batch of pairs with negatives, or of bags, reads, over its size."""
        items = torch.cat((batch["item"][:, None], batch["negative"]), 1) if "item" in batch else batch["history"]
        read = torch.cat((batch["user"] - 1, items[items > 0] - 1 + self.users))
        times = torch.bincount(read, minlength=len(self.weight)).float()
        return 0.5 * (times @ self.weight.square()).sum() / len(batch["user"])

    def contrast(self, one: Tensor, other: Tensor, batch: Batch, temperature: float) -> Tensor:
        """InfoNCE of two views of the nodes, by cosine: of the batch's users among each other, and of its items among each other."""
        total = one.new_zeros(())
        for nodes in (batch["user"] - 1, batch["item"] - 1 + self.users):
            nodes = nodes.unique()
            left, right = (F.normalize(view.index_select(0, nodes), dim=1) for view in (one, other))
            total = total + losses.info_nce(left, right, temperature)
        return total

    @torch.no_grad()
    def keep(self) -> None:
        """Put the propagated vectors into the buffers, where there is a graph."""
        if self.edges.pairs:
            self.known.copy_(self())
            before = propagated(self.weight, [self.whole] * (self.layers - 1)) / (self.layers + self.own)
            degrees = torch.bincount(self.edges.rows, minlength=self.edges.nodes)[self.users :].clamp(min=1)
            self.reach.copy_(before[self.users :] * degrees.rsqrt()[:, None])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not mode:
            self.keep()
        return self

    def of_users(self, batch: Batch) -> Tensor:
        """``[B, D]``: the vectors of the users, or what the history brings to those who are nobody known."""
        known = self() if self.training else self.known
        ids = distinct(batch["history"])
        return torch.where(batch["user"][:, None] > 0, known[(batch["user"] - 1).clamp(min=0)], bag(self.reach, ids, shared(ids)))

    def of_items(self) -> Tensor:
        return (self() if self.training else self.known)[self.users :]
