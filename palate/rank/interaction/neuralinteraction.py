"""NeuralInteraction: all pairs of features multiplied entry by entry, and the many products compressed to a few learned vectors.

One layer of the compressed interactions of Lian et al., "xDeepFM", KDD 2018, whose vectors are not summed but feed a tower; the gate is
that of Huang et al., "GateNet: Gating-Enhanced Deep Network for Click-Through Rate Prediction", arXiv 2007.03519, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.gates import LHUC
from palate.layers.halves import placed, total
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class NeuralInteraction(Ranker):
    """logit = tower([fields, gate * C]): row k of C ``[mixes, D]`` is the sum over i <= j of w_kij v_i * v_j, v the fields' vectors.

    ``gates``: each entry of C is scaled by 2 sigmoid of a perceptron that sees all fields; without, by 1. ``dropout`` of what enters the
    tower and after each hidden layer. Tasks share all but the tower's output.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        mixes: int = 16,
        gates: bool = False,
    ) -> None:
        super().__init__(schema)
        if mixes < 1:
            raise ValueError(f"mixes must be 1 or more, not {mixes}")
        fields = len(schema.features)
        self.mixes = mixes
        self.embedding = Embedding(schema.features, dim, deviation=0.05)
        left, right = torch.triu_indices(fields, fields)
        self.pairs: Tensor
        self.register_buffer("pairs", left * fields + right, persistent=False)  # where i <= j stand among all F * F
        self.compress = nn.Parameter(torch.empty(len(left), mixes).normal_(0, len(left) ** -0.5))  # w
        self.gate = LHUC(fields * dim, mixes * dim) if gates else None
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, len(self.tasks), dropout)
        self.crossed = nn.Linear(mixes * dim, self.tower.width, bias=False)  # the products' share of the tower's first layer

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``first [N, H]``, and ``fields [N, F, D]`` with zeros for other owners'."""
        embedding = self.embedding
        fields, places = embedding(batch, *owners), embedding.plan(*owners).places
        first = self.tower.partial(self.dropout(fields), places, embedding.dim)
        return {"first": first, "fields": placed(fields, places, embedding.plan().places)}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        fields = whole["fields"]
        vectors = self.compressed(fields).flatten(1)  # [N, mixes D]
        if self.gate is not None:
            vectors = self.gate(vectors, fields.flatten(1))
        return self.tower.rest(whole["first"] + self.crossed(self.dropout(vectors)))

    def compressed(self, fields: Tensor) -> Tensor:
        """C ``[N, mixes, D]`` without writing out the ``F (F + 1) / 2`` products: sum over i of v_i times the sum over j of w_kij v_j."""
        count = fields.shape[1]
        weight = fields.new_zeros(count * count, self.mixes).index_copy(0, self.pairs, self.compress)  # [F F, mixes], 0 where i > j
        weight = weight.view(count, count, self.mixes).permute(2, 0, 1).flatten(0, 1)  # [mixes F, F]
        inner = (weight @ fields).unflatten(1, (self.mixes, count))  # [N, mixes, F, D]
        return (inner * fields[:, None]).sum(2)
