"""LightGCN against dense matrices, and where most users took little."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.recall.factor.bpr import BPR
from palate.recall.graph.lightgcn import LightGCN
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions, random_matrix
from tests.worlds import Tribes

R = random_matrix(9, 7, seed=3)
PAIRS = Batch(user=torch.tensor([1, 4, 9]), item=torch.tensor([2, 1, 6]), negative=torch.tensor([[3, 7], [0, 5], [7, 0]]))
SPARSE = {"users": 400, "items": 200, "tribes": 8, "each": 6}
OPTIONS = {"dim": 32, "epochs": 30, "batch_size": 512, "learning_rate": 0.02, "weight_decay": 4.0}


def small(matrix=R, cls=LightGCN, **options):
    torch.manual_seed(0)
    return cls(interactions(matrix), **({"dim": 4, "layers": 2} | options))


def adjacency(matrix=R):
    """D^-1/2 A D^-1/2, dense."""
    users, items = matrix.shape
    a = np.zeros((users + items, users + items))
    a[:users, users:] = matrix > 0
    a += a.T
    degrees = a.sum(1)
    scale = np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0)
    return a * scale[:, None] * scale


def by_hand(weight, matrix=R, layers=2):
    """The mean of layers 0 .. ``layers`` as a torch expression, so that its gradient is autograd's."""
    a = torch.from_numpy(adjacency(matrix))
    return sum(torch.linalg.matrix_power(a, k) @ weight for k in range(layers + 1)) / (layers + 1)


def test_propagation_and_its_gradient_are_those_of_dense_matrices():
    model = small()
    weight = model.graph.weight.detach().double().requires_grad_()
    expected = by_hand(weight)
    probe = torch.randn(expected.shape)
    (expected * probe).sum().backward()
    actual = model.graph()
    (actual * probe).sum().backward()
    assert torch.allclose(actual.double(), expected, atol=1e-6)
    assert torch.allclose(model.graph.weight.grad.double(), weight.grad, atol=1e-5)


def test_loss_is_the_paper_s():
    model = small(regularization=0.1)
    e0 = model.graph.weight.detach().double().numpy()
    e = by_hand(torch.from_numpy(e0)).numpy()
    lost, squares = [], 0.0
    for user, item, negatives in zip(*(PAIRS[name].tolist() for name in ("user", "item", "negative")), strict=True):
        squares += 0.5 * (e0[user - 1] @ e0[user - 1] + e0[8 + item] @ e0[8 + item])
        for other in filter(None, negatives):
            lost.append(np.log(1 + np.exp(e[user - 1] @ (e[8 + other] - e[8 + item]))))
            squares += 0.5 * e0[8 + other] @ e0[8 + other]
    assert model.loss(PAIRS).item() == pytest.approx(np.mean(lost) + 0.1 * squares / 3, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_softmax_loss_compares_each_item_with_all_that_the_user_did_not_take(temperature):
    model = small(loss="softmax", regularization=0.0, temperature=temperature)
    e = by_hand(model.graph.weight.detach().double()).numpy()
    if temperature:
        e /= np.linalg.norm(e, axis=1, keepdims=True) * temperature**0.5
    lost = []
    for user in (0, 5):
        scores = e[9:] @ e[user]
        others = np.exp(scores[R[user] == 0]).sum()
        lost.append(-sum(scores[item] - np.log(np.exp(scores[item]) + others) for item in np.flatnonzero(R[user])))
    own = [np.flatnonzero(R[user]) + 1 for user in (0, 5)]
    width = max(map(len, own))
    history = torch.tensor(np.array([np.pad(row, (width - len(row), 0)) for row in own]))
    assert model.loss(Batch(user=torch.tensor([1, 6]), history=history)).item() == pytest.approx(np.mean(lost), rel=1e-5)


def test_with_a_temperature_the_scores_are_cosines_of_strangers_too():
    model = small(loss="softmax", temperature=0.2).eval()
    history = torch.tensor([[0, 2, 3], [1, 2, 6]])
    with torch.no_grad():
        scores = model.encode_users(Batch(user=torch.tensor([0, 4]), history=history)) @ model.encode_items().T
        users, items = model.graph.of_users(Batch(user=torch.tensor([0, 4]), history=history)), model.graph.of_items()
    assert torch.allclose(scores * 0.2, torch.cosine_similarity(users[:, None], items[None], dim=2), atol=1e-5)


def test_a_stranger_has_what_the_steps_bring_from_the_history():
    model = small(layers=3).eval()
    history = [0, 2, 5]
    a, e0 = adjacency(), model.graph.weight.detach().double().numpy()
    degrees = (R > 0).sum(0)
    expected = np.zeros(4)
    for k in range(3):
        layer = np.linalg.matrix_power(a, k) @ e0
        expected += sum(layer[9 + item] / np.sqrt(degrees[item] * len(history)) for item in history)
    with torch.no_grad():
        actual = model.encode_users(Batch(user=torch.tensor([0]), history=torch.tensor([history]) + 1))
    np.testing.assert_allclose(actual[0].numpy(), expected / 4, atol=1e-6)


def test_where_users_took_little_neighbours_help():
    world = Tribes(**SPARSE)
    model = fitted(LightGCN, world, **OPTIONS)
    plain = BPR(32, epochs=60, regularization=0.02).fit(world.interactions)
    assert found(model, world) > max(world.recall(plain.retrieve(world.request(), 10)), world.popular()) + 0.03
    assert agreement(model, world) > 0.6


def test_without_blocks_it_is_no_worse_than_popularity():
    world = Tribes(**SPARSE, own=0)
    assert found(fitted(LightGCN, world, **OPTIONS), world) > world.popular() - 0.05


@pytest.mark.parametrize("options", [{"dim": 0}, {"layers": 0}, {"regularization": -1.0}, {"negatives": 0}, {"temperature": 0.1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LightGCN(Interactions.empty(3, 7), **options)
