"""MIND: a history routed into a few capsules, one an interest; in training the item itself says which interest it belongs to.

Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Prefixes, Sequences
from palate.layers.capsules import route
from palate.layers.embedding import Table
from palate.layers.foretelling import next_item, piecewise
from palate.layers.towers import Tower


class MIND(Recaller):
    """The score of item i is the largest of v_k' e_i, v_k = MLP(capsule k): B2I routing with one matrix S for all pairs of item and capsule.

    ``interests`` K; ``adaptive``: of a history of n items max(1, min(K, log2 n)). Routing takes ``rounds``, from logits drawn once for each place and
    capsule and never trained. In training the vector is the sum of the v_k weighed by softmax((v_k' e_i)^power) (the sign kept; a large ``power`` is
    the best one alone), and the softmax is sampled against ``negatives``. ``dim`` of items and interests, ``hidden`` layers of the MLP,
    which the paper also gives the user's profile (this model reads rows alone); ``dropout`` within it; ``length``: the latest items that are read.
    """

    examples = Prefixes

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        interests: int = 4,
        rounds: int = 3,
        adaptive: bool = True,
        power: float = 2.0,
        hidden: tuple[int, ...] = (128,),
        dropout: float = 0.0,
        length: int = 50,
        negatives: int = 64,
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "interests": interests, "rounds": rounds, "negatives": negatives}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if not 1 <= power < float("inf"):
            raise ValueError(f"power must be 1 or more, not {power}")
        self.interests, self.rounds, self.adaptive, self.power, self.negatives = interests, rounds, adaptive, power, negatives
        self.table = Table(self.n_items + 1, dim, deviation=dim**-0.5)
        self.bilinear = nn.Linear(dim, dim, bias=False)
        self.tower = Tower(dim, hidden, dim, dropout)
        self.logits: Tensor
        self.register_buffer("logits", torch.randn(interests, length))

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Prefixes:
        return Prefixes(sequences, self.length, sampler, self.negatives)

    def encode_users(self, batch: Batch) -> Tensor:
        """``[B, K, D]``; of a user with fewer interests the first one stands for those that are not there."""
        ids = batch["history"]
        said = self.bilinear(self.table(ids, padding=0))[:, None]  # [B, 1, L, D]
        logits = self.logits[:, -ids.shape[1] :].expand(len(ids), -1, -1)
        asked = self.counted(ids)
        capsules = route(said, logits.masked_fill(~asked[..., None], -1e9), ids > 0, self.rounds)  # [B, K, D]
        vectors = self.tower(capsules.flatten(0, 1)).unflatten(0, capsules.shape[:2])
        return torch.where(asked[..., None], vectors, vectors[:, :1])

    def counted(self, ids: Tensor) -> Tensor:
        """Which interests a history ``ids [B, L]`` has: bool ``[B, K]``."""
        count = (ids > 0).sum(1).clamp(min=2).float().log2().floor() if self.adaptive else torch.full((len(ids),), float(self.interests))
        return torch.arange(self.interests) < count[:, None]

    def loss(self, batch: Batch) -> Tensor:
        asked = self.counted(batch["history"])
        interests = piecewise(lambda ids: self.encode_users(Batch(history=ids)), batch["history"])
        agree = (interests @ self.table(batch["item"], padding=0)[..., None])[..., 0]  # [B, K]
        strength = torch.softmax((agree.sign() * agree.abs() ** self.power).masked_fill(~asked, -torch.inf), 1)
        states = (strength[:, None] @ interests)[:, 0]
        return next_item(states, self.table, self.n_items, batch["item"], batch["negative"], batch["log_q"])

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
