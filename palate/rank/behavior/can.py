"""CAN: an item's embedding is a small network that is applied to what the user did, so that each pair of ids has something of its own to say.

Bian et al., "CAN: Feature Co-Action Network for Click-Through Rate Prediction", WSDM 2022.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding, column_of, once
from palate.layers.towers import Dropout, Tower
from palate.schema import PADDING, Feature, MissingFeature, Owner, Schema, nearest

DEVIATION = 0.1  # three small factors make a co-action: from the usual .01 it would hardly be felt


class CAN(Ranker):
    """logits = tower(fields, co-action of each ``induction`` feature with each ``feed`` feature).

    A value of an induction feature (categories of the item; none named: all) has the weights and biases of a perceptron with the widths ``micro``,
    a value of a feed feature (categories and sequences of the user; none: all) the vector that enters it, both in tables of their own.
    Co-action = sum over the places of a sequence and over c = 1..``orders`` of perceptron(vector^c), with SELU between layers for c = 1, tanh for
    higher powers; ``independent``: each order has a perceptron of its own. ``dim`` of each field's vector; ``dropout`` of what enters the tower
    and after each hidden layer. Tasks share everything but the tower's output. The paper has the unit beside DIEN; here histories are
    pooled like any field. In the world of ``test_can.py`` the unit wins clearly, but orders above the first add nothing;
    where items act alone its many numbers cost up to .04 of AUC.

    On ML-1M's rows parted at random it stays .005 of AUC below DeepFM, which knows each user by id; among users never seen it is .031 above one
    without histories, and .005 above one that pools them, which may be chance.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        micro: tuple[int, ...] = (16, 8, 4),
        orders: int = 2,
        independent: bool = False,
        induction: tuple[str, ...] = (),
        feed: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema)
        if len(micro) < 2 or min(micro) < 1:
            raise ValueError(f"micro must be two or more widths of 1 or more, not {micro}")
        if orders < 1:
            raise ValueError(f"orders must be 1 or more, not {orders}")
        self.micro, self.orders, self.independent = micro, orders, independent
        inducing = _chosen(schema, "induction", induction, "item", "category")
        fed = _chosen(schema, "feed", feed, "user", "category", "sequence")
        self.fed = {feature.name: feature.kind for feature in fed}
        self.size = sum((inputs + 1) * outputs for inputs, outputs in pairwise(micro))
        self.embedding = Embedding(schema.features, dim)
        self.induction = Embedding(inducing, self.size * (orders if independent else 1), DEVIATION)
        self.feed = Embedding(fed, micro[0], DEVIATION, unpooled=[f.name for f in fed if f.kind == "sequence"])
        self.dropout = Dropout(dropout)
        inputs = len(self.embedding.names) * dim + len(inducing) * len(fed) * micro[-1]
        self.tower = Tower(inputs, hidden, len(self.tasks), dropout)

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def forward(self, batch: Batch) -> Tensor:
        fields = self.embedding(batch)  # [B, F, D]
        vectors, mask, lengths = self.fed_vectors(batch)
        acting = [self.coaction(weights, vectors, mask, lengths) for weights in self.induction(batch).unbind(1)]
        return self.tower(self.dropout(torch.cat([fields.flatten(1), *acting], 1)))  # [B, T]

    def fed_vectors(self, batch: Batch) -> tuple[Tensor, Tensor, list[int]]:
        """The feed features' vectors side by side ``[B, L, micro[0]]``, ``mask [B, L]`` and each feature's places (``[1, ...]``: one user's)."""
        columns = {name: column_of(batch, name, 2 if kind == "sequence" else 1) for name, kind in self.fed.items()}
        single = {name: once(column) for name, column in columns.items()}
        if all(len(column) == 1 for column in single.values()):
            columns = single
        elif len({len(column) for column in columns.values()}) > 1:
            raise ValueError(
                f"the columns of the batch have different lengths: {', '.join(f'{name} {len(column)}' for name, column in columns.items())}"
            )
        ids = {}
        for name, column in columns.items():
            every = column if column.dim() == 2 else column[:, None]
            filled = (every != PADDING).any(0).nonzero()
            ids[name] = every[:, : int(filled[-1]) + 1 if len(filled) else 1]  # up to the batch's last event
        vectors = torch.cat([self.feed.rows(name, some) for name, some in ids.items()], 1)
        return vectors, torch.cat(list(ids.values()), 1) != PADDING, [some.shape[1] for some in ids.values()]

    def coaction(self, weights: Tensor, vectors: Tensor, mask: Tensor, lengths: list[int]) -> Tensor:
        """``[B, J * micro[-1]]`` of one induction feature's ``weights [B, size]`` with all J feed features."""
        values = torch.stack([vectors**c for c in range(1, self.orders + 1)], 1)  # [B, C, L, micro[0]]
        weights = weights.unflatten(1, (-1, self.size))  # [B, C or 1, size]
        start = 0
        for inputs, outputs in pairwise(self.micro):
            if start:
                values = torch.cat([F.selu(values[:, :1]), torch.tanh(values[:, 1:])], 1)
            matrix, bias = weights[:, :, start : start + (inputs + 1) * outputs].split([inputs * outputs, outputs], 2)
            values = values @ matrix.unflatten(2, (inputs, outputs)) + bias[:, :, None]
            start += (inputs + 1) * outputs
        of_places = values.sum(1) * mask[:, :, None]  # [B, L, micro[-1]]
        return torch.cat([part.sum(1) for part in of_places.split(lengths, 1)], 1)


def _chosen(schema: Schema, option: str, names: tuple[str, ...], owner: Owner, *kinds: str) -> list[Feature]:
    """The features of ``owner`` and these kinds, or the ``names`` among them."""
    able = [feature for feature in schema.of(owner) if feature.kind in kinds]
    if not able:
        raise MissingFeature(f"this model needs a feature of the {owner} that is a {' or '.join(kinds)}: add one to the recipe's [[features]]")
    for name in names:
        if name not in [feature.name for feature in able]:
            raise ValueError(f"{option}: no {' or '.join(kinds)} {name!r} of the {owner}{nearest(name, [feature.name for feature in able])}")
    return [feature for feature in able if not names or feature.name in names]
