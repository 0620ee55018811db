"""Mult-VAE: a variational autoencoder whose output is one softmax over all items, the prior's weight annealed.

Liang, Krishnan, Hoffman, Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Bags, Sequences
from palate.layers.bags import distinct
from palate.recall.autoencoder.multinomial import Decoder, Encoder


class MultVAE(Recaller):
    """z ~ N(mu(x), sigma(x)^2), pi = softmax(f(z)); the loss is -sum x log pi + weight KL(N(mu, sigma^2) || N(0, 1)), the mean over users.

    Layers as in ``MultDAE``. The ``weight`` rises from 0 to ``beta`` over the first ``anneal`` steps (0: at once), or the prior would
    silence most of z before it says anything; below 1 it is no bound any more, which the authors find better. An answer is f(mu(x)), so that a user
    never seen is asked for like any other. ``length``: the latest items that are read.
    """

    examples = Bags

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 200,
        hidden: tuple[int, ...] = (600,),
        dropout: float = 0.5,
        beta: float = 0.2,
        anneal: int = 1000,
        length: int = 1000,
    ) -> None:
        super().__init__(interactions, length)
        if not 0 <= beta < float("inf") or anneal < 0:
            raise ValueError(f"beta and anneal must be 0 or more, not {beta} and {anneal}")
        self.beta, self.anneal = beta, anneal
        self.encoder = Encoder(self.n_items, (*hidden, dim), dropout, times=2)
        self.decoder = Decoder((dim, *reversed(hidden)), self.n_items)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # taken in training

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        return Bags(sequences, self.length)

    def loss(self, batch: Batch) -> Tensor:
        ids = batch["history"]
        mean, log_variance = self.encoder(ids).chunk(2, 1)  # [B, D], [B, D]
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(1).mean()
        if self.training:
            self.steps += 1
        weight = self.beta * min(int(self.steps) / self.anneal, 1.0) if self.anneal else self.beta
        return self.decoder.loss(z, ids) + weight * divergence

    def encode_users(self, batch: Batch) -> Tensor:
        return self.decoder.lifted(self.encoder(distinct(batch["history"])).chunk(2, 1)[0])

    def encode_items(self) -> Tensor:
        return self.decoder.items()
