"""AutoRec by hand in both forms, its strangers, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.recall.autoencoder import autorec
from palate.recall.autoencoder.autorec import AutoRec
from tests.recall.autoencoder.test_cdae import sigmoid
from tests.recall.fitted import agreement, fitted, found
from tests.recall.made import interactions, random_matrix
from tests.recall.neural.test_gmf import drawn
from tests.worlds import Tribes

R = random_matrix(9, 7, seed=3)
OPTIONS = {"dim": 16, "epochs": 40, "batch_size": 32, "learning_rate": 0.01, "regularization": 20.0}


def restored(model, rows, activate=sigmoid):
    """h(r) of dense rows."""
    weights = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    return activate(rows @ weights["weight"] + weights["bias"]) @ weights["last.weight"].T + weights["last.bias"]


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
@pytest.mark.parametrize("form", ["user", "item"])
def test_scores_are_the_paper_s(form, activation):
    model = drawn(AutoRec(interactions(R), dim=4, form=form, activation=activation)).eval()
    matrix = (R > 0).astype(float)
    activate = sigmoid if activation == "sigmoid" else lambda values: values
    expected = restored(model, matrix, activate) if form == "user" else restored(model, matrix.T, activate).T
    width = int(matrix.sum(1).max())
    own = [np.flatnonzero(row) + 1 for row in matrix]
    history = torch.tensor(np.array([np.pad(row, (width - len(row), 0)) for row in own]))
    with torch.no_grad():
        scores = model.scores(Batch(user=torch.arange(9) + 1, history=history)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("form", ["user", "item"])
def test_loss_is_the_paper_s_over_rows_or_columns(form, monkeypatch):
    given = interactions(R)
    model = drawn(AutoRec(given, dim=4, form=form, regularization=0.3))
    monkeypatch.setattr(autorec, "observed", lambda scores, ids, negatives, kind: ((scores - 1) ** 2 * (dense(ids, scores) > 0)).sum() / 2 / len(ids))
    data = model.learn_from(Sequences.unordered(given), Sampler(torch.ones(7)))
    matrix = (R > 0).astype(float) if form == "user" else (R > 0).astype(float).T
    there = matrix.any(1)
    error = (((matrix - restored(model, matrix)) ** 2) * matrix)[there].sum() / there.sum()
    squares = sum((weight.detach().double().numpy() ** 2).sum() for weight in (model.weight, model.last.weight))
    expected = error + 0.15 * squares / len(matrix)
    assert model.loss(data.batch(torch.arange(len(data)))).item() == pytest.approx(expected, rel=1e-4)


def dense(ids, scores):
    return torch.zeros(len(ids), scores.shape[1] + 1).scatter_(1, ids, 1.0)[:, 1:]


@pytest.mark.parametrize(("form", "behind"), [("user", 0.03), ("item", 0.13)])
def test_it_finds_blocks_also_for_strangers_and_where_there_are_none_popularity(form, behind):
    """Where there is nothing to know the item form finds less than popularity does: what few users took of an item is learned by heart."""
    world, none = Tribes(), Tribes(own=0)
    model = fitted(AutoRec, world, **OPTIONS, form=form)
    assert found(model, world) > world.popular() + 0.45
    assert found(model, world, known=False) > world.popular() + 0.45
    assert agreement(model, world) > 0.9
    assert found(fitted(AutoRec, none, **OPTIONS, form=form), none) > none.popular() - behind


@pytest.mark.parametrize("options", [{"dim": 0}, {"negatives": 0}, {"regularization": -1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AutoRec(Interactions.empty(3, 7), **options)
