import pytest
import torch
from torch import Tensor

from palate.layers.attention import Attention, Interacting


def by_hand(block: Interacting, field: Tensor, per_head: int, residual: bool) -> Tensor:
    """One row ``[F, D]``: alpha_mk = softmax over k of <Q e_m, K e_k>; ReLU(sum over k of alpha_mk V e_k + R e_m), heads side by side."""
    inner = block.heads * per_head
    q, k, v, *r = (block.weight[:, inner * part : inner * (part + 1)] for part in range(block.parts))
    out = torch.zeros(len(field), inner)
    for head in range(block.heads):
        own = slice(head * per_head, (head + 1) * per_head)
        for m in range(len(field)):
            scores = torch.stack([(field[m] @ q[:, own]) @ (field[j] @ k[:, own]) for j in range(len(field))])
            alpha = torch.exp(scores) / torch.exp(scores).sum()
            out[m, own] = sum(alpha[j] * (field[j] @ v[:, own]) for j in range(len(field)))
    return torch.relu(out + field @ r[0] if residual else out)


@pytest.mark.parametrize("residual", [True, False])
def test_it_is_the_formula_of_the_paper(residual: bool) -> None:
    torch.manual_seed(0)
    fields, block = torch.randn(5, 4, 3), Attention(4, 3, heads=2, per_head=3, blocks=2, residual=residual)
    given = block(fields)
    for row, field in enumerate(fields):
        for part in block.blocks:
            field = by_hand(part, field, 3, residual)
        torch.testing.assert_close(given[row], field.flatten())
    assert given.shape == (5, block.width)


def test_wrong_sizes_are_named() -> None:
    for name in ("heads", "per_head", "blocks"):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more, not 0"):
            Attention(4, 3, **{name: 0})
