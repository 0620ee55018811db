import math

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.layers import losses
from palate.recall.sequential.gru4rec import GRU4Rec
from tests.conftest import Beats
from tests.recall.walked import learned, popular, some_interactions, without_order
from tests.worlds import Walks, more

LISTS = Sequences(np.array([0, 4, 6, 11]), np.array([3, 1, 8, 2, 5, 1, 0, 7, 7, 4, 1]), 9)
FITTING = {"epochs": 12, "batch_size": 32, "learning_rate": 0.02}
SMALL = {"dim": 24, "length": 9, "dropout": 0.0, "negatives": 16}


def made(**options: object) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(some_interactions(), dim=4, length=4, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.7)
    return model


def recurrent(model: GRU4Rec, ids: list[int]) -> list[torch.Tensor]:
    """The state after each item, gate by gate."""
    states, h = [], torch.zeros(4)
    gru = model.gru
    for one in ids:
        x = (model.table if model.reads is None else model.reads).weight[one][:4]
        of_x, of_h = gru.weight_ih_l0 @ x + gru.bias_ih_l0, gru.weight_hh_l0 @ h + gru.bias_hh_l0
        reset, update = torch.sigmoid(of_x[:4] + of_h[:4]), torch.sigmoid(of_x[4:8] + of_h[4:8])
        h = (1 - update) * torch.tanh(of_x[8:] + reset * of_h[8:]) + update * h
        states.append(h)
    return states


@pytest.mark.parametrize("tied", [True, False])
def test_states_are_those_of_the_gates_whatever_padding_stands_before(tied: bool) -> None:
    model = made(tied=tied)
    read = model.read(torch.tensor([[0, 0, 3, 9], [4, 1, 2, 2]]))
    torch.testing.assert_close(read[0, 2:], torch.stack(recurrent(model, [3, 9])), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read[1], torch.stack(recurrent(model, [4, 1, 2, 2])), rtol=1e-4, atol=1e-5)
    user = model.encode_users(Batch(history=torch.tensor([[0, 0, 3, 9]])))[0]
    scores = torch.stack([read[0, -1] @ row[:4] + row[4] for row in model.table.weight[1:]])
    torch.testing.assert_close(model.encode_items() @ user, scores)


def compared(model: GRU4Rec, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """At each step of each list the score of its next item and those of what it is compared with."""
    found, items = [], batch["item"].tolist()
    for b, row in enumerate(items):
        start = next(place for place, one in enumerate(row) if one)
        for place, state in enumerate(recurrent(model, row[start:-1]), start):
            own = row[place + 1]
            columns = [other[place + 1] for other in items] + batch["negative"].expand(len(batch["log_q"]), -1)[place].tolist()
            correct = batch["log_q"][place] if model.kind == "cross_entropy" and model.log_q else torch.zeros(len(columns))
            score = [state @ model.table.weight[one][:4] + model.table.weight[one][4] - correct[n] for n, one in enumerate(columns)]
            found.append((score[b], torch.stack([one for n, one in enumerate(score) if columns[n] not in (0, own)])))
    return found


LOSSES = {
    "cross_entropy": lambda own, s: -own + torch.cat((own[None], s)).logsumexp(0),
    "top1_max": lambda own, s: (s.softmax(0) * (torch.sigmoid(s - own) + torch.sigmoid(s**2))).sum(),
    "bpr_max": lambda own, s: -(s.softmax(0) * torch.sigmoid(own - s)).sum().log() + 0.3 * (s.softmax(0) * s**2).sum(),
}
PAIRS = {"bpr": lambda own, s: -torch.sigmoid(own - s).log(), "top1": lambda own, s: torch.sigmoid(s - own) + torch.sigmoid(s**2)}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("loss", [*LOSSES, *PAIRS])
def test_the_losses_by_hand(loss: str, shared: bool) -> None:
    model = made(loss=loss, negatives=3, shared=shared, restraint=0.3, log_q=loss == "cross_entropy")
    batch = model.learn_from(LISTS, Sampler(torch.from_numpy(LISTS.counts))).batch(torch.arange(3), torch.Generator().manual_seed(1))
    each = compared(model, batch)
    assert len(each) == 3 + 1 + 4
    expected = torch.stack([LOSSES[loss](*one) for one in each]) if loss in LOSSES else torch.cat([PAIRS[loss](*one) for one in each])
    torch.testing.assert_close(model.loss(batch), expected.mean(), rtol=1e-4, atol=1e-5)


def test_a_row_without_negatives_counts_for_nothing() -> None:
    positive, negative = torch.tensor([0.3, -1.0]), torch.tensor([[0.5, -torch.inf], [-torch.inf, -torch.inf]])
    for function in (losses.top1, losses.top1_max, losses.bpr_max):
        torch.testing.assert_close(function(positive, negative), function(positive[:1], negative[:1, :1]))
        assert float(function(positive[1:], negative[1:])) == 0


def test_how_often_an_item_is_expected_among_those_compared() -> None:
    batch = made(negatives=3).learn_from(LISTS, Sampler(torch.from_numpy(LISTS.counts))).batch(torch.arange(3), torch.Generator())
    assert batch["item"].tolist() == [[0, 0, 0, 6, 2], [0, 4, 2, 9, 3], [1, 8, 8, 5, 2]]
    assert batch["negative"].shape == (4, 3)
    assert float(batch["log_q"][3, 0]) == pytest.approx(math.log(3 * 3 / 11 + 3 / 9))  # item 1 was taken 3 times of 11
    assert float(batch["log_q"][0, 1]) == pytest.approx(math.log(2 * 1 / 11 + 3 / 9))  # two lists are that long
    taken = LISTS.counts[batch["negative"][0] - 1]
    torch.testing.assert_close(batch["log_q"][0, 3:], torch.from_numpy(2 * taken / 11 + 3 / 9).log().float())


def test_the_item_before_the_last_tells_the_next(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -2] + 1)
    beats(0.3, "hit@1", GRU4Rec=learned(GRU4Rec, world, train, 1, SMALL, **FITTING), ItemCF=without_order(world, train, 1))


@pytest.mark.parametrize("loss", ["bpr_max", "top1_max"])
def test_a_loss_with_a_maximum_finds_what_the_last_item_tells(beats: Beats, loss: str) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1] + 1)
    found = learned(GRU4Rec, world, train, 1, {**SMALL, "loss": loss}, epochs=6, batch_size=32, learning_rate=0.02)
    beats(0.3, "hit@1", GRU4Rec=found, ItemCF=without_order(world, train, 1))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0)
    found = learned(GRU4Rec, world, train, 3, SMALL, epochs=4, batch_size=32, learning_rate=0.01)
    beats(-0.1, "hit@3", GRU4Rec=found, Popular=popular(world, train, 3))
