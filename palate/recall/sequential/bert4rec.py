"""BERT4Rec: self-attention to both sides, taught to name the items that were masked in a list.

Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Windows
from palate.layers.embedding import Table
from palate.layers.foretelling import next_item, piecewise
from palate.layers.transformer import Transformer


class BERT4Rec(Recaller):
    """The score of item i at a masked place is gelu(h W + a)' m_i + b_i, h what the transformer knows there; what comes next is masked at the end.

    In training each item is masked with probability ``masked`` (at least the last one); in a share ``last`` of the lists the last item alone, as
    when answering. The softmax is over all items, or, with ``negatives``, over so many drawn for a batch by how likely each is. ``dim`` of items
    and places, ``blocks`` of ``heads`` heads with inner layers of 4 ``dim``; ``length``: the latest items that are read. Beside
    the paper, which reads the ``length - 1`` latest, the mask that stands for the next item has a place of its own.
    """

    examples = Windows

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        blocks: int = 2,
        heads: int = 2,
        dropout: float = 0.2,
        length: int = 50,
        masked: float = 0.2,
        last: float = 0.1,
        negatives: int = 0,
    ) -> None:
        super().__init__(interactions, length)
        if dim < 1 or negatives < 0:
            raise ValueError(f"dim must be 1 or more and negatives 0 or more, not {dim} and {negatives}")
        if not 0 < masked < 1 or not 0 <= last <= 1:
            raise ValueError(f"masked must lie between 0 and 1 and last in [0, 1], not {masked} and {last}")
        self.dim, self.masked, self.last, self.negatives = dim, masked, last, negatives
        self.mask = self.n_items + 1
        self.table = Table(self.n_items + 2, dim + 1, sparse=negatives > 0, deviation=0.02)  # m and b side by side
        self.table.weight.data[:, -1] = 0
        self.transformer = Transformer(dim, length + 1, blocks, heads, 4 * dim, dropout, causal=False, activation="gelu", before=False)
        self.out = nn.Linear(dim, dim)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Windows:
        return Windows(sequences, self.length, sampler if self.negatives else None, max(self.negatives, 1), "batch")

    def read(self, ids: Tensor) -> Tensor:
        """What each place of ``ids [B, L]`` says of the item there, ``[B, L, D + 1]``."""
        states = self.transformer(self.table(ids, padding=0)[..., :-1], ids > 0)
        return F.pad(F.gelu(self.out(states)), (0, 1), value=1.0)

    def hidden(self, items: Tensor) -> Tensor:
        """Which places of ``items [B, L]`` are masked: bool of that shape."""
        last = torch.zeros_like(items, dtype=torch.bool)
        last[:, -1] = True
        chosen = (torch.rand(items.shape, device=items.device) < self.masked) & (items > 0)
        chosen = chosen & (torch.rand(len(items), 1, device=items.device) >= self.last)
        return torch.where(chosen.any(1, keepdim=True), chosen, last)

    def loss(self, batch: Batch) -> Tensor:
        items = batch["item"]
        hidden = self.hidden(items)
        states = piecewise(lambda ids: self.read(ids)[ids == self.mask], items.masked_fill(hidden, self.mask))  # [M, D + 1]
        target = items[hidden]  # [M]
        if not self.negatives:
            return next_item(states, self.table, self.n_items, target)
        negative, log_q = batch["negative"], batch["log_q"]
        if negative.dim() > 1:  # none was drawn for the first place
            negative, log_q = (torch.cat((part[:, :1], part), 1)[hidden] for part in (negative, log_q))
        return next_item(states, self.table, self.n_items, target, negative, log_q)

    def encode_users(self, batch: Batch) -> Tensor:
        return self.read(F.pad(batch["history"], (0, 1), value=self.mask))[:, -1]

    def encode_items(self) -> Tensor:
        return self.table.weight[1 : self.n_items + 1]
