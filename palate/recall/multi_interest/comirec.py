"""ComiRec: several interests read out of a history, and a list of items in which relevance is traded for variety at will.

Cen, Zhang, Zou, Zhou, Yang, Tang, "Controllable Multi-Interest Framework for Recommendation", KDD 2020.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.candidates import Candidates, Ints, Request
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Prefixes, Sequences
from palate.layers.capsules import route
from palate.layers.embedding import Table
from palate.layers.foretelling import next_item, piecewise
from palate.layers.pooling import masked_softmax
from palate.layers.towers import Dropout
from palate.schema import nearest
from palate.state.catalogue import Catalogue


class ComiRec(Recaller):
    """The score of item i is the largest of v_k' e_i over ``interests`` K vectors.

    ``extraction``: ``attention`` (SA: v_k weighs the items by softmax(w_k' tanh(W (e + place)))) or ``capsule`` (DR: ``rounds`` of dynamic routing
    with a matrix for each capsule). In training the interest that likes the item best learns, its softmax sampled against ``negatives``.
    In a small world of users with three interests ``attention`` gains much over one vector, ``capsule`` did not within as many epochs.

    ``diversity``: the list is the greedy one that maximises the scores plus so much for each pair of items of other categories, among the K k best
    items. An item's score in it is its own less ``diversity`` times how many of its category stand before it, which is the same order.
    ``category``: the attribute of the items (of several values the first; an item without one is like no other). ``dim`` of items and interests;
    ``dropout`` of the vectors that are read (the paper has none); ``length``: the latest items that are read.
    """

    examples = Prefixes

    def __init__(
        self,
        interactions: Interactions,
        catalogue: Catalogue,
        dim: int = 64,
        interests: int = 4,
        extraction: Literal["attention", "capsule"] = "attention",
        rounds: int = 3,
        dropout: float = 0.1,
        length: int = 50,
        negatives: int = 64,
        diversity: float = 0.0,
        category: str = "genres",
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "interests": interests, "rounds": rounds, "negatives": negatives}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if not 0 <= diversity < float("inf"):
            raise ValueError(f"diversity must be a finite number of at least 0, not {diversity}")
        self.interests, self.rounds, self.negatives, self.diversity = interests, rounds, negatives, diversity
        self.kinds = kinds_of(catalogue, category) if diversity else np.empty(0, np.int64)
        self.table = Table(self.n_items + 1, dim, deviation=dim**-0.5)
        self.dropout = Dropout(dropout)
        if extraction == "attention":
            self.places = nn.Parameter(torch.randn(length, dim) * 0.1)
            self.wide, self.weigh = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, interests, bias=False)
        else:
            self.to_capsule = nn.Linear(dim, interests * dim, bias=False)
        self.extract = self.by_attention if extraction == "attention" else self.by_capsules

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Prefixes:
        return Prefixes(sequences, self.length, sampler, self.negatives)

    def encode_users(self, batch: Batch) -> Tensor:
        ids = batch["history"]
        return self.extract(self.dropout(self.table(ids, padding=0)), ids > 0)  # [B, K, D]

    def attention(self, vectors: Tensor, there: Tensor) -> Tensor:
        weights = self.weigh(torch.tanh(self.wide(vectors + self.places[-vectors.shape[1] :])))  # [B, L, K]
        return masked_softmax(weights.transpose(1, 2), there[:, None])

    def by_attention(self, vectors: Tensor, there: Tensor) -> Tensor:
        return self.attention(vectors, there) @ vectors

    def by_capsules(self, vectors: Tensor, there: Tensor) -> Tensor:
        said = self.to_capsule(vectors).unflatten(2, (self.interests, -1)).transpose(1, 2)  # [B, K, L, D]
        return route(said, said.new_zeros(said.shape[:3]), there, self.rounds)

    def speaks(self, batch: Batch, items: Tensor) -> Tensor:
        """What each place gives, by the attention of the interest that likes an item best, to that item's score."""
        if self.extract != self.by_attention:
            return super().speaks(batch, items)
        vectors, rows = self.table(batch["history"], padding=0), self.table(items, padding=0)  # [B, L, D], [B, C, D]
        weights = self.attention(vectors, batch["history"] > 0)  # [B, K, L]
        best = (rows @ (weights @ vectors).transpose(1, 2)).argmax(2)  # [B, C]
        return weights.gather(1, best[..., None].expand(-1, -1, weights.shape[2])) * (rows @ vectors.transpose(1, 2))

    def loss(self, batch: Batch) -> Tensor:
        interests = piecewise(lambda ids: self.encode_users(Batch(history=ids)), batch["history"])
        best = (interests.detach() @ self.table(batch["item"], padding=0).detach()[..., None])[..., 0].argmax(1)  # [B]
        states = interests[torch.arange(len(best)), best]
        return next_item(states, self.table, self.n_items, batch["item"], batch["negative"], batch["log_q"])

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]

    def retrieve(self, request: Request, k: int) -> Candidates:
        if not self.diversity:
            return super().retrieve(request, k)
        found = super().retrieve(request, k * self.interests)
        kinds = np.where(found.items < len(self.kinds), self.kinds[np.minimum(found.items, len(self.kinds) - 1)], -1)
        alone = np.where(kinds < 0, -1 - found.items, kinds)
        order = np.lexsort((np.arange(len(alone)), alone, found.requests))  # best first within each category of each request
        new = np.ones(len(order), bool)
        new[1:] = (alone[order][1:] != alone[order][:-1]) | (found.requests[order][1:] != found.requests[order][:-1])
        place = np.arange(len(order))
        before = np.empty(len(order), np.int64)
        before[order] = place - np.maximum.accumulate(np.where(new, place, 0))
        scores = (found.scores - self.diversity * before).astype(np.float32)
        order = np.lexsort((found.items, -scores, found.requests))
        return Candidates(found.items[order], scores[order], found.offsets).top(k)


def kinds_of(catalogue: Catalogue, category: str) -> Ints:
    """A number for each item's category, by catalogue row; -1 for an item without one."""
    if category not in catalogue.attribute_names:
        raise ValueError(f"category must name an attribute of the items, not {category!r}{nearest(category, catalogue.attribute_names)}")
    first = [value[0] if isinstance(value, list) and value else None if isinstance(value, list) else value for value in catalogue.column(category)]
    known: dict[object, int] = {}
    return np.array([-1 if one is None else known.setdefault(one, len(known)) for one in first], np.int64)
