"""YouTubeDNN: what a user watched, averaged, and what else is known of the user through a tower; the items are the classes of a softmax.

Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Embedder
from palate.datasets.negatives import taken
from palate.layers import losses
from palate.layers.embedding import Embedding
from palate.layers.towers import Dropout, Tower
from palate.schema import MissingFeature, Schema


class YouTubeDNN(Embedder):
    """score = u' v_i, u = relu(tower(mean vectors of sequences, vectors of categories, numbers of user and context)), v_i the sum of the
    vectors of the item's fields (in the paper its id is the only one).

    The vectors that a history is read by are not those that are scored by. Sampled softmax over the other users' items and uniform draws, corrected
    for how often each is drawn. With a ``temperature`` above 0 the score is the cosine of the two, over it (not in the paper). ``dim`` of each field
    and of u; ``hidden`` layers; ``dropout`` of the fields and after each hidden layer.
    ``age`` names a number of the user or the context that is the example's age: how long before the end of training it was taken. Outside training
    it is 0, so the answer is for now and not for the average of the training window.
    """

    def __init__(
        self, schema: Schema, dim: int = 32, hidden: tuple[int, ...] = (128, 64), dropout: float = 0.0, age: str = "", temperature: float = 0.0
    ) -> None:
        super().__init__()
        schema.part("item_id")
        users, items = schema.of("user", "context"), schema.of("item")
        if not users:
            raise MissingFeature("YouTubeDNN needs at least one feature of the user: add one to the recipe's [[features]]")
        if age and not any(feature.name == age and feature.kind == "number" for feature in users):
            raise ValueError(f"age must name a number of the user or the context, not {age!r}")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more, not {temperature}")
        self.dim, self.age, self.temperature = dim, age, temperature
        self.embedding = Embedding(users, dim, deviation=0.1)
        self.classes = Embedding(items, dim, deviation=0.1)
        self.dropout = Dropout(dropout)
        self.tower = Tower(len(users) * dim, hidden, dim, dropout)

    def encode_user(self, batch: Batch) -> Tensor:
        if self.age and not self.training:
            batch = Batch(batch, **{self.age: torch.zeros_like(batch[self.age])})
        u = F.relu(self.tower(self.dropout(self.embedding(batch, "user", "context")).flatten(1)))  # [B, D]
        return F.normalize(u, dim=1) if self.temperature else u

    def encode_item(self, batch: Batch) -> Tensor:
        v = self.classes(batch, "item").sum(1)  # [N, D]
        return F.normalize(v, dim=1) if self.temperature else v

    def loss(self, batch: Batch) -> Tensor:
        scores = self.encode_user(batch) @ self.encode_item(batch).T / (self.temperature or 1.0)  # [B, N]
        skipped = taken(batch["user_row"], batch["item_row"])  # a user's own other items are no negatives
        return losses.sampled_softmax(scores, batch["log_q"].expand(scores.shape).masked_fill(skipped, torch.inf))
