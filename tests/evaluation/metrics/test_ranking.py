"""Ranking metrics against trec_eval's reference and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import Candidates, Ragged
from palate.evaluation.metrics import ranking


def world(seed: int, users: int = 25, n_items: int = 60, width: int = 20) -> tuple[np.ndarray, Ragged, np.ndarray]:
    """Lists of different lengths, relevant items (some users have many, all at least one), grades 1 to 4."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(n_items)[:width] for _ in range(users)]).astype(np.int64)
    for row, length in enumerate(rng.integers(0, width + 1, users)):
        items[row, length:] = -1
    relevant = Ragged.of([rng.permutation(n_items)[: rng.integers(1, 40)] for _ in range(users)])
    return items, relevant, rng.integers(1, 5, len(relevant.values)).astype(np.float64)


def reference(items: np.ndarray, relevant: Ragged, grades: np.ndarray | None, measures: set[str], k: int) -> dict[str, dict[str, float]]:
    judged = {
        str(b): {
            f"d{i}": 1 if grades is None else int(g)
            for i, g in zip(relevant[b], (np.ones(99) if grades is None else grades[relevant.offsets[b] :]), strict=False)
        }
        for b in range(len(relevant))
    }
    run = {str(b): {f"d{item}": float(1000 - place) for place, item in enumerate(row[:k]) if item >= 0} for b, row in enumerate(items)}
    run = {name: found or {"none": 1.0} for name, found in run.items()}
    return pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_equal_to_trec_eval(seed: int, k: int) -> None:
    items, relevant, _ = world(seed)
    names = {"P", "recall", "ndcg_cut", "success", "map_cut"}
    right = reference(items, relevant, None, {f"{name}.{k}" for name in names} | {"recip_rank"}, k)
    sizes = np.diff(relevant.offsets)
    ours = {
        f"P_{k}": ranking.precision(items, relevant, k),
        f"recall_{k}": ranking.recall(items, relevant, k),
        f"ndcg_cut_{k}": ranking.ndcg(items, relevant, k),
        f"success_{k}": ranking.hit(items, relevant, k),
        f"map_cut_{k}": ranking.average_precision(items, relevant, k) * np.minimum(sizes, k) / sizes,
        "recip_rank": ranking.reciprocal_rank(items, relevant, k),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, [right[str(b)][name] for b in range(len(items))], atol=1e-9, rtol=0, err_msg=name)
    p, r = ours[f"P_{k}"], ours[f"recall_{k}"]
    np.testing.assert_allclose(ranking.f1(items, relevant, k), np.where(p + r > 0, 2 * p * r / np.maximum(p + r, 1e-300), 0), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_graded_ndcg_equals_trec_eval(seed: int) -> None:
    items, relevant, grades = world(seed)
    right = reference(items, relevant, grades, {"ndcg_cut.10"}, 10)
    ours = ranking.ndcg(items, relevant, 10, grades=grades)
    np.testing.assert_allclose(ours, [right[str(b)]["ndcg_cut_10"] for b in range(len(items))], atol=1e-9, rtol=0)


def test_by_hand() -> None:
    items = np.array([[3, 7, 1, 9, -1], [5, 5, 6, -1, -1], [1, 2, 3, 4, 5]])
    relevant = Ragged.of([[7, 9, 2], [6, 5, 6], []])
    assert ranking.recall(items, relevant, 5)[:2] == pytest.approx([2 / 3, 1.0])
    assert ranking.precision(items, relevant, 5)[:2] == pytest.approx([2 / 5, 2 / 5])  # item 5 counts once
    assert ranking.reciprocal_rank(items, relevant, 5)[:2] == pytest.approx([1 / 2, 1.0])
    assert ranking.average_precision(items, relevant, 5)[:2] == pytest.approx([(1 / 2 + 2 / 4) / 3, (1 + 2 / 3) / 2])
    assert ranking.average_precision(items, relevant, 2)[0] == pytest.approx((1 / 2) / 2)  # min(k, relevant) = 2
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ranking.ndcg(items, relevant, 5)[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)
    graded = ranking.ndcg(items[:1], Ragged.of([[7, 9]]), 5, grades=np.array([1.0, 3.0]), gain="exponential")
    assert graded[0] == pytest.approx((1 / math.log2(3) + 7 / math.log2(5)) / (7 + 1 / math.log2(3)))
    for name, metric in ranking.METRICS.items():
        assert math.isnan(metric(items, relevant, 5, None)[2]), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 25))
def test_judge_equals_single_functions_and_stays_in_bounds(seed: int, k: int) -> None:
    items, relevant, _ = world(seed, users=6)
    judged = ranking.judge(items, relevant, ks=(k, 20))
    for name, metric in ranking.METRICS.items():
        values = metric(items, relevant, k, None)
        assert np.array_equal(judged[f"{name}@{k}"], values, equal_nan=True)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


def test_top_breaks_ties_by_row_and_leaves_out() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 2.0, np.nan], [0.0, 0.0, 0.0, -np.inf, 0.0]])
    assert ranking.top(scores, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert ranking.top(scores, 5, exclude=Ragged.of([[1], [0, 4]])).tolist() == [[2, 3, 0, -1, -1], [1, 2, -1, -1, -1]]
    rng = np.random.default_rng(0)
    many = rng.integers(0, 7, (40, 90)).astype(np.float32)
    right = np.argsort(-many, axis=1, kind="stable")[:, :20]
    assert np.array_equal(ranking.top(many, 20), right)
    assert ranking.top(many, 95)[:, 90:].max() == -1


def test_table_of_candidates() -> None:
    candidates = Candidates(np.array([4, 5, 6, 7]), np.ones(4, np.float32), np.array([0, 3, 3, 4]))
    assert ranking.table(candidates, 2).tolist() == [[4, 5], [-1, -1], [7, -1]]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="one row for each of the 2 users"):
        ranking.recall(np.zeros((1, 3), np.int64), Ragged.of([[1], [2]]), 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        ranking.ndcg(np.zeros((1, 3), np.int64), Ragged.of([[1]]), 0)
    with pytest.raises(ValueError, match="grades"):
        ranking.ndcg(np.zeros((1, 3), np.int64), Ragged.of([[1]]), 2, grades=np.ones(3))
