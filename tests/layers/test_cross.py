import pytest
import torch
from torch import Tensor

from palate.layers.cross import CrossNet, CrossTower, cross_gated, cross_v2


def fields(size: int = 7) -> Tensor:
    return torch.randn(size, 3, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_v1_is_the_formula_of_the_paper() -> None:
    """x_{l+1} = x_0 x_l' w_l + b_l + x_l, row by row."""
    block = CrossNet(3, 2, 3)
    torch.nn.init.normal_(block.bias)
    given = block(fields())
    for row, start in enumerate(fields().flatten(1)):
        x = start
        for layer in range(3):
            x = torch.outer(start, x) @ block.weight[:, layer] + block.bias[layer] + x
        torch.testing.assert_close(given[row], x)
    assert given.shape == (7, block.width)


def test_v2_is_the_formula_of_the_paper() -> None:
    """x_{l+1} = x_0 * (W x_l + b) + x_l."""
    block = cross_v2(3, 2, 3)
    for layer in block.layers:
        torch.nn.init.normal_(layer.bias)
    given = block(fields())
    for row, start in enumerate(fields().flatten(1)):
        x = start
        for layer in block.layers:
            x = start * (layer.weight.T @ x + layer.bias) + x
        torch.testing.assert_close(given[row], x)


def test_low_rank_is_the_formula_of_the_paper() -> None:
    """x_{l+1} = x_0 * (U (V' x_l) + b) + x_l, with U and V of 2 columns."""
    block = cross_v2(3, 2, 2, rank=2)
    given = block(fields())
    for row, start in enumerate(fields().flatten(1)):
        x = start
        for layer in block.layers:
            v, u = layer.weight, layer.up.T
            assert v.shape == u.shape == (6, 2)
            x = start * (u @ (v.T @ x) + layer.bias) + x
        torch.testing.assert_close(given[row], x)


def test_a_mixture_is_the_formula_of_the_paper() -> None:
    """x_{l+1} = sum over e of G_e(x_l) E_e(x_l) + x_l with E_e(x) = x_0 * (U_e tanh(C_e tanh(V_e' x)) + b)."""
    block = cross_v2(3, 2, 2, rank=2, experts=4)
    for layer in block.layers:
        for weight in (layer.weight, layer.gate_bias, layer.bias):
            torch.nn.init.normal_(weight)
    given = block(fields())
    for row, start in enumerate(fields().flatten(1)):
        x = start
        for layer in block.layers:
            gates = torch.softmax(x @ layer.weight[:, 8:] + layer.gate_bias, 0)
            mixed = torch.zeros(6)
            for e in range(4):
                inner = torch.tanh(layer.between[e].T @ torch.tanh(layer.weight[:, 2 * e : 2 * e + 2].T @ x))
                mixed = mixed + gates[e] * start * (layer.up[2 * e : 2 * e + 2].T @ inner + layer.bias)
            x = mixed + x
        torch.testing.assert_close(given[row], x)


def test_gated_is_the_formula_of_the_paper() -> None:
    """x_{l+1} = x_0 * (W x_l + b) * sigmoid(V x_l) + x_l."""
    block = cross_gated(3, 2, 2)
    for layer in block.layers:
        torch.nn.init.normal_(layer.bias)
    given = block(fields())
    for row, start in enumerate(fields().flatten(1)):
        x = start
        for layer in block.layers:
            x = start * (layer.weight[:, :6].T @ x + layer.bias) * torch.sigmoid(layer.weight[:, 6:].T @ x) + x
        torch.testing.assert_close(given[row], x)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("make", [CrossNet, cross_v2, cross_gated])
def test_the_degree_is_bounded_by_the_layers(make: type, layers: int) -> None:
    """Along a ray from 0 each entry is a polynomial of degree layers + 1: finite differences of one order more are nothing (v1 and v2)."""
    block = make(3, 2, layers).double()
    if make is cross_gated:  # a gate that does not look at x
        for layer in block.layers:
            torch.nn.init.zeros_(layer.weight[:, 6:])
    ray = torch.stack([step * fields(1)[0].double() for step in range(layers + 4)])
    values = block(ray)
    for _ in range(layers + 1):
        values = values.diff(dim=0)
    assert float(values.detach().abs().max()) > 1e-6
    assert float(values.detach().diff(dim=0).abs().max()) < 1e-9


@pytest.mark.parametrize("form", ["stacked", "parallel"])
@pytest.mark.parametrize("cross", [lambda: cross_v2(3, 2, 2), lambda: cross_v2(3, 2, 2, 2, 3), lambda: cross_gated(3, 2, 2)])
def test_shares_add_up(cross: type, form: str) -> None:
    block = CrossTower(cross(), 2, (5,), 2, 0.1, form).eval()
    whole = block(block.shares(fields(), torch.arange(3)))
    one, other = block.shares(fields()[:, [0, 2]], torch.tensor([0, 2])), block.shares(fields()[:, [1]], torch.tensor([1]))
    torch.testing.assert_close(block({name: values + other[name] for name, values in one.items()}), whole)
    crossed = block.cross(fields())
    expected = block.tower(crossed) if form == "stacked" else block.tower(fields().flatten(1)) + crossed @ block.out
    torch.testing.assert_close(whole, expected)


def test_wrong_sizes_are_named() -> None:
    for make in (CrossNet, cross_v2, cross_gated):
        with pytest.raises(ValueError, match="layers must be 1 or more, not 0"):
            make(3, 2, 0)
    with pytest.raises(ValueError, match="rank must be 0"):
        cross_v2(3, 2, rank=-1)
    with pytest.raises(ValueError, match="experts must be 1 or more"):
        cross_v2(3, 2, experts=0)
