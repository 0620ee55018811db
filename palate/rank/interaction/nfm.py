"""NFM: the products of all pairs of fields, summed entry by entry, feed a tower, where a factorization machine only adds them up.

He, Chua, "Neural Factorization Machines for Sparse Predictive Analytics", SIGIR 2017.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.halves import of_numbers, total
from palate.layers.norms import BatchNorm
from palate.layers.towers import Dropout, Tower
from palate.schema import Owner, Schema


class NFM(Ranker):
    """logit = w0 + linear + tower(sum over i < j of v_i * v_j).

    ``dim`` of each field's vector. The pooled products are normalised over the batch (``batch_norm``), then dropped out; ``dropout`` also after
    each hidden layer. Without ``hidden`` layers it is a factorization machine whose entries have weights. Tasks share everything but the
    linear weights and the tower's output.
    """

    def __init__(self, schema: Schema, dim: int = 16, hidden: tuple[int, ...] = (256, 128), dropout: float = 0.1, batch_norm: bool = True) -> None:
        super().__init__(schema)
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, not {dim}")
        self.dim = dim
        self.embedding = Embedding(schema.features, dim + len(self.tasks))  # the linear weights are the last T columns: one look-up
        self.norm = BatchNorm(dim) if batch_norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.tower = Tower(dim, hidden, len(self.tasks), dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.combine(self.half(batch))  # [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def half(self, batch: Batch, *owners: Owner) -> dict[str, Tensor]:  # type: ignore[override]
        """What adds up over owners (all when none is named): ``linear [N, T]``, ``sum square [N, D]`` of the fields' vectors."""
        numbers = None if self.training else self.embedding.only_numbers(batch, *owners)
        if numbers is not None:
            return of_numbers(*numbers, self._half, squared=("square",))
        return self._half(self.embedding(batch, *owners))

    def _half(self, both: Tensor) -> dict[str, Tensor]:
        fields = both[..., : self.dim]
        return {"linear": both[..., self.dim :].sum(1), "sum": fields.sum(1), "square": fields.square().sum(1)}

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[N, T]`` of the sum of these halves (a half of one row counts for all)."""
        whole = total(halves)
        pooled = 0.5 * (whole["sum"].square() - whole["square"])  # [N, D]
        return whole["linear"] + self.tower(self.dropout(self.norm(pooled)))
