"""Crosses: which pairs of columns are worth a cross of their own, and the recipe that results.

A probe adds up a weight for each value of a column and, for each pair of columns, the normalised inner product of their vectors. On rows it has
not seen, three measures of a pair come out of the one probe: its ``gate``, a factor of the pair's term that is learnt under an L1 penalty, so that
most are exactly 0; its ``gradient``, how far the loss moves, to first order, without the term; and its ``permutation``, what the loss rises by
when the term is shuffled among the rows.

Liu et al., "AutoFIS: Automatic Feature Interaction Selection in Factorization Models for Click-Through Rate Prediction", KDD 2020 (gates; here
they are learnt after the vectors, which makes them a convex problem); Breiman, "Random Forests", Machine Learning, 2001 (permutation);
Molchanov et al., "Pruning Convolutional Neural Networks", ICLR 2017 (gradient).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Examples, Ranker
from palate.datasets.pointwise import Pointwise
from palate.features.kinds import Static
from palate.layers.embedding import Embedding
from palate.layers.losses import binary_cross_entropy
from palate.layers.norms import BatchNorm
from palate.recipe import Recipe
from palate.schema import Feature, Label, Schema
from palate.tables.world import World
from palate.training.trainer import Trainer
from palate.workflow import Training, prepare

BLOCK = 65_536  #: rows looked at together; a batch normalisation in evaluation does not mind
By = Literal["gate", "gradient", "permutation"]


@dataclass(frozen=True)
class Pair:
    """Two features by name and what each measure says of their interaction."""

    of: tuple[str, str]
    gate: float
    gradient: float
    permutation: float


class Probe(Ranker):
    """logit = bias + sum of w_i + open · sum over pairs of norm(<v_i, v_j>), of the categories of ``schema`` and for its first task."""

    open = 0.2  #: all gates while the vectors are learnt

    def __init__(self, schema: Schema, dim: int = 8) -> None:
        categories = tuple(feature for feature in schema.features if feature.kind == "category")
        if len(categories) < 2:
            raise ValueError(f"crosses are of two categories, and there are {len(categories)}")
        super().__init__(Schema(categories, schema.labels[:1]))
        self.dim = dim
        self.embedding = Embedding(categories, dim + 1, deviation=0.1)
        self.pairs = list(combinations(self.embedding.names, 2))
        self.first, self.second = np.triu_indices(len(categories), 1)
        self.norm = BatchNorm(len(self.pairs), affine=False)
        self.bias = nn.Parameter(torch.zeros(1))

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What columns say alone ``[B]`` and each pair's normalised product ``[B, P]``."""
        both = self.embedding(batch)
        vectors, alone = both[..., : self.dim], both[..., self.dim].sum(1) + self.bias
        return alone, self.norm((vectors[:, self.first] * vectors[:, self.second]).sum(2))

    def forward(self, batch: Batch) -> Tensor:
        alone, products = self.terms(batch)
        return (alone + self.open * products.sum(1))[:, None]  # [B, 1]


def measure(schema: Schema, train: Examples, valid: Pointwise, *, dim: int = 8, l1: float = 1.0, epochs: int = 10, seed: int = 0) -> list[Pair]:
    """All pairs of the schema's categories, by gate, largest first. ``valid`` are rows that were not trained on.

    ``l1`` is in units of what the best of so many pairs that say nothing would gain by chance (Donoho, Johnstone, Biometrika, 1994).
    """
    torch.manual_seed(seed)
    probe = Probe(schema, dim)
    batch = valid.batch(torch.arange(min(len(valid), BLOCK)))
    labels = batch[f"label:{probe.tasks[0]}"]
    weights = torch.where(torch.isnan(labels), 0.0, batch.get("weight", torch.ones_like(labels)))

    def score() -> float:
        with torch.inference_mode():
            return -float(probe.loss(batch))

    Trainer(epochs=epochs, batch_size=1024, learning_rate=0.01, patience=epochs, seed=seed, threads=1).fit(probe, train, score)
    with torch.no_grad():
        alone, products = probe.terms(batch)
    ids = torch.stack([batch[name] for name in probe.embedding.names], 1)
    products = torch.stack([met(products[:, n], ids[:, probe.first[n]], ids[:, probe.second[n]]) for n in range(len(probe.pairs))], 1)
    rate = float((weights * labels.nan_to_num()).sum() / weights.sum())
    rows = float(weights.sum() ** 2 / weights.square().sum())
    penalty = l1 * math.sqrt(rate * (1 - rate) * 2 * math.log(2 * len(probe.pairs)) / rows)
    gates = lasso(alone, products, labels, weights, penalty)

    def lost(logits: Tensor) -> Tensor:
        return binary_cross_entropy(logits, labels, weights)

    opened = torch.full_like(gates, probe.open).requires_grad_()
    logits = alone + products @ opened
    (slope,) = torch.autograd.grad(lost(logits), opened)
    gradient = (slope * probe.open).abs().tolist()
    chance = torch.Generator().manual_seed(seed)
    found = []
    with torch.no_grad():
        whole = lost(logits)
        for n, of in enumerate(probe.pairs):
            term = products[:, n]
            shuffled = term[torch.randperm(len(term), generator=chance)]
            rise = lost(logits + probe.open * (shuffled - term)) - whole
            found.append(Pair(of, abs(float(gates[n])), gradient[n], float(rise)))
    return sorted(found, key=lambda pair: -pair.gate)


def met(term: Tensor, one: Tensor, other: Tensor, shrink: float = 5.0, rounds: int = 3) -> Tensor:
    """What is left of ``term [B]`` when its mean for each value of ``one [B]`` and of ``other [B]`` is taken out: how the two meet.

    A product also rises with either column alone, which is no reason for a cross. ``shrink``: rows that a mean of 0 weighs, so that a value
    seen once does not explain itself.
    """
    for _ in range(rounds):
        for ids in (one, other):
            size = int(ids.max()) + 1
            count = torch.bincount(ids, minlength=size)
            mean = torch.bincount(ids, term.double(), size) / (count + shrink)
            term = term - mean.float()[ids]
    return term


@torch.no_grad()
def lasso(alone: Tensor, products: Tensor, labels: Tensor, weights: Tensor, penalty: float, steps: int = 500) -> Tensor:
    """Gates ``[P]`` that minimise the mean log loss of ``alone + bias + products @ gates`` plus ``penalty`` times the sum of their sizes.

    Accelerated proximal gradient (Beck, Teboulle, SIAM J. Imaging Sciences, 2009).
    """
    share = weights / weights.sum()
    known = labels.nan_to_num()
    inputs = torch.cat((products, torch.ones(len(products), 1)), 1)
    rate = 4 / float(torch.linalg.eigvalsh(inputs.T @ (share[:, None] * inputs))[-1])
    gates = ahead = torch.zeros(inputs.shape[1])
    pace = 1.0
    for _ in range(steps):
        slope = inputs.T @ (share * (torch.sigmoid(alone + inputs @ ahead) - known))
        moved = ahead - rate * slope
        moved[:-1] = torch.sign(moved[:-1]) * (moved[:-1].abs() - rate * penalty).clamp(min=0)
        following = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        ahead = moved + (pace - 1) / following * (moved - gates)
        gates, pace = moved, following
    return gates[:-1]


def crosses(
    recipe: Recipe, world: World, by: By = "gate", most: int = 5, *, l1: float = 1.0, report: Callable[[str], None] = lambda line: None
) -> tuple[list[Pair], str]:
    """All pairs of columns, best first by the measure ``by``, and the recipe's text with the best ``most`` of them as crosses.

    Examples are those the recipe's ranker would learn from; a pair that the measure says nothing of (0) is not taken.
    """
    if recipe.rank is None:
        raise ValueError("crosses are chosen for a ranker, and the recipe has no [rank]")
    training = Training(recipe, prepare(recipe, world), report)
    train, valid = training.examples()
    assert training.pipeline is not None
    schema = training.pipeline.schema
    named = {one.feature_name: one.column for one in recipe.features if isinstance(one, Static)}
    columns = {one.name: named[one.name] for one in schema.features if one.kind == "category" and one.name in named}
    task = next(iter(recipe.tasks))
    known = [feature for feature in schema.features if feature.name in columns]
    report(f"{len(known)} categories, {len(known) * (len(known) - 1) // 2} pairs, {len(train):,} examples")
    found = measure(Schema(tuple(_own(known)), (Label(task),)), train.pointwise(), valid.pointwise(), l1=l1, seed=recipe.seed)
    found.sort(key=lambda pair: -getattr(pair, by))
    chosen = [pair for pair in found[:most] if getattr(pair, by) > 0]
    return found, with_crosses(recipe.text, [tuple(columns[name] for name in pair.of) for pair in chosen])


def with_crosses(text: str, pairs: Sequence[tuple[str, ...]]) -> str:
    """A recipe's text with a Cross of each pair of columns behind it."""
    made = "".join(f'\n[[features]]\nname = "Cross"\nof = {json.dumps(pair, ensure_ascii=False)}\n' for pair in pairs)
    return text.rstrip("\n") + "\n" + made


def _own(features: Sequence[Feature]) -> list[Feature]:
    """With tables of their own where the one they share with is not among them."""
    names = {feature.name for feature in features}
    return [one if not one.shares or one.shares in names else replace(one, shares="") for one in features]
