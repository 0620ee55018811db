"""GMF: a matrix factorization whose inner product has a weight for each dimension, learned by log loss.

He, Liao, Zhang, Nie, Hu, Chua, "Neural Collaborative Filtering", WWW 2017, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Taken
from palate.layers import losses
from palate.recall.neural.vectors import Vectors, parted


class GMF(Recaller):
    """logit = h' (p_u * q_i) + b, the loss its log loss with ``negatives`` drawn for each pair that was taken.

    A user it was not fitted on has the p that a regression of the users' vectors on their histories gives.
    """

    examples = Taken
    personal = True

    def __init__(self, interactions: Interactions, dim: int = 32, negatives: int = 4) -> None:
        super().__init__(interactions, 1000)
        if negatives < 1:
            raise ValueError(f"negatives must be 1 or more, not {negatives}")
        self.negatives = negatives
        self.vectors = Vectors(interactions, dim)
        self.weight = nn.Parameter(torch.ones(dim))  # h
        self.bias = nn.Parameter(torch.zeros(()))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken:
        return Taken(sequences, sampler, self.negatives)

    def loss(self, batch: Batch) -> Tensor:
        users, items = self.vectors.compared(batch)
        return losses.gbce(*parted(torch.einsum("bd,bnd->bn", users * self.weight, items) + self.bias, batch))

    def finish(self) -> None:
        self.vectors.finish()

    def encode_users(self, batch: Batch) -> Tensor:
        return F.pad(self.vectors.of_users(batch) * self.weight, (0, 1), value=1.0)

    def encode_items(self) -> Tensor:
        items = self.vectors.items.weight[1:]
        return torch.cat((items, self.bias.expand(len(items), 1)), 1)
