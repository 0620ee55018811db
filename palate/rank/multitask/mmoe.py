"""MMoE: experts that all tasks share, mixed for each task by a gate of its own.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018. Dropout on the gates: Zhao et
al., "Recommending What Video to Watch Next: A Multitask Ranking System", RecSys 2019.
"""

from __future__ import annotations

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers import bottoms
from palate.layers.embedding import Embedding
from palate.layers.experts import Experts, Gates, Heads
from palate.schema import Schema


class MMoE(Ranker):
    """y^k = h^k(sum over i of g^k(x)_i E_i(x)), g^k(x) = softmax(W^k x).

    ``dim`` of each field's vector; ``bottom``: what x is made of; ``experts``: how many, ``hidden`` layers of each; ``tower``: hidden layers of each
    task's h; ``dropout`` of x and after each hidden layer; ``gate_dropout``: the chance that a gate does without an expert (see ``Gates``).
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (128, 64),
        dropout: float = 0.1,
        experts: int = 4,
        tower: tuple[int, ...] = (32,),
        gate_dropout: float = 0.1,
        bottom: bottoms.BottomName = "plain",
    ) -> None:
        super().__init__(schema)
        if experts < 1:
            raise ValueError(f"experts must be 1 or more, not {experts}")
        if not hidden:
            raise ValueError("hidden needs at least one layer: the experts are made of it")
        self.embedding = Embedding(schema.features, dim)
        self.bottom = bottoms.bottom(bottom, len(schema.features), dim, hidden, dropout)
        self.experts = Experts(experts, self.bottom.width, hidden, dropout)
        self.gates = Gates(len(self.tasks), self.bottom.width, experts, gate_dropout)
        self.heads = Heads(len(self.tasks), self.experts.width, tower, dropout)

    def forward(self, batch: Batch) -> Tensor:
        values = self.bottom(self.embedding(batch))  # [B, W]
        mixed = self.gates(values) @ self.experts(values)  # [B, T, E] @ [B, E, H]
        return self.heads(mixed)  # [B, T]

    def last_bias(self) -> Tensor:
        return self.heads.bias
