"""RBM: a restricted Boltzmann machine over what a user took, learned by contrastive divergence.

Salakhutdinov, Mnih, Hinton, "Restricted Boltzmann Machines for Collaborative Filtering", ICML 2007.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers.bags import distinct
from palate.recall.autoencoder.boltzmann import Boltzmann, begin, dense


class RBM(Recaller):
    """score = b_i + W_i h with h = sigmoid(c + sum of W_j over the history): what the machine expects at item i, h at its mean.

    ``dim`` hidden units; learned by contrastive divergence of ``steps`` Gibbs steps. The paper's visible units are softmaxes over stars, one for each
    film that was rated; what is known here is what was taken, so a unit is 1 or 0 and all items have one. An answer needs a history and nothing
    else. ``length``: the latest items that are read.
    """

    examples = Bags

    def __init__(self, interactions: Interactions, dim: int = 100, steps: int = 1, length: int = 1000) -> None:
        super().__init__(interactions, length)
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, not {steps}")
        self.steps = steps
        self.machine = Boltzmann(self.n_items, dim)
        counts = np.bincount(interactions.items, minlength=self.n_items)
        begin(self.machine.visible, torch.from_numpy(counts), int((np.diff(interactions.offsets) > 0).sum()))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        return Bags(sequences, self.length)

    def loss(self, batch: Batch) -> Tensor:
        return self.machine.loss(dense(batch["history"], self.n_items), self.steps)

    def encode_users(self, batch: Batch) -> Tensor:
        return F.pad(self.machine.up_from(distinct(batch["history"])), (0, 1), value=1.0)

    def encode_items(self) -> Tensor:
        return torch.cat((self.machine.weight, self.machine.visible[:, None]), 1)
