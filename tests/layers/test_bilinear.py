from typing import Any

import pytest
import torch

from palate.layers.bilinear import Bilinear


@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_every_pair_is_the_left_turned_times_the_right(kind: Any) -> None:
    layer, fields = Bilinear(4, 3, kind), torch.randn(5, 4, 3)
    expected = []
    for i in range(4):
        for j in range(i + 1, 4):
            matrix = layer.weight[{"all": 0, "each": i, "interaction": len(expected)}[kind]]
            expected.append(torch.einsum("nd,de->ne", fields[:, i], matrix) * fields[:, j])
    assert layer.width == 6 * 3
    torch.testing.assert_close(layer(fields), torch.cat(expected, 1))


def test_it_has_as_many_matrices_as_its_kind_says() -> None:
    assert [len(Bilinear(4, 3, kind).weight) for kind in ("all", "each", "interaction")] == [1, 3, 6]  # type: ignore[arg-type]


def test_one_field_has_no_pair() -> None:
    with pytest.raises(ValueError, match="two features"):
        Bilinear(1, 3)
    with pytest.raises(ValueError, match="kind"):
        Bilinear(3, 3, "some")  # type: ignore[arg-type]
