import pytest
import torch
from torch.nn import functional as F

from palate.batch import Batch
from palate.recall.sequential.bert4rec import BERT4Rec
from tests.conftest import Beats
from tests.recall.sequential.naive import transformed
from tests.recall.walked import learned, popular, some_interactions, without_order
from tests.worlds import Walks, more

MASK = 10
LISTS = torch.tensor([[0, 0, 3, 1, 9, 4], [2, 2, 4, 5, 7, 1]])
FITTING = {"epochs": 30, "batch_size": 32, "learning_rate": 0.002}
SMALL = {"dim": 24, "heads": 1, "length": 7, "dropout": 0.0, "masked": 0.4, "last": 0.3}


def made(**options: object) -> BERT4Rec:
    torch.manual_seed(0)
    model = BERT4Rec(some_interactions(), dim=8, length=5, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.4)
    return model


def said(model: BERT4Rec, ids: torch.Tensor) -> torch.Tensor:
    """Scores ``[L, 9]`` of every item at each place of a list without padding."""
    states = F.gelu(transformed(model.transformer, model.table.weight[ids][:, :8]) @ model.out.weight.T + model.out.bias)
    return states @ model.table.weight[1:10, :8].T + model.table.weight[1:10, 8]


def test_the_answer_is_the_paper_s_place_by_place() -> None:
    model = made()
    history = torch.tensor([[0, 0, 3, 1, 9], [2, 2, 4, 5, 7]])
    expected = torch.stack([said(model, torch.tensor(ids))[-1] for ids in ([3, 1, 9, MASK], [2, 2, 4, 5, 7, MASK])])
    torch.testing.assert_close(model.encode_users(Batch(history=history)) @ model.encode_items().T, expected, rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_of_the_masked_places_alone() -> None:
    model, hidden = made(), torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 3] = hidden[0, 5] = hidden[1, 0] = True
    model.hidden = lambda _items: hidden  # type: ignore[method-assign]
    first, second = said(model, torch.tensor([3, MASK, 9, MASK])), said(model, torch.tensor([MASK, 2, 4, 5, 7, 1]))
    expected = F.cross_entropy(torch.stack([first[1], first[3], second[0]]), torch.tensor([0, 3, 1]))
    torch.testing.assert_close(model.loss(Batch(item=LISTS)), expected, rtol=1e-4, atol=1e-4)


def test_what_is_masked() -> None:
    torch.manual_seed(0)
    items = torch.randint(1, 10, (2000, 6))
    items[:, :2] = 0
    hidden = made(masked=0.3, last=0.0).hidden(items)
    assert not bool(hidden[:, :2].any())
    assert bool(hidden.any(1).all())
    assert float(hidden[:, 2:5].float().mean()) == pytest.approx(0.3, abs=0.03)
    alone = made(masked=0.3, last=0.25).hidden(items)
    only = 0.25 + 0.75 * (0.7**3 * 0.3 + 0.7**4)  # by the share, as drawn, or because nothing was drawn
    assert float((alone[:, -1] & (alone.sum(1) == 1)).float().mean()) == pytest.approx(only, abs=0.03)
    assert bool((made(last=1.0).hidden(items).sum(1) == 1).all())


def test_the_last_item_tells_the_next(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1] + 1, items=12, length=8)
    beats(0.3, "hit@1", BERT4Rec=learned(BERT4Rec, world, train, 1, SMALL, **FITTING), ItemCF=without_order(world, train, 1))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0, length=8)
    found = learned(BERT4Rec, world, train, 3, SMALL, epochs=6, batch_size=32, learning_rate=0.005)
    beats(-0.1, "hit@3", BERT4Rec=found, Popular=popular(world, train, 3))
