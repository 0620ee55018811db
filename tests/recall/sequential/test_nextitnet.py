import torch
from torch.nn import functional as F

from palate.batch import Batch
from palate.recall.sequential.nextitnet import NextItNet
from tests.conftest import Beats
from tests.recall.walked import learned, popular, some_interactions
from tests.worlds import Walks, more

FITTING = {"epochs": 12, "batch_size": 32, "learning_rate": 0.01}
SMALL = {"dim": 24, "length": 15, "dropout": 0.0, "kernel": 2}


def made(**options: object) -> NextItNet:
    torch.manual_seed(0)
    model = NextItNet(some_interactions(), dim=4, length=6, kernel=3, dilations=(1, 2), **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.5)
    model.reads.weight.data[0] = 0  # as it is made and stays
    return model


def convolved(model: NextItNet, ids: list[int]) -> torch.Tensor:
    """The last layer of a list without padding, place by place and tap by tap."""
    x = [model.reads.weight[one] for one in ids]
    for block, dilation in zip(model.blocks, (1, 2), strict=True):
        y = x
        for convolution, norm, holes in zip(block.convolutions, block.norms, (dilation, 2 * dilation), strict=True):
            following = []
            for place in range(len(y)):
                total = convolution.bias
                for tap in range(3):  # the last tap is the place itself
                    before = place - (2 - tap) * holes
                    if before >= 0:
                        total = total + convolution.weight[:, :, tap] @ y[before]
                centred = (total - total.mean()) / (total.var(correction=0) + 1e-8).sqrt()
                following.append(torch.relu(centred * norm.weight + norm.bias))
            y = following
        x = [one + other for one, other in zip(x, y, strict=True)]
    return torch.stack(x)


def test_the_forward_tap_by_tap() -> None:
    model = made()
    read = model.read(torch.tensor([[0, 0, 3, 1, 9, 2], [5, 4, 4, 8, 1, 7]]))
    torch.testing.assert_close(read[0, 2:, :4], convolved(model, [3, 1, 9, 2]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read[1, :, :4], convolved(model, [5, 4, 4, 8, 1, 7]), rtol=1e-4, atol=1e-4)


def test_the_loss_is_a_softmax_at_every_place() -> None:
    model, terms = made(), []
    items = torch.tensor([[0, 0, 3, 1, 9], [5, 4, 4, 8, 1]])
    for row, first in ((items[0].tolist(), 2), (items[1].tolist(), 0)):
        states = convolved(model, row[first:-1])
        scores = states @ model.table.weight[1:, :4].T + model.table.weight[1:, 4]
        terms.append(F.cross_entropy(scores, torch.tensor(row[first + 1 :]) - 1, reduction="none"))
    torch.testing.assert_close(model.loss(Batch(item=items)), torch.cat(terms).mean(), rtol=1e-4, atol=1e-4)


def test_holes_reach_what_stands_six_places_back(beats: Beats) -> None:
    """Two convolutions of width 2 see 4 places, with a second block of wider holes 16."""
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -6] + 1, length=16)
    wide = learned(NextItNet, world, train, 1, {**SMALL, "dilations": (1, 4)}, **FITTING)
    beats(0.3, "hit@1", NextItNet=wide, without_holes=learned(NextItNet, world, train, 1, {**SMALL, "dilations": (1,)}, **FITTING))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0)
    found = learned(NextItNet, world, train, 3, {**SMALL, "length": 9, "dilations": (1, 4)}, epochs=3, batch_size=32, learning_rate=0.005)
    beats(-0.1, "hit@3", NextItNet=found, Popular=popular(world, train, 3))
