"""Caser: the latest items as an image, L items high and D wide, read by convolutions along time and across it.

Tang, Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.candidates import Request
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Prefixes, Sequences
from palate.layers import losses
from palate.layers.embedding import Table
from palate.layers.foretelling import compared
from palate.layers.towers import Dropout


class Caser(Recaller):
    """The score of item i is [z; p_u]' w_i + b_i, z = relu(W [o; v] + a): o the largest answer along time of ``horizontal`` filters of every height
    1..L (several items together), v of ``vertical`` filters of height L and width 1 (each a weighted sum of the items).

    L is ``length``; a shorter list has zeros before it. ``users``: with the user's own vector p_u, which is left out of a share ``dropout`` of the
    examples, so that somebody new, who has none, can be answered; ``dropout`` also of [o; v]. ``targets`` items after each list are foretold at once
    (the paper's skips). ``loss``: ``binary`` (log loss against ``negatives`` drawn for each target) or ``full`` (softmax over all items).
    """

    examples = Prefixes
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 32,
        length: int = 5,
        horizontal: int = 16,
        vertical: int = 4,
        dropout: float = 0.2,
        targets: int = 3,
        users: bool = True,
        loss: Literal["binary", "full"] = "binary",
        negatives: int = 3,
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "targets": targets, "negatives": negatives}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if min(horizontal, vertical) < 0 or not horizontal + vertical:
            raise ValueError(f"horizontal and vertical must be 0 or more, and one of them 1, not {horizontal} and {vertical}")
        self.targets, self.kind, self.negatives = targets, loss, negatives
        self.reads = Table(self.n_items + 1, dim, deviation=1 / dim)
        self.users = Table(self.n_users + 1, dim, deviation=1 / dim) if users else None
        self.table = Table(self.n_items + 1, (1 + users) * dim + 1, sparse=loss != "full", deviation=1 / dim)  # w and b side by side
        self.table.weight.data[:, -1] = 0
        self.across = nn.ModuleList(nn.Conv1d(dim, horizontal, height) for height in range(1, length + 1)) if horizontal else nn.ModuleList()
        self.along = nn.Parameter(torch.randn(vertical, length) / length) if vertical else None
        self.out = nn.Linear(horizontal * length + vertical * dim, dim)
        self.dropout, self.rate = Dropout(dropout), dropout

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Prefixes:
        drawn = None if self.kind == "full" else sampler
        return Prefixes(sequences, self.length, drawn, self.negatives * self.targets, later=self.targets - 1)

    def read(self, ids: Tensor) -> Tensor:
        """z of ``ids [B, L]``, ``[B, D]``."""
        image = self.reads(F.pad(ids, (self.length - ids.shape[1], 0)), padding=0)  # [B, L, D]
        found = [F.relu(filters(image.transpose(1, 2))).amax(2) for filters in self.across]
        if self.along is not None:
            found.append((self.along @ image).flatten(1))
        return F.relu(self.out(self.dropout(torch.cat(found, 1))))

    def encode_users(self, batch: Batch) -> Tensor:
        parts = [self.read(batch["history"])]
        if self.users is not None:
            user = batch["user"]
            if self.training:
                user = torch.where(torch.rand(len(user), device=user.device) < self.rate, 0, user)
            parts.append(self.users(user, padding=0))
        return F.pad(torch.cat(parts, 1), (0, 1), value=1.0)

    def loss(self, batch: Batch) -> Tensor:
        states = self.encode_users(batch)  # [B, 2D + 1]
        target = batch["item"][:, None] if self.targets == 1 else torch.cat((batch["item"][:, None], batch["later"]), 1)  # [B, T]
        known = target > 0
        if self.kind == "full":
            scores = torch.log_softmax(states @ self.encode_items().T, 1).gather(1, (target - 1).clamp(min=0))
            return -scores[known].mean()
        row = known.nonzero()[:, 0]
        positive = (states[row] * self.table(target[known], padding=0)).sum(1)
        negative = batch["negative"]
        against = compared(states, self.table, target[:, 0], negative)[1]
        return losses.gbce(positive, against.masked_fill((negative[:, :, None] == target[:, None]).any(2), -torch.inf))

    def asked(self, request: Request) -> Batch:
        batch = super().asked(request)
        return batch if self.users is not None else Batch(batch, user=torch.zeros_like(batch["user"]))

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
