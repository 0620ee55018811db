"""ConvNCF: the outer product of a user's and an item's vector, read as an image by a stack of convolutions.

He, Du, Wang, Tian, Tang, Chua, "Outer Product-based Neural Collaborative Filtering", IJCAI 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Taken
from palate.layers import losses
from palate.recall.neural.perceptron import everybody
from palate.recall.neural.vectors import Vectors, parted

ROWS = 8_192  #: images at once


class ConvNCF(Recaller):
    """score = w' CNN(p_u q_i'): convolutions of 2 x 2 with stride 2, ``channels`` and ReLU, until the D x D image is one point; BPR's loss.

    ``dim`` is a power of two. ``pretraining``: so many epochs in which the vectors alone learn, by BPR's loss of their inner product, as the authors
    begin. Dear: an image for each item of every request. A user it was not fitted on has the p that a regression of the users' vectors on
    their histories gives.
    """

    examples = Taken
    inner = False
    personal = True

    def __init__(self, interactions: Interactions, dim: int = 16, channels: int = 16, negatives: int = 1, pretraining: int = 0) -> None:
        super().__init__(interactions, 1000)
        if dim < 2 or dim & (dim - 1):
            raise ValueError(f"dim must be a power of two and 2 or more, not {dim}")
        if min(channels, negatives) < 1 or pretraining < 0:
            raise ValueError(f"channels and negatives must be 1 or more, pretraining 0 or more, not {channels}, {negatives}, {pretraining}")
        self.negatives, self.pretraining, self.pairs = negatives, pretraining, 0
        self.vectors = Vectors(interactions, dim)
        layers = dim.bit_length() - 1
        self.layers = nn.ModuleList(nn.Conv2d(channels if n else 1, channels, 2, 2) for n in range(layers))
        self.last = nn.Linear(channels, 1, bias=False)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        self.read: Tensor
        self.register_buffer("read", torch.zeros((), dtype=torch.int64))  # pairs trained on, until the network is

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken:
        taken = Taken(sequences, sampler, self.negatives)
        self.pairs = len(taken)
        return taken

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """``[B, N]`` of ``users [B, D]`` and ``items [B, N, D]`` or ``[N, D]``."""
        values = users[:, None, :, None] * items[..., None, :]  # [B, N, D, D]
        shape = values.shape[:2]
        values = values.flatten(0, 1)[:, None]
        for layer in self.layers:
            values = torch.relu(layer(values))
        return self.last(values.flatten(1)).view(shape)

    def loss(self, batch: Batch) -> Tensor:
        users, items = self.vectors.compared(batch)
        if self.read >= self.pretraining * self.pairs:
            return losses.bpr(*parted(self.score(users, items), batch))
        if self.training:
            self.read += len(users)
        return losses.bpr(*parted(torch.einsum("bd,bnd->bn", users, items), batch))

    def finish(self) -> None:
        self.vectors.finish()

    def scores(self, batch: Batch) -> Tensor:
        items = self.vectors.items.weight[1:]
        return everybody(lambda users: self.score(users, items), self.vectors.of_users(batch), self.n_items, ROWS)
