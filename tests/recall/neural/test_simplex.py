"""SimpleX by hand, and where popular items are taken by everybody."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.recall.neural.simplex import SimpleX
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions, random_matrix
from tests.recall.neural.test_gmf import drawn
from tests.worlds import Tribes

R = random_matrix(9, 7, seed=3)
BAGS = Batch(user=torch.tensor([2, 5]), history=torch.tensor([[0, 3, 1, 6], [0, 0, 2, 4]]))
OPTIONS = {"dim": 16, "own": 0.1, "weight": 20.0, "epochs": 20, "batch_size": 64, "learning_rate": 0.01, "weight_decay": 1.0}


def unit(vector):
    return vector / np.linalg.norm(vector)


def vectors(model, user, history):
    """The user's and all items' by hand; ``history`` rows."""
    weights = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    q, p = weights["table.weight"][1:], weights["users.weight"][user] if user else model.centre.double().numpy()
    read = history[-model.length :]
    if model.attention is None:
        s = np.mean([q[item] for item in read], 0)
    else:
        keys = [np.exp(p @ np.tanh(weights["attention.weight"] @ q[item] + weights["attention.bias"])) for item in read]
        s = sum(key / sum(keys) * q[item] for key, item in zip(keys, read, strict=True))
    return unit(model.own * p + (1 - model.own) * weights["map.weight"] @ s), np.array([unit(row) for row in q])


def by_hand(model, negatives):
    lost = []
    for user, history in ((2, [2, 0, 5]), (5, [1, 3])):
        own, items = vectors(model, user, history)
        far = [max(0.0, own @ items[item] - model.margin) for item in negatives if item not in history]
        lost += [1 - own @ items[item] + model.weight * np.mean(far) for item in history]
    return np.mean(lost)


@pytest.mark.parametrize("history", ["mean", "attention"])
@pytest.mark.parametrize("length", [2, 100])
def test_loss_is_the_paper_s_with_all_negatives(history, length):
    model = drawn(SimpleX(interactions(R), dim=4, history=history, length=length, own=0.3, margin=0.1, weight=5.0))
    assert model.loss(BAGS).item() == pytest.approx(by_hand(model, range(7)), rel=1e-4)


def test_loss_is_the_paper_s_with_shared_draws(monkeypatch):
    model = drawn(SimpleX(interactions(R), dim=4, negatives=4, margin=0.1, weight=5.0))
    model.sampler = Sampler(torch.ones(7))
    monkeypatch.setattr(model.sampler, "draw", lambda shape: torch.tensor([7, 1, 5, 5])[: shape[0]])
    assert model.loss(BAGS).item() == pytest.approx(by_hand(model, [6, 0, 4, 4]), rel=1e-4)


def test_scores_are_cosines_and_a_stranger_has_the_mean_of_all_users():
    model = drawn(SimpleX(interactions(R), dim=4))
    model.finish()
    taken = (R > 0).any(1)
    np.testing.assert_allclose(model.centre.numpy(), model.users.weight.detach().numpy()[1:][taken].mean(0), atol=1e-6)
    with torch.no_grad():
        scores = model.scores(Batch(user=torch.tensor([3, 0]), history=torch.tensor([[1, 4], [1, 4]]))).numpy()
    for row, user in enumerate((3, 0)):
        own, items = vectors(model, user, [0, 3])
        np.testing.assert_allclose(scores[row], items @ own, atol=1e-5)


def test_half_of_what_is_taken_being_hits_it_still_finds_what_a_tribe_takes():
    """An inner product by log loss (GMF) finds more here, .265 against .231: the cosine is no gain in so small a world."""
    world = Tribes(each=12, own=0.5)
    model = fitted(SimpleX, world, **OPTIONS)
    assert found(model, world) > world.popular() + 0.01
    assert agreement(model, world) > 0.55


@pytest.mark.parametrize("options", [{"own": 1.5}, {"margin": 1.0}, {"negatives": -1}, {"dim": 0}, {"dropout": 1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SimpleX(Interactions.empty(3, 7), **options)
