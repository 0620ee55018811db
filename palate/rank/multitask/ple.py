"""PLE: experts of each task beside experts that are shared, in several levels, so that one task's noise stays out of another's experts.

Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized Recommendations", RecSys 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers import bottoms
from palate.layers.embedding import Embedding
from palate.layers.experts import Experts, Gates, Heads
from palate.schema import Schema


class PLE(Ranker):
    """``levels`` of extraction, then a tower for each task; ``levels`` 1 is the paper's CGC.

    At each level every task has ``experts`` of its own and all have ``shared`` ones; a task's gate mixes its own and the shared, the shared gate (at
    all levels but the last) mixes everybody's, and what gates and experts of the next level read is what the gate of their task, or the
    shared one, gave. ``hidden`` layers of each expert, at each level; ``tower``: hidden layers of each task's tower. ``dim`` of each field's
    vector, ``bottom``: what the first level reads; ``dropout`` of it and after each hidden layer; ``gate_dropout`` as in MMoE (not in the paper:
    0 is its form). In our world of a loud task one level holds the quiet one far better than MMoE does, two levels only a little better: what
    the second level reads has passed the shared experts.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.1,
        experts: int = 2,
        shared: int = 2,
        levels: int = 2,
        tower: tuple[int, ...] = (32,),
        gate_dropout: float = 0.0,
        bottom: bottoms.BottomName = "plain",
    ) -> None:
        super().__init__(schema)
        for name, value in (("experts", experts), ("shared", shared), ("levels", levels)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if not hidden:
            raise ValueError("hidden needs at least one layer: the experts are made of it")
        self.embedding = Embedding(schema.features, dim)
        self.bottom = bottoms.bottom(bottom, len(schema.features), dim, hidden, dropout)
        tasks, width = len(self.tasks), self.bottom.width
        owner = torch.tensor([*range(tasks)] * experts + [tasks] * shared)  # of each expert: its task, or T for the shared
        groups = torch.arange(tasks + 1)[:, None]
        allowed = (owner == groups) | (owner == tasks) | (groups == tasks)  # [T + 1, E]
        self.owner: Tensor
        self.register_buffer("owner", owner, persistent=False)
        self.experts, self.gates = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            self.experts.append(Experts(len(owner), width, hidden, dropout))
            gates = tasks if level == levels - 1 else tasks + 1
            self.gates.append(Gates(gates, width, len(owner), gate_dropout, allowed[:gates]))
            width = hidden[-1]
        self.heads = Heads(tasks, width, tower, dropout)

    def forward(self, batch: Batch) -> Tensor:
        values = self.bottom(self.embedding(batch))  # [B, W]
        values = self.gates[0](values) @ self.experts[0](values)  # [B, G, H], G the tasks and, but for the last level, what they share
        for experts, gates in zip(self.experts[1:], self.gates[1:], strict=True):
            values = gates(values[:, : gates.count]) @ experts(values.index_select(1, self.owner))
        return self.heads(values)  # [B, T]

    def last_bias(self) -> Tensor:
        return self.heads.bias
