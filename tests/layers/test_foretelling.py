import torch

from palate.layers.embedding import Table
from palate.layers.foretelling import compared, next_item


def test_of_a_small_table_and_of_a_large_one_scores_and_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    small, large = Table(9, 4, deviation=1.0), Table(900, 4, deviation=1.0)
    large.weight.data[:9] = small.weight.data
    states, target = torch.randn(5, 4, requires_grad=True), torch.tensor([3, 1, 8, 2, 2])
    negative = torch.tensor([[3, 4], [0, 2], [7, 7], [1, 5], [2, 6]])
    found = []
    for table in (small, large):
        positive, against = compared(states, table, target, negative)
        (positive.sum() + against[torch.isfinite(against)].square().sum()).backward()
        gradient = table.weight.grad
        assert gradient is not None
        found.append((positive, against, gradient.to_dense()[:9]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.isinf(found[0][1]).nonzero().tolist() == [[0, 0], [1, 0], [4, 0]]
    for b in range(5):
        torch.testing.assert_close(found[0][0][b], states[b] @ small.weight[target[b]])


def test_the_softmax_over_all_items_leaves_padding_and_what_follows_the_items_out() -> None:
    table, states, target = Table(7, 3, deviation=1.0), torch.randn(2, 3), torch.tensor([5, 1])
    scores = states @ table.weight[1:6].T
    torch.testing.assert_close(next_item(states, table, 5, target), torch.nn.functional.cross_entropy(scores, target - 1))
