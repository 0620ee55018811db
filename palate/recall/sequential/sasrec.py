"""SASRec: self-attention over what a user took, each place foretelling the next.

Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. Losses other than with one negative: Petrov, Macdonald, "gSASRec: Reducing
Overconfidence in Sequential Recommendation Trained with Negative Sampling", RecSys 2023; Klenitskiy, Vasilev, "Turning Dross Into Gold Loss: is
BERT4Rec really better than SASRec?", RecSys 2023.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Windows
from palate.layers import losses
from palate.layers.embedding import Table
from palate.layers.foretelling import by_list, compared, drawn, next_item, piecewise
from palate.layers.transformer import Transformer


class SASRec(Recaller):
    """The score of item i after a list is h' m_i: h what the last place of a causal transformer knows, m_i the item's row of the table it reads.

    ``dim`` of items and places, ``blocks`` of ``heads`` heads, ``dropout``; ``length``: the latest items that are read. ``loss``: ``binary`` (log
    loss against ``negatives`` drawn for each place; 1 is the paper's), ``gbce`` (the same with the positive's probability to the power that
    ``calibration`` t gives, against ``negatives`` drawn for each list: its places are compared with them by one product of two matrices, where the
    authors draw for each place), ``sampled`` (softmax over the positive and ``negatives`` drawn for a batch, by how likely each is) or ``full``
    (softmax over all items).

    Log losses are of h' m_i + log(power / negatives). Without this constant all vectors would first have to learn one direction that says how rare a
    positive is, and beside it the rest was not found: with 256 negatives on ML-100K the lists stayed those of the most popular items.
    """

    examples = Windows

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.2,
        length: int = 50,
        loss: Literal["binary", "gbce", "sampled", "full"] = "gbce",
        negatives: int = 64,
        calibration: float = 0.75,
    ) -> None:
        super().__init__(interactions, length)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        if not 0 <= calibration <= 1:
            raise ValueError(f"calibration must lie in [0, 1], not {calibration}")
        if negatives < 1:
            raise ValueError(f"negatives must be 1 or more, not {negatives}")
        self.dim, self.kind, self.negatives, self.calibration = dim, loss, negatives, calibration
        self.table = Table(self.n_items + 1, dim, sparse=loss != "full", deviation=0.02)
        self.transformer = Transformer(dim, length, blocks, heads, dropout=dropout, deviation=0.02 * dim**0.5)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Windows:
        each: dict[str, Literal["place", "list", "batch"]] = {"gbce": "list", "sampled": "batch"}
        return Windows(sequences, self.length, None if self.kind == "full" else sampler, self.negatives, each.get(self.kind, "place"))

    def read(self, ids: Tensor) -> Tensor:
        """What each place of ``ids [B, L]`` knows, ``[B, L, D]``."""
        return self.transformer(self.table(ids, padding=0) * self.dim**0.5, ids > 0)

    def loss(self, batch: Batch) -> Tensor:
        before, after = batch["item"][:, :-1], batch["item"][:, 1:]
        known = before > 0
        states, target = piecewise(lambda ids: self.read(ids)[ids > 0], before), after[known]  # [M, D], [M]
        if self.kind == "full":
            return next_item(states, self.table, self.n_items, target)
        if self.kind == "sampled":
            return next_item(states, self.table, self.n_items, target, *drawn(batch, known))
        if self.kind == "binary":
            power, (positive, against) = 1.0, compared(states, self.table, target, batch["negative"][known])
        else:
            power = 1 + self.calibration * (self.negatives / max(self.n_items - 1, 1) - 1)
            positive, against = by_list(states, self.table, target, batch["negative"], known)
        level = math.log(power / self.negatives)  # where scores that say nothing are at rest; no order depends on it
        return losses.gbce(positive + level, against + level, power)

    def encode_users(self, batch: Batch) -> Tensor:
        return self.read(batch["history"])[:, -1]

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
