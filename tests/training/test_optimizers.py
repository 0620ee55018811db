import math
from typing import Any

import pytest
import torch
from torch import nn

from palate.contracts import Model, Portion
from palate.datasets.pointwise import Pointwise
from palate.layers.embedding import Table
from palate.training.optimizers import Rows, by_row, optimizers

REFERENCES: list[Any] = [
    ("adam", {}, lambda p: torch.optim.Adam(p, 0.1)),
    ("adam", {"l2": 0.3}, lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.3)),
    ("adam", {"weight_decay": 0.3}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.3)),
    ("sgd", {}, lambda p: torch.optim.SGD(p, 0.1)),
    ("sgd", {"momentum": 0.8, "l2": 0.3}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.3)),
    ("rmsprop", {"l2": 0.3}, lambda p: torch.optim.RMSprop(p, 0.1, weight_decay=0.3)),
    ("adagrad", {"l2": 0.3}, lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.3)),
]


def sparse(places: list[int], values: torch.Tensor, size: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([places]), values, (size, values.shape[1]), check_invariants=True)


@pytest.mark.parametrize("size", [6, 10**9])
def test_gradients_of_a_row_are_added(size: int) -> None:
    values = torch.randn(4, 3)
    rows, sums = by_row(sparse([5, 1, 5, 0], values, size))
    assert rows.tolist() == [5, 1, 0]
    torch.testing.assert_close(sums, torch.stack([values[0] + values[2], values[1], values[3]]))


def test_many_rows_are_those_of_a_sort_to_the_bit() -> None:
    random = torch.Generator().manual_seed(0)
    places = (torch.rand(5000, generator=random) ** 4 * 2**40).long() * 64  # places that end alike
    values = torch.randn(5000, 7, generator=random)
    rows, sums = by_row(torch.sparse_coo_tensor(places[None], values, (2**47, 7), check_invariants=True))
    order = rows.argsort()
    expected, inverse = torch.unique(places, return_inverse=True)
    assert torch.equal(rows[order], expected)
    assert torch.equal(sums[order], torch.zeros(len(expected), 7).index_add_(0, inverse, values))
    assert by_row(torch.sparse_coo_tensor(places[None, :0], values[:0], (2**47, 7), check_invariants=True))[1].shape == (0, 7)


@pytest.mark.parametrize(("method", "options", "reference"), REFERENCES)
def test_read_each_time_a_table_is_trained_like_a_dense_weight_and_like_torch(method: Any, options: dict, reference: Any) -> None:
    columns = 1 if method == "adagrad" else 3  # of a table it is row-wise: see below
    start = torch.randn(4, columns)
    table, dense, expected = Table(4, columns), nn.Parameter(start.clone()), nn.Parameter(start.clone())
    table.weight.data.copy_(start)
    own = [Rows([table.weight], 0.1, method, **options), Rows([dense], 0.1, method, **options)]
    other = reference([expected])
    for _ in range(5):
        gradient = torch.randn(4, columns)
        table.weight.grad, dense.grad, expected.grad = sparse([2, 0, 1, 3], gradient[[2, 0, 1, 3]], 4), gradient.clone(), gradient.clone()
        for optimizer in (*own, other):
            optimizer.step()
        assert torch.equal(dense.grad, gradient)
    torch.testing.assert_close(dense, expected)
    torch.testing.assert_close(table.weight, expected)


@pytest.mark.parametrize("method", ["adam", "adagrad", "sgd", "rmsprop", "ftrl"])
def test_rows_not_read_are_not_touched(method: Any) -> None:
    options = {"ftrl": {"l1": 0.1, "l2": 0.5}, "sgd": {"momentum": 0.9, "l2": 0.5}}.get(method, {"l2": 0.5, "weight_decay": 0.1})
    torch.manual_seed(0)
    table = Table(5, 2)
    start = nn.init.normal_(table.weight).detach().clone()
    own = Rows([table.weight], 0.1, method, **options)
    for places in ([1, 3], [3], [1, 1, 3]):
        table.weight.grad = sparse(places, torch.randn(len(places), 2), 5)
        own.step()
    assert torch.equal((table.weight != start).any(1), torch.tensor([False, True, False, True, False]))


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


@pytest.mark.parametrize("method", ["adam", "adagrad", "sgd", "rmsprop", "ftrl"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 2)])
def test_dense_weights_have_any_shape(method: Any, shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.ones(shape))
    own = Rows([weight], 0.1, method, l2=0.5)
    for _ in range(2):
        weight.grad = torch.ones(shape)
        own.step()
    assert bool((weight < 1).all())
    assert weight.shape == shape


def ftrl_by_hand(gradients: list[list[float]], alpha: float, beta: float, l1: float, l2: float) -> list[float]:
    """McMahan et al., Algorithm 1, with given gradients: the weight is worked out from z and n whenever it is needed."""
    z, n = [0.0] * len(gradients[0]), [0.0] * len(gradients[0])

    def weight(i: int) -> float:
        if abs(z[i]) <= l1:
            return 0.0
        return -1 / ((beta + math.sqrt(n[i])) / alpha + l2) * (z[i] - math.copysign(l1, z[i]))

    for row in gradients:
        for i, g in enumerate(row):
            if g:
                sigma = (math.sqrt(n[i] + g * g) - math.sqrt(n[i])) / alpha
                z[i] += g - sigma * weight(i)
                n[i] += g * g
    return [weight(i) for i in range(len(z))]


@pytest.mark.parametrize("beta", [1.0, 0.2])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.6, 0.0), (0.6, 0.4)])
def test_ftrl_is_algorithm_1(beta: float, l1: float, l2: float) -> None:
    torch.manual_seed(1)
    gradients = torch.randn(12, 6) * (torch.rand(12, 6) < 0.7)
    gradients[:, 4] *= 0.05  # a weight with little to say
    table, dense = Table(6, 1), nn.Parameter(torch.zeros(6))
    nn.init.zeros_(table.weight)
    own = Rows([table.weight], 0.3, "ftrl", l1=l1, l2=l2, beta=beta), Rows([dense], 0.3, "ftrl", l1=l1, l2=l2, beta=beta)
    for row in gradients:
        read = row.nonzero()[:, 0]
        table.weight.grad, dense.grad = sparse(read.tolist(), row[read][:, None], 6), row.clone()
        own[0].step(), own[1].step()
    expected = torch.tensor(ftrl_by_hand(gradients.tolist(), 0.3, beta, l1, l2))
    torch.testing.assert_close(table.weight[:, 0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dense, expected, rtol=1e-4, atol=1e-6)
    assert bool(expected.any())
    assert bool(table.weight[4] == 0) == bool(l1)


def test_ftrl_goes_on_from_where_a_weight_starts() -> None:
    weight = nn.Parameter(torch.tensor([2.0, -1.0]))
    own = Rows([weight], 0.5, "ftrl", l1=0.3, l2=0.1)
    weight.grad = torch.tensor([0.2, 0.0])
    own.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2.0 - 0.2 / ((1 + 0.2) / 0.5 + 0.1), -1.0]))


class Mixed(Model):
    examples = Pointwise

    def __init__(self, rate: float | None = None) -> None:
        super().__init__()
        self.deep, self.wide, self.layer, self.rate = Table(4, 2), Table(4, 1), nn.Linear(2, 1), rate

    def portions(self) -> tuple[Portion, ...]:
        own = {"l1": 0.5} if self.rate is None else {"l1": 0.5, "learning_rate": self.rate}
        return (Portion((self.wide.weight, self.layer.bias), "ftrl", own),)


def test_weights_go_to_the_optimiser_of_their_kind() -> None:
    model = nn.ModuleList([Table(4, 2), nn.Linear(2, 1)])
    found = optimizers(model, 0.1, table_learning_rate=0.7)
    assert [len(group["params"]) for group in found["tables"].param_groups + found["dense"].param_groups] == [1, 2]
    assert found["tables"].param_groups[0]["lr"] == 0.7
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        optimizers(model, 0.1, table_learning_rate=0.0)
    assert set(optimizers(nn.Linear(1, 1), 0.1)) == {"dense"}
    assert isinstance(found["dense"], torch.optim.AdamW)
    found = optimizers(model, 0.1, 0.2, "ftrl", None, "sgd", l1=0.3, momentum=0.9)
    assert [found[name].method for name in ("dense", "tables")] == ["sgd", "ftrl"]  # type: ignore[attr-defined]
    assert found["tables"].param_groups[0]["l1"] == 0.3
    assert (found["dense"].param_groups[0]["momentum"], found["dense"].param_groups[0]["weight_decay"]) == (0.9, 0.2)


@pytest.mark.parametrize("rate", [None, 0.02])
def test_portions_are_trained_as_their_model_says(rate: float | None) -> None:
    model = Mixed(rate)
    found = optimizers(model, 0.1, 0.2, "adagrad", 0.3, l2=0.1)
    held = {name: [weight for group in one.param_groups for weight in group["params"]] for name, one in found.items()}
    assert {name: [id(weight) for weight in weights] for name, weights in held.items()} == {
        "dense": [id(model.layer.weight)],
        "tables": [id(model.deep.weight)],
        "portion0": [id(model.wide.weight), id(model.layer.bias)],
    }
    group = found["portion0"].param_groups[0]
    assert (group["lr"], group["l1"], group["l2"], group["weight_decay"]) == (rate or 0.1, 0.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "sdg"}, "'adam', 'adagrad', 'sgd', 'rmsprop', 'ftrl', not 'sdg'"),
        ({"l1": 0.1}, "l1 is for 'ftrl'"),
        ({"momentum": 0.1}, "momentum is for 'sgd'"),
        ({"method": "sgd", "momentum": 1.0}, "momentum must be"),
        ({"method": "ftrl", "weight_decay": 0.1}, "it has l2"),
        ({"method": "ftrl", "l1": -1.0}, "l1 must be"),
        ({"method": "ftrl", "beta": 0.0}, "needs beta or l2"),
        ({"l2": math.nan}, "l2 must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Rows([nn.Parameter(torch.zeros(2))], **{"learning_rate": 0.1, **options})
