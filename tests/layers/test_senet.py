import pytest
import torch

from palate.layers.senet import SENet


def test_fields_are_rescaled_by_two_relu_layers_over_their_means() -> None:
    torch.manual_seed(1)
    layer, fields = SENet(6, reduction=3), torch.randn(5, 6, 4)
    assert layer.into.weight.shape == (2, 6)
    expected = torch.zeros_like(fields)
    for n in range(5):
        means = torch.stack([fields[n, f].mean() for f in range(6)])
        weights = (layer.out.weight @ (layer.into.weight @ means).clamp(min=0)).clamp(min=0)
        for f in range(6):
            expected[n, f] = weights[f] * fields[n, f]
    assert expected.abs().sum() > 0
    torch.testing.assert_close(layer(fields), expected)


def test_few_fields_are_squeezed_into_one() -> None:
    assert SENet(2, reduction=3).into.weight.shape == (1, 2)
    with pytest.raises(ValueError, match="reduction"):
        SENet(4, reduction=0)
