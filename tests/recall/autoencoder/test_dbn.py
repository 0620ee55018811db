"""A deep belief network by hand, what its layers learn from, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.datasets.interactions import Interactions
from palate.recall.autoencoder.boltzmann import Boltzmann
from palate.recall.autoencoder.dbn import DBN
from tests.recall.autoencoder.test_cdae import sigmoid
from tests.recall.autoencoder.test_multdae import HISTORIES, bags
from tests.recall.fitted import fitted, found
from tests.recall.neural.test_gmf import drawn
from tests.worlds import Tribes

OPTIONS = {"hidden": (24, 12), "epochs": 60, "batch_size": 32, "learning_rate": 0.01}


def small():
    return drawn(DBN(Interactions.empty(3, 7), hidden=(4, 3, 2)))


def parts(machine):
    return [values.detach().double().numpy() for values in (machine.weight, machine.visible, machine.bias)]


def test_scores_go_up_through_all_layers_and_down_again():
    model = small()
    (w, b, c), *above = [parts(machine) for machine in (model.first, *model.above)]
    expected = []
    for row in HISTORIES:
        values = sigmoid(c + sum(w[item - 1] for item in row))
        for weight, _, bias in above:
            values = sigmoid(values @ weight + bias)
        for weight, visible, _ in reversed(above):
            values = sigmoid(weight @ values + visible)
        expected.append(b + w @ values)
    with torch.no_grad():
        np.testing.assert_allclose(model.scores(bags(HISTORIES)).numpy(), expected, atol=1e-5)


def test_each_layer_learns_from_what_the_one_below_gives_and_from_nothing_else(monkeypatch):
    model, seen = small(), []
    monkeypatch.setattr(Boltzmann, "loss", lambda self, values, steps: seen.append(values) or (self.weight**2).sum() * values.mean())
    model.loss(bags(HISTORIES)).backward()
    (w, _, c), (w2, _, c2), _ = [parts(machine) for machine in (model.first, *model.above)]
    values = np.array([sigmoid(c + sum(w[item - 1] for item in row)) for row in HISTORIES])
    np.testing.assert_allclose(seen[1].numpy(), values, atol=1e-5)
    np.testing.assert_allclose(seen[2].numpy(), sigmoid(values @ w2 + c2), atol=1e-5)
    assert model.first.bias.grad is None  # nothing came back from above
    assert model.above[0].bias.grad is None


def test_it_finds_blocks_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    assert found(fitted(DBN, world, **OPTIONS), world) > world.popular() + 0.3
    assert found(fitted(DBN, none, **OPTIONS), none) > none.popular() - 0.05


@pytest.mark.parametrize("options", [{"hidden": (3,)}, {"hidden": (3, 0)}, {"steps": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DBN(Interactions.empty(3, 7), **options)
