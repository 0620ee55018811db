from functools import cache

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ndcg_score

from palate.evaluation.metrics.rating import log_loss
from palate.rank.boosting.gbdt import GBDT
from palate.rank.boosting.lambdamart import LambdaMART, platt
from palate.rank.boosting.rows import Rows
from palate.schema import Feature, Label, Schema
from tests.conftest import Beats
from tests.worlds import levelled, more


@cache
def judged(cls: type[GBDT], uneven: bool) -> tuple[float, float]:
    """NDCG@10 and log loss on lists that were not learnt from, the means over three worlds."""
    found = []
    for seed in (0, 3, 6):
        (schema, train), (_, valid), (_, test) = (levelled(lists, uneven, seed + n) for n, lists in enumerate((more(300), 100, 400)))
        torch.manual_seed(0)
        forest = cls(schema, trees=40, leaves=8, learning_rate=0.1).fit(train, valid)
        batch = test.batch(torch.arange(len(test)))
        labels, scores = batch["label:take"].numpy().reshape(400, 20), forest.predict(batch)[:, 0].numpy().reshape(400, 20)
        asked = labels.any(1)
        found.append((ndcg_score(labels[asked], scores[asked], k=10), log_loss(labels.ravel(), scores.ravel())))
    return tuple(np.mean(found, 0))


def test_it_wins_ndcg_where_log_loss_is_about_something_else(beats: Beats) -> None:
    """With the same few trees: GBDT's go into what each list is worth as a whole, LambdaMART's into the order within."""
    (order, loss), (plain, plain_loss) = judged(LambdaMART, True), judged(GBDT, True)
    beats(0.008, "NDCG@10", LambdaMART=order, GBDT=plain)
    assert loss > plain_loss + 0.1  # they do disagree


def test_it_loses_little_where_they_agree(beats: Beats) -> None:
    beats(-0.01, "NDCG@10", LambdaMART=judged(LambdaMART, False)[0], GBDT=judged(GBDT, False)[0])


def test_the_order_is_that_of_the_trees_and_the_mean_that_of_the_labels() -> None:
    schema, rows = levelled(200, False, 0)
    forest = LambdaMART(schema, trees=20).fit(rows)
    batch = rows.batch(torch.arange(len(rows)))
    trees = forest.trees[0].sum(forest.inputs.columns(batch), 1)
    found = forest.predict(batch)[:, 0].double().numpy()
    order = np.argsort(trees, kind="stable")
    assert (np.diff(found[order]) >= -1e-7).all()
    assert found.mean() == pytest.approx(float(batch["label:take"].mean()), abs=0.01)


def test_platts_line_is_the_logistic_regression_on_the_score() -> None:
    random = np.random.default_rng(0)
    scores, weights = random.normal(size=5000), random.random(5000)
    labels = (random.random(5000) < 1 / (1 + np.exp(-(1.7 * scores - 0.6)))).astype(float)
    rows = Rows(np.empty((5000, 0), np.float32), labels, weights, np.zeros(5000), np.zeros(5000, np.int64))
    plain = LogisticRegression(C=1e9).fit(scores[:, None], labels, sample_weight=weights)
    np.testing.assert_allclose(platt(scores, rows), [plain.coef_[0, 0], plain.intercept_[0]], atol=0.01)


def test_other_tasks_are_those_of_gbdt() -> None:
    schema, rows = levelled(60, True, 0)
    both = Schema(schema.features, (Label("take"), Label("more")))
    batch = rows.batch(torch.arange(len(rows)))
    values = {name: batch[name] for name in (feature.name for feature in schema.features)}
    labels = {"take": batch["label:take"], "more": 1 - batch["label:take"]}
    from palate.datasets.pointwise import Pointwise

    two = Pointwise(values, labels, batch["group"])
    found = []
    for cls in (GBDT, LambdaMART):
        torch.manual_seed(0)
        found.append(cls(both, trees=10).fit(two).predict(batch))
    assert torch.equal(found[0][:, 1], found[1][:, 1])
    assert not torch.equal(found[0][:, 0], found[1][:, 0])


def test_what_it_cannot_order_by_is_refused() -> None:
    with pytest.raises(ValueError, match="is a number"):
        LambdaMART(Schema((Feature("x", "user", "number"),), (Label("seconds", "number"),)))
    with pytest.raises(ValueError, match="k must be"):
        LambdaMART(Schema((Feature("x", "user", "number"),), (Label("take", loss="lambdarank"),)), k=0)
