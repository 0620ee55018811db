from itertools import pairwise

import torch
from torch.nn import functional as F

from palate.batch import Batch
from palate.recall.sequential.srgnn import SRGNN
from tests.conftest import Beats
from tests.recall.walked import learned, popular, some_interactions
from tests.worlds import Walks, more

SMALL = {"dim": 24, "length": 6, "dropout": 0.0}
FITTING = {"epochs": 6, "batch_size": 128, "learning_rate": 0.01}


def made(**options: object) -> SRGNN:
    torch.manual_seed(0)
    model = SRGNN(some_interactions(), dim=4, length=6, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.5)
    return model


def session(model: SRGNN, ids: list[int]) -> torch.Tensor:
    """s of a session: its graph as dictionaries, node by node."""
    nodes = {one: model.table.weight[one] for one in ids}
    steps = list(pairwise(ids))
    for _ in range(model.steps):
        weight_in, weight_out = model.message.weight[:4], model.message.weight[4:]
        bias_in, bias_out = model.message.bias[:4], model.message.bias[4:]
        said = {}
        for node in nodes:
            came, went = [a for a, b in steps if b == node], [b for a, b in steps if a == node]
            inwards = sum((weight_in @ nodes[a] + bias_in) / len(came) for a in came) if came else torch.zeros(4)
            outwards = sum((weight_out @ nodes[b] + bias_out) / len(went) for b in went) if went else torch.zeros(4)
            said[node] = torch.cat((inwards, outwards))
        cell, following = model.cell, {}
        for node, h in nodes.items():
            a, b = cell.weight_ih @ said[node] + cell.bias_ih, cell.weight_hh @ h + cell.bias_hh
            reset, update = torch.sigmoid(a[:4] + b[:4]), torch.sigmoid(a[4:8] + b[4:8])
            following[node] = (1 - update) * torch.tanh(a[8:] + reset * b[8:]) + update * h
        nodes = following
    last, total = nodes[ids[-1]], torch.zeros(4)
    for one in ids:
        strength = model.weigh.weight[0] @ torch.sigmoid(model.of_last.weight @ last + model.of_last.bias + model.of_place.weight @ nodes[one])
        total = total + strength * nodes[one]
    return model.out.weight @ torch.cat((last, total))


def test_the_forward_node_by_node() -> None:
    for steps in (0, 1, 2):
        model = made(steps=steps)
        lists = torch.tensor([[0, 0, 3, 1, 3, 2], [5, 4, 4, 8, 5, 7], [0, 0, 0, 0, 0, 6]])
        expected = torch.stack([session(model, [one for one in row if one]) for row in lists.tolist()])
        torch.testing.assert_close(model.encode_users(Batch(history=lists)), expected, rtol=1e-4, atol=1e-4)


def test_the_edges_of_the_paper_s_figure() -> None:
    """Session v1 v2 v3 v2 v4: out of v2 go two edges of a half each, into v2 come two of a half each."""
    node, into, out = made().graph(torch.tensor([[1, 2, 3, 2, 4]]))
    assert node.tolist() == [[0, 1, 2, 1, 4]]
    assert out[0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0.5, 0, 0.5], [0, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert into[0].tolist() == [[0] * 5, [0.5, 0, 0.5, 0, 0], [0, 1, 0, 0, 0], [0] * 5, [0, 1, 0, 0, 0]]


def test_the_loss_is_a_softmax_over_all_items() -> None:
    model = made()
    batch = Batch(history=torch.tensor([[0, 3, 1], [5, 4, 4]]), item=torch.tensor([2, 9]))
    scores = torch.stack([session(model, [3, 1]), session(model, [5, 4, 4])]) @ model.table.weight[1:].T
    torch.testing.assert_close(model.loss(batch), F.cross_entropy(scores, batch["item"] - 1), rtol=1e-4, atol=1e-4)


def test_edges_tell_what_came_before_the_last(beats: Beats) -> None:
    """The next item is told by the one before the last: without the graph the readout knows which items there were, and the last."""
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -2] + 1)
    found = learned(SRGNN, world, train, 1, SMALL, **FITTING)
    beats(0.1, "hit@1", SRGNN=found, without_edges=learned(SRGNN, world, train, 1, {**SMALL, "steps": 0}, **FITTING))


def test_where_order_says_nothing_it_is_not_far_below_the_most_popular(beats: Beats) -> None:
    train = more(500)
    world = Walks(train + 400, lambda taken: taken[:, -1], sure=0.0)
    found = learned(SRGNN, world, train, 3, SMALL, epochs=2, batch_size=128, learning_rate=0.005)
    beats(-0.1, "hit@3", SRGNN=found, Popular=popular(world, train, 3))
