"""The perceptron of NCF by hand, its strangers, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.datasets.interactions import Interactions
from palate.recall.neural import perceptron
from palate.recall.neural.ncfmlp import NCFMLP
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions
from tests.recall.neural.test_gmf import OPTIONS, PAIRS, R, board, drawn, log_loss, rows
from tests.worlds import Tribes


def tower(module, values):
    """Layer by layer from the weights."""
    values = values @ module.weight.detach().double().numpy() + module.bias.detach().double().numpy()
    for layer in module.layers:
        values = np.maximum(values, 0) @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    return values[0]


@pytest.mark.parametrize("hidden", [(5,), (5, 3)])
def test_loss_and_scores_are_the_paper_s(hidden, monkeypatch):
    monkeypatch.setattr(perceptron, "ROWS", 10)  # one user at a time
    model = drawn(NCFMLP(interactions(R), dim=4, hidden=hidden))
    p, q = rows(model.vectors.users), rows(model.vectors.items)

    def score(user, item):
        return tower(model.perceptron.tower, np.concatenate((p[user], q[item])))

    assert model.loss(PAIRS).item() == pytest.approx(log_loss(score), rel=1e-5)
    np.testing.assert_allclose(board(model), [[score(u, i) for i in range(7)] for u in range(9)], atol=1e-4)


def test_users_a_few_at_a_time():
    asked = []

    def score(part):
        asked.append(len(part))
        return part @ torch.ones(2, 5)

    users = torch.randn(7, 2)
    assert torch.allclose(perceptron.everybody(score, users, 5, 12), users @ torch.ones(2, 5))
    assert asked == [2, 2, 2, 1]


def test_it_finds_blocks_also_for_strangers_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    model = fitted(NCFMLP, world, **OPTIONS)
    assert found(model, world) > world.popular() + 0.4
    assert found(model, world, known=False) > world.popular() + 0.4
    assert agreement(model, world) > 0.6
    assert found(fitted(NCFMLP, none, **OPTIONS), none) > none.popular() - 0.1


@pytest.mark.parametrize("options", [{"dim": 0}, {"hidden": ()}, {"dropout": 1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        NCFMLP(Interactions.empty(3, 7), **options)
