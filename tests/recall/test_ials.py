"""iALS against its own objective written out densely."""

import numpy as np
import pytest

from palate.index.exact import Exact
from palate.recall.factor.ials import IALS
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)


def objective(r, x, y, alpha, regularization):
    c, p = 1 + alpha * r, r > 0
    return (c * (p - x @ y.T) ** 2).sum() + regularization * ((x**2).sum() + (y**2).sum())


def solved(r, other, alpha, regularization):
    """Each row's exact minimiser with the other side fixed."""
    rows = []
    for row in r:
        c = 1 + alpha * row
        system = (other * c[:, None]).T @ other + regularization * np.eye(other.shape[1])
        rows.append(np.linalg.solve(system, (other * c[:, None]).T @ (row > 0)))
    return np.array(rows)


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_every_iteration_lowers_the_objective(solver):
    values = []
    for iterations in range(1, 12):
        model = IALS(6, 0.5, 2.0, iterations, solver).fit(interactions(R))
        values.append(objective(R, model.user_factors, model.items, 2.0, 0.5))
    assert (np.diff(values) < 1e-3).all()
    assert values[-1] < 0.98 * values[0]


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_ends_at_a_fixed_point(solver):
    model = IALS(5, 1.0, 2.0, 1500, solver, seed=3).fit(interactions(R))
    x, y = model.user_factors.astype(float), model.items.astype(float)
    np.testing.assert_allclose(x, solved(R, y, 2.0, 1.0), atol=2e-3)
    np.testing.assert_allclose(y, solved(R.T, x, 2.0, 1.0), atol=2e-3)


def test_one_exact_half_step_is_the_dense_solution():
    model = IALS(6, 0.7, 3.0, 1, "cholesky", seed=5).fit(interactions(R))
    np.testing.assert_allclose(model.items, solved(R.T, model.user_factors.astype(float), 3.0, 0.7), atol=1e-4)


def test_conjugate_gradient_with_as_many_steps_as_dimensions_is_exact():
    data = interactions(R)
    steps = IALS(4, 0.5, 2.0, 3, steps=8).fit(data)
    exact = IALS(4, 0.5, 2.0, 3, "cholesky").fit(data)
    np.testing.assert_allclose(steps.items, exact.items, atol=2e-3)


def test_user_vectors_solve_for_the_history():
    model = IALS(6, 0.7, 3.0, weighted=True, half_life_days=10).fit(interactions(R))
    asked = request([[2, 9, 14], [], [3]], values=[[5.0, 1.0, np.nan], [], [4.0]], ages=[[0.0, 10.0, 20.0], [], [0.0]])
    r = np.zeros((3, 25))
    r[0, [2, 9, 14]] = 5.0, 0.5, 0.25
    r[2, 3] = 4.0
    np.testing.assert_allclose(model.user_vectors(asked), solved(r, model.items.astype(float), 3.0, 0.7), atol=1e-4)
    found = model.retrieve(asked, 25)
    assert [len(one) for one in lists(found)] == [25, 0, 25]
    np.testing.assert_allclose(found.scores[:25], (model.items @ model.user_vectors(asked)[0])[found.items[:25]], atol=1e-5)


def test_the_history_is_the_truth_and_not_the_fitted_user():
    model = IALS(6).fit(interactions(R))
    other = np.flatnonzero(R[3])
    assert lists(model.retrieve(request([other], users=[0]), 9)) == lists(model.retrieve(request([other], users=[-1]), 9))


def test_checkerboard():
    board = checkerboard()
    model = IALS(2, 0.1, 5.0).fit(interactions(board))
    histories = [np.flatnonzero(row) for row in board]
    assert lists(model.retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


def test_seed():
    data = interactions(R)
    first, same, other = (IALS(4, seed=seed).fit(data).items for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


def test_an_index_gives_the_same_answers():
    model = IALS(6, 0.7, 3.0).fit(interactions(R))
    asked = request([[2, 9], [], [4]], [[2, 9], [], [4]])
    expected = lists(model.retrieve(asked, 5))
    index = Exact().fit(model.items, np.arange(25, dtype=np.int64))
    assert lists(model.search_with(index).retrieve(asked, 5)) == expected


def test_similar_is_the_cosine_of_factors():
    model = IALS(6).fit(interactions(R))
    rows, cosines = model.similar(4, 5)
    unit = model.items[:-1] / np.linalg.norm(model.items[:-1], axis=1, keepdims=True)
    expected = unit @ unit[4]
    expected[4] = -np.inf
    np.testing.assert_array_equal(rows, np.argsort(-expected, kind="stable")[:5])
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:5], atol=1e-5)
    assert not len(model.similar(24, 5)[0])  # nobody took it


@pytest.mark.parametrize("options", [{"dim": 0}, {"iterations": 0}, {"regularization": 0.0}, {"alpha": -1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        IALS(**options)


def test_values_below_0_are_refused_at_fitting_and_no_part_of_a_history():
    with pytest.raises(ValueError, match="below 0"):
        IALS().fit(interactions(-R))
    model = IALS(6, weighted=True).fit(interactions(R))
    disliked = request([[2, 9, 14], [3]], values=[[5.0, -1.0, np.nan], [-2.0]])
    np.testing.assert_array_equal(model.user_vectors(disliked), model.user_vectors(request([[2, 14], []], values=[[5.0, np.nan], []])))


def test_saved_factors_must_fit():
    with pytest.raises(ValueError, match="dim = 4"):
        IALS(4).from_arrays(IALS(5).fit(interactions(R)).arrays())
