"""SimpleX: a user's vector and the mean of their history, compared with very many negatives by a cosine contrastive loss.

Mao, Zhu, Wang, Dai, Dong, Xiao, He, "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers import losses
from palate.layers.bags import bag, distinct
from palate.layers.embedding import Table
from palate.layers.norms import unit
from palate.layers.softmax import blockwise


class SimpleX(Recaller):
    """score = cos(g p_u + (1 - g) V s_u, q_i), s_u from the q of the latest ``length`` items of the history, g = ``own``.

    ``history``: s_u is their ``mean``, or a sum by ``attention``, softmax of p_u' tanh(W q). The loss of each pair that was taken is 1 - cos plus
    ``weight`` times the mean of max(0, cos - ``margin``) over negatives: ``negatives`` that are drawn for a batch and shared by its users (0: all
    items instead, the limit of ever more draws), what the user took left out. A user it was not fitted on has the mean of all p. In the tests'
    small world of hits it gained nothing on GMF.
    """

    examples = Bags
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        own: float = 0.5,
        history: Literal["mean", "attention"] = "mean",
        length: int = 100,
        margin: float = 0.4,
        weight: float = 100.0,
        negatives: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(interactions, length)
        if not 0 <= own <= 1 or not -1 <= margin < 1:
            raise ValueError(f"own must lie in [0, 1] and margin in [-1, 1), not {own} and {margin}")
        if not 0 <= weight < float("inf") or negatives < 0 or dim < 1 or not 0 <= dropout < 1:
            raise ValueError(f"weight, negatives and dropout must be 0 or more, dim 1 or more, not {weight}, {negatives}, {dropout}, {dim}")
        self.own, self.margin, self.weight, self.negatives = own, margin, weight, negatives
        self.users = Table(self.n_users + 1, dim, deviation=0.1)
        self.table = Table(self.n_items + 1, dim, sparse=False, deviation=0.1)
        self.map = nn.Linear(dim, dim, bias=False)
        self.attention = nn.Linear(dim, dim) if history == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.sampler: Sampler | None = None
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(dim))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        self.sampler = sampler
        return Bags(sequences)

    def loss(self, batch: Batch) -> Tensor:
        ids, rows = batch["history"], self.table.weight[1:]
        items = unit(rows)
        users = self.towards(batch["user"], ids[:, -self.length :], rows)
        if not self.negatives:
            return self.against_all(users, items, ids)
        assert self.sampler is not None, "learn_from comes first"
        drawn = self.sampler.draw((self.negatives,))
        taken = torch.zeros(len(ids), len(self.table.weight), dtype=torch.bool).scatter_(1, ids, True)
        far = (users @ items[drawn - 1].T).masked_fill(taken[:, drawn], -torch.inf)
        near = torch.einsum("bd,bld->bl", users, F.embedding((ids - 1).clamp(min=0), items)).masked_fill(ids == 0, -torch.inf)
        return losses.cosine_contrastive(near, far, self.margin, self.weight)

    def against_all(self, users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
        """``losses.cosine_contrastive`` of what ``users [B, D]`` took, ``ids [B, L]``, and all other ``items [I, D]``."""
        there = ids > 0
        columns = torch.where(there, ids, ids[:, -1:]) - 1  # in the place of padding the last item, which every bag has
        counts = there.sum(1)
        weight = self.weight * counts / (len(items) - counts).clamp(min=1)  # of a user's every negative

        def cost(cosines: Tensor, rows: slice) -> Tensor:
            near = torch.where(there[rows], 1 - cosines.gather(1, columns[rows]), 0.0).sum()
            far = cosines.sub_(self.margin).clamp_(min=0).scatter_(1, columns[rows], 0.0)
            total = near + (weight[rows] * far.sum(1)).sum()
            far.sign_().mul_(weight[rows, None]).scatter_(1, columns[rows], -1.0)
            return total

        return blockwise(users, items, cost) / counts.sum()

    @torch.no_grad()
    def finish(self) -> None:
        if bool(self.fitted_users.any()):
            self.centre.copy_(self.users.weight[self.fitted_users].mean(0))

    def encode_users(self, batch: Batch) -> Tensor:
        return self.towards(batch["user"], distinct(batch["history"]), self.table.weight[1:])

    def towards(self, users: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        """Unit vectors ``[B, D]`` of users by the items in ``ids [B, L]``, each once, whose vectors are in ``rows [I, D]``."""
        p = torch.where(users[:, None] > 0, self.users(users, padding=0), self.centre)
        there = (ids > 0).float()
        if self.attention is None:
            s = bag(rows, ids, there / there.sum(1, keepdim=True).clamp(min=1))
        else:
            read = F.embedding((ids - 1).clamp(min=0), rows)  # [B, L, D]
            scores = torch.einsum("bd,bld->bl", p, torch.tanh(self.attention(read))).masked_fill(ids == 0, -1e9)
            s = torch.einsum("bl,bld->bd", scores.softmax(1) * there, read)
        return self.dropout(unit(self.own * p + (1 - self.own) * self.map(s)))

    def encode_items(self) -> Tensor:
        return unit(self.table.weight[1:])
