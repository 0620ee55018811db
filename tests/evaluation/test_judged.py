"""What a set of answers is worth: means, intervals, groups, the lists themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from palate.candidates import Ragged
from palate.evaluation.judged import Judged, whole
from palate.evaluation.metrics import lists, statistics
from palate.evaluation.metrics.ranking import judge


def answers(n: int = 60, n_items: int = 40) -> Judged:
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(n_items)[:10] for _ in range(n)]).astype(np.int64)
    items[3, 4:] = -1
    relevant = Ragged.of([rng.permutation(n_items)[: rng.integers(1, 9)] for _ in range(n)])
    users = np.repeat(np.arange(n // 2), 2)
    return Judged("s", "p", users, np.arange(n), items, judge(items, relevant, (5, 10)), {"even": np.arange(n) % 2 == 0}, (5, 10))


def test_figures_agree_with_single_intervals() -> None:
    judged = answers()
    figures = judged.figures(replicates=500)
    json.dumps(figures, allow_nan=False)
    assert (figures["questions"], figures["users"]) == (60, 30)
    for name in ("ndcg@10", "recall@5"):
        alone = judged.interval(name, replicates=500)
        assert figures["metrics"][name]["value"] == pytest.approx(judged.mean(name))
        assert [figures["metrics"][name][end] for end in ("low", "high")] == pytest.approx([alone.low, alone.high])
        assert figures["groups"]["even"]["metrics"][name]["value"] == pytest.approx(judged.mean(name, "even"))
    assert figures["groups"]["even"]["questions"] == 30


def test_columns_with_holes() -> None:
    values = np.random.default_rng(0).random((50, 3))
    values[::3, 1] = np.nan
    values[:, 2] = np.nan
    found = statistics.bootstrap_means(values, replicates=50)
    assert [one.users for one in found] == [50, 33, 0]
    assert found[1].value == pytest.approx(np.nanmean(values[:, 1]))
    assert np.isnan(found[2].value)


def test_lists_are_added_at_every_k() -> None:
    judged = answers()
    takers = np.arange(40)
    sets = Ragged.of([[row % 3] for row in range(40)])
    full = judged.with_lists(50, np.append(takers, np.zeros(10)), 100, sets=sets, profiles=Ragged.of([[30]] * 60), replicates=20)
    assert full.totals["coverage@10"].value == pytest.approx(lists.coverage(judged.items, 50))
    assert full.totals["gini@5"].value == pytest.approx(lists.gini(judged.items[:, :5], 50))
    np.testing.assert_allclose(full.metrics["diversity@10"], lists.diversity(judged.items, sets=sets))
    np.testing.assert_allclose(full.metrics["popularity_lift@5"], lists.popularity(judged.items[:, :5], takers) / 30 - 1)
    assert {"novelty@5", "long_tail@10", "popularity@5"} <= set(full.figures(replicates=10)["metrics"])
    assert "coverage@5" in full.figures(replicates=10)["metrics"]


def test_interval_of_all_lists_holds_the_value() -> None:
    judged = answers(n_items=900)
    for found in whole(judged.items, judged.users, 900, replicates=100):
        assert found.low < found.value < found.high


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ValueError, match="did you mean 'ndcg@10'"):
        answers().mean("ndgc@10")
    with pytest.raises(ValueError, match="did you mean 'even'"):
        answers().mean("ndcg@10", "evn")
