import pytest
import torch

from palate.layers.embedding import Table
from palate.training.optimizers import Rows, by_row, optimizers


def sparse(places: list[int], values: torch.Tensor, size: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([places]), values, (size, values.shape[1]), check_invariants=True)


@pytest.mark.parametrize("size", [6, 1000])
def test_gradients_of_a_row_are_added(size: int) -> None:
    values = torch.randn(4, 3)
    rows, sums = by_row(sparse([5, 1, 5, 0], values, size))
    assert rows.tolist() == [0, 1, 5]
    torch.testing.assert_close(sums, torch.stack([values[3], values[1], values[0] + values[2]]))


def test_adam_of_a_row_read_each_time_is_adam() -> None:
    start = torch.randn(3, 2)
    table, dense = Table(3, 2), torch.nn.Parameter(start.clone())
    table.weight.data.copy_(start)
    own, reference = Rows([table.weight], 0.1), torch.optim.Adam([dense], 0.1)
    for _ in range(5):
        gradient = torch.randn(3, 2)
        table.weight.grad = sparse([2, 0, 1], gradient[[2, 0, 1]], 3)
        dense.grad = gradient
        own.step()
        reference.step()
    torch.testing.assert_close(table.weight, dense)


def test_row_wise_adagrad_by_hand() -> None:
    table = Table(3, 2)
    table.weight.data.fill_(1.0)
    own = Rows([table.weight], 0.5, "adagrad")
    for _ in range(2):
        table.weight.grad = sparse([1], torch.tensor([[3.0, 4.0]]), 3)
        own.step()
    expected = 1 - 0.5 * 3 / 12.5**0.5 - 0.5 * 3 / 25**0.5
    assert table.weight[1, 0].item() == pytest.approx(expected)
    assert table.weight[[0, 2]].tolist() == [[1, 1], [1, 1]]
    assert own.state[table.weight]["square"].tolist() == [0, 25, 0]


def test_weights_go_to_the_optimiser_of_their_kind() -> None:
    model = torch.nn.ModuleList([Table(4, 2), torch.nn.Linear(2, 1)])
    found = optimizers(model, 0.1, table_learning_rate=0.7)
    assert [len(group["params"]) for group in found["tables"].param_groups + found["dense"].param_groups] == [1, 2]
    assert found["tables"].param_groups[0]["lr"] == 0.7
    assert set(optimizers(torch.nn.Linear(1, 1), 0.1)) == {"dense"}
    with pytest.raises(ValueError, match="'adam' or 'adagrad'"):
        Rows([model[0].weight], 0.1, "sgd")
