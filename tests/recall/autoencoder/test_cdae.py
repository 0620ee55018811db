"""CDAE by hand, its corruption and draws, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.recall.autoencoder.cdae import CDAE
from palate.recall.autoencoder.observed import observed
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions, random_matrix
from tests.recall.neural.test_gmf import drawn
from tests.worlds import Tribes

R = random_matrix(9, 7, seed=3)
OPTIONS = {"dim": 16, "epochs": 40, "batch_size": 64, "learning_rate": 0.01}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_hand(model, user, history):
    """Scores of all items."""
    weights = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    node = weights["nodes.weight"][user] if user else model.centre.double().numpy()
    hidden = sigmoid(sum(weights["weight"][item] for item in history) + node + weights["bias"])
    return weights["last.weight"] @ hidden + weights["last.bias"]


def test_scores_are_the_paper_s_and_a_stranger_has_the_mean_node():
    model = drawn(CDAE(interactions(R), dim=4))
    model.finish()
    taken = (R > 0).any(1)
    np.testing.assert_allclose(model.centre.numpy(), model.nodes.weight.detach().numpy()[1:][taken].mean(0), atol=1e-6)
    with torch.no_grad():
        scores = model.scores(Batch(user=torch.tensor([3, 0]), history=torch.tensor([[1, 4], [1, 4]]))).numpy()
    for row, user in enumerate((3, 0)):
        np.testing.assert_allclose(scores[row], by_hand(model, user, [0, 3]), atol=1e-5)


@pytest.mark.parametrize("kind", ["log", "square"])
def test_loss_is_that_of_what_was_taken_and_of_draws(kind, monkeypatch):
    scores = torch.randn(2, 7)
    ids = torch.tensor([[0, 3, 1], [2, 4, 7]])
    draws = torch.tensor([[6, 2, 5, 4, 0, 6], [0, 1, 2, 5, 3, 6]])
    monkeypatch.setattr(torch, "randint", lambda low, high, shape: draws[: shape[0], : shape[1]])
    total = 0.0
    for row, (own, drawn_for) in enumerate(((({2, 0}), ([None, 2, 5, None, 0, 6])), ({1, 3, 6}, [0, 1, 2, 5, 3, 6]))):
        for item, label in [(item, 1) for item in own] + [(item, 0) for item in drawn_for if item is not None and item not in own]:
            z = scores[row, item].item()
            total += 0.5 * (label - z) ** 2 if kind == "square" else np.log(1 + np.exp(-z if label else z))
    assert observed(scores, ids, 2, kind).item() == pytest.approx(total / 2, rel=1e-5)


def test_what_is_left_out_is_made_up_for():
    model = drawn(CDAE(interactions(np.ones((2, 60))), dim=1, dropout=0.5)).train()
    with torch.no_grad():
        model.weight.fill_(0.01)
        model.bias.zero_()
        ids = torch.arange(1, 61).expand(500, 60)
        inner = torch.logit(model.hidden(ids, torch.zeros(500, dtype=torch.long)))
    assert inner.mean().item() == pytest.approx(0.6, abs=0.02)
    assert inner.std().item() == pytest.approx(0.01 * 2 * (60 * 0.25) ** 0.5, rel=0.2)


def test_it_finds_blocks_also_for_strangers_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    model = fitted(CDAE, world, **OPTIONS)
    assert found(model, world) > world.popular() + 0.4
    assert found(model, world, known=False) > world.popular() + 0.4
    assert agreement(model, world) > 0.8
    assert found(fitted(CDAE, none, **OPTIONS), none) > none.popular() - 0.08


@pytest.mark.parametrize("options", [{"dim": 0}, {"negatives": 0}, {"dropout": 1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CDAE(Interactions.empty(3, 7), **options)
