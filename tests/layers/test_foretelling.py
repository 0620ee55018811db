import math

import pytest
import torch

from palate.layers.embedding import Table
from palate.layers.foretelling import compared, next_item, piecewise


def test_scores_of_what_each_has_drawn_and_their_gradients() -> None:
    torch.manual_seed(0)
    table, target = Table(90, 4, deviation=1.0), torch.tensor([3, 1, 8, 2, 2])
    negative = torch.tensor([[3, 4], [0, 2], [7, 7], [1, 5], [2, 6]])
    states = torch.randn(5, 4)
    found = []
    for by_hand in (True, False):
        table.zero_grad()
        own = states.clone().requires_grad_()
        if by_hand:
            positive = torch.stack([own[b] @ table.weight[target[b]] for b in range(5)])
            against = torch.stack([torch.stack([own[b] @ table.weight[j] for j in negative[b]]) for b in range(5)])
            against = against.masked_fill((negative == target[:, None]) | (negative == 0), -torch.inf)
        else:
            positive, against = compared(own, table, target, negative)
        (positive.sum() + against[torch.isfinite(against)].square().sum()).backward()
        assert table.weight.grad is not None
        found.append((positive, against, own.grad, table.weight.grad.to_dense()))
        assert by_hand or table.weight.grad.is_sparse
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.isinf(found[0][1]).nonzero().tolist() == [[0, 0], [1, 0], [4, 0]]


def test_what_all_have_in_common_is_as_if_each_had_drawn_it() -> None:
    torch.manual_seed(0)
    table, states = Table(9, 4, deviation=1.0), torch.randn(5, 4)
    target, negative, log_q = torch.tensor([3, 1, 8, 2, 2]), torch.tensor([2, 4, 4]), torch.tensor([-1.0, -2.0, -2.0])
    shared = next_item(states, table, 8, target, negative, log_q)
    torch.testing.assert_close(shared, next_item(states, table, 8, target, negative.expand(5, -1), log_q.expand(5, -1)))
    terms = []
    for state, own in zip(states, target.tolist(), strict=True):
        right = math.exp(state @ table.weight[own])
        others = [math.exp(state @ table.weight[j]) / (3 * math.exp(q)) for j, q in zip(negative.tolist(), log_q.tolist(), strict=True) if j != own]
        terms.append(-math.log(right / (right + sum(others))))
    assert float(shared) == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_lists_of_like_length_are_read_together_and_without_padding() -> None:
    sizes = [0, 1, 3, 8, 9, 11, 13, 42, 45, 100]
    lists = torch.stack([torch.cat((torch.zeros(100 - size), torch.arange(1, size + 1))).long() for size in sizes])
    shapes = []

    def read(ids: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        return ids[ids > 0]

    assert torch.equal(piecewise(read, lists), lists[lists > 0])
    assert shapes == [(4, 8), (2, 11), (1, 13), (2, 45), (1, 100)]
    assert torch.equal(piecewise(read, lists.flip(0)), lists.flip(0)[lists.flip(0) > 0])  # in another order it is slower, not wrong


def test_the_softmax_over_all_items_leaves_padding_and_what_follows_the_items_out() -> None:
    table, states, target = Table(7, 3, deviation=1.0), torch.randn(2, 3), torch.tensor([5, 1])
    scores = states @ table.weight[1:6].T
    torch.testing.assert_close(next_item(states, table, 5, target), torch.nn.functional.cross_entropy(scores, target - 1))
