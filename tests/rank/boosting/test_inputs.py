import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.rank.boosting import inputs
from palate.rank.boosting.gbdt import GBDT
from palate.rank.boosting.inputs import FOLDS, Inputs
from palate.schema import Feature, Label, Schema
from tests.worlds import columns, schema_of_everything

SCHEMA = Schema((Feature("item", "item", "category", 50), Feature("genre", "item", "category", 5)), (Label("take"), Label("keep")))


def drawn(size: int = 600, groups: int = 40) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    ids = {"item": random.integers(2, 12, size), "genre": random.integers(2, 5, size)}
    labels = {"take": random.integers(0, 2, size).astype(np.float32), "keep": random.integers(0, 2, size).astype(np.float32)}
    labels["keep"][::3] = np.nan
    return ids, labels, random.integers(0, groups, size), random.random(size)


def test_a_large_category_is_its_count_and_the_smoothed_mean_of_its_label() -> None:
    ids, labels, groups, weights = drawn()
    inputs = Inputs(SCHEMA, categories=10, smoothing=7.0)
    inputs.fit(Pointwise(ids, labels, groups, weights=weights))
    batch = Batch.of({"item": np.array([3, 40]), "genre": np.array([2, 2])})
    np.testing.assert_allclose(inputs.columns(batch), [[2, np.log1p((ids["item"] == 3).sum())], [2, 0]], rtol=1e-6)
    for task, name in enumerate(("take", "keep")):
        known = ~np.isnan(labels[name])
        mean = np.average(labels[name][known], weights=weights[known])
        here = known & (ids["item"] == 3)
        prior = 7.0 * weights[known].mean()
        expected = (weights[here] @ labels[name][here] + prior * mean) / (weights[here].sum() + prior)
        np.testing.assert_allclose(inputs.task_means(batch, task), [[expected], [mean]], rtol=1e-4)


@pytest.mark.parametrize("by_group", [True, False])
def test_a_row_that_is_learnt_from_sees_the_mean_of_others_only(by_group: bool) -> None:
    """Turning the labels of its own group (or, where an id has one group, its own label) changes nothing of what a row sees."""
    ids, labels, groups, _ = drawn()
    groups = groups if by_group else ids["item"]
    seen = Inputs(SCHEMA, 10, 1.0).fit(Pointwise(ids, labels, groups))[1][0][:, 0]
    for row in (0, 5, 77):
        mine = groups == groups[row] if by_group else np.arange(len(groups)) == row
        turned = {**labels, "take": np.where(mine, 1 - labels["take"], labels["take"])}
        other = Inputs(SCHEMA, 10, 1e-6).fit(Pointwise(ids, turned, groups))[1][0][:, 0]
        plain = Inputs(SCHEMA, 10, 1e-6).fit(Pointwise(ids, labels, groups))[1][0][:, 0]
        assert other[row] == pytest.approx(plain[row], abs=1e-4)
        assert not np.allclose(other, plain, atol=1e-4)
    assert 1 < len(np.unique(seen[ids["item"] == 3])) <= FOLDS


def test_an_id_that_says_nothing_says_nothing_to_those_it_is_learnt_from() -> None:
    """With as many ids as rows, a mean of all rows would give away each label; that of others does not."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 2000).astype(np.float32)
    ids = random.integers(2, 900, 2000)
    schema = Schema((Feature("item", "item", "category", 900),), (Label("take"),))
    inputs = Inputs(schema, 10, 1.0)
    seen = inputs.fit(Pointwise({"item": ids}, {"take": labels}, np.arange(2000)))[1][0][:, 0]
    assert abs(np.corrcoef(seen, labels)[0, 1]) < 0.06
    assert np.corrcoef(inputs.task_means(Batch.of({"item": ids}), 0)[:, 0], labels)[0, 1] > 0.4


def test_never_are_all_rows_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of histories only some are written out at a time; what is learnt is the same."""
    schema = schema_of_everything()
    random = np.random.default_rng(0)
    labels = {"choose": random.integers(0, 2, 300).astype(np.float32), "like": random.integers(0, 2, 300).astype(np.float32)}
    rows, fitted, whole, asked = Pointwise(columns(schema, 300), labels, np.arange(300) % 40), [], Pointwise.batch, []
    monkeypatch.setattr(Pointwise, "batch", lambda self, chosen, *rest: asked.append(len(chosen)) or whole(self, chosen, *rest))
    for size in (300, 64):
        monkeypatch.setattr(inputs, "BLOCK", size)
        asked.clear()
        torch.manual_seed(0)
        fitted.append(GBDT(schema, trees=5, categories=10).fit(rows, rows))
        assert max(asked) == size
    assert [trees.text for trees in fitted[0].trees] == [trees.text for trees in fitted[1].trees]


def test_sequences_numbers_and_vectors() -> None:
    schema = Schema(
        (
            Feature("item", "item", "category", 9),
            Feature("history", "user", "sequence", 9, length=4, shares="item"),
            Feature("words", "item", "sequence", 500, length=3),
            Feature("age", "user", "number"),
            Feature("text", "item", "vector", dim=2),
        ),
        (Label("take"),),
    )
    batch = Batch.of(
        {
            "item": np.array([3, 5]),
            "history": np.array([[3, 3, 8, 0], [0, 0, 0, 0]]),
            "words": np.array([[400, 2, 0], [7, 0, 0]]),
            "age": np.array([np.inf, 40.0], np.float32),
            "text": np.array([[1.0, 2.0], [np.nan, 3.0]], np.float32),
        }
    )
    share = [0, 0, 2 / 3, 0, 0, 0, 0, 1 / 3]
    expected = [[3, 3, *share, 2, 2, np.nan, 1, 2], [5, 0, *[0] * 8, 0, 1, 40, np.nan, 3]]
    inputs = Inputs(schema, categories=9, smoothing=1.0)
    np.testing.assert_allclose(inputs.columns(batch), expected, rtol=1e-6)
    assert inputs.width == len(expected[0])


@pytest.mark.parametrize("categories", [0, 8, 9, 30, 1000])
def test_the_width_is_that_of_what_is_made(categories: int) -> None:
    schema = schema_of_everything()
    inputs = Inputs(schema, categories, 5.0)
    rows = Pointwise(columns(schema, 50), {"choose": np.ones(50), "like": np.zeros(50)}, np.arange(50) % 7)
    found, means = inputs.fit(rows)
    assert all(found.shape[1] + part.shape[1] == inputs.width for part in means)
    batch = rows.batch(torch.arange(5))
    assert inputs.columns(batch).shape[1] + inputs.task_means(batch, 1).shape[1] == inputs.width
