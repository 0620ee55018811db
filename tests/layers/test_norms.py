import torch
from torch import nn
from torch.nn import functional as F

from palate.layers.norms import BatchNorm, unit


def test_a_row_alone_is_normalised_by_what_others_were() -> None:
    torch.manual_seed(0)
    own, plain, rows = BatchNorm(3), nn.BatchNorm1d(3), 2 + 3 * torch.randn(50, 3)
    torch.testing.assert_close(own(rows), plain(rows))
    kept = own.running_mean.clone()
    torch.testing.assert_close(own(rows[:1]), plain.eval()(rows[:1]))
    assert torch.equal(own.running_mean, kept)


def test_unit_rows_and_their_gradient_are_those_of_normalize() -> None:
    torch.manual_seed(0)
    rows = torch.randn(7, 3, dtype=torch.double) * torch.tensor([[1e-6], [1.0], [9.0], [1.0], [1.0], [1.0], [1.0]])
    one, other, probe = rows.clone().requires_grad_(), rows.clone().requires_grad_(), torch.randn_like(rows)
    found, expected = unit(one), F.normalize(other, dim=1)
    torch.testing.assert_close(found, expected)
    (found * probe).sum().backward()
    (expected * probe).sum().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_a_row_of_zeros_stays_zero() -> None:
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))
