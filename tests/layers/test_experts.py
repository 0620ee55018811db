import pytest
import torch

from palate.layers.experts import Beside, Experts, Gates, Heads


def test_layers_side_by_side_are_layers_one_by_one() -> None:
    torch.manual_seed(0)
    layer = Beside(3, 5, 2)
    torch.nn.init.normal_(layer.bias)
    same, each = torch.randn(7, 5), torch.randn(7, 3, 5)
    for n in range(3):
        torch.testing.assert_close(layer(same)[:, n], same @ layer.weight[:, n] + layer.bias[n])
        torch.testing.assert_close(layer(each)[:, n], each[:, n] @ layer.weight[:, n] + layer.bias[n])


def test_experts_are_perceptrons_that_end_in_relu() -> None:
    experts, values = Experts(2, 5, (4, 3)), torch.randn(7, 5)
    first, second = experts.layers
    for n in range(2):
        hidden = torch.relu(values @ first.weight[:, n] + first.bias[n])
        torch.testing.assert_close(experts(values)[:, n], torch.relu(hidden @ second.weight[:, n] + second.bias[n]))


def test_gates_are_softmax_over_what_they_may_use() -> None:
    allowed = torch.tensor([[True, True, False], [True, True, True]])
    gates, values = Gates(2, 5, 3, allowed=allowed), torch.randn(7, 5)
    shares = gates(values)
    torch.testing.assert_close(shares[:, 1], (values @ gates.scores.weight[:, 1]).softmax(1))
    torch.testing.assert_close(shares[:, 0, :2], (values @ gates.scores.weight[:, 0, :2]).softmax(1))
    assert bool((shares[:, 0, 2] == 0).all())


def test_dropped_shares_are_zero_and_the_rest_are_renormalised() -> None:
    torch.manual_seed(0)
    gates, values = Gates(2, 5, 3, dropout=0.6), torch.randn(500, 5)
    whole, dropped = gates.eval()(values), gates.train()(values)
    torch.testing.assert_close(dropped.sum(-1), torch.ones(500, 2))
    kept = (dropped > 0) * whole
    torch.testing.assert_close(dropped, kept / kept.sum(-1, keepdim=True))
    assert abs(float((dropped == 0).float().mean()) - (0.6 - 0.6**3)) < 0.03  # a gate that would lose all keeps all


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_wrong_gate_dropout_is_named(rate: float) -> None:
    with pytest.raises(ValueError, match="gate_dropout"):
        Gates(1, 2, 3, rate)


def test_heads_have_a_tower_and_a_bias_a_task() -> None:
    heads, values = Heads(2, 5, (4,)), torch.randn(7, 2, 5)
    heads.bias.data = torch.tensor([1.0, -1.0])
    hidden = heads.towers(values)
    expected = torch.stack([hidden[:, t] @ heads.output.weight[:, t, 0] + heads.bias[t] for t in range(2)], 1)
    torch.testing.assert_close(heads(values), expected)
