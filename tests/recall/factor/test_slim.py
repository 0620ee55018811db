"""SLIM against the conditions of its optimum, and against a general solver."""

import numpy as np
import pytest
from scipy.optimize import minimize

from palate.recall.factor import slim
from palate.recall.factor.slim import SLIM
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)


def test_the_optimum_s_conditions_hold():
    l1, l2 = 8.0, 3.0
    w = SLIM(l1, l2, tolerance=1e-9, iterations=10_000).fit(interactions(R)).weights.toarray().astype(float)
    slopes = R.T @ R @ w - R.T @ R + l2 * w + l1  # of the objective, weights held above 0
    off = ~np.eye(25, dtype=bool)
    assert (np.diag(w) == 0).all()
    assert (w >= 0).all()
    assert 20 < (w > 0).sum() < 400
    np.testing.assert_allclose(slopes[off & (w > 0)], 0, atol=1e-3)
    assert (slopes[off & (w == 0)] > -1e-3).all()


def test_a_general_solver_finds_no_better():
    l1, l2 = 20.0, 10.0
    w = SLIM(l1, l2, tolerance=1e-8, iterations=10_000).fit(interactions(R)).weights.toarray().astype(float)
    for j in (0, 7, 24):
        others = np.delete(np.arange(25), j)

        def objective(v, a=R[:, others], b=R[:, j]):
            return ((b - a @ v) ** 2).sum() / 2 + l2 / 2 * (v**2).sum() + l1 * v.sum()

        found = minimize(objective, np.zeros(24), bounds=[(0, None)] * 24, method="L-BFGS-B")
        assert objective(w[others, j]) <= found.fun + 1e-4
        np.testing.assert_allclose(w[others, j], found.x, atol=2e-3)


def test_only_near_items_may_weigh():
    few = SLIM(0.5, 1.0, neighbors=4).fit(interactions(R)).weights.toarray()
    norms = np.linalg.norm(R, axis=0)
    cosines = (R.T @ R) / np.maximum(np.outer(norms, norms), 1e-12)
    np.fill_diagonal(cosines, -1)
    for j in range(24):
        assert set(np.flatnonzero(few[:, j])) <= set(np.argsort(-cosines[:, j], kind="stable")[:4])
    assert (few > 0).sum(0).max() == 4


def test_parts_and_threads_give_the_same(monkeypatch):
    whole = SLIM(2.0, 3.0).fit(interactions(R)).weights
    monkeypatch.setattr(slim, "BLOCK", 60)
    for threads in (1, 3):
        parts = SLIM(2.0, 3.0, threads=threads).fit(interactions(R)).weights
        assert (whole != parts).nnz == 0


def test_a_history_scores_what_its_items_say():
    model = SLIM(2.0, 3.0, weighted=True, half_life_days=10).fit(interactions(R))
    x = np.zeros(25)
    x[[2, 9]] = 5.0, 2.0
    found = model.retrieve(request([[2, 9]], values=[[5.0, 4.0]], ages=[[0.0, 10.0]]), 25)
    expected = x @ model.weights.toarray()
    assert len(found.items) == (expected > 0).sum() > 5
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][: len(found.items)], rtol=1e-5)


def test_checkerboard():
    board = checkerboard()
    histories = [np.flatnonzero(row) for row in board]
    assert lists(SLIM(0.1, 1.0).fit(interactions(board)).retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


@pytest.mark.parametrize("options", [{"l1": -1.0}, {"l2": 0.0}, {"neighbors": -1}, {"iterations": 0}, {"tolerance": 0.0}, {"threads": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SLIM(**options)


def test_values_below_0_are_refused():
    with pytest.raises(ValueError, match="below 0"):
        SLIM().fit(interactions(-R))


def test_saved_arrays_must_fit():
    arrays = SLIM().fit(interactions(R)).arrays()
    for change in ({"items": arrays["items"] + 25}, {"offsets": arrays["offsets"] + 1}):
        with pytest.raises(ValueError):
            SLIM().from_arrays(arrays | change)
