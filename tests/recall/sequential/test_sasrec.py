import math

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.layers import losses
from palate.recall.sequential.sasrec import SASRec
from tests.conftest import Beats
from tests.recall.sequential.naive import transformed
from tests.recall.walked import learned, popular, some_interactions, without_order
from tests.worlds import Walks, more

FITTING = {"epochs": 26, "batch_size": 32, "learning_rate": 0.01}
SMALL = {"dim": 24, "length": 9, "dropout": 0.0, "negatives": 8}


def made(**options: object) -> SASRec:
    torch.manual_seed(0)
    model = SASRec(some_interactions(), dim=8, length=5, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.5)
    return model


@pytest.mark.parametrize("heads", [1, 2])
def test_the_forward_is_the_paper_s_place_by_place(heads: int) -> None:
    model = made(heads=heads)
    lists = torch.tensor([[0, 0, 3, 1, 9], [2, 2, 4, 5, 7]])
    for row, ids in zip(model.read(lists), lists, strict=True):
        there = ids > 0
        torch.testing.assert_close(row[there], transformed(model.transformer, model.table.weight[ids[there]] * 8**0.5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.encode_users(Batch(history=lists)), model.read(lists)[:, -1])


def test_what_comes_later_or_is_not_there_is_not_seen() -> None:
    model, lists = made(), torch.tensor([[0, 0, 3, 1, 9]])
    torch.testing.assert_close(model.read(lists)[:, :4], model.read(torch.tensor([[0, 0, 3, 1, 4]]))[:, :4])
    torch.testing.assert_close(model.read(lists)[:, 2:], model.read(lists[:, 2:]))


def scored(model: SASRec, batch: Batch) -> list[tuple[torch.Tensor, list[torch.Tensor], list[float]]]:
    """At each place with something before it: the score of the next item, those of its negatives, and log q of these."""
    found = []
    for b, row in enumerate(batch["item"].tolist()):
        states = model.read(torch.tensor([row[:-1]]))[0]
        for place in range(len(row) - 1):
            if row[place]:
                drawn = [
                    (int(j), float(q)) for j, q in zip(batch["negative"][b, place], batch["log_q"][b, place], strict=True) if j != row[place + 1]
                ]
                own = states[place] @ model.table.weight[row[place + 1]]
                found.append((own, [states[place] @ model.table.weight[j] for j, _ in drawn], [q for _, q in drawn]))
    return found


def test_the_losses_by_hand() -> None:
    generator = torch.Generator().manual_seed(2)
    batch = Batch(item=torch.tensor([[0, 3, 1, 9, 2], [4, 5, 7, 7, 1]]), negative=torch.randint(1, 10, (2, 4, 3), generator=generator))
    batch["log_q"] = torch.rand(batch["negative"].shape, generator=generator) - 3
    lists = Batch(batch, negative=batch["negative"][:, 1])  # drawn for each list
    for kind, one, power in (("binary", batch, 1.0), ("gbce", lists, 0.6 * (3 / 8 - 1) + 1)):
        model = made(loss=kind, negatives=3, calibration=0.6)
        every = Batch(batch, negative=one["negative"][:, None].expand(2, 4, 3)) if one is lists else batch
        terms = []
        level = math.log(power / 3)
        for own, others, _ in scored(model, every):
            terms.append(-power * math.log(torch.sigmoid(own.detach().double() + level)))
            terms += [-math.log(1 - torch.sigmoid(other.detach().double() + level)) for other in others]
        assert float(model.loss(one)) == pytest.approx(np.mean(terms), rel=1e-4)
    for one in (batch, Batch(batch, negative=batch["negative"][0, 1], log_q=batch["log_q"][0, 1])):  # drawn for each place, or for all
        every = Batch(one, **{name: one[name].expand(batch[name].shape) for name in ("negative", "log_q")})
        model, terms = made(loss="sampled", negatives=3), []
        for own, others, log_q in scored(model, every):
            total = own.exp() + sum(other.exp() / (3 * math.exp(q)) for other, q in zip(others, log_q, strict=True))
            terms.append(-math.log(own.exp() / total))
        assert float(model.loss(one)) == pytest.approx(np.mean(terms), rel=1e-4)
    model = made(loss="full")
    terms = []
    for row in batch["item"].tolist():
        states = model.read(torch.tensor([row[:-1]]))[0]
        terms += [-torch.log_softmax(states[p] @ model.table.weight[1:].T, 0)[row[p + 1] - 1].item() for p in range(4) if row[p]]
    assert float(model.loss(batch)) == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_drawn_softmax_comes_near_the_full_one() -> None:
    """With more and more draws, whatever they are drawn by."""
    torch.manual_seed(0)
    scores, target, q = torch.randn(4, 50) * 2, torch.tensor([3, 0, 49, 20]), torch.rand(50) + 0.1
    q = q / q.sum()
    full = float(torch.nn.functional.cross_entropy(scores, target))
    gaps = []
    for size in (20, 20_000):
        drawn = torch.multinomial(q, 4 * size, replacement=True).view(4, size)
        against = scores.gather(1, drawn).masked_fill(drawn == target[:, None], -torch.inf)
        found = losses.drawn_softmax(scores.gather(1, target[:, None])[:, 0], against, q.log()[drawn])
        gaps.append(abs(float(found) - full))
    assert gaps[1] < 0.01 < gaps[0]


def test_the_last_item_tells_the_next(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1] + 1, items=20)
    beats(0.25, "hit@1", SASRec=learned(SASRec, world, train, 1, SMALL, **FITTING), ItemCF=without_order(world, train, 1))


def test_many_negatives_do_not_keep_it_at_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1] + 1, items=100)
    found = learned(SASRec, world, train, 1, {**SMALL, "negatives": 64}, **FITTING)
    beats(0.3, "hit@1", SASRec=found, Popular=popular(world, train, 1))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0)
    beats(
        -0.1, "hit@3", SASRec=learned(SASRec, world, train, 3, SMALL, epochs=3, batch_size=32, learning_rate=0.005), Popular=popular(world, train, 3)
    )
