import torch
from torch import nn

from palate.layers.norms import BatchNorm


def test_a_row_alone_is_normalised_by_what_others_were() -> None:
    torch.manual_seed(0)
    own, plain, rows = BatchNorm(3), nn.BatchNorm1d(3), 2 + 3 * torch.randn(50, 3)
    torch.testing.assert_close(own(rows), plain(rows))
    kept = own.running_mean.clone()
    torch.testing.assert_close(own(rows[:1]), plain.eval()(rows[:1]))
    assert torch.equal(own.running_mean, kept)
