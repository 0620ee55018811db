"""The next item as a loss: what a place of a list knows, against the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, inf

from palate.batch import Batch
from palate.layers import losses
from palate.layers.embedding import Table
from palate.layers.scatter import Products
from palate.layers.softmax import log_sum, multinomial

SHORT = 8  #: lists up to this length are read together


def piecewise(read: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """``read`` of ``ids [B, L]``, lists at the right in order of length, in pieces of like length, without columns that are padding alone.

    A piece's longest list is at most half as long again as its shortest: of lists of all lengths most of a batch would be padding.
    """
    size = (ids > 0).sum(1)
    step = (size.clamp(min=SHORT) / SHORT).log().div(math.log(1.5)).ceil()
    counts = torch.unique_consecutive(step, return_counts=True)[1].tolist()
    parts = zip(ids.split(counts), size.split(counts), strict=True)
    return torch.cat([read(part[:, ids.shape[1] - max(int(sizes.max()), 1) :]) for part, sizes in parts])


def drawn(batch: Batch, places: Tensor) -> tuple[Tensor, Tensor]:
    """``negative`` and ``log_q`` of a batch as they are where all places share them, ``[N]``, or those of ``places [B, L]`` alone, ``[M, N]``."""
    negative, log_q = batch["negative"], batch["log_q"]
    return (negative, log_q) if negative.dim() == 1 else (negative[places], log_q[places])


def compared(states: Tensor, table: Table, target: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the ids ``target [M]`` and of each one's own ``negative [M, N]``: inner products of ``states [M, D]`` with their rows.

    Minus infinity where a negative is its own target, or none (0).
    """
    scores: Tensor = Products.apply(states, table.weight, torch.cat((target[:, None], negative), 1))
    return scores[:, 0], scores[:, 1:].masked_fill((negative == target[:, None]) | (negative == 0), -inf)


def by_list(states: Tensor, table: Table, target: Tensor, negative: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The same as ``compared`` for ``negative [B, N]`` that all ``places [B, L]`` (bool, M of them true) of a list share."""
    own = states.new_zeros(*places.shape, states.shape[1]).index_put((places,), states)  # [B, L, D]
    against = (own @ table(negative, padding=0).transpose(1, 2))[places]
    drawn = negative.repeat_interleave(places.sum(1), 0)  # [M, N]
    return (states * table(target, padding=0)).sum(1), against.masked_fill((drawn == target[:, None]) | (drawn == 0), -inf)


def next_item(states: Tensor, table: Table, size: int, target: Tensor, negative: Tensor | None = None, log_q: Tensor | None = None) -> Tensor:
    """Cross-entropy of ``target [M]`` (ids) among the ``size`` items; with ``negative`` and ``log_q`` among those drawn.

    These are ``[M, N]`` or, the same for all, ``[N]``: a product of two matrices compares with very many for the cost of a few that each has alone.
    """
    if negative is None or log_q is None:
        return multinomial(states, table.weight[1 : size + 1], target[:, None])
    if negative.dim() > 1:
        return losses.drawn_softmax(*compared(states, table, target, negative), log_q)
    positive = (states * table(target, padding=0)).sum(1)
    correction = log_q + math.log(max(len(negative), 1))

    def amend(scores: Tensor, rows: slice) -> None:
        scores.sub_(correction).masked_fill_(negative == target[rows, None], -inf)

    return (torch.logaddexp(positive, log_sum(states, table(negative, padding=0), amend)) - positive).mean()
