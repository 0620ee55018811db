"""SimGCL: contrast between two noises added to the vectors, no thinned graphs.

Yu, Yin, Xia, Chen, Cui, Nguyen, "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation", SIGIR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Taken
from palate.layers import losses
from palate.recall.graph.graph import Graph


class SimGCL(Recaller):
    """As SGL, but a view is the graph's own propagation with noise after each layer: e + ``noise`` sign(e) * u / |u|, u uniform in [0, 1]^D.

    Vectors are means of layers 1 .. ``layers``, without e_0, as in the authors' code. ``contrast``, ``temperature``, ``negatives``,
    ``regularization`` as in SGL (also what is said there of gains), strangers as in LightGCN.
    """

    examples = Taken
    personal = True

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        layers: int = 3,
        noise: float = 0.1,
        contrast: float = 0.5,
        temperature: float = 0.2,
        negatives: int = 1,
        regularization: float = 1e-4,
    ) -> None:
        super().__init__(interactions, 1000)
        if not temperature > 0 or negatives < 1:
            raise ValueError(f"temperature must be above 0 and negatives 1 or more, not {temperature} and {negatives}")
        if min(noise, contrast, regularization) < 0:
            raise ValueError(f"noise, contrast and regularization must be 0 or more, not {noise}, {contrast}, {regularization}")
        self.noise, self.weight, self.temperature = noise, contrast, temperature
        self.negatives, self.regularization = negatives, regularization
        self.graph = Graph(interactions, dim, layers, own=False)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Taken:
        return Taken(sequences, sampler, self.negatives)

    def disturbed(self, vectors: Tensor) -> Tensor:
        return vectors + self.noise * vectors.sign() * F.normalize(torch.rand_like(vectors), dim=1)

    def loss(self, batch: Batch) -> Tensor:
        ranked = losses.bpr(*self.graph.compared(self.graph(), batch)) + self.regularization * self.graph.penalty(batch)
        one, other = self.graph(disturb=self.disturbed), self.graph(disturb=self.disturbed)
        return ranked + self.weight * self.graph.contrast(one, other, batch, self.temperature)

    def encode_users(self, batch: Batch) -> Tensor:
        return self.graph.of_users(batch)

    def encode_items(self) -> Tensor:
        return self.graph.of_items()
