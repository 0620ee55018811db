"""DBN: a deep belief network, restricted Boltzmann machines one upon the other, each on what the one below gives.

Hinton, Osindero, Teh, "A Fast Learning Algorithm for Deep Belief Nets", Neural Computation 2006; on what users took as in ``RBM``.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers.bags import distinct
from palate.recall.autoencoder.boltzmann import Boltzmann, begin, dense


class DBN(Recaller):
    """A history goes up through all layers ``hidden``, each at its mean, and down again: score = b_i + W_i h, h what comes back to the first layer.

    Each layer learns by contrastive divergence of ``steps`` from the probabilities that the layer below gives, and nothing flows back down: greedy
    as the authors', but for time: a layer does not wait until the one below has ended. There is no wake-sleep tuning after it. An answer needs
    a history and nothing else. ``length``: the latest items that are read.
    """

    examples = Bags

    def __init__(self, interactions: Interactions, hidden: tuple[int, ...] = (100, 50), steps: int = 1, length: int = 1000) -> None:
        super().__init__(interactions, length)
        if len(hidden) < 2:
            raise ValueError(f"hidden must have 2 or more layers, not {hidden}: one alone is RBM")
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, not {steps}")
        self.steps = steps
        machines = [Boltzmann(*sizes) for sizes in pairwise((self.n_items, *hidden))]
        self.first, self.above = machines[0], nn.ModuleList(machines[1:])
        counts = np.bincount(interactions.items, minlength=self.n_items)
        begin(self.first.visible, torch.from_numpy(counts), int((np.diff(interactions.offsets) > 0).sum()))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        return Bags(sequences, self.length)

    def loss(self, batch: Batch) -> Tensor:
        total, values = self.first.loss(dense(batch["history"], self.n_items), self.steps), self.first.up_from(batch["history"])
        for machine in self.above:
            values = values.detach()
            total, values = total + machine.loss(values, self.steps), machine.up(values)  # type: ignore[operator]
        return total

    def encode_users(self, batch: Batch) -> Tensor:
        values = self.first.up_from(distinct(batch["history"]))
        for machine in self.above:
            values = machine.up(values)  # type: ignore[operator]
        for machine in reversed(self.above):
            values = torch.sigmoid(machine.down(values))  # type: ignore[operator]
        return F.pad(values, (0, 1), value=1.0)

    def encode_items(self) -> Tensor:
        return torch.cat((self.first.weight, self.first.visible[:, None]), 1)
