"""RBM against sums over all states, contrastive divergence against its update rule, and where tastes have blocks."""

import itertools

import numpy as np
import pytest
import torch

from palate.datasets.interactions import Interactions
from palate.recall.autoencoder.boltzmann import Boltzmann, dense
from palate.recall.autoencoder.rbm import RBM
from tests.recall.autoencoder.test_cdae import sigmoid
from tests.recall.autoencoder.test_multdae import HISTORIES, bags
from tests.recall.fitted import fitted, found
from tests.recall.made import interactions, random_matrix
from tests.recall.neural.test_gmf import drawn
from tests.worlds import Tribes

OPTIONS = {"dim": 24, "epochs": 60, "batch_size": 32, "learning_rate": 0.01}


def machine():
    torch.manual_seed(2)
    made = Boltzmann(5, 3)
    return drawn(made), *(values.detach().double().numpy() for values in (made.weight, made.visible, made.bias))


def test_the_free_energy_is_the_sum_over_all_hidden_states():
    made, w, b, c = machine()
    values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)))
    states = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    for v, energy in zip(values.double().numpy(), made.energy(values).tolist(), strict=True):
        assert energy == pytest.approx(-np.log(sum(np.exp(b @ v + c @ h + v @ w @ h) for h in states)), abs=1e-4)


def test_both_conditionals_are_the_joint_s():
    made, w, b, c = machine()
    every = [(np.array(v), np.array(h)) for v in itertools.product((0, 1), repeat=5) for h in itertools.product((0, 1), repeat=3)]
    given, hidden = every[77][0], every[77][1]
    for n in range(3):
        both = [(h[n], np.exp(b @ v + c @ h + v @ w @ h)) for v, h in every if (v == given).all()]
        assert made.up(torch.tensor(given[None]).float())[0, n].item() == pytest.approx(
            sum(s * p for s, p in both) / sum(p for _, p in both), abs=1e-4
        )
    for n in range(5):
        both = [(v[n], np.exp(b @ v + c @ h + v @ w @ h)) for v, h in every if (h == hidden).all()]
        found_ = torch.sigmoid(made.down(torch.tensor(hidden[None]).float()))[0, n].item()
        assert found_ == pytest.approx(sum(s * p for s, p in both) / sum(p for _, p in both), abs=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_is_that_of_contrastive_divergence(steps, monkeypatch):
    made, w, b, c = machine()
    chance = np.random.default_rng(0)
    monkeypatch.setattr(torch, "bernoulli", lambda p: torch.from_numpy((chance.random(p.shape) < p.numpy()).astype(np.float32)))
    v0 = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 0, 0.0]])
    made.loss(torch.from_numpy(v0).float(), steps).backward()
    chance, v = np.random.default_rng(0), v0
    for _ in range(steps):
        h = chance.random((2, 3)) < sigmoid(v @ w + c)
        v = (chance.random((2, 5)) < sigmoid(h @ w.T + b)).astype(float) if steps else v
    first, last = sigmoid(v0 @ w + c), sigmoid(v @ w + c)
    np.testing.assert_allclose(made.weight.grad.numpy(), -(v0.T @ first - v.T @ last) / 2, atol=1e-5)
    np.testing.assert_allclose(made.visible.grad.numpy(), -(v0 - v).mean(0), atol=1e-5)
    np.testing.assert_allclose(made.bias.grad.numpy(), -(first - last).mean(0), atol=1e-5)


def test_scores_and_the_start():
    matrix = random_matrix(9, 7, seed=3)
    model = RBM(interactions(matrix), dim=4)
    users = (matrix > 0).any(1).sum()
    rate = ((matrix > 0).sum(0) + 0.5) / (users + 1)
    np.testing.assert_allclose(model.machine.visible.detach().numpy(), np.log(rate / (1 - rate)), atol=1e-4)
    drawn(model)
    w, b, c = (values.detach().double().numpy() for values in (model.machine.weight, model.machine.visible, model.machine.bias))
    expected = [b + w @ sigmoid(c + sum(w[item - 1] for item in row)) for row in HISTORIES]
    with torch.no_grad():
        np.testing.assert_allclose(model.scores(bags(HISTORIES)).numpy(), expected, atol=1e-5)
    assert dense(torch.tensor([[0, 3, 1]]), 4).tolist() == [[1, 0, 1, 0]]


def test_it_finds_blocks_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    assert found(fitted(RBM, world, **OPTIONS), world) > world.popular() + 0.3
    assert found(fitted(RBM, none, **OPTIONS), none) > none.popular() - 0.05


@pytest.mark.parametrize("options", [{"dim": 0}, {"steps": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RBM(Interactions.empty(3, 7), **options)
