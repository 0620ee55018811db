"""AutoInt: self-attention over fields finds which of them to cross.

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019.
"""

from __future__ import annotations

from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.attention import Attention
from palate.layers.embedding import Embedding
from palate.layers.towers import Dropout, Tower
from palate.schema import Schema


class AutoInt(Ranker):
    """logit = w . (fields after ``blocks`` of attention with ``heads`` of ``per_head`` entries each) + b, plus a tower where there are ``hidden``
    layers (the paper's AutoInt+).

    ``residual``: each block adds a linear map of what it reads. ``dim`` of each field's vector; ``dropout`` of the attention's weights, and in the
    tower of the fields' vectors and after each hidden layer. Tasks share everything but w, b and the tower's output.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.1,
        heads: int = 2,
        per_head: int = 16,
        blocks: int = 2,
        residual: bool = True,
    ) -> None:
        super().__init__(schema)
        fields, tasks = len(schema.features), len(self.tasks)
        self.embedding = Embedding(schema.features, dim)
        self.attention = Attention(fields, dim, heads, per_head, blocks, dropout, residual)
        self.out = nn.Linear(self.attention.width, tasks)
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, tasks, dropout) if hidden else None
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def last_bias(self) -> Tensor:
        return self.out.bias

    def forward(self, batch: Batch) -> Tensor:
        fields = self.embedding(batch)  # [B, F, D]
        logits = self.out(self.attention(fields))  # [B, T]
        return logits if self.tower is None else logits + self.tower(self.dropout(fields.flatten(1)))
