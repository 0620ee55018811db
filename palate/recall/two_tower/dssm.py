"""DSSM: a user tower and an item tower joined by their inner product.

Huang et al., "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data", CIKM 2013; negatives in the batch with
logQ correction: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Embedder
from palate.datasets.negatives import taken
from palate.layers import losses
from palate.layers.embedding import Embedding
from palate.layers.lean import LeanTower
from palate.layers.towers import Dropout, Tower
from palate.schema import MissingFeature, Schema


class DSSM(Embedder):
    """Any user and context features against any item features; a history is the mean of its items (in the item's own table where it shares it).

    ``dim`` of the vectors and of each field; ``hidden`` layers of both towers; ``dropout`` of the fields and after each hidden layer; ``normalise``
    vectors to length 1. Scores are inner products over ``temperature``. ``loss``: ``pointwise`` (log loss, each positive weighing as much as
    all its negatives), ``pairwise`` (BPR), ``hinge``, ``listwise`` (sampled softmax, with ``log_q`` corrected for how often an item is drawn).
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 32,
        hidden: tuple[int, ...] = (128, 64),
        dropout: float = 0.0,
        temperature: float = 0.1,
        normalise: bool = True,
        loss: Literal["pointwise", "pairwise", "hinge", "listwise"] = "listwise",
        log_q: bool = True,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        users, items = schema.of("user", "context"), schema.of("item")
        for side, features in (("user", users), ("item", items)):
            if not features:
                raise MissingFeature(f"DSSM needs at least one feature of the {side}: add one to the recipe's [[features]]")
        self.dim, self.temperature, self.normalise, self.kind, self.log_q = dim, temperature, normalise, loss, log_q
        self.embedding = Embedding((*users, *items), dim, deviation=0.1)
        self.dropout = Dropout(dropout)
        self.user_tower = Tower(len(users) * dim, hidden, dim, dropout)
        self.item_tower = Tower(len(items) * dim, hidden, dim, dropout)

    def encode_user(self, batch: Batch) -> Tensor:
        return self._finish(self.user_tower(self.dropout(self.embedding(batch, "user", "context")).flatten(1)))  # [B, D]

    def encode_item(self, batch: Batch) -> Tensor:
        return self._finish(self.item_tower(self.dropout(self.embedding(batch, "item")).flatten(1)))  # [N, D]

    def exported(self) -> LeanTower | None:
        own = type(self).encode_user is DSSM.encode_user and type(self)._finish is DSSM._finish
        return LeanTower.of(self.embedding, self.user_tower, self.normalise, "user", "context") if own else None

    def _finish(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=1) if self.normalise else vectors

    def loss(self, batch: Batch) -> Tensor:
        scores = (self.encode_user(batch) / self.temperature) @ self.encode_item(batch).T  # [B, N]
        skipped = taken(batch["user_row"], batch["item_row"])  # a user's own other items are no negatives
        if self.kind == "listwise":
            log_q = batch["log_q"] if self.log_q else torch.zeros(scores.shape[1])
            return losses.sampled_softmax(scores, log_q.expand(scores.shape).masked_fill(skipped, torch.inf))
        positive = scores.diagonal()
        others = skipped | torch.eye(*scores.shape, dtype=torch.bool)
        if self.kind == "pointwise":
            labels = torch.where(others, torch.nan, 0.0).flatten()
            return losses.binary_cross_entropy(positive, torch.ones_like(positive)) + losses.binary_cross_entropy(scores.flatten(), labels)
        compare = losses.bpr if self.kind == "pairwise" else losses.hinge
        return compare(positive, scores.masked_fill(others, -torch.inf))
