"""Item2vec in a world of kinds, and how it answers."""

import numpy as np
import pytest

from palate.recall.embedding.item2vec import Item2vec
from palate.recall.embedding.together import HOUR
from tests.recall.made import checkerboard, interactions, lists, request


def baskets(seed=0, size=300, kinds=6, each=5):
    """Each basket holds three items of one kind."""
    random = np.random.default_rng(seed)
    dense = np.zeros((size, kinds * each))
    for row in dense:
        row[random.integers(kinds) * each + random.choice(each, 3, replace=False)] = 1
    return dense


def test_what_is_taken_together_points_the_same_way():
    model = Item2vec(8, epochs=30, subsample=0.0).fit(interactions(baskets()))
    assert all(set(model.similar(item, 4)[0]) == set(range(item // 5 * 5, item // 5 * 5 + 5)) - {item} for item in range(30))


def test_a_pause_ends_a_set_as_another_user_would():
    first, second = baskets(1, 100), baskets(2, 100)
    days = np.where(np.arange(60) < 30, 0, 24 * HOUR) * np.ones((100, 1))
    one = Item2vec(8, epochs=2, gap_hours=1.0).fit(interactions(np.hstack((first, second)), days))
    apart = np.zeros((200, 60))
    apart[::2, :30], apart[1::2, 30:] = first, second
    np.testing.assert_array_equal(one.items, Item2vec(8, epochs=2).fit(interactions(apart)).items)
    assert (one.items != Item2vec(8, epochs=2, gap_hours=25.0).fit(interactions(np.hstack((first, second)), days)).items).any()


def test_a_history_scores_mean_cosines_and_popularity():
    dense = baskets()
    model = Item2vec(8, epochs=5, popularity=0.3, weighted=True).fit(interactions(dense))
    unit = model.items[:, :8].astype(float)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    found = model.retrieve(request([[2, 9], []], values=[[3.0, 1.0], []]), 30)
    expected = (0.75 * unit[2] + 0.25 * unit[9]) @ unit.T + 0.3 * np.log(dense.sum(0))
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1], atol=1e-5)
    assert [len(one) for one in lists(found)] == [30, 0]


def test_by_context_a_history_scores_mean_products_with_what_an_item_stands_beside():
    dense = np.column_stack((baskets(), np.zeros(300)))
    model = Item2vec(8, epochs=5, popularity=0.75, answer="context").fit(interactions(dense))
    u, v = model.centres.astype(float), model.items[:, :8].astype(float)
    found = model.retrieve(request([[2, 9], [30]]), 31)
    expected = (u[2] + u[9]) / 2 @ v.T + 0.75 * np.log(np.maximum(dense.sum(0), 1e-9))
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1], atol=1e-4)
    assert found.items[-1] == 30  # what nobody took comes last
    assert [len(one) for one in lists(found)] == [31, 0]
    cosines = u[:30] @ u[7] / np.linalg.norm(u[:30], axis=1)
    np.testing.assert_array_equal(model.similar(7, 4)[0], [one for one in np.argsort(-cosines) if one != 7][:4])
    again = Item2vec(8, answer="context").from_arrays(model.arrays())
    np.testing.assert_array_equal(again.user_vectors(request([[2, 9]])), model.user_vectors(request([[2, 9]])))
    with pytest.raises(ValueError, match="centres of shape"):
        Item2vec(8, answer="context").from_arrays(model.arrays() | {"centres": u[:3]})
    assert "centres" not in Item2vec(8, epochs=1).fit(interactions(dense)).arrays()


def test_what_nobody_took_says_nothing_and_a_dislike_the_reverse():
    dense = np.column_stack((baskets(), np.zeros(300)))
    model = Item2vec(8, epochs=5, popularity=0.3, weighted=True).fit(interactions(dense))
    beside, alone, cold, disliked = model.user_vectors(request([[2, 30], [2], [30], [2, 9]], values=[[3.0, 9.0], [3.0], [3.0], [1.0, -3.0]]))
    np.testing.assert_allclose(beside, alone, atol=1e-6)
    assert not cold.any()
    unit = model.items[:, :8].astype(float)
    np.testing.assert_allclose(disliked, [*(0.25 * unit[2] - 0.75 * unit[9]), 1], atol=1e-5)


def test_checkerboard():
    board = checkerboard()
    histories = [np.flatnonzero(row) for row in board]
    model = Item2vec(4, epochs=100, subsample=0.0).fit(interactions(board))
    assert lists(model.retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"contexts": -1}, {"negatives": 0}, {"subsample": -1.0}, {"gap_hours": -1.0}, {"learning_rate": 0.0}]
)
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Item2vec(**options)
