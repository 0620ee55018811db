"""Mult-VAE by hand, its annealing, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.datasets.interactions import Interactions
from palate.recall.autoencoder.multvae import MultVAE
from tests.recall.autoencoder.test_multdae import HISTORIES, bags, by_hand
from tests.recall.fitted import fitted, found
from tests.worlds import Tribes


def small(**options):
    torch.manual_seed(0)
    return MultVAE(Interactions.empty(3, 7), **({"dim": 3, "hidden": (4,)} | options))


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_loss_and_scores_are_the_paper_s(hidden):
    model = small(hidden=hidden, beta=0.3, anneal=0).eval()
    logits, log_pi = by_hand(model, HISTORIES, lambda values: values[:, :3])
    with torch.no_grad():
        mean, log_variance = model.encoder(bags(HISTORIES)["history"]).double().numpy().T.reshape(2, 3, 3)
        np.testing.assert_allclose(model.scores(bags(HISTORIES)).numpy(), logits, atol=1e-5)
    divergence = np.mean([sum(0.5 * (np.exp(v) + m * m - 1 - v) for m, v in zip(mean[:, u], log_variance[:, u], strict=True)) for u in range(3)])
    expected = 0.3 * divergence - np.mean([sum(log_pi[user, item - 1] for item in row) for user, row in enumerate(HISTORIES)])
    assert float(model.loss(bags(HISTORIES))) == pytest.approx(expected, rel=1e-5)


def test_in_training_z_is_drawn_around_its_mean():
    model = small(dropout=0.0, beta=0.0).train()
    drawn = torch.stack([model.loss(bags(HISTORIES)) for _ in range(2)])
    assert float(drawn.std()) > 0
    with torch.no_grad():  # without variance there is nothing to draw
        model.encoder.layers[-1].bias[3:] = -100
        model.encoder.layers[-1].weight[3:] = 0
    assert float(model.loss(bags(HISTORIES))) == pytest.approx(float(model.eval().loss(bags(HISTORIES))), rel=1e-5)


def test_the_prior_s_weight_rises_to_beta():
    model = small(beta=0.5, anneal=4, dropout=0.0).train()
    seen = []
    for _ in range(6):
        torch.manual_seed(1)
        total = float(model.loss(bags(HISTORIES)))
        model.beta, steps = 0.0, int(model.steps)
        torch.manual_seed(1)
        seen.append(total - float(model.loss(bags(HISTORIES))))
        model.beta = 0.5
        model.steps.fill_(steps)
    np.testing.assert_allclose(np.array(seen) / seen[-1], [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-3)


def test_it_finds_blocks_and_where_there_are_none_popularity():
    model, world = {}, {"blocks": Tribes(), "none": Tribes(own=0)}
    for name, one in world.items():
        model[name] = found(
            fitted(MultVAE, one, dim=16, hidden=(32,), anneal=100, epochs=40, batch_size=64, learning_rate=0.003, weight_decay=3.0), one
        )
    assert model["blocks"] > world["blocks"].popular() + 0.45
    assert model["none"] > world["none"].popular() - 0.03


@pytest.mark.parametrize("options", [{"dim": 0}, {"beta": -1.0}, {"anneal": -1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MultVAE(Interactions.empty(3, 7), **options)
