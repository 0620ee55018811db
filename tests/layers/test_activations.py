import pytest
import torch

from palate.layers.activations import ACTIVATIONS, AdaptiveTower, Dice


def test_dice_by_hand() -> None:
    """f(s) = p s + (1 - p) alpha s, p = sigmoid((s - E[s]) / sqrt(Var[s] + eps)) over the batch, column by column."""
    torch.manual_seed(0)
    dice, values = Dice(3), torch.randn(8, 3) * 2 + 1
    dice.alpha.data = torch.tensor([0.0, 0.5, -1.0])
    shares = torch.sigmoid((values - values.mean(0)) / (((values - values.mean(0)) ** 2).mean(0) + 1e-8).sqrt())
    torch.testing.assert_close(dice(values), shares * values + (1 - shares) * dice.alpha * values)


def test_dice_afterwards_uses_what_it_saw() -> None:
    torch.manual_seed(0)
    dice = Dice(2)
    for _ in range(200):
        dice(torch.randn(64, 2) * 3 + 5)
    dice.eval()
    torch.testing.assert_close(dice(torch.tensor([[5.0, 5.0]])), torch.tensor([[2.5, 2.5]]), atol=0.3, rtol=0)
    one, many = torch.randn(1, 2), torch.randn(9, 2)
    torch.testing.assert_close(dice(one), dice(torch.cat([one, many]))[:1])


@pytest.mark.parametrize("rows", [0, 1])
def test_dice_trains_on_batches_without_a_variance(rows: int) -> None:
    dice = Dice(2)
    dice(torch.randn(rows, 2)).sum().backward()
    assert torch.equal(dice.variance, torch.ones(2))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_an_adaptive_tower_by_hand(activation: str) -> None:
    torch.manual_seed(0)
    tower = AdaptiveTower(4, (6, 5), 2, 0.0, activation).eval()
    values = torch.randn(7, 4)
    first, second = tower.activations
    middle = tower.layers[0](first(values @ tower.weight + tower.bias))
    torch.testing.assert_close(tower(values), tower.layers[1](second(middle)))
    assert not torch.equal(first(values @ tower.weight), torch.relu(values @ tower.weight))
