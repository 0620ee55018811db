"""Gradients summed by row equal those that torch makes one vector a place."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from palate.layers.embedding import Table
from palate.layers.scatter import mean, summed


def dense(table: Table, found: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    table.weight.grad = None
    (found * weights).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    return table.weight.grad.to_dense()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_mean_of_rows_and_its_gradient(dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    table = Table(12, 5, deviation=1.0)
    ids = torch.randint(0, 12, (30, 7), generator=chance).to(dtype)
    ids[3], ids[4, 1:] = 2, 2  # nothing but padding; one place left
    weights = torch.randn(30, 5, generator=chance)
    weight = table.weight.detach().clone().requires_grad_()
    wanted = F.embedding_bag(ids, weight, mode="mean", padding_idx=2)
    found = table.mean(ids, 2)
    torch.testing.assert_close(found, wanted)
    assert not found[3].any()
    torch.testing.assert_close(mean(table.weight, ids, 2), wanted)
    (wanted * weights).sum().backward()
    torch.testing.assert_close(dense(table, found, weights), weight.grad)


@pytest.mark.parametrize("padding", [None, 0])
def test_rows_that_repeat_much_and_their_gradient(padding: int | None) -> None:
    chance = torch.Generator().manual_seed(1)
    table = Table(9, 4, deviation=1.0)
    for size in (3, 40):  # few ids go the usual way, many are summed
        ids = torch.randint(0, 9, (size, 2), generator=chance)
        weights = torch.randn(size, 2, 4, generator=chance)
        weight = table.weight.detach().clone().requires_grad_()
        (F.embedding(ids, weight, padding_idx=padding) * weights).sum().backward()
        found = table(ids, padding)
        torch.testing.assert_close(found, table.weight[ids])
        torch.testing.assert_close(dense(table, found, weights), weight.grad)
    many = table(ids, padding)
    many.sum().backward()
    assert len(table.weight.grad._values()) < 40 + 10  # type: ignore[union-attr]


def test_two_uses_of_a_table_add_up() -> None:
    table = Table(6, 3, deviation=1.0)
    ids = torch.tensor([[1, 1, 2], [5, 0, 0]])
    found = dense(table, table(ids, 0).sum(1) + table.mean(ids, 0), torch.ones(2, 3))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 2 + 2 / 3, 1 + 1 / 3, 0.0, 0.0, 2.0]))


def test_rows_come_once_in_the_order_of_reading() -> None:
    rows, sums = summed(torch.tensor([5, 1, 5]), torch.tensor([[1.0], [2.0], [3.0]]))
    assert rows.tolist() == [5, 1]
    assert sums.tolist() == [[4.0], [2.0]]
