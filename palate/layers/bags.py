"""Bags: lists of ids in which each item counts once, as sums over the rows of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distinct(history: Tensor) -> Tensor:
    """The ids of each row of ``history [B, L]`` once, in any order, 0 in the places left."""
    ordered = history.sort(1).values
    return torch.cat((ordered[:, :1], ordered[:, 1:].masked_fill(ordered[:, 1:] == ordered[:, :-1], 0)), 1)


def bag(matrix: Tensor, ids: Tensor, strength: Tensor) -> Tensor:
    """``[B, H]``: the sum of ``strength [B, L]`` times the rows of ``matrix [I, H]`` that ``ids [B, L]`` name (row + 1; 0 is none).

    Only ids whose strength is not 0 are read: the cost is theirs, not that of a row as long as the catalogue.
    """
    read = (ids > 0) & (strength != 0)
    counts = read.sum(1)
    return F.embedding_bag(ids[read] - 1, matrix, counts.cumsum(0) - counts, mode="sum", per_sample_weights=strength[read])


def shared(ids: Tensor) -> Tensor:
    """float ``[B, L]``: each bag's strength divided among its items so that its square is 1; 0 where there is no item."""
    there = (ids > 0).float()
    return there / there.sum(1, keepdim=True).clamp(min=1).sqrt()
