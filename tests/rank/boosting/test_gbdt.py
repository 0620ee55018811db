import numpy as np
import pytest
import torch

from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc, rmse
from palate.rank.boosting.forest import checked
from palate.rank.boosting.gbdt import GBDT
from palate.schema import Feature, Label, Schema
from tests.rank.boosting.walk import sum_of
from tests.worlds import columns, schema_of_everything


def rows_of(schema: Schema, size: int = 300, seed: int = 0) -> Pointwise:
    values = columns(schema, size, seed=seed)
    random = np.random.default_rng(seed + 7)
    odds = (values["year"] + (values["genre"] % 2) * 2 - (values["user_id"] % 3)).numpy()
    return Pointwise(values, {label.name: (odds + random.normal(size=size) > 0).astype(np.float32) for label in schema.labels}, np.arange(size) // 10)


def test_an_answer_is_the_base_and_the_sum_of_the_leaves_walked_by_hand() -> None:
    schema = schema_of_everything()
    forest = GBDT(schema, trees=15, least=5, categories=20).fit(rows_of(schema))
    batch = rows_of(schema, 40, seed=2).batch(torch.arange(40))
    batch["year"][3], batch["genre"][4] = torch.nan, 1
    found = forest.predict(batch)
    for task in range(2):
        seen = np.concatenate((forest.inputs.columns(batch), forest.inputs.task_means(batch, task)), 1)
        odds = np.array([forest.base[task] + sum_of(forest.trees[task].text, row) for row in seen])
        np.testing.assert_allclose(found[:, task], 1 / (1 + np.exp(-odds)), rtol=1e-5)


def test_one_tree_of_one_split_is_newtons_step() -> None:
    """One binary column: a leaf's value is rate x sum of (y - p) over (sum of p (1 - p) + l2), p the rate of all."""
    x = np.repeat([0.0, 1.0], 50).astype(np.float32)
    y = np.r_[np.repeat([0, 1], [40, 10]), np.repeat([0, 1], [15, 35])].astype(np.float32)
    schema = Schema((Feature("x", "user", "number"),), (Label("take"),))
    forest = GBDT(schema, trees=1, leaves=2, learning_rate=0.3, l2=2.0).fit(Pointwise({"x": x}, {"take": y}, np.zeros(100, int)))
    p = y.mean()
    odds = [np.log(p / (1 - p)) + 0.3 * (y[x == v] - p).sum() / (50 * p * (1 - p) + 2.0) for v in (0, 1)]
    found = forest.predict(Pointwise({"x": x}, {"take": y}, np.zeros(100, int)).batch(torch.tensor([0, 99])))
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-np.array(odds))), rtol=1e-4)


def test_a_number_is_fitted_to_its_mean_by_squared_error() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=2000).astype(np.float32)
    y = (100 + 20 * np.abs(x) + random.normal(size=2000)).astype(np.float32)
    schema = Schema((Feature("x", "user", "number"),), (Label("seconds", "number"),))
    rows = Pointwise({"x": x}, {"seconds": y}, np.zeros(2000, int))
    found = GBDT(schema).fit(rows).predict(rows.batch(torch.arange(2000)))[:, 0].numpy()
    assert rmse(y, found) < 1.5
    assert found.mean() == pytest.approx(y.mean(), rel=0.01)


def test_it_stops_when_held_out_rows_find_no_better() -> None:
    schema = schema_of_everything()
    rows, held = rows_of(schema), rows_of(schema, 300, seed=5)
    free, stopped = (GBDT(schema, trees=200, learning_rate=0.3, patience=5).fit(rows, some) for some in (None, held))
    assert free.trees[0].shape[0] == 200
    assert stopped.trees[0].shape[0] < 100
    batch = rows_of(schema, 2000, seed=9).batch(torch.arange(2000))
    assert auc(batch["label:choose"].numpy(), stopped.predict(batch)[:, 0].numpy()) > 0.8


def test_a_loss_that_is_not_its_own_is_refused() -> None:
    features = (Feature("x", "user", "number"),)
    for label in (Label("take", loss="listnet"), Label("take", loss="mean_squared_error"), Label("take", loss="lambdarank")):
        with pytest.raises(ValueError, match="cannot fit the task 'take' by the loss"):
            GBDT(Schema(features, (label,)))
    assert GBDT(Schema(features, (Label("take", loss="binary_cross_entropy"), Label("seconds", "number", loss="mean_squared_error"))))


def test_a_text_that_would_lead_outside_is_refused() -> None:
    schema = schema_of_everything()
    forest = GBDT(schema, trees=3, least=5).fit(rows_of(schema))
    text = forest.trees[0].text
    assert checked(text, forest.inputs.width) == forest.trees[0].shape
    with pytest.raises(ValueError, match="columns"):
        checked(text, forest.inputs.width - 1)
    fact = next(line for line in text.splitlines() if line.startswith("right_child="))
    places = fact.removeprefix("right_child=").split()
    for wrong in ("0", "-400", places[-1]):
        with pytest.raises(ValueError, match="tree 0 does not hold together"):
            checked(text.replace(fact, "right_child=" + " ".join([wrong, *places[1:]]), 1), forest.inputs.width)
    for line in text.splitlines():
        name = line.partition("=")[0]
        if name in ("split_feature", "threshold", "decision_type", "left_child", "leaf_value"):
            with pytest.raises(ValueError, match="does not hold together"):
                checked(text.replace(line, line.rsplit(" ", 1)[0], 1), forest.inputs.width)
