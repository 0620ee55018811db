"""NeuMF: GMF and a perceptron with vectors of their own, joined in the last layer.

He, Liao, Zhang, Nie, Hu, Chua, "Neural Collaborative Filtering", WWW 2017, section 3.4.
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
from palate.recall.neural.perceptron import Perceptron
from palate.recall.neural.vectors import Vectors, parted


class NeuMF(Recaller):
    """logit = h' [p_u * q_i; phi([p~_u; q~_i])], h = [h_G; h_M], phi the ``hidden`` layers of a perceptron with ReLU and ``dropout``; log loss.

    ``pretraining``: so many epochs in which both parts learn alone, each by its own loss (they share nothing, so this is training one and then the
    other); then h becomes [``share`` h_G; (1 - ``share``) h_M] and they learn together. Negatives and strangers as in ``GMF``, scoring as in
    ``NCFMLP``.
    """

    examples = Taken
    inner = False
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 32,
        hidden: tuple[int, ...] = (32, 16, 8),
        dropout: float = 0.0,
        negatives: int = 4,
        pretraining: int = 0,
        share: float = 0.5,
    ) -> None:
        super().__init__(interactions, 1000)
        if not 0 <= share <= 1 or pretraining < 0 or negatives < 1:
            raise ValueError(f"share must lie in [0, 1], pretraining be 0 and negatives 1 or more, not {share}, {pretraining}, {negatives}")
        self.negatives, self.pretraining, self.share, self.pairs = negatives, pretraining, share, 0
        self.product, self.joined = Vectors(interactions, dim), Vectors(interactions, dim)
        self.weight = nn.Parameter(torch.ones(dim))  # h_G
        self.perceptron = Perceptron(dim, hidden, dropout)
        self.read: Tensor
        self.register_buffer("read", torch.zeros((), dtype=torch.int64))  # pairs trained on, until both parts are joined

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken:
        taken = Taken(sequences, sampler, self.negatives)
        self.pairs = len(taken)
        return taken

    def loss(self, batch: Batch) -> Tensor:
        product = torch.einsum("bd,bnd->bn", *self.weighed(*self.product.compared(batch)))
        perceptron = self.perceptron(*self.joined.compared(batch))
        if self.read >= self.pretraining * self.pairs:
            return losses.gbce(*parted(product + perceptron, batch))
        if self.training:
            self.read += len(batch["user"])
            if self.read >= self.pretraining * self.pairs:
                self.join()
        return losses.gbce(*parted(product, batch)) + losses.gbce(*parted(perceptron, batch))

    def weighed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return users * self.weight, items

    @torch.no_grad()
    def join(self) -> None:
        """Weigh the last layers of the two parts, which from now on are one."""
        last = self.perceptron.tower.layers[-1]
        assert isinstance(last, nn.Linear)
        self.weight.data = self.weight * self.share
        last.weight.data, last.bias.data = last.weight * (1 - self.share), last.bias * (1 - self.share)

    def finish(self) -> None:
        self.product.finish()
        self.joined.finish()

    def scores(self, batch: Batch) -> Tensor:
        perceptron = self.perceptron.of_all(self.joined.of_users(batch), self.joined.items.weight[1:])
        return perceptron + (self.product.of_users(batch) * self.weight) @ self.product.items.weight[1:].T
