"""AutoRec: an autoencoder of the rows, or of the columns, of the matrix of users and items.

Sedhain, Menon, Sanner, Xie, "AutoRec: Autoencoders Meet Collaborative Filtering", WWW 2015.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.candidates import offsets_of
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers.bags import bag, distinct, shared
from palate.layers.folding import folded
from palate.recall.autoencoder.observed import observed


class AutoRec(Recaller):
    """h(r) = W g(V r + mu) + b, the loss |r - h(r)|^2 over the observed entries of r, and ``regularization`` / 2 (|W|^2 + |V|^2) over all rows.

    r is an item's column of all users (``form`` ``item``, the authors' better one) or a user's row (``user``); g is a ``sigmoid`` or ``identity``.
    A recall model is given what was taken, not how it was rated: the observed entries are these, as 1, and for each of them ``negatives`` drawn
    ones, as 0. A user it was not fitted on is read like any other by the user form; in the item form the user's row of W comes from a
    regression of those rows on histories.
    """

    examples = Bags
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        form: Literal["item", "user"] = "item",
        activation: Literal["sigmoid", "identity"] = "sigmoid",
        negatives: int = 2,
        regularization: float = 0.1,
    ) -> None:
        super().__init__(interactions, 1000)
        if dim < 1 or negatives < 1 or not 0 <= regularization < float("inf"):
            raise ValueError(f"dim and negatives must be 1 or more, regularization 0 or more, not {dim}, {negatives}, {regularization}")
        self.form, self.activation, self.negatives, self.regularization = form, activation, negatives, regularization
        self.interactions = interactions
        rows, width = (self.n_users, self.n_items) if form == "user" else (self.n_items, self.n_users)
        self.rows = max(rows, 1)
        self.weight = nn.Parameter(torch.empty(width, dim))  # V
        self.bias = nn.Parameter(torch.zeros(dim))  # mu
        self.last = nn.Linear(dim, width)  # W, b
        for weight in (self.weight, self.last.weight):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.last.bias)
        self.codes: Tensor  # [I, D] g(V r + mu) of every item, and
        self.reach: Tensor  # [I, D + 1] what a history says of a user's row of W and b, in the item form
        self.register_buffer("codes", torch.zeros(self.n_items if form == "item" else 0, dim))
        self.register_buffer("reach", torch.zeros(self.n_items if form == "item" else 0, dim + 1))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        if self.form == "user":
            return Bags(sequences)
        users = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
        order = np.argsort(sequences.items, kind="stable")
        return Bags(Sequences(offsets_of(sequences.counts), users[order], len(sequences)))

    def code(self, ids: Tensor) -> Tensor:
        inner = bag(self.weight, ids, (ids > 0).float()) + self.bias
        return torch.sigmoid(inner) if self.activation == "sigmoid" else inner

    def loss(self, batch: Batch) -> Tensor:
        ids = batch["history"]  # of the items of a user or, in the item form, of the users of an item
        penalty = 0.5 * self.regularization * (self.weight.square().sum() + self.last.weight.square().sum()) / self.rows
        return 2 * observed(self.last(self.code(ids)), ids, self.negatives, "square") + penalty

    @torch.no_grad()
    def keep(self) -> None:
        """Put the items' codes into the buffer, where there is a matrix."""
        if self.form == "item" and len(self.interactions):
            back = self.interactions.by_item
            sums = F.embedding_bag(torch.from_numpy(back.items), self.weight, torch.from_numpy(back.offsets[:-1]), mode="sum") + self.bias
            self.codes.copy_(torch.sigmoid(sums) if self.activation == "sigmoid" else sums)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not mode:
            self.keep()
        return self

    @torch.no_grad()
    def finish(self) -> None:
        if self.form == "item" and len(self.interactions):
            self.reach.copy_(folded(self.interactions, torch.where(self.fitted_users[1:, None], self.output(), 0.0)))

    def output(self) -> Tensor:
        """W and b side by side, ``[width, D + 1]``."""
        return torch.cat((self.last.weight, self.last.bias[:, None]), 1)

    def encode_users(self, batch: Batch) -> Tensor:
        ids, users = distinct(batch["history"]), batch["user"]
        if self.form == "user":
            return F.pad(self.code(ids), (0, 1), value=1.0)
        return torch.where(users[:, None] > 0, self.output()[(users - 1).clamp(min=0)], bag(self.reach, ids, shared(ids)))

    def encode_items(self) -> Tensor:
        return self.output() if self.form == "user" else F.pad(self.codes, (0, 1), value=1.0)
