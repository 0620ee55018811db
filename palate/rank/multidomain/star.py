"""STAR: a centre network that all scenes share, whose weights each scene multiplies by its own, on inputs normalised scene by scene.

Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction", CIKM 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.towers import Dropout, Tower
from palate.schema import Schema

FEW = 16  #: rows of a scene in a batch below which their mean and variance are noise


class STAR(Ranker):
    """logit = star network of the row's scene (fields without the scene) + auxiliary network (the scene and the fields).

    Each layer is relu(x (W * W_p) + b + b_p), W_p 1 at first; before the first stands the partitioned normalisation. A scene that training never
    showed has the mean of what the known scenes have of their own, by their rows. ``dim`` of each field's vector, ``hidden`` layers of the
    star network, ``auxiliary`` those of the other; ``dropout`` of the normalised fields and after each hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        auxiliary: tuple[int, ...] = (32,),
    ) -> None:
        super().__init__(schema)
        domain = schema.part("domain")
        if domain.kind != "category":
            raise ValueError(f"the domain {domain.name!r} must be a category, not a {domain.kind}")
        others = [feature for feature in schema.features if feature is not domain]
        self.domain, flat = domain.name, len(others) * dim
        self.scene, self.embedding = Embedding((domain,), dim), Embedding(others, dim)
        self.norm = PartitionedNormalisation(domain.vocab_size, flat)
        self.layers = nn.ModuleList(Star(domain.vocab_size, *pair) for pair in pairwise((flat, *hidden, len(self.tasks))))
        self.dropout = Dropout(dropout)
        self.auxiliary = Tower(dim + flat, auxiliary, len(self.tasks), dropout)
        self.seen: Tensor  # rows of each scene that training showed
        self.register_buffer("seen", torch.zeros(domain.vocab_size))

    def forward(self, batch: Batch) -> Tensor:
        fields, scene = self.embedding(batch).flatten(1), self.scene(batch).flatten(1)  # [B, F D], [B, D]
        order = torch.argsort(batch[self.domain], stable=True)
        scenes, counts = torch.unique_consecutive(batch[self.domain].index_select(0, order), return_counts=True)
        if self.training:
            self.seen.index_add_(0, scenes, counts.float())
        parts = self.norm(fields.index_select(0, order).split(counts.tolist()), scenes, self.seen)
        for n, layer in enumerate(self.layers):
            parts = layer([self.dropout(torch.relu(part) if n else part) for part in parts], scenes, self.seen)
        found = self.auxiliary(torch.cat([scene, fields], 1))
        return found.index_add(0, order, torch.cat(parts)) if parts else found  # [B, T]

    def last_bias(self) -> Tensor:
        return self.layers[-1].bias  # type: ignore[return-value]


class Star(nn.Module):
    """x (W * W_p) + b + b_p for the rows ``parts`` of each of ``scenes [P]``."""

    def __init__(self, scenes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(inputs, outputs)), nn.Parameter(torch.zeros(outputs))
        self.weights, self.biases = nn.Parameter(torch.ones(scenes, inputs, outputs)), nn.Parameter(torch.zeros(scenes, outputs))
        nn.init.xavier_normal_(self.weight)

    def forward(self, parts: Sequence[Tensor], scenes: Tensor, seen: Tensor) -> list[Tensor]:
        weights, biases = self.weight * own(self.weights, scenes, seen), self.bias + own(self.biases, scenes, seen)  # [P, I, O], [P, O]
        return [torch.addmm(bias, part, weight) for part, weight, bias in zip(parts, weights.unbind(), biases.unbind(), strict=True)]


class PartitionedNormalisation(nn.Module):
    """(g * g_p)(x - E_p) / sqrt(V_p + eps) + b + b_p for the rows ``parts`` of each of ``scenes [P]``.

    In training E_p and V_p are the batch's mean and variance of the scene's rows; in use, and for a scene with ``FEW`` rows, they are averages that
    have moved along in training (plain ones at first, so that they need no run-up).
    """

    def __init__(self, scenes: int, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.gains, self.biases = nn.Parameter(torch.ones(scenes, width)), nn.Parameter(torch.zeros(scenes, width))
        self.momentum, self.eps = momentum, eps
        self.means: Tensor
        self.variances: Tensor
        self.register_buffer("means", torch.zeros(scenes, width))
        self.register_buffer("variances", torch.ones(scenes, width))

    def forward(self, parts: Sequence[Tensor], scenes: Tensor, seen: Tensor) -> list[Tensor]:
        if self.training:
            for part, scene in zip(parts, scenes.tolist(), strict=True):
                self.move(part.detach(), scene, len(part) / float(seen[scene]))
        means, variances = own(self.means, scenes, seen), own(self.variances, scenes, seen)  # [P, W]
        gains, biases = self.gain * own(self.gains, scenes, seen), self.bias + own(self.biases, scenes, seen)
        found = []
        for part, mean, variance, gain, bias in zip(parts, means, variances, gains.unbind(), biases.unbind(), strict=True):
            if self.training and len(part) >= FEW:
                variance, mean = torch.var_mean(part, 0, correction=0)
            found.append((part - mean) * (gain * torch.rsqrt(variance + self.eps)) + bias)
        return found

    @torch.no_grad()
    def move(self, part: Tensor, scene: int, share: float) -> None:
        """Take in the scene's rows of this batch, which are ``share`` of all that it ever had."""
        rate = max(share, self.momentum * min(1.0, len(part) / FEW))
        self.variances[scene].lerp_((part - self.means[scene]).square().mean(0) if len(part) < FEW else part.var(0, correction=0), rate)
        self.means[scene].lerp_(part.mean(0), rate)


def own(values: Tensor, scenes: Tensor, seen: Tensor) -> Tensor:
    """``values [S, ...]`` of these ``scenes [P]``; of one that was never ``seen [S]`` the mean over those that were, by their rows."""
    found, known = values.index_select(0, scenes), seen.index_select(0, scenes) > 0
    if bool(known.all()):
        return found
    shares = seen / seen.sum() if bool(seen.any()) else torch.full_like(seen, 1 / len(seen))
    return torch.where(known.view(-1, *[1] * (values.dim() - 1)), found, torch.tensordot(shares, values, 1))
