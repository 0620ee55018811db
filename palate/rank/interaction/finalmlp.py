"""FinalMLP: two perceptrons, each behind its own gate over the features, joined by products of what they give.

Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.gates import LHUC
from palate.layers.towers import Dropout, Tower
from palate.schema import Schema

View = Literal["user", "item", "context", "learned", "none"]


class FinalMLP(Ranker):
    """Stream s: o_s = MLP_s(2 sigmoid(Gate_s(x_s)) * e), e the fields' vectors; logit = b + w_1 o_1 + w_2 o_2 + sum over heads of o_1' W o_2.

    ``first second`` say what the streams' gates look at, x_s: the features of the ``user``, the ``item`` or the ``context`` (in tables of their own;
    a schema that has none of these: as ``learned``), a ``learned`` vector, the same for all rows, or ``none``, no gate. ``hidden other`` are the
    layers of the first and the second stream; ``heads`` into which the bilinear form is cut must divide the last of both. ``dropout`` of the
    fields' vectors and after each hidden layer. Tasks share the streams; each has its own b, w and W.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (128, 64),
        other: tuple[int, ...] = (128, 64),
        heads: int = 2,
        dropout: float = 0.1,
        first: View = "user",
        second: View = "item",
    ) -> None:
        super().__init__(schema)
        self.embedding = Embedding(schema.features, dim)
        self.dropout = Dropout(dropout)
        self.streams = nn.ModuleList(_Stream(schema, dim, view, sizes, dropout) for view, sizes in ((first, hidden), (second, other)))
        self.fusion = Fusion(hidden[-1], other[-1], len(self.tasks), heads)

    def forward(self, batch: Batch) -> Tensor:
        flat = self.dropout(self.embedding(batch).flatten(1))  # [B, F D]
        first, second = (stream(batch, flat) for stream in self.streams)
        return self.fusion(first, second)  # [B, T]

    def last_bias(self) -> Tensor:
        return self.fusion.bias


class _Stream(nn.Module):
    """One gate and its perceptron: ``flat [N, F D] -> [N, hidden[-1]]``."""

    def __init__(self, schema: Schema, dim: int, view: View, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("each stream needs a hidden layer: hidden and other must not be empty")
        if view not in get_args(View):
            raise ValueError(f"first and second must be one of {', '.join(get_args(View))}, not {view!r}")
        flat = len(schema.features) * dim
        seen = schema.of(view) if view in ("user", "item", "context") else ()
        self.seen = Embedding(seen, dim) if seen else None
        self.gate = None if view == "none" else LHUC(max(len(seen), 1) * dim, flat)
        self.learned = nn.Parameter(0.01 * torch.randn(1, dim)) if self.gate is not None and not seen else None
        self.tower = Tower(flat, hidden[:-1], hidden[-1], dropout)
        self.dropout = Dropout(dropout)

    def forward(self, batch: Batch, flat: Tensor) -> Tensor:
        if self.gate is not None:
            flat = self.gate(flat, self.seen(batch).flatten(1) if self.seen is not None else self.learned)
        return self.dropout(torch.relu(self.tower(flat)))


class Fusion(nn.Module):
    """``b + w_1 o_1 + w_2 o_2 + sum over heads of o_1[h]' W[h] o_2[h]``: ``[N, one], [N, other] -> [N, T]``."""

    def __init__(self, one: int, other: int, tasks: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or one % heads or other % heads:
            raise ValueError(f"heads must divide the last of hidden and of other, {one} and {other}, not {heads}")
        self.linear = nn.Parameter(nn.init.xavier_normal_(torch.empty(one + other, tasks)))
        self.weight = nn.Parameter(torch.empty(heads, one // heads, tasks * (other // heads)))
        nn.init.normal_(self.weight, 0, (2 / (one * other // heads + tasks)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(tasks))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        heads, tasks = len(self.weight), len(self.bias)
        turned = one.unflatten(1, (heads, -1)).transpose(0, 1) @ self.weight  # [heads, N, T d]
        right = other.unflatten(1, (heads, -1)).transpose(0, 1)[:, :, None]  # [heads, N, 1, d]
        products = (turned.unflatten(2, (tasks, -1)) * right).sum((0, 3))  # [N, T]
        return torch.addmm(self.bias, torch.cat([one, other], 1), self.linear) + products
