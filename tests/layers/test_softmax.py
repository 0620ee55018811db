import pytest
import torch

from palate.layers import softmax
from palate.layers.softmax import each_alone, log_sum, multinomial


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block", [1, 60, 1 << 20])
def test_in_blocks_of_any_size_it_is_the_loss_by_hand_and_so_is_its_gradient(monkeypatch: pytest.MonkeyPatch, block: int, bias: bool) -> None:
    monkeypatch.setattr(softmax, "BLOCK", block)
    monkeypatch.setattr(softmax, "FEWEST", 2)
    torch.manual_seed(0)
    ids = torch.tensor([[0, 3, 1], [0, 0, 9], [0, 0, 0], [2, 5, 4], [7, 1, 9]])
    given = [torch.randn(5, 4), torch.randn(9, 4), *([torch.randn(9)] if bias else [])]
    found = []
    for by_hand in (True, False):
        weights = [one.clone().requires_grad_() for one in given]
        if by_hand:
            log_pi = torch.log_softmax(weights[0] @ weights[1].T + (weights[2] if bias else 0), 1)
            loss = -sum(log_pi[row, one - 1] for row, some in enumerate(ids.tolist()) for one in some if one) / 5
        else:
            loss = multinomial(weights[0], weights[1], ids, weights[2] if bias else None)
        (3 * loss).backward()
        found.append((loss, *(one.grad for one in weights)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("block", [1, 60, 1 << 20])
def test_of_each_item_alone_it_is_the_loss_against_what_was_not_taken(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(softmax, "BLOCK", block)
    monkeypatch.setattr(softmax, "FEWEST", 2)
    torch.manual_seed(0)
    lists = [[3, 1], [9], [], [2, 5, 4], [7, 1, 9]]
    ids = torch.tensor([[0] * (3 - len(some)) + some for some in lists])
    given = torch.randn(5, 4), torch.randn(9, 4)
    found = []
    for by_hand in (True, False):
        states, weight = (one.clone().requires_grad_() for one in given)
        if by_hand:
            scores, loss = states @ weight.T, torch.zeros(())
            for row, some in enumerate(lists):
                others = [item for item in range(9) if item + 1 not in some]
                loss = loss - sum(torch.log_softmax(scores[row, [one - 1, *others]], 0)[0] for one in some) / 5
        else:
            loss = each_alone(states, weight, ids)
        (3 * loss).backward()
        found.append((loss, states.grad, weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_of_large_scores_it_is_a_number() -> None:
    states = torch.full((2, 1), 1e4)
    for loss in (multinomial, each_alone):
        assert float(loss(states, torch.tensor([[1.0], [0.9]]), torch.tensor([[1], [2]]))) == pytest.approx(500.0)
    assert torch.isfinite(each_alone(states, torch.tensor([[1.0], [0.9]]), torch.tensor([[1, 2], [0, 1]])))  # a row that took everything


@pytest.mark.parametrize("block", [1, 12, 1 << 20])
def test_a_sum_of_amended_scores_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(softmax, "BLOCK", block)
    monkeypatch.setattr(softmax, "FEWEST", 2)
    torch.manual_seed(0)
    correction, gone = torch.randn(5, 9), torch.rand(5, 9) < 0.4
    gone[3] = True  # nothing counts there
    given, pull = [torch.randn(5, 4), torch.randn(9, 4)], torch.randn(5)
    found = []
    for by_hand in (True, False):
        states, weight = (one.clone().requires_grad_() for one in given)
        if by_hand:
            scores = (states @ weight.T - correction).masked_fill(gone, -1e30)
            sums = scores.logsumexp(1)
        else:
            sums = log_sum(states, weight, lambda scores, rows: scores.sub_(correction[rows]).masked_fill_(gone[rows], -torch.inf))
            assert sums[3] == -torch.inf
        there = torch.arange(5) != 3
        torch.logaddexp(torch.zeros(5), sums).mul(pull).sum().backward()
        found.append((sums[there], states.grad, weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
