"""ALS against its objective and dense solutions; a matrix of low rank comes back from part of its ratings."""

import numpy as np
import pytest

from palate.recall.factor.als import ALS
from tests.recall.made import interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)


def objective(r, x, y, regularization):
    seen = r > 0
    error = (np.where(seen, r - x @ y.T, 0) ** 2).sum()
    return error + regularization * (seen.sum(1) @ (x**2).sum(1) + seen.sum(0) @ (y**2).sum(1))


def solved(r, other, regularization):
    """Each row's exact minimiser with the other side fixed, by stacking the penalty as further equations."""
    rows = []
    for row in r:
        y = other[row > 0]
        stacked = np.vstack((y, np.sqrt(regularization * max(len(y), 1)) * np.eye(other.shape[1])))
        rows.append(np.linalg.lstsq(stacked, np.concatenate((row[row > 0], np.zeros(other.shape[1]))), rcond=None)[0])
    return np.array(rows)


def test_every_iteration_lowers_the_objective():
    values = []
    for iterations in range(1, 12):
        model = ALS(6, 0.1, iterations).fit(interactions(R))
        values.append(objective(R, model.user_factors, model.items, 0.1))
    assert (np.diff(values) < 1e-3).all()
    assert values[-1] < 0.9 * values[0]


def test_ends_at_a_fixed_point():
    model = ALS(4, 0.3, 600, seed=3).fit(interactions(R))
    x, y = model.user_factors.astype(float), model.items.astype(float)
    np.testing.assert_allclose(x, solved(R, y, 0.3), atol=2e-3)
    np.testing.assert_allclose(y, solved(R.T, x, 0.3), atol=2e-3)


def test_a_user_is_solved_for_from_the_history():
    model = ALS(6, 0.2).fit(interactions(R))
    asked = request([[2, 9, 14, 2], [], [3]], values=[[1.0, 4.0, 2.0, 5.0], [], [np.nan]])
    r = np.zeros((3, 25))
    r[0, [2, 9, 14]] = 5.0, 4.0, 2.0  # the last rating counts
    r[2, 3] = R[R > 0].mean()
    np.testing.assert_allclose(model.user_vectors(asked), solved(r, model.items.astype(float), 0.2), atol=1e-4)
    assert [len(one) for one in lists(model.retrieve(asked, 25))] == [25, 0, 25]


def test_of_the_fit_s_ratings_the_history_gives_the_fitted_user():
    model = ALS(6, 0.2).fit(interactions(R))
    own = np.flatnonzero(R[3])
    found = model.user_vectors(request([own], values=[R[3][own]]))[0]
    np.testing.assert_allclose(found, model.user_factors[3], atol=1e-4)


def test_a_matrix_of_low_rank_comes_back():
    random = np.random.default_rng(0)
    whole = 3 + random.normal(0, 0.7, (80, 2)) @ random.normal(0, 0.7, (2, 50))
    seen = random.random(whole.shape) < 0.4
    model = ALS(4, 0.002, 60).fit(interactions(np.where(seen, whole, 0)))
    users, items = np.nonzero(~seen)
    error = np.sqrt(np.mean((model.ratings(users, items) - whole[users, items]) ** 2))
    assert error < 0.15 * whole[~seen].std()


def test_ratings_stay_in_range_and_need_fitted_users():
    model = ALS(6, 0.001).fit(interactions(R))
    users, items = np.divmod(np.arange(R.size), 25)
    found = model.ratings(users, items)
    assert found.min() == R[R > 0].min()
    assert found.max() == R.max()
    with pytest.raises(RuntimeError, match="no fitted users"):
        ALS(6).from_arrays(model.arrays()).ratings(users, items)


@pytest.mark.parametrize("options", [{"dim": 0}, {"regularization": 0.0}, {"iterations": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ALS(**options)
