"""GMF by hand, its strangers, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.recall.neural.gmf import GMF
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions, random_matrix
from tests.worlds import Tribes

R = random_matrix(9, 7, seed=3)
PAIRS = Batch(user=torch.tensor([1, 4, 9]), item=torch.tensor([2, 1, 6]), negative=torch.tensor([[3, 7], [0, 5], [7, 0]]))
OPTIONS = {"dim": 16, "epochs": 20, "batch_size": 256, "learning_rate": 0.01, "weight_decay": 1.0}


def each(batch=PAIRS):
    """User, item and label of what a batch compares, ids as rows."""
    for user, item, negatives in zip(*(batch[name].tolist() for name in ("user", "item", "negative")), strict=True):
        yield user - 1, item - 1, 1
        for other in filter(None, negatives):
            yield user - 1, other - 1, 0


def log_loss(score, batch=PAIRS):
    return np.mean([np.log(1 + np.exp(-score(user, item) if label else score(user, item))) for user, item, label in each(batch)])


def rows(table):
    return table.weight.detach().double().numpy()[1:]


def drawn(model):
    """The model with every weight drawn anew: none is at a start that hides it."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5)
    return model.eval()


def board(model, users=9):
    with torch.no_grad():
        return model.scores(Batch(user=torch.arange(users) + 1, history=torch.zeros(users, 1, dtype=torch.long))).numpy()


def test_loss_and_scores_are_the_paper_s():
    model = drawn(GMF(interactions(R), dim=4))
    p, q, h, b = rows(model.vectors.users), rows(model.vectors.items), model.weight.detach().double().numpy(), model.bias.item()

    def score(user, item):
        return sum(h[d] * p[user, d] * q[item, d] for d in range(4)) + b

    assert model.loss(PAIRS).item() == pytest.approx(log_loss(score), rel=1e-5)
    np.testing.assert_allclose(board(model), [[score(u, i) for i in range(7)] for u in range(9)], atol=1e-5)


def test_it_finds_blocks_also_for_strangers_and_where_there_are_none_popularity():
    world, none = Tribes(), Tribes(own=0)
    model = fitted(GMF, world, **OPTIONS)
    assert found(model, world) > world.popular() + 0.4
    assert found(model, world, known=False) > world.popular() + 0.4
    assert agreement(model, world) > 0.6
    assert found(fitted(GMF, none, **OPTIONS), none) > none.popular() - 0.1


@pytest.mark.parametrize("options", [{"dim": 0}, {"negatives": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GMF(Interactions.empty(3, 7), **options)
