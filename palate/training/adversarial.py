"""Adversarial training of embeddings, for any model with tables.

He et al., "Adversarial Personalized Ranking for Recommendation", SIGIR 2018. None of our worlds or data sets has shown a gain from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from palate.layers.embedding import tables
from palate.training.optimizers import by_row


@contextmanager
def perturbed(model: nn.Module, epsilon: float) -> Iterator[None]:
    """Within, each table row that has a gradient stands ``epsilon`` further along it: the worst place near by, to first order.

    Each row is moved by that length, as in the authors' code; afterwards it is where it was, to the bit.
    """
    moved = []
    with torch.no_grad():
        for table in tables(model):
            if table.grad is not None:
                rows, gradient = by_row(table.grad)
                kept = table.index_select(0, rows)
                table.index_copy_(0, rows, kept + epsilon * F.normalize(gradient, dim=1))
                moved.append((table, rows, kept))
    try:
        yield
    finally:
        with torch.no_grad():
            for table, rows, kept in moved:
                table.index_copy_(0, rows, kept)
