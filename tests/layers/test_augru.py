import pytest
import torch

from palate.layers.augru import AUGRU
from palate.layers.target_attention import TargetAttention


def by_hand(cell: AUGRU, history: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """One user, one step after the other, as the paper writes it."""
    size = cell.hidden
    names = ["reset", "candidate"] if cell.kind == "agru" else ["reset", "update", "candidate"]
    w, u, b = (dict(zip(names, whole.split(size, -1), strict=True)) for whole in (cell.weight, cell.recurrent, cell.bias))
    h = torch.zeros(size)
    for i, a in zip(history, attention, strict=True):
        i = a * i if cell.kind == "aigru" else i
        r = torch.sigmoid(i @ w["reset"] + h @ u["reset"] + b["reset"])
        candidate = torch.tanh(i @ w["candidate"] + r * (h @ u["candidate"]) + b["candidate"])
        gate = a if cell.kind == "agru" else torch.sigmoid(i @ w["update"] + h @ u["update"] + b["update"])
        gate = a * gate if cell.kind == "augru" else gate
        h = (1 - gate) * h + gate * candidate
    return h


def some(kind: str) -> tuple[AUGRU, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    cell = AUGRU(3, 4, kind)  # type: ignore[arg-type]
    torch.nn.init.normal_(cell.bias)
    mask = torch.arange(6) < torch.tensor([[6], [2], [0], [4]])
    attention = TargetAttention(3, 5)(torch.randn(4, 6, 3), torch.randn(4, 5), mask)
    return cell, torch.randn(4, 6, 3), attention, mask


@pytest.mark.parametrize("kind", ["augru", "agru", "aigru"])
def test_the_formula_of_the_paper_and_padding_changes_nothing(kind: str) -> None:
    cell, history, attention, mask = some(kind)
    found = cell(history, attention, mask)
    for row, length in enumerate((6, 2, 0, 4)):
        torch.testing.assert_close(found[row], by_hand(cell, history[row, :length], attention[row, :length]))


@pytest.mark.parametrize(("kind", "keeps"), [("augru", True), ("agru", True), ("aigru", False)])
def test_an_event_of_no_attention(kind: str, keeps: bool) -> None:
    cell, history, attention, mask = some(kind)
    attention = attention.detach().clone()
    attention[0, 4:] = 0
    short, long = cell(history[:1, :4], attention[:1, :4], mask[:1, :4]), cell(history[:1], attention[:1], mask[:1])
    assert torch.equal(short, long) == keeps


@pytest.mark.parametrize("kind", ["augru", "agru", "aigru"])
def test_one_users_history_serves_all_candidates(kind: str) -> None:
    cell, history, attention, mask = some(kind)
    one = cell(history[:1], attention, mask[:1])
    torch.testing.assert_close(one, cell(history[:1].expand(4, -1, -1), attention, mask[:1].expand(4, -1)))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="evolution must be one of augru, agru, aigru"):
        AUGRU(3, 4, "gru")  # type: ignore[arg-type]


def test_attention_is_a_softmax_over_bilinear_scores() -> None:
    torch.manual_seed(0)
    attention, states, candidate = TargetAttention(3, 5), torch.randn(4, 6, 3), torch.randn(4, 5)
    mask = torch.arange(6) < torch.tensor([[6], [2], [0], [4]])
    found = attention(states, candidate, mask)
    for row, length in enumerate((6, 2, 0, 4)):
        scores = torch.stack([h @ attention.weight.T @ candidate[row] for h in states[row, :length]]).exp() if length else torch.zeros(0)
        torch.testing.assert_close(found[row], torch.cat([scores / scores.sum(), torch.zeros(6 - length)]))
    torch.testing.assert_close(attention(states[:1], candidate, mask[:1]), attention(states[:1].expand(4, -1, -1), candidate, mask[:1].expand(4, -1)))
    torch.testing.assert_close(attention(states, candidate), attention(states, candidate, torch.ones(4, 6, dtype=torch.bool)))
