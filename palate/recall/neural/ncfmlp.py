"""NCF-MLP: the perceptron of neural collaborative filtering, alone.

He, Liao, Zhang, Nie, Hu, Chua, "Neural Collaborative Filtering", WWW 2017, section 3.3.
"""

from __future__ import annotations

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Taken
from palate.layers import losses
from palate.recall.neural.perceptron import Perceptron
from palate.recall.neural.vectors import Vectors, parted


class NCFMLP(Recaller):
    """logit = MLP([p_u; q_i]), layers ``hidden`` with ReLU and ``dropout``; the loss is its log loss with ``negatives`` drawn for each pair.

    Its score is no inner product: no index, every item is scored. A user it was not fitted on has the p that a regression of the users' vectors on
    their histories gives.
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
    ) -> None:
        super().__init__(interactions, 1000)
        if negatives < 1:
            raise ValueError(f"negatives must be 1 or more, not {negatives}")
        self.negatives = negatives
        self.vectors = Vectors(interactions, dim)
        self.perceptron = Perceptron(dim, hidden, dropout)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken:
        return Taken(sequences, sampler, self.negatives)

    def loss(self, batch: Batch) -> Tensor:
        return losses.gbce(*parted(self.perceptron(*self.vectors.compared(batch)), batch))

    def finish(self) -> None:
        self.vectors.finish()

    def scores(self, batch: Batch) -> Tensor:
        return self.perceptron.of_all(self.vectors.of_users(batch), self.vectors.items.weight[1:])
