"""Gates, and towers whose hidden layers have them."""

from typing import Any

import pytest
import torch

from palate.layers.gates import LHUC, Recycle
from palate.layers.towers import Tower
from palate.rank.interaction.mlp import MLP
from palate.schema import Feature, Label, MissingFeature, Schema
from tests.worlds import schema_of_everything


def test_lhuc_is_twice_the_sigmoid_of_a_perceptron() -> None:
    gate = LHUC(3, 4, hidden=5)
    values, features = torch.randn(7, 4), torch.randn(7, 3)
    inner = (features @ gate.into.weight.T + gate.into.bias).clamp(min=0) @ gate.out.weight.T + gate.out.bias
    torch.testing.assert_close(gate(values, features), values * 2 / (1 + torch.exp(-inner)))


def test_recycle_uses_its_weights_twice() -> None:
    layer = Recycle(6, 4)
    values = torch.randn(7, 6)
    once = (values @ layer.weight.T + layer.bias).clamp(min=0)
    wanted = 2 / (1 + torch.exp(-(once @ layer.back.weight.T + layer.back.bias)))
    torch.testing.assert_close(layer(values), (values * wanted) @ layer.weight.T + layer.bias)


def test_a_tower_with_lhuc_scales_every_hidden_layer() -> None:
    tower = Tower(6, (5, 4), 2, block="lhuc", gate=3)
    values, features = torch.randn(7, 6), torch.randn(7, 3)
    scales = tower.scales.scales(features)  # type: ignore[union-attr]
    first = torch.relu(values @ tower.weight + tower.bias) * scales[:, :5]
    second = torch.relu(tower.layers[0](first)) * scales[:, 5:]
    torch.testing.assert_close(tower(values, features), tower.layers[1](second))


def test_a_tower_with_recycled_layers_is_the_formula_of_each() -> None:
    tower = Tower(6, (5, 4, 3), 2, block="recycle")
    assert [type(layer).__name__ for layer in tower.layers] == ["Recycle", "Recycle", "Linear"]
    inputs = torch.randn(7, 6)
    expected = torch.relu(inputs @ tower.weight + tower.bias)
    for layer in list(tower.layers)[:-1]:
        expected = torch.relu(layer(expected))
    torch.testing.assert_close(tower(inputs), tower.layers[-1](expected))


@pytest.mark.parametrize(("block", "hidden"), [("lhuc", ()), ("recycle", (8,)), ("other", (8, 4))])
def test_a_block_that_cannot_be_is_refused(block: Any, hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="block"):
        Tower(6, hidden, 2, block=block, gate=3)


def test_gates_need_someone_to_look_at() -> None:
    with pytest.raises(MissingFeature, match="lhuc"):
        MLP(Schema((Feature("film", "item", "category", 9),), (Label("click"),)), block="lhuc")


def test_only_plain_towers_are_exported() -> None:
    schema = schema_of_everything()
    schema = schema.without(["text"])
    assert MLP(schema).exported() is not None
    assert MLP(schema, block="lhuc").exported() is None
    assert MLP(schema, block="recycle").exported() is None
