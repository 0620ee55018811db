"""EASE against ridge regressions of each item on the others, one by one."""

import numpy as np
import pytest

from palate.recall.factor import ease
from palate.recall.factor.ease import EASE
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)


def regressed(x, regularization):
    """Column j: the ridge regression of item j on all others, from the normal equations without it."""
    weights = np.zeros((x.shape[1],) * 2)
    for j in range(x.shape[1]):
        others = np.delete(np.arange(x.shape[1]), j)
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + regularization * np.eye(len(others)), a.T @ x[:, j])
    return weights


def dense(model):
    whole = np.zeros((25, 25))
    whole[np.ix_(model._rows, model._rows)] = model.weights
    return whole


def test_each_column_is_a_ridge_regression_on_the_others():
    np.testing.assert_allclose(dense(EASE(3.0).fit(interactions(R))), regressed(R, 3.0), atol=1e-5)


def test_in_single_precision_and_in_blocks_it_is_the_same(monkeypatch):
    monkeypatch.setattr(ease, "DOUBLE", 0)
    monkeypatch.setattr(ease, "BLOCK", 7)
    np.testing.assert_allclose(dense(EASE(3.0).fit(interactions(R))), regressed(R, 3.0), atol=1e-4)


def test_a_history_scores_what_its_items_say():
    model = EASE(3.0, weighted=True, half_life_days=10, min_value=2.0).fit(interactions(R))
    x = np.zeros(25)
    x[[2, 9]] = 5.0, 2.0
    found = model.retrieve(request([[2, 9, 14]], values=[[5.0, 4.0, 1.0]], ages=[[0.0, 10.0, 0.0]]), 24)
    expected = x @ regressed(R, 3.0)
    np.testing.assert_array_equal(found.items, np.argsort(-expected[:24], kind="stable"))  # nobody took the last item
    np.testing.assert_allclose(found.scores, expected[found.items], atol=1e-5)


def test_only_the_most_taken_have_a_place():
    counts = (R > 0).sum(0)
    model = EASE(3.0, max_items=10).fit(interactions(R))
    kept = np.sort(np.argsort(-counts, kind="stable")[:10])
    np.testing.assert_allclose(model.weights, regressed(R[:, kept], 3.0), atol=1e-5)
    out = np.setdiff1d(np.arange(25), kept)
    found = model.retrieve(request([kept[:2], out[:2], [kept[0], out[0]]], [kept[:2], [], [kept[1], 25, -1, 10**12]]), 25)
    assert set(lists(found)[0]) == set(kept[2:])
    assert lists(found)[1] == []
    assert set(lists(found)[2]) == set(kept) - {kept[1]}
    assert not len(model.similar(int(out[0]), 5)[0])
    again = EASE().from_arrays(model.arrays())
    assert lists(again.retrieve(request([kept[:2]]), 9)) == lists(model.retrieve(request([kept[:2]]), 9))


def test_similar_are_the_largest_weights():
    model = EASE(3.0).fit(interactions(R))
    rows, weights = model.similar(4, 5)
    expected = regressed(R, 3.0)[4, :24]
    expected[4] = -np.inf
    np.testing.assert_array_equal(rows, np.argsort(-expected)[:5])
    np.testing.assert_allclose(weights, np.sort(expected)[::-1][:5], atol=1e-5)


def test_checkerboard():
    board = checkerboard()
    histories = [np.flatnonzero(row) for row in board]
    assert lists(EASE(1.0).fit(interactions(board)).retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


@pytest.mark.parametrize("options", [{"regularization": 0.0}, {"max_items": -1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EASE(**options)


@pytest.mark.parametrize("change", [{"rows": np.array([3, 2, 1])}, {"rows": np.array([0, 1])}, {"items": np.array([2])}])
def test_saved_arrays_must_fit(change):
    arrays = {"weights": np.zeros((3, 3), np.float32), "rows": np.arange(3), "items": np.array([5])}
    EASE().from_arrays(arrays)
    with pytest.raises(ValueError, match="do not fit"):
        EASE().from_arrays(arrays | change)
