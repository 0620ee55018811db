from itertools import combinations
from typing import get_args

import pytest
import torch

from palate.layers.bottoms import BottomName, bottom


@pytest.mark.parametrize("kind", get_args(BottomName))
def test_every_bottom_has_its_width_and_learns(kind: BottomName) -> None:
    torch.manual_seed(0)
    fields = torch.randn(7, 5, 4, requires_grad=True)
    block = bottom(kind, 5, 4, (8, 8), 0.0)
    given = block(fields)
    assert given.shape == (7, block.width)
    given.square().sum().backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in block.parameters())
    assert bool((fields.grad != 0).all())


@pytest.mark.parametrize("kind", get_args(BottomName))
def test_rows_do_not_see_each_other(kind: BottomName) -> None:
    torch.manual_seed(0)
    fields, block = torch.randn(7, 5, 4), bottom(kind, 5, 4, (8, 8), 0.5).eval()
    torch.testing.assert_close(block(fields)[2:3], block(fields[2:3]))


@pytest.mark.parametrize("kind", get_args(BottomName))
def test_dropout_is_used_in_training_only(kind: BottomName) -> None:
    torch.manual_seed(0)
    fields, block = torch.randn(7, 5, 4) + 3, bottom(kind, 5, 4, (8,), 0.5)
    assert bool((block(fields) == 0).float().mean() > 0.3)
    torch.testing.assert_close(block.eval()(fields), block(fields))


def test_plain_is_the_fields_themselves() -> None:
    fields = torch.randn(7, 5, 4)
    torch.testing.assert_close(bottom("plain", 5, 4, (), 0.0)(fields), fields.reshape(7, 20))


def test_fm_puts_the_pooled_products_beside_them() -> None:
    fields = torch.randn(7, 5, 4)
    pooled = sum(fields[:, i] * fields[:, j] for i, j in combinations(range(5), 2))
    torch.testing.assert_close(bottom("fm", 5, 4, (), 0.0)(fields), torch.cat([fields.reshape(7, 20), pooled], 1))


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="bottom must be one of plain"):
        bottom("crossed", 5, 4, ())  # type: ignore[arg-type]
