"""ConvNCF by hand, its pre-training, and where tastes have blocks."""

import numpy as np
import pytest

from palate.datasets.interactions import Interactions
from palate.recall.neural.convncf import ConvNCF
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions
from tests.recall.neural.test_gmf import PAIRS, R, board, drawn, each, rows
from tests.worlds import Tribes

OPTIONS = {"dim": 8, "channels": 8, "epochs": 16, "pretraining": 8, "batch_size": 128, "learning_rate": 0.01, "weight_decay": 1.0}


def convolved(model, image):
    """Pixel by pixel: each layer reads blocks of 2 x 2."""
    values = image[None]
    for layer in model.layers:
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        size = values.shape[1] // 2
        made = np.zeros((len(weight), size, size))
        for c in range(len(weight)):
            for x in range(size):
                for y in range(size):
                    made[c, x, y] = max(0, bias[c] + (weight[c] * values[:, 2 * x : 2 * x + 2, 2 * y : 2 * y + 2]).sum())
        values = made
    return float(model.last.weight.detach().double().numpy()[0] @ values[:, 0, 0])


def bpr(score):
    lost, own = [], None
    for user, item, label in each():
        if label:
            own = score(user, item)
        else:
            lost.append(np.log(1 + np.exp(score(user, item) - own)))
    return np.mean(lost)


def test_loss_and_scores_are_the_paper_s():
    model = drawn(ConvNCF(interactions(R), dim=4, channels=3))
    p, q = rows(model.vectors.users), rows(model.vectors.items)

    def score(user, item):
        return convolved(model, np.outer(p[user], q[item]))

    assert model.loss(PAIRS).item() == pytest.approx(bpr(score), rel=1e-5)
    np.testing.assert_allclose(board(model), [[score(u, i) for i in range(7)] for u in range(9)], atol=1e-4)


def test_first_the_vectors_learn_alone():
    model = drawn(ConvNCF(interactions(R), dim=4, channels=3, pretraining=2)).train()
    model.pairs = 3
    p, q = rows(model.vectors.users), rows(model.vectors.items)
    alone, network = bpr(lambda u, i: p[u] @ q[i]), bpr(lambda u, i: convolved(model, np.outer(p[u], q[i])))
    np.testing.assert_allclose([model.loss(PAIRS).item() for _ in range(4)], [alone, alone, network, network], rtol=1e-5)


def test_it_finds_blocks_also_for_strangers():
    world = Tribes(users=200, items=80, tribes=4)
    model = fitted(ConvNCF, world, **OPTIONS)
    assert found(model, world) > world.popular() + 0.2
    assert found(model, world, known=False) > world.popular() + 0.2
    assert agreement(model, world) > 0.5


def test_without_blocks_it_is_no_worse_than_popularity():
    none = Tribes(users=200, items=80, tribes=4, own=0)
    assert found(fitted(ConvNCF, none, **OPTIONS), none) > none.popular() - 0.1


@pytest.mark.parametrize("options", [{"dim": 12}, {"channels": 0}, {"pretraining": -1}, {"negatives": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConvNCF(Interactions.empty(3, 7), **options)
