"""DeepFM: a factorization machine and an MLP over the same embeddings.

Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.layers.lean import LeanHalves
from palate.layers.products import inner_products
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class DeepFM(Ranker):
    """``form`` ``parallel``: logit = linear + second order + tower(fields), as in the paper; the first two and the tower share the fields' vectors.

    ``serial``: the second order is not summed but feeds the tower, logit = linear + tower(fields, inner products of all pairs of fields)
    (as in PNN: Qu et al., ICDM 2016). ``dim`` of each field's vector; ``dropout`` of the fields' vectors where they enter the tower and
    after each hidden layer. Tasks share everything but the linear weights, the tower's output and how much each of the ``dim`` entries
    of the second order counts (1 at first, which is the paper's sum).
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        form: Literal["parallel", "serial"] = "parallel",
    ) -> None:
        super().__init__(schema)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        self.dim, self.form, fields = dim, form, len(schema.features)
        self.embedding = Embedding(schema.features, dim + len(self.tasks))  # the linear weights are the last T columns: one look-up
        self.bias = nn.Parameter(torch.zeros(len(self.tasks)))
        self.dropout = Dropout(dropout)
        self.tower = Tower(fields * dim, hidden, len(self.tasks), dropout)
        if form == "parallel":
            self.second = nn.Parameter(torch.ones(dim, len(self.tasks)))
        else:
            self.crossed = nn.Linear(fields * (fields - 1) // 2, self.tower.width, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named).

        ``linear [N, T]``, ``first [N, H]`` (the tower's first layer), and ``sum square [N, D]`` (of the fields' vectors; parallel) or
        ``fields [N, F, D]`` (zeros for other owners'; serial).
        """
        places = self.embedding.plan(*owners).places
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, lambda fields: self._half(fields, places), squared=("square",))
        return self._half(self.embedding(batch, *owners), places)

    def _half(self, both: Tensor, places: Tensor) -> dict[str, Tensor]:
        fields, linear = both[..., : self.dim], both[..., self.dim :].sum(1)  # [N, F, D], [N, T]
        half = {"linear": linear, "first": self.tower.partial(self.dropout(fields), places, self.dim)}
        if self.form == "parallel":
            return half | {"sum": fields.sum(1), "square": fields.square().sum(1)}
        if len(places) < len(self.embedding.names):
            every = fields.new_zeros(len(fields), len(self.embedding.names), self.dim)
            fields = every.index_copy(1, places, fields)
        return half | {"fields": fields}

    def exported(self) -> LeanHalves | None:
        own = all(getattr(type(self), name) is getattr(DeepFM, name) for name in ("forward", "predict", "half", "_half", "combine"))
        if not own or self.form != "parallel":
            return None
        return LeanHalves.of(self.embedding, self.tower, self.bias, self.second, len(self.tasks))

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        linear = whole["linear"] + self.bias  # [N, T]
        if self.form == "parallel":
            second = 0.5 * (whole["sum"].square() - whole["square"])  # [N, D]
            return linear + second @ self.second + self.tower.rest(whole["first"])
        return linear + self.tower.rest(whole["first"] + self.crossed(inner_products(whole["fields"])))
