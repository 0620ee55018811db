"""The next item as a loss: what a place of a list knows, against the rows of a table."""

from __future__ import annotations

from torch import Tensor, inf
from torch.nn import functional as F

from palate.layers import losses
from palate.layers.embedding import Table

WIDE = 8  #: a row fetched for one product costs as much as so many products of a matrix


def compared(states: Tensor, table: Table, target: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the ids ``target [M]`` and ``negative [M, N]``: inner products of ``states [M, D]`` with their rows.

    Minus infinity where a negative is its own target, or none (0). Of a small table all scores are made and those that are asked for taken out.
    """
    if WIDE * negative.shape[1] >= len(table.weight):
        scores = states @ table.weight.T
        positive, against = scores.gather(1, target[:, None])[:, 0], scores.gather(1, negative)
    else:
        positive = (states * table(target, padding=0)).sum(1)
        against = (table(negative, padding=0) @ states[:, :, None])[:, :, 0]
    return positive, against.masked_fill((negative == target[:, None]) | (negative == 0), -inf)


def next_item(states: Tensor, table: Table, size: int, target: Tensor, negative: Tensor | None = None, log_q: Tensor | None = None) -> Tensor:
    """Cross-entropy of ``target [M]`` (ids) among the ``size`` items; with ``negative [M, N]`` and their ``log_q`` among those drawn."""
    if negative is None or log_q is None:
        return F.cross_entropy(states @ table.weight[1 : size + 1].T, target - 1)
    return losses.drawn_softmax(*compared(states, table, target, negative), log_q)
