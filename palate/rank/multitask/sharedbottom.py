"""SharedBottom: one perceptron that all tasks share, and a small tower for each.

Caruana, "Multitask Learning", Machine Learning 28, 1997.
"""

from __future__ import annotations

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers import bottoms
from palate.layers.embedding import Embedding
from palate.layers.experts import Experts, Heads
from palate.schema import Schema


class SharedBottom(Ranker):
    """y^k = h^k(f(x)).

    ``dim`` of each field's vector; ``bottom``: what x is made of; ``hidden`` layers of f; ``tower``: hidden layers of each task's h; ``dropout`` of
    x and after each hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        tower: tuple[int, ...] = (32,),
        bottom: bottoms.BottomName = "plain",
    ) -> None:
        super().__init__(schema)
        self.embedding = Embedding(schema.features, dim)
        self.bottom = bottoms.bottom(bottom, len(schema.features), dim, hidden, dropout)
        self.shared = Experts(1, self.bottom.width, hidden, dropout)
        self.heads = Heads(len(self.tasks), self.shared.width, tower, dropout)

    def forward(self, batch: Batch) -> Tensor:
        shared = self.shared(self.bottom(self.embedding(batch)))  # [B, 1, H]; without hidden layers [B, H]
        return self.heads(shared.flatten(1))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.heads.bias
