import pytest
import torch
from torch import Tensor

from palate.layers.cin import CIN


def by_hand(block: CIN, fields: Tensor, split: bool) -> Tensor:
    """X^k_h = sum over i, j of W^{k,h}_ij X^{k-1}_i * X^0_j, every vector written out and then summed over its entries."""
    before, given = fields, []
    for place, weight in enumerate(block.weights):
        last, size = place == len(block.weights) - 1, weight.shape[1]
        cube = weight.view(before.shape[1], fields.shape[1], size)
        after = torch.zeros(len(fields), size, fields.shape[2])
        for h in range(size):
            for i in range(before.shape[1]):
                for j in range(fields.shape[1]):
                    after[:, h] += cube[i, j, h] * before[:, i] * fields[:, j]
        given.append(after[:, size // 2 :].sum(2) if split and not last else after.sum(2))
        before = after[:, : size // 2] if split else after
    return torch.cat(given, 1)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("maps", [(5,), (5, 3), (4, 5, 2)])
def test_it_is_the_formula_of_the_paper(maps: tuple[int, ...], split: bool) -> None:
    torch.manual_seed(0)
    fields, block = torch.randn(6, 3, 4), CIN(3, 4, maps, split)
    given = block(fields)
    torch.testing.assert_close(given, by_hand(block, fields, split))
    assert given.shape == (6, block.width)


def test_wrong_maps_are_named() -> None:
    for maps, split in (((), False), ((4, 0), False), ((4, 1), True)):
        with pytest.raises(ValueError, match="maps must be"):
            CIN(3, 4, maps, split)
