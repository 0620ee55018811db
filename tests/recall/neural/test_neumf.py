"""NeuMF by hand, its pre-training, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.datasets.interactions import Interactions
from palate.recall.neural.neumf import NeuMF
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions
from tests.recall.neural.test_gmf import OPTIONS, PAIRS, R, board, drawn, log_loss, rows
from tests.recall.neural.test_ncfmlp import tower
from tests.worlds import Tribes


def parts(model):
    """The scores of the two parts, by loops."""
    p, q, h = rows(model.product.users), rows(model.product.items), model.weight.detach().double().numpy()
    own, other = rows(model.joined.users), rows(model.joined.items)
    return (
        lambda user, item: sum(h[d] * p[user, d] * q[item, d] for d in range(len(h))),
        lambda user, item: tower(model.perceptron.tower, np.concatenate((own[user], other[item]))),
    )


def small(**options):
    return drawn(NeuMF(interactions(R), dim=4, hidden=(5, 3), **options))


def test_loss_and_scores_are_the_paper_s():
    model = small()
    product, perceptron = parts(model)
    assert model.loss(PAIRS).item() == pytest.approx(log_loss(lambda u, i: product(u, i) + perceptron(u, i)), rel=1e-5)
    np.testing.assert_allclose(board(model), [[product(u, i) + perceptron(u, i) for i in range(7)] for u in range(9)], atol=1e-4)


def test_the_parts_learn_alone_then_are_weighed_and_joined():
    model = small(pretraining=2, share=0.3).train()
    model.pairs = 3
    product, perceptron = parts(model)
    apart = log_loss(product) + log_loss(perceptron)
    joined = log_loss(lambda u, i: 0.3 * product(u, i) + 0.7 * perceptron(u, i))
    np.testing.assert_allclose([model.loss(PAIRS).item() for _ in range(4)], [apart, apart, joined, joined], rtol=1e-5)
    assert model.eval().loss(PAIRS).item() == pytest.approx(joined, rel=1e-5)


def test_alone_the_parts_do_not_touch_each_other():
    model = small(pretraining=1).train()
    model.pairs = 100
    model.loss(PAIRS).backward()
    alone = {name: weight.grad.to_dense().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        model.weight.zero_()
        model.zero_grad()
    model.loss(PAIRS).backward()
    for name, weight in model.named_parameters():
        if name.startswith(("joined", "perceptron")):
            assert torch.equal(weight.grad.to_dense(), alone[name])


def test_it_finds_blocks_also_for_strangers_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    model = fitted(NeuMF, world, **OPTIONS, pretraining=5)
    assert found(model, world) > world.popular() + 0.4
    assert found(model, world, known=False) > world.popular() + 0.4
    assert agreement(model, world) > 0.6
    assert found(fitted(NeuMF, none, **OPTIONS), none) > none.popular() - 0.1


@pytest.mark.parametrize("options", [{"share": 1.5}, {"pretraining": -1}, {"dim": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        NeuMF(Interactions.empty(3, 7), **options)
