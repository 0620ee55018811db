"""CDAE: a denoising autoencoder of histories with a node for each user.

Wu, DuBois, Zheng, Ester, "Collaborative Denoising Auto-Encoders for Top-N Recommender Systems", WSDM 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers.bags import bag, distinct
from palate.layers.embedding import Table
from palate.layers.towers import Dropout
from palate.recall.autoencoder.observed import Kind, observed


class CDAE(Recaller):
    """score = W' h + b', h = sigmoid(W~' x + V_u + b), x the history in zeros and ones, V_u the user's node.

    In training a share ``dropout`` of x is left out and the rest is lifted. ``loss``: ``log`` or ``square``, over what the user took and
    ``negatives`` draws for each of it. A user it was not fitted on has the mean of all nodes. ``length``: the latest items that are read.
    """

    examples = Bags
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 50,
        dropout: float = 0.5,
        loss: Kind = "log",
        negatives: int = 5,
        length: int = 1000,
    ) -> None:
        super().__init__(interactions, length)
        if dim < 1 or negatives < 1:
            raise ValueError(f"dim and negatives must be 1 or more, not {dim} and {negatives}")
        self.kind, self.negatives = loss, negatives
        self.weight = nn.Parameter(torch.empty(self.n_items, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.nodes = Table(self.n_users + 1, dim, deviation=0.01)
        self.last = nn.Linear(dim, self.n_items)
        self.dropout = Dropout(dropout)
        for weight in (self.weight, self.last.weight):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.last.bias)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(dim))  # the mean node

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        return Bags(sequences, self.length)

    def hidden(self, ids: Tensor, users: Tensor) -> Tensor:
        node = torch.where(users[:, None] > 0, self.nodes(users, padding=0), self.centre)
        return torch.sigmoid(bag(self.weight, ids, self.dropout((ids > 0).float())) + node + self.bias)

    def loss(self, batch: Batch) -> Tensor:
        return observed(self.last(self.hidden(batch["history"], batch["user"])), batch["history"], self.negatives, self.kind)

    @torch.no_grad()
    def finish(self) -> None:
        if bool(self.fitted_users.any()):
            self.centre.copy_(self.nodes.weight[self.fitted_users].mean(0))

    def encode_users(self, batch: Batch) -> Tensor:
        return F.pad(self.hidden(distinct(batch["history"]), batch["user"]), (0, 1), value=1.0)

    def encode_items(self) -> Tensor:
        return torch.cat((self.last.weight, self.last.bias[:, None]), 1)
