"""Mult-DAE: a denoising autoencoder whose output is one softmax over all items.

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


class MultDAE(Recaller):
    """log pi = log softmax(f(g(x / |x|))) with a history x of zeros and ones; the loss is -sum x log pi, the mean over users.

    The encoder g has the layers ``hidden`` and ``dim``, the decoder the same back, tanh after each (the paper's: ``dim`` 200 alone). In training a
    share ``dropout`` of x is left out. An answer needs a history and nothing else, so that a user never seen is asked for like any other.
    ``length``: the latest items that are read.
    """

    examples = Bags

    def __init__(self, interactions: Interactions, dim: int = 200, hidden: tuple[int, ...] = (), dropout: float = 0.5, length: int = 1000) -> None:
        super().__init__(interactions, length)
        self.encoder = Encoder(self.n_items, (*hidden, dim), dropout)
        self.decoder = Decoder((dim, *reversed(hidden)), self.n_items)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Bags:
        return Bags(sequences, self.length)

    def loss(self, batch: Batch) -> Tensor:
        ids = batch["history"]
        return self.decoder.loss(torch.tanh(self.encoder(ids)), ids)

    def encode_users(self, batch: Batch) -> Tensor:
        return self.decoder.lifted(torch.tanh(self.encoder(distinct(batch["history"]))))

    def encode_items(self) -> Tensor:
        return self.decoder.items()
