"""LightGCN: factors smoothed over the graph of who took what, without weights or activations in between.

He, Deng, Wang, Li, Zhang, Wang, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020. The softmax loss:
Wu, Wang, Gao, Chen, Fu, Qiu, He, "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", TOIS 2024.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences, Taken
from palate.layers import losses
from palate.layers.norms import unit
from palate.layers.softmax import each_alone
from palate.recall.graph.graph import Graph


class LightGCN(Recaller):
    """e = mean over k = 0 .. ``layers`` of (D^-1/2 A D^-1/2)^k e_0, the score is e_u' e_i; A is the graph of ``interactions``.

    ``loss``: ``bpr`` (the paper's: pairs, ``negatives`` drawn for each) or ``softmax`` (each item of a user against all that the user did not take;
    its examples are users: a step costs one propagation whatever the batch, and this learns most from one); ``regularization`` / 2 times the squares
    of the e_0 that were read is added to either. With a ``temperature`` above 0 the score is the cosine over it, in the softmax and in what is
    offered: no length makes an item likely for everybody. Its paper learns so; to offer so, too, was better on Gowalla by an earlier
    form of this softmax (Recall@20 of a random part of train .206, by e_u' e_i .189). A user it was not fitted on has what the same steps bring from
    the items of the history, and no e_0.
    """

    examples = Taken
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        layers: int = 3,
        loss: Literal["bpr", "softmax"] = "bpr",
        negatives: int = 1,
        regularization: float = 1e-4,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(interactions, 1000)
        if not 0 <= temperature < float("inf") or (temperature and loss != "softmax"):
            raise ValueError(f"temperature must be 0 or more and is for the loss 'softmax', not {temperature} with {loss!r}")
        if not 0 <= regularization < float("inf") or negatives < 1:
            raise ValueError(f"regularization must be 0 or more and negatives 1 or more, not {regularization} and {negatives}")
        self.kind, self.negatives, self.regularization, self.temperature = loss, negatives, regularization, temperature
        self.graph = Graph(interactions, dim, layers)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken | Bags:
        return Bags(sequences) if self.kind == "softmax" else Taken(sequences, sampler, self.negatives)

    def loss(self, batch: Batch) -> Tensor:
        vectors = self.graph()  # [U + I, D]
        if self.kind == "softmax":
            compared = self.directed(vectors)
            lost = each_alone(self.tempered(compared.index_select(0, batch["user"] - 1)), compared[self.n_users :], batch["history"])
        else:
            lost = losses.bpr(*self.graph.compared(vectors, batch))
        return lost + self.regularization * self.graph.penalty(batch)

    def directed(self, vectors: Tensor) -> Tensor:
        """With a temperature the directions alone."""
        return unit(vectors) if self.temperature else vectors

    def tempered(self, users: Tensor) -> Tensor:
        """Vectors whose inner products with those of items are the scores."""
        return users / self.temperature if self.temperature else users

    def encode_users(self, batch: Batch) -> Tensor:
        return self.tempered(self.directed(self.graph.of_users(batch)))

    def encode_items(self) -> Tensor:
        return self.directed(self.graph.of_items())
