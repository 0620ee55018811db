import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from palate.layers import losses

NAN = float("nan")


def test_rows_without_a_label_count_for_nothing() -> None:
    logits, labels = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([1.0, 0.0, NAN])
    assert losses.binary_cross_entropy(logits, labels) == pytest.approx(float(F.binary_cross_entropy_with_logits(logits[:2], labels[:2])))
    assert losses.mean_squared_error(logits, labels) == pytest.approx((0.7**2 + 2.0**2) / 2)


def test_weights_are_ratios() -> None:
    logits, labels = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([1.0, 0.0, NAN])
    each = F.binary_cross_entropy_with_logits(logits[:2], labels[:2], reduction="none")
    for size in (1.0, 50.0):
        weights = size * torch.tensor([3.0, 1.0, 8.0])
        assert losses.binary_cross_entropy(logits, labels, weights) == pytest.approx(float(3 * each[0] + each[1]) / 4)
    assert losses.binary_cross_entropy(logits, labels, torch.zeros(3)) == 0


def test_no_label_at_all_gives_zero_and_no_nan_gradient() -> None:
    logits = torch.zeros(3, requires_grad=True)
    loss = losses.binary_cross_entropy(logits, torch.full((3,), NAN))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros(3))


def test_pairs_by_hand_and_masked_ones_left_out() -> None:
    positive, negative = torch.tensor([2.0, 0.0]), torch.tensor([[1.0, -torch.inf], [0.5, 3.0]])
    margins = [1.0, -0.5, -3.0]
    assert losses.bpr(positive, negative) == pytest.approx(np.mean([math.log1p(math.exp(-m)) for m in margins]))
    assert losses.hinge(positive, negative) == pytest.approx(np.mean([max(0, 1 - m) for m in margins]))


def test_masked_pairs_have_no_gradient() -> None:
    scores = torch.zeros(2, 2, requires_grad=True)
    losses.bpr(scores.diagonal(), scores.masked_fill(torch.eye(2, dtype=torch.bool), -torch.inf)).backward()
    assert torch.isfinite(scores.grad).all()


def test_sampled_softmax_with_log_q_estimates_the_full_softmax() -> None:
    """The gradient over popularity-drawn columns, corrected, comes near the full softmax's; uncorrected it does not."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, generator=generator).requires_grad_()
    q = torch.softmax(torch.randn(40, generator=generator), 0)
    full = torch.softmax(scores.detach(), 0)

    def estimate(log_q: torch.Tensor | None) -> torch.Tensor:
        total = torch.zeros(40)
        for _ in range(50):
            drawn = torch.multinomial(q, 2000, replacement=True, generator=generator)
            loss = losses.sampled_softmax(scores[drawn][None], None if log_q is None else log_q[drawn])
            total += torch.autograd.grad(loss, scores)[0]
            total[drawn[0]] += 1  # the gradient is the softmax less the right answer
        return total / 50

    assert (estimate(q.log()) - full).abs().max() < 0.01
    assert (estimate(None) - full).abs().max() > 0.05


def test_sampled_softmax_by_hand() -> None:
    scores, log_q = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 7.0]]), torch.log(torch.tensor([0.5, 0.2, 0.3]))
    rows = scores - log_q
    expected = -(torch.log_softmax(rows, 1)[0, 0] + torch.log_softmax(rows[1, :2], 0)[1]) / 2
    skipped = torch.tensor([[False, False, False], [False, False, True]])
    assert losses.sampled_softmax(scores, log_q.expand(2, 3).masked_fill(skipped, torch.inf)) == pytest.approx(float(expected), rel=1e-6)


def test_listwise_is_zero_for_the_same_order_of_scores_and_by_hand_otherwise() -> None:
    teacher, groups = torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.tensor([7, 7, 3, 3])
    assert losses.listwise(teacher + torch.tensor([5.0, 5.0, -1.0, -1.0]), teacher, groups) == pytest.approx(0, abs=1e-6)
    student = torch.tensor([0.3, 0.1, 0.9, -0.2])
    by_hand = sum(
        float(F.kl_div(torch.log_softmax(student[rows], 0), torch.softmax(teacher[rows] / 2, 0), reduction="sum")) for rows in ([0, 1], [2, 3])
    )
    assert losses.listwise(student, teacher, groups, temperature=2) == pytest.approx(by_hand / 2, rel=1e-5)
