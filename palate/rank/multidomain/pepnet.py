"""PEPNet: gates that know the scene scale the embeddings, gates that know user and item scale the hidden units of each task's tower.

Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior Information", KDD 2023.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.experts import Beside
from palate.layers.gates import LHUC
from palate.layers.towers import Dropout
from palate.schema import Schema


class PEPNet(Ranker):
    """O = E * V_ep([scene, ~E]); H_0 = O; H_l = relu(H_(l-1) W_l + b_l) * V_l([prior, ~O]) for each task; logit = H_L w + b.

    V is the paper's Gate NU, 2 sigmoid(MLP) with one hidden layer of ``gate``; ~ stops the gradient: gates learn from the embeddings but do not
    move them, and what they read of scene and prior is in tables of their own. ``prior`` names the features of user, item and author that
    the towers' gates read (none: the ids of user and item). ``form`` ``epnet`` or ``ppnet``: only the embeddings' or only the
    towers' gates. ``dim`` of each field's vector, ``hidden`` layers of each task's tower; ``dropout`` of O and after each hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        gate: int = 64,
        prior: tuple[str, ...] = (),
        form: Literal["both", "epnet", "ppnet"] = "both",
    ) -> None:
        super().__init__(schema)
        if form not in ("both", "epnet", "ppnet"):
            raise ValueError(f"form must be 'both', 'epnet' or 'ppnet', not {form!r}")
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden needs at least one layer, each of 1 or more, not {hidden}")
        domain, tasks, flat = schema.part("domain"), len(self.tasks), len(schema.features) * dim
        known = [schema[name] for name in prior] or [schema.part("user_id"), schema.part("item_id")]
        self.embedding = Embedding(schema.features, dim)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(Beside(tasks, *pair) for pair in pairwise((flat, *hidden)))
        self.output, self.bias = Beside(tasks, hidden[-1], 1, bias=False), nn.Parameter(torch.zeros(tasks))
        self.scene = self.prior = None
        if form != "ppnet":
            self.scene, self.epnet = Embedding((domain,), dim), LHUC(dim + flat, flat, gate)
        if form != "epnet":
            self.prior = Embedding(known, dim)
            self.ppnet = nn.ModuleList(LHUC(len(known) * dim + flat, tasks * width, gate) for width in hidden)

    def forward(self, batch: Batch) -> Tensor:
        values = self.embedding(batch).flatten(1)  # [B, F D]
        if self.scene is not None:
            values = self.epnet(values, torch.cat([self.scene(batch).flatten(1), values.detach()], 1))
        prior = None if self.prior is None else torch.cat([self.prior(batch).flatten(1), values.detach()], 1)
        values = self.dropout(values)
        for n, layer in enumerate(self.layers):
            values = torch.relu(layer(values))  # [B, T, H]
            if prior is not None:
                values = values * self.ppnet[n].scales(prior).view(values.shape)  # type: ignore[operator]
            values = self.dropout(values)
        return self.output(values).squeeze(-1) + self.bias  # [B, T]
