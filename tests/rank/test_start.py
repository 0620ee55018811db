"""A ranker begins at its labels' log-odds, with centred numbers: what it takes to learn a rare label in few steps."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from palate.datasets.pointwise import Pointwise
from palate.rank.interaction.deepfm import DeepFM
from palate.rank.interaction.mlp import MLP
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer

SCHEMA = Schema(tuple(Feature(name, "pair", "number") for name in ("a", "b", "c")), (Label("choose"), Label("like")))
MODELS = [(DeepFM, {}), (DeepFM, {"form": "serial"}), (MLP, {}), (MLP, {"hidden": ()})]


def rare(size: int = 20_000, weights: bool = False) -> Pointwise:
    """About two rows in a hundred are chosen, after three columns whose means are far from zero; likes are known of chosen rows."""
    random = np.random.default_rng(0)
    values = random.normal(size=(size, 3)) * (1.0, 0.5, 20.0)
    odds = values[:, 0] + 1.6 * values[:, 1] + 0.02 * values[:, 2] - 4.6
    chosen = (random.random(size) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    like = np.where(chosen > 0, random.random(size) < 0.8, np.nan).astype(np.float32)
    columns = {name: (values[:, n] + shift).astype(np.float32) for n, (name, shift) in enumerate((("a", 4.0), ("b", 3.0), ("c", 100.0)))}
    heavy = np.where(chosen > 0, 0.1, 1.0) if weights else None
    return Pointwise(columns, {"choose": chosen, "like": like}, np.zeros(size, np.int64), weights=heavy)


@pytest.mark.parametrize(("model", "options"), MODELS)
@pytest.mark.parametrize("weights", [False, True])
def test_it_begins_at_the_weighted_rate_of_each_label(model: Any, options: dict[str, Any], weights: bool) -> None:
    ranker, data = model(SCHEMA, **options), rare(weights=weights)
    ranker.begin(data)
    batch = data.batch(torch.arange(len(data)))
    weight = batch.get("weight", torch.ones(len(data)))
    for t, task in enumerate(ranker.tasks):
        known = ~torch.isnan(batch[f"label:{task}"])
        expected = (weight * batch[f"label:{task}"])[known].sum() / weight[known].sum()
        assert float(torch.sigmoid(ranker.last_bias()[t].detach())) == pytest.approx(float(expected), rel=1e-4)


def test_a_trained_ranker_is_not_begun_again() -> None:
    data = rare(2000)
    ranker = MLP(SCHEMA, dim=4, hidden=())
    Trainer(epochs=1).fit(ranker, data)
    kept = {name: values.clone() for name, values in ranker.state_dict().items()}
    resumed = MLP(SCHEMA, dim=4, hidden=())
    resumed.load_state_dict(kept)
    resumed.begin(rare(100))
    for name, values in resumed.state_dict().items():
        assert torch.equal(values, kept[name]), name


def test_a_label_never_seen_is_finite() -> None:
    data = Pointwise({name: np.ones(5) for name in "abc"}, {"choose": np.zeros(5), "like": np.full(5, np.nan)}, np.zeros(5, np.int64))
    ranker = DeepFM(SCHEMA)
    ranker.begin(data)
    assert ranker.last_bias().tolist() == pytest.approx([-math.log(1 / 0.1), 0.0], rel=1e-5)


@pytest.mark.parametrize(("model", "options"), [(MLP, {"dim": 4, "hidden": ()}), (DeepFM, {"dim": 4, "hidden": (8,), "dropout": 0.0})])
def test_two_epochs_do_for_what_logistic_regression_finds(model: Any, options: dict[str, Any]) -> None:
    data = rare()
    batch = data.batch(torch.arange(len(data)))
    values, labels = torch.stack([batch[name] for name in "abc"], 1).numpy(), batch["label:choose"].numpy()
    torch.manual_seed(0)
    ranker = model(SCHEMA, **options)
    Trainer(epochs=2, batch_size=500, learning_rate=0.01).fit(ranker, data)
    with torch.inference_mode():
        found = roc_auc_score(labels, ranker.predict(batch)[:, 0].numpy())
    linear = LogisticRegression(C=1.0).fit((values - values.mean(0)) / values.std(0), labels)
    best = roc_auc_score(labels, linear.decision_function((values - values.mean(0)) / values.std(0)))
    assert found > best - 0.01
