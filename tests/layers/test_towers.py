import pytest
import torch

from palate.layers.halves import of_numbers, total
from palate.layers.products import inner_products
from palate.layers.towers import Dropout, Tower


def test_dropout_keeps_its_rate_and_the_mean() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.2)
    dropped = dropout(torch.ones(1000, 101))
    assert float((dropped == 0).float().mean()) == pytest.approx(51 / 256, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.005)
    assert len(torch.unique(dropped)) == 2
    assert torch.equal(dropout.eval()(torch.ones(3)), torch.ones(3))


def test_dropout_of_gradient_is_that_of_the_values() -> None:
    values = torch.ones(50, 7, requires_grad=True)
    dropped = Dropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_of_everything_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        Dropout(rate)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_tower_is_linear_relu_linear_and_its_first_layer_adds_up(hidden: tuple[int, ...]) -> None:
    tower = Tower(6, hidden, 2)
    fields = torch.randn(5, 3, 2)
    values = fields.flatten(1) @ tower.weight + tower.bias
    for layer in tower.layers:
        values = layer(torch.relu(values))
    torch.testing.assert_close(tower(fields.flatten(1)), values)
    parts = tower.partial(fields[:, [0, 2]], torch.tensor([0, 2]), 2) + tower.partial(fields[:, [1]], torch.tensor([1]), 2)
    torch.testing.assert_close(tower.rest(parts), values)


def test_products_are_those_of_all_pairs() -> None:
    fields = torch.randn(2, 4, 3)
    expected = [[float(row[i] @ row[j]) for i in range(4) for j in range(i + 1, 4)] for row in fields]
    torch.testing.assert_close(inner_products(fields), torch.tensor(expected))


def test_half_of_numbers_without_writing_the_fields_out() -> None:
    values, vectors, weight = torch.randn(7, 3), torch.randn(3, 4), torch.randn(3, 4, 5)

    def half(fields: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"line": torch.einsum("nfd,fdh->nh", fields, weight), "square": fields.square().sum(1), "fields": fields}

    expected = half(values[:, :, None] * vectors)
    found = of_numbers(values, vectors, half, squared=("square",))
    for name, part in expected.items():
        torch.testing.assert_close(found[name], part)


def test_one_row_counts_for_all() -> None:
    one, many = {"a": torch.ones(1, 2)}, {"a": torch.arange(6.0).view(3, 2)}
    torch.testing.assert_close(total([one, many])["a"], many["a"] + 1)
