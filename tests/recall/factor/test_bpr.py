"""BPR against its criterion, its gradient by finite differences, and its steps written out one by one."""

import numpy as np
import pytest

from palate.recall.factor.bpr import BPR
from palate.recall.factor.pairwise import _step, taken
from tests.datasets.test_draws import Draws
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1)


def criterion(x, i, j, shrink):
    return -np.log1p(np.exp(-(x @ i - x @ j))) - shrink / 2 * (x @ x + i @ i + j @ j)


def test_a_step_goes_up_the_gradient():
    random = np.random.default_rng(0)
    x, i, j = (random.normal(size=6) for _ in range(3))
    for fixed in (False, True):
        moved = [one.astype(np.float32) for one in (x, i, j)]
        _step(*moved, np.float32(0.1), np.float32(0.3), fixed)
        for place, after in enumerate(moved):
            gradient = np.zeros(6)
            for d in range(6):
                high, low = [x.copy(), i.copy(), j.copy()], [x.copy(), i.copy(), j.copy()]
                high[place][d] += 1e-5
                low[place][d] -= 1e-5
                gradient[d] = (criterion(*high, 0.3) - criterion(*low, 0.3)) / 2e-5
            np.testing.assert_allclose(after - (x, i, j)[place], 0.1 * gradient * (place == 0 or not fixed), atol=1e-6)


def test_an_epoch_is_its_steps_written_out():
    model = BPR(5, 0.3, 0.05, epochs=2, seed=4).fit(interactions(R))
    generator = np.random.default_rng(4)
    x, y = generator.normal(0, 0.1, (40, 5)), generator.normal(0, 0.1, (25, 5))
    naive = Draws(1 + int(generator.integers(2**62)))
    users, items = np.nonzero(R)
    for rate in (0.3, 0.15):
        for _ in range(len(users)):
            e = naive(len(users))
            u, i, j = users[e], items[e], naive(25)
            while R[u, j]:
                j = naive(25)
            slope = 1 / (1 + np.exp(x[u] @ (y[i] - y[j])))
            steps = slope * (y[i] - y[j]) - 0.05 * x[u], slope * x[u] - 0.05 * y[i], -slope * x[u] - 0.05 * y[j]
            x[u], y[i], y[j] = x[u] + rate * steps[0], y[i] + rate * steps[1], y[j] + rate * steps[2]
    np.testing.assert_allclose(model.user_factors, x, atol=1e-4)
    np.testing.assert_allclose(model.items, y, atol=1e-4)


def test_a_user_s_vector_is_at_the_top_of_the_criterion():
    model = BPR(4, 0.1, 0.1, epochs=60, passes=3000).fit(interactions(R))
    own = np.flatnonzero(R[3])
    vector = model.user_vectors(request([own]))[0].astype(float)
    others = np.flatnonzero(R[3] == 0)
    gaps = (model.items[own][:, None] - model.items[others][None]).reshape(-1, 4).astype(float)
    slopes = (gaps / (1 + np.exp(gaps @ vector))[:, None]).mean(0) - 0.1 * vector
    assert np.abs(slopes).max() < 0.01
    assert np.abs(vector).max() > 0.3


def test_taken_items_come_to_stand_above_the_rest():
    def order(model):
        scores = model.user_factors @ model.items.T
        return np.mean([(scores[u][R[u] > 0][:, None] > scores[u][R[u] == 0]).mean() for u in range(40)])

    assert order(BPR(16, epochs=100, regularization=0.001).fit(interactions(R))) > 0.98 > 0.6 > order(BPR(16, 1e-4, epochs=1).fit(interactions(R)))


def test_who_took_everything_is_no_endless_search():
    everything = np.ones((3, 4))
    model = BPR(3, epochs=2).fit(interactions(everything))
    assert lists(model.retrieve(request([[0, 1, 2, 3], [1]]), 4))[0] == []
    assert len(lists(model.retrieve(request([[1]]), 4))[0]) == 4


def test_of_nothing_it_has_learned_nothing():
    assert lists(BPR(3).fit(interactions(np.zeros((2, 4)))).retrieve(request([[0, 1]]), 4)) == [[]]


def test_membership():
    items = np.array([1, 4, 4, 7, 2, 9], np.int32)
    assert [taken(items, 0, 4, item) for item in (0, 1, 4, 7, 8)] == [False, True, True, True, False]
    assert not taken(items, 0, 4, 9)
    assert not taken(items, 2, 2, 4)


def test_checkerboard():
    board = checkerboard()
    model = BPR(4, epochs=200).fit(interactions(board))
    histories = [np.flatnonzero(row) for row in board]
    assert lists(model.retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


@pytest.mark.parametrize("options", [{"dim": 0}, {"epochs": 0}, {"passes": 0}, {"learning_rate": 0.0}, {"regularization": -1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BPR(**options)
