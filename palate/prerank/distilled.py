"""Distilled: any Embedder, taught to order a request's candidates as a ranker does.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Tang, Wang, "Ranking Distillation", KDD 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Embedder, Model
from palate.datasets.pointwise import Pointwise
from palate.layers.losses import listnet, mean_squared_error


class Distilled(Model):
    """Fit this on Pointwise rows whose label ``teacher`` is the ranker's score as a real number (a logit, or the log of the fused score).

    The loss has two parts: the divergence between both softmaxes over the rows of a request (``group``; draw whole requests with
    ``Pointwise.by_group()``), the teacher's at ``temperature``; and ``pointwise`` times the squared error of the student's scores, brought to
    the teacher's scale by two weights that are thrown away with this wrapper. All rows of a group must have the same user columns.
    """

    examples = Pointwise

    def __init__(self, student: Embedder, temperature: float = 1.0, pointwise: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.student, self.temperature, self.pointwise = student, temperature, pointwise
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.shift = nn.Parameter(torch.zeros(()))

    def scores(self, batch: Batch) -> Tensor:
        """The student's inner products ``[N]``; each request's user is encoded once."""
        _, group = torch.unique(batch["group"], return_inverse=True)
        last = torch.zeros(int(group.max()) + 1, dtype=torch.int64)
        last[group] = torch.arange(len(group))
        users = self.student.encode_user(batch.take(last))[group]
        return (users * self.student.encode_item(batch)).sum(1)

    def loss(self, batch: Batch) -> Tensor:
        teacher, scores = batch["label:teacher"], self.scores(batch) * self.scale
        return listnet(scores, teacher, batch["group"], self.temperature) + self.pointwise * mean_squared_error(scores + self.shift, teacher)
