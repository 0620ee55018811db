"""Transformer: self-attention over a list of events, each place seeing those before it (or all).

Vaswani et al., "Attention Is All You Need", NeurIPS 2017; blocks as in Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, inf, nn
from torch.nn import functional as F

from palate.layers.towers import Dropout

Activation = Literal["relu", "gelu"]


class Block(nn.Module):
    """x + attention(x), then x + f(x), f two layers a place; layer norm ``before`` each of both or after each sum."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, activation: Activation, before: bool) -> None:
        super().__init__()
        self.heads, self.before, self.activation = heads, before, F.relu if activation == "relu" else F.gelu
        self.maps = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=1e-8) for _ in range(2)])
        self.dropout = Dropout(dropout)
        self.rate = dropout

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``x [B, L, D]``; ``seen`` bool ``[B, 1, L, L]``: whether place l sees place m."""
        if self.before:
            x = x + self._attend(self.norms[0](x), seen)
            return x + self._think(self.norms[1](x))
        x = self.norms[0](x + self._attend(x, seen))
        return self.norms[1](x + self._think(x))

    def _attend(self, x: Tensor, seen: Tensor) -> Tensor:
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.maps(x).chunk(3, 2))  # [B, heads, L, D / heads]
        if self.training and self.rate:  # torch's own would draw each chance by itself, which costs more than the products
            scores = (query @ key.transpose(2, 3) / key.shape[3] ** 0.5).masked_fill_(~seen, -inf)
            mixed = self.dropout(scores.softmax(3)) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, seen)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))

    def _think(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(self.activation(self.wide(x)))))


class Transformer(nn.Module):
    """``vectors [B, L, D]`` of events, the latest last, and ``there`` bool ``[B, L]`` to what each place knows ``[B, L, D]``.

    A place's vector is learned by its distance from the end, at most ``length`` places, from a start of this ``deviation``: that of the events, or
    order counts for little at first. ``causal``: a place sees itself and those before it.
    """

    def __init__(
        self,
        dim: int,
        length: int,
        blocks: int = 2,
        heads: int = 1,
        inner: int = 0,
        dropout: float = 0.2,
        causal: bool = True,
        activation: Activation = "relu",
        before: bool = True,
        deviation: float = 0.02,
    ) -> None:
        super().__init__()
        for name, value in {"length": length, "blocks": blocks, "heads": heads}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, not {dim} with {heads} heads")
        self.places = nn.Parameter(torch.randn(length, dim) * deviation)
        self.blocks = nn.ModuleList([Block(dim, heads, inner or dim, dropout, activation, before) for _ in range(blocks)])
        self.last = nn.LayerNorm(dim, eps=1e-8) if before else nn.Identity()
        self.dropout = Dropout(dropout)
        self.causal = causal

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        length = vectors.shape[1]
        x = self.dropout(vectors + self.places[-length:]) * there[..., None]
        seen = there[:, None, None, :]
        if self.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=there.device).tril()
        seen = seen | torch.eye(length, dtype=torch.bool, device=there.device)  # padding sees itself: a row that sees nothing is no number
        for block in self.blocks:
            x = block(x, seen)
        return self.last(x)
