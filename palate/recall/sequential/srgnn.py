"""SRGNN: a session as a graph of its items, passed through a gated network, and read out from where it ended.

Wu, Tang, Zhu, Wang, Xie, Tan, "Session-based Recommendation with Graph Neural Networks", AAAI 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Prefixes, Sequences
from palate.layers.embedding import Table
from palate.layers.foretelling import next_item, piecewise
from palate.layers.towers import Dropout


class SRGNN(Recaller):
    """The score of item i is s' v_i, s = W [v_last; sum over places of a_l v_l], a_l = q' sigmoid(W_1 v_last + W_2 v_l + c).

    Within a session an item is one node, however often it was taken; its vector is passed ``steps`` times through a gated cell that sees what its
    neighbours say along edges in (each weighing its share of the edges that come in) and along edges out. With 0 steps the vectors are as they
    are. ``dim`` of the items; ``dropout`` of the vectors that are read (the paper has none); ``length``: the latest items that are read. The softmax
    is over all items, or, with ``negatives``, over so many drawn for a batch by how likely each is.
    """

    examples = Prefixes

    def __init__(self, interactions: Interactions, dim: int = 64, steps: int = 1, dropout: float = 0.1, length: int = 20, negatives: int = 0) -> None:
        super().__init__(interactions, length)
        if dim < 1 or min(steps, negatives) < 0:
            raise ValueError(f"dim must be 1 or more, steps and negatives 0 or more, not {dim}, {steps} and {negatives}")
        self.steps, self.negatives = steps, negatives
        self.table = Table(self.n_items + 1, dim, sparse=negatives > 0, deviation=0.1)
        if steps:
            self.message = nn.Linear(dim, 2 * dim)  # along edges in, along edges out
            self.cell = nn.GRUCell(2 * dim, dim)
        self.of_last, self.of_place, self.weigh = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, 1, bias=False)
        self.out = nn.Linear(2 * dim, dim, bias=False)
        self.dropout = Dropout(dropout)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Prefixes:
        return Prefixes(sequences, self.length, sampler if self.negatives else None, max(self.negatives, 1), shared=True)

    def graph(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The place of each item's node ``[B, L]`` (where it was taken first), and the weights of edges in and out, ``[B, L, L]`` node by node."""
        node = (ids[:, :, None] == ids[:, None]).int().argmax(2)
        step = torch.zeros(*ids.shape, ids.shape[1], device=ids.device)
        row = torch.arange(len(ids), device=ids.device)[:, None].expand(-1, ids.shape[1] - 1)
        step.index_put_((row, node[:, :-1], node[:, 1:]), (ids[:, :-1] > 0).float(), accumulate=True)
        into = step.transpose(1, 2)
        return node, into / into.sum(2, keepdim=True).clamp(min=1), step / step.sum(2, keepdim=True).clamp(min=1)

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of the places of ``ids [B, L]``, ``[B, L, D]``, and the attention to each, ``[B, L, 1]``."""
        vectors = self.dropout(self.table(ids, padding=0))  # [B, L, D]
        if self.steps:
            node, into, out = self.graph(ids)
            for _ in range(self.steps):
                inwards, outwards = self.message(vectors).chunk(2, 2)
                said = torch.cat((into @ inwards, out @ outwards), 2)
                vectors = self.cell(said.flatten(0, 1), vectors.flatten(0, 1)).unflatten(0, ids.shape)
            vectors = vectors.gather(1, node[..., None].expand_as(vectors))  # of every place its node's
        strength = self.weigh(torch.sigmoid(self.of_last(vectors[:, -1])[:, None] + self.of_place(vectors))) * (ids > 0)[..., None]
        return vectors, strength

    def encode_users(self, batch: Batch) -> Tensor:
        vectors, strength = self.read(batch["history"])
        return self.out(torch.cat((vectors[:, -1], (strength * vectors).sum(1)), 1))

    def speaks(self, batch: Batch, items: Tensor) -> Tensor:
        """What each place gives by its attention to an item's score, and the last place also by itself."""
        vectors, strength = self.read(batch["history"])
        alone, pooled = self.out.weight.chunk(2, 1)
        said = strength * (vectors @ pooled.T)  # [B, L, D]
        said[:, -1] += vectors[:, -1] @ alone.T
        return self.table(items, padding=0) @ said.transpose(1, 2)

    def loss(self, batch: Batch) -> Tensor:
        states = piecewise(lambda ids: self.encode_users(Batch(history=ids)), batch["history"])
        return next_item(states, self.table, self.n_items, batch["item"], *((batch["negative"], batch["log_q"]) if self.negatives else ()))

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
