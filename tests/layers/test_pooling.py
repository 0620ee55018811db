import pytest
import torch

from palate.layers.pooling import ActivationUnit, masked_softmax, weighted_sum

LENGTHS = torch.tensor([5, 0, 3, 1])
MASK = torch.arange(5) < LENGTHS[:, None]


def by_hand(unit: ActivationUnit, event: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """MLP([e; a; e - a; e * a]) of one event."""
    values = torch.cat([event, candidate, event - candidate, event * candidate]) @ unit.first.flatten(0, 1) + unit.bias
    for activation, layer in zip(unit.activations, unit.layers, strict=True):
        values = layer(activation(values[None])[0])
    return values[0]


@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
@pytest.mark.parametrize("activation", ["dice", "prelu"])
@pytest.mark.parametrize("users", [1, 4])
def test_weights_by_hand(hidden: tuple[int, ...], activation: str, users: int) -> None:
    torch.manual_seed(0)
    unit = ActivationUnit(3, hidden, activation).eval()
    history, candidate, mask = torch.randn(users, 5, 3), torch.randn(4, 3), MASK if users > 1 else MASK[2:3]
    weights = unit(history, mask, candidate)
    assert weights.shape == (4, 5)
    for n in range(4):
        for place in range(5):
            there = mask[n if users > 1 else 0, place]
            wanted = by_hand(unit, history[n if users > 1 else 0, place], candidate[n]) if there else torch.zeros(())
            torch.testing.assert_close(weights[n, place], wanted)


def test_padding_is_not_in_the_statistics() -> None:
    torch.manual_seed(0)
    one, other = ActivationUnit(3, (6,), "dice"), ActivationUnit(3, (6,), "dice")
    other.load_state_dict(one.state_dict())
    history, candidate = torch.randn(4, 5, 3), torch.randn(4, 3)
    padded, wider = torch.cat([history, torch.full((4, 3, 3), 99.0)], 1), torch.cat([MASK, torch.zeros(4, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(one(history, MASK, candidate), other(padded, wider, candidate)[:, :5])
    for name, values in one.state_dict().items():
        torch.testing.assert_close(values, other.state_dict()[name])


def test_sums_of_one_history_and_of_many() -> None:
    weights, history = torch.randn(4, 5), torch.randn(1, 5, 3)
    wanted = torch.einsum("nl,lw->nw", weights, history[0])
    torch.testing.assert_close(weighted_sum(weights, history), wanted)
    torch.testing.assert_close(weighted_sum(weights, history.expand(4, 5, 3)), wanted)


def test_softmax_over_what_is_there() -> None:
    scores = torch.randn(4, 5, requires_grad=True)
    weights = masked_softmax(scores, MASK)
    torch.testing.assert_close(weights.sum(1), (LENGTHS > 0).float())
    torch.testing.assert_close(weights[2, :3], scores[2, :3].softmax(0))
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_a_unit_without_a_hidden_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="attention"):
        ActivationUnit(3, (), "dice")
