import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from palate import schema
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


def test_listnet_is_zero_for_the_same_order_of_scores_and_by_hand_otherwise() -> None:
    teacher, groups = torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.tensor([7, 7, 3, 3])
    assert losses.listnet(teacher + torch.tensor([5.0, 5.0, -1.0, -1.0]), teacher, groups) == pytest.approx(0, abs=1e-6)
    student = torch.tensor([0.3, 0.1, 0.9, -0.2])
    by_hand = sum(
        float(F.kl_div(torch.log_softmax(student[rows], 0), torch.softmax(teacher[rows] / 2, 0), reduction="sum")) for rows in ([0, 1], [2, 3])
    )
    assert losses.listnet(student, teacher, groups, temperature=2) == pytest.approx(by_hand / 2, rel=1e-5)


SCORES = torch.tensor([0.2, 1.0, -0.5, 0.7, 0.0, 3.0, 2.0])
LABELS = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.0, 0.0, torch.nan])
GROUPS = torch.tensor([5, 5, 5, 2, 2, 9, 2])  # of group 9 there is one row, of group 2 one is not labelled


def lambdarank_by_hand(k: int) -> float:
    """Burges et al.: every pair of every group, one after another."""
    total = 0.0
    for rows in ([0, 1, 2], [3, 4]):
        by_score = sorted(rows, key=lambda row: -float(SCORES[row]))
        by_label = sorted(rows, key=lambda row: -float(LABELS[row]))

        def discount(row: int, order: list[int]) -> float:
            place = order.index(row) + 1
            return 1 / math.log2(1 + place) if not k or place <= k else 0.0

        best = sum((2 ** float(LABELS[row]) - 1) * discount(row, by_label) for row in rows)
        for i in rows:
            for j in rows:
                if LABELS[i] > LABELS[j]:
                    change = abs((2 ** float(LABELS[i]) - 2 ** float(LABELS[j])) * (discount(i, by_score) - discount(j, by_score))) / best
                    total += change * math.log(1 + math.exp(float(SCORES[j] - SCORES[i])))
    return total / 2


@pytest.mark.parametrize("k", [0, 1, 2])
def test_lambdarank_by_hand(k: int) -> None:
    assert losses.lambdarank(SCORES, LABELS, GROUPS, k) == pytest.approx(lambdarank_by_hand(k), rel=1e-5)
    assert losses.of_task(f"lambdarank@{k}" if k else "lambdarank", SCORES, LABELS, GROUPS) == losses.lambdarank(SCORES, LABELS, GROUPS, k)


def test_lambdarank_weighs_a_pair_by_what_its_swap_changes_in_the_metric() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 4, 6), np.sort(random.normal(size=6))[::-1]  # place p holds row p

    def after_swap(i: int, j: int) -> float:
        order = np.arange(6)
        order[[i, j]] = j, i
        return ndcg(order[None], labels[None].astype(float), 3)

    def ndcg(order: np.ndarray, labels: np.ndarray, k: int) -> float:
        gains = 2.0**labels - 1
        best = -np.sort(-gains, 1)
        discount = 1 / np.log2(np.arange(k) + 2)
        return float((np.take_along_axis(gains, order, 1)[:, :k] @ discount / (best[:, :k] @ discount))[0])

    expected = 0.0
    for i in range(6):
        for j in range(6):
            if labels[i] > labels[j]:
                expected += abs(after_swap(i, j) - after_swap(0, 0)) * math.log(1 + math.exp(scores[j] - scores[i]))
    given, group = torch.tensor(scores.copy()), torch.zeros(6, dtype=torch.int64)
    assert losses.lambdarank(given, torch.tensor(labels).double(), group, 3) == pytest.approx(expected, rel=1e-9)


def test_labels_of_hundreds_do_not_overflow() -> None:
    scores = torch.zeros(3, requires_grad=True)
    loss = losses.lambdarank(scores, torch.tensor([300.0, 299.0, 0.0]), torch.zeros(3, dtype=torch.int64))
    loss.backward()
    assert torch.isfinite(loss)
    assert bool((scores.grad.abs() > 0).all())


def test_softmax_and_pairwise_by_hand() -> None:
    first, second = torch.log_softmax(SCORES[[0, 1, 2]], 0), torch.log_softmax(SCORES[[3, 4]], 0)
    expected = -(2 / 3 * first[0] + 1 / 3 * first[2] + second[0]) / 2  # group 9 took nothing
    assert losses.softmax(SCORES, LABELS, GROUPS) == pytest.approx(float(expected), rel=1e-6)
    pairs = F.softplus(torch.tensor([1.0 - 0.2, -0.5 - 0.2, 1.0 + 0.5]))
    expected = (pairs.mean() + F.softplus(torch.tensor(0.0 - 0.7))) / 2
    assert losses.pairwise(SCORES, LABELS, GROUPS) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", losses.GROUPWISE)
def test_lists_with_nothing_to_compare_count_for_nothing(name: str) -> None:
    scores = torch.zeros(3, requires_grad=True)
    for labels, groups in ((torch.full((3,), torch.nan), torch.zeros(3)), (torch.zeros(3), torch.arange(3)), (torch.zeros(3), torch.zeros(3))):
        loss = losses.of_task(name, scores, labels, groups.long())
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert scores.grad.abs().sum() == 0
    with pytest.raises(ValueError, match="the examples need groups"):
        losses.of_task(name, scores, torch.zeros(3), None)


@pytest.mark.parametrize("name", losses.GROUPWISE)
def test_a_row_alone_in_its_group_does_not_water_down_the_mean(name: str) -> None:
    alone, last = torch.tensor([0.7, -0.2]), torch.tensor([1.0, torch.nan])
    scores, labels, groups = torch.cat((SCORES, alone)), torch.cat((LABELS, last)), torch.cat((GROUPS, torch.tensor([77, 77])))
    assert losses.of_task(name, scores, labels, groups) == losses.of_task(name, SCORES[:5], LABELS[:5], GROUPS[:5])


@pytest.mark.parametrize("name", losses.GROUPWISE)
def test_a_list_does_not_depend_on_the_other_lists_or_the_order_of_rows(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    scores, labels, groups = torch.randn(60, generator=random), torch.randint(3, (60,), generator=random).float(), torch.arange(60) % 7
    labels[groups == 3] = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0])[: int((groups == 3).sum())]
    whole = losses.of_task(name, scores, labels, groups)
    order = torch.randperm(60, generator=random)
    torch.testing.assert_close(losses.of_task(name, scores[order], labels[order], groups[order]), whole)
    alone = torch.stack([losses.of_task(name, scores[groups == g], labels[groups == g], groups[groups == g]) for g in range(7)])
    torch.testing.assert_close(alone.mean(), whole)


def test_every_loss_a_label_can_name_is_here() -> None:
    assert tuple(losses.POINTWISE) == schema.POINTWISE
    assert tuple(losses.GROUPWISE) == schema.GROUPWISE
