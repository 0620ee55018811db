from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.rank.boosting import gbdtlr
from palate.rank.boosting.gbdt import GBDT
from palate.rank.boosting.gbdtlr import GBDTLR, logistic
from palate.rank.boosting.rows import Rows
from palate.rank.linear.lr import LR
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.rank.boosting.walk import leaf_of, trees_of
from tests.worlds import bands, more


def judged(model: Any, rows: Pointwise) -> float:
    batch = rows.batch(torch.arange(len(rows)))
    with torch.inference_mode():
        return auc(batch["label:take"].numpy(), model.predict(batch)[:, 0].numpy())


@cache
def held_out(cls: Any, bent: bool) -> float:
    """AUC on rows that were not learnt from, the mean over two worlds."""
    torch.set_num_threads(1)
    found = []
    for seed in (0, 3):
        (schema, train), (_, valid), (_, test) = (bands(rows, bent, seed + n) for n, rows in enumerate((more(5000), 1500, 4000)))
        torch.manual_seed(0)
        model = cls(schema)
        if cls is LR:
            Trainer(epochs=40, batch_size=512, learning_rate=0.05).fit(model, train, lambda model=model, valid=valid: judged(model, valid))  # type: ignore[misc]
        else:
            model.fit(train, valid)
        found.append(judged(model, test))
    return float(np.mean(found))


def test_it_wins_over_lr_where_thresholds_matter(beats: Beats) -> None:
    beats(0.3, GBDTLR=held_out(GBDTLR, True), LR=held_out(LR, True))


def test_it_loses_little_where_a_line_is_right(beats: Beats) -> None:
    beats(-0.015, GBDTLR=held_out(GBDTLR, False), LR=held_out(LR, False))


def test_an_answer_is_the_sum_of_the_weights_of_the_leaves_walked_by_hand() -> None:
    schema, rows = bands(600, True, 0)
    forest = GBDTLR(schema, trees=12).fit(rows)
    batch = rows.batch(torch.arange(30))
    trees, most = trees_of(forest.trees[0].text), forest.trees[0].shape[1]
    for row, found in zip(forest.inputs.columns(batch), forest.predict(batch)[:, 0], strict=True):
        leaves = [leaf_of(tree, row) for tree in trees]
        odds = forest.base[0] + forest.weights[0][-1] + sum(forest.weights[0][n * most + leaf] for n, leaf in enumerate(leaves))
        assert float(found) == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-5)


def test_groups_apart_grow_no_tree_and_all_their_rows_make_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, rows = bands(600, True, 0)
    batch, seen = rows.batch(torch.arange(600)), []
    columns = {feature.name: batch[feature.name] for feature in schema.features}
    grouped = Pointwise(columns, {"take": batch["label:take"]}, np.arange(600) % 40)
    learn, fitted = GBDT.learn, gbdtlr.logistic
    monkeypatch.setattr(GBDT, "learn", lambda self, task, rows, held: seen.append(rows.groups) or learn(self, task, rows, held))
    monkeypatch.setattr(gbdtlr, "logistic", lambda values, rows, penalty: seen.append(rows.groups) or fitted(values, rows, penalty))
    GBDTLR(schema, trees=3, apart=0.4).fit(grouped)
    grown, weighed = (set(groups.tolist()) for groups in seen)
    assert grown | weighed == set(range(40))
    assert not grown & weighed
    assert 8 < len(weighed) < 24
    assert sum(map(len, seen)) == 600


def test_the_linear_part_is_logistic_regression() -> None:
    random = np.random.default_rng(0)
    values = np.c_[random.integers(0, 2, (3000, 6)), np.ones(3000)]
    weights = random.random(3000)
    labels = (random.random(3000) < 1 / (1 + np.exp(-(values[:, :6] @ [1, -1, 2, 0, 0.5, -2])))).astype(float)
    rows = Rows(np.empty((3000, 0), np.float32), labels, weights, np.zeros(3000), np.zeros(3000, np.int64))
    found = logistic(csr_matrix(values), rows, penalty=40.0)
    plain = LogisticRegression(C=1 / (40.0 * weights.mean()), tol=1e-8).fit(values[:, :6], labels, sample_weight=weights)
    np.testing.assert_allclose(found, [*plain.coef_[0], plain.intercept_[0]], atol=0.02)


def test_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="is a number"):
        GBDTLR(Schema((Feature("x", "user", "number"),), (Label("seconds", "number"),)))
