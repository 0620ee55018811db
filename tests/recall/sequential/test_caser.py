import numpy as np
import pytest
import torch
from torch.nn import functional as F

from palate.batch import Batch
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.recall.sequential.caser import Caser
from tests.conftest import Beats
from tests.recall.walked import learned, popular, some_interactions, without_order
from tests.worlds import Walks, more

LISTS = Sequences(np.array([0, 4, 4, 6]), np.array([3, 1, 8, 2, 5, 1]), 9)
SMALL = {"dim": 16, "length": 3, "dropout": 0.0, "targets": 1, "users": False, "loss": "full"}
FITTING = {"epochs": 8, "batch_size": 128, "learning_rate": 0.01}


def made(**options: object) -> Caser:
    torch.manual_seed(0)
    model = Caser(some_interactions(), dim=4, length=3, horizontal=2, vertical=2, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.5)
    for table in (model.reads, model.users, model.table):
        if table is not None:
            table.weight.data[0] = 0  # as it is made and stays
    return model


def score(model: Caser, ids: list[int], user: int | None, item: int) -> torch.Tensor:
    """Filter by filter over the L x D image."""
    image = torch.stack([torch.zeros(4) if not one else model.reads.weight[one] for one in ids])
    found = []
    for height, filters in enumerate(model.across, 1):
        for weight, bias in zip(filters.weight, filters.bias, strict=True):  # [D, height]
            found.append(max(torch.relu((weight.T * image[start : start + height]).sum() + bias) for start in range(3 - height + 1)))
    for weight in model.along:
        found += [sum(weight[place] * image[place, d] for place in range(3)) for d in range(4)]
    z = torch.relu(model.out.weight @ torch.stack(found) + model.out.bias)
    whole = z if user is None else torch.cat((z, model.users.weight[user] if user else torch.zeros(4)))
    return whole @ model.table.weight[item][:-1] + model.table.weight[item][-1]


def test_the_forward_filter_by_filter() -> None:
    for users in (True, False):
        model = made(users=users)
        found = model.encode_users(Batch(history=torch.tensor([[0, 3, 1], [5, 4, 4]]), user=torch.tensor([2, 0]))) @ model.encode_items().T
        for row, ids, user in ((0, [0, 3, 1], 2), (1, [5, 4, 4], 0)):
            expected = torch.stack([score(model, ids, user if users else None, item) for item in range(1, 10)])
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["binary", "full"])
def test_the_loss_is_that_of_the_next_items(loss: str) -> None:
    model = made(loss=loss, targets=2, negatives=2)
    batch = model.learn_from(LISTS, Sampler(torch.from_numpy(LISTS.counts))).batch(torch.arange(4), torch.Generator().manual_seed(0))
    assert torch.stack((batch["item"], batch["later"][:, 0]), 1).tolist() == [[2, 9], [2, 0], [9, 3], [3, 0]]
    terms = []
    for row, (ids, user) in enumerate((([0, 0, 4], 1), ([0, 0, 6], 3), ([0, 4, 2], 1), ([4, 2, 9], 1))):
        wanted = [one for one in (int(batch["item"][row]), int(batch["later"][row, 0])) if one]
        if loss == "full":
            every = torch.stack([score(model, ids, user, item) for item in range(1, 10)])
            terms += [-torch.log_softmax(every, 0)[one - 1] for one in wanted]
        else:
            terms += [F.softplus(-score(model, ids, user, one)) for one in wanted]
            terms += [F.softplus(score(model, ids, user, one)) for one in batch["negative"][row].tolist() if one not in wanted]
    torch.testing.assert_close(model.loss(batch), torch.stack(terms).mean(), rtol=1e-4, atol=1e-4)


def test_the_item_before_the_last_tells_the_next(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -2] + 1)
    beats(0.3, "hit@1", Caser=learned(Caser, world, train, 1, SMALL, **FITTING), ItemCF=without_order(world, train, 1))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0)
    found = learned(Caser, world, train, 3, SMALL, epochs=2, batch_size=128, learning_rate=0.005)
    beats(-0.1, "hit@3", Caser=found, Popular=popular(world, train, 3))
