import tracemalloc

import numpy as np
import pytest

from palate.candidates import Histories, Ragged
from palate.index.topk import NOTHING, Table, best_of, distinct, pack, unpack, walk
from tests.recall.made import lists


def test_packed_keys_sort_by_score_then_row():
    scores = np.float32([3, -1, 0, -0.0, 1e-40, np.inf, -np.inf, 2.5, 2.5, -7])
    cell = np.empty(1, np.float32)
    keys = np.array([pack(float(score), row, cell, cell.view(np.uint32)) for row, score in enumerate(scores)], np.uint64)
    rows, values = unpack(np.sort(keys))
    np.testing.assert_array_equal(rows, np.lexsort((np.arange(10), -scores)))
    np.testing.assert_array_equal(values, scores[rows])
    rows, values = unpack(np.array([NOTHING]))
    assert rows[0] == -1
    assert values[0] == -np.inf


@pytest.mark.parametrize("block", [7, 100, 10**6])
@pytest.mark.parametrize("k", [1, 4, 30, 99])
def test_best_of_equals_a_full_sort(k, block, monkeypatch):
    monkeypatch.setattr("palate.index.topk.BLOCK", block)
    random = np.random.default_rng(k)
    scores = random.integers(-3, 4, (9, 30)).astype(np.float32)
    exclude = Ragged.of([random.integers(-2, 33, 5) for _ in range(9)])
    found = best_of(lambda start, stop: scores[start:stop], 9, 30, k, exclude)
    expected = [[i for i in np.lexsort((np.arange(30), -row)) if i not in exclude[b]][:k] for b, row in enumerate(scores)]
    assert lists(found) == expected
    np.testing.assert_array_equal(found.scores, scores[found.requests, found.items])


def test_the_best_of_a_million_for_many_need_no_matrix_of_them_all():
    items = np.random.default_rng(0).normal(size=(1_000_000, 4)).astype(np.float32)
    users = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)  # 400 MB of scores in all
    tracemalloc.start()
    found = best_of(lambda start, stop: users[start:stop] @ items.T, 100, 1_000_000, 10)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 150e6
    np.testing.assert_array_equal(found.items[-10:], np.argsort(-(items @ users[-1]), kind="stable")[:10])


def test_a_score_of_minus_infinity_is_nobody_s():
    scores = np.full((2, 5), -np.inf, np.float32)
    scores[1, 3] = -1e30
    found = best_of(lambda start, stop: scores[start:stop], 2, 5, 4)
    assert lists(found) == [[], [3]]


@pytest.mark.parametrize("density", [0.02, 0.5])
@pytest.mark.parametrize("block", [100, 10**6])
def test_table_best_equals_a_dense_product(density, block, monkeypatch):
    monkeypatch.setattr("palate.index.topk.BLOCK", block)
    random = np.random.default_rng(1)
    dense = np.where(random.random((20, 80)) < density, random.integers(0, 4, (20, 80)), 0).astype(np.float32)
    kept = random.random((20, 80)) < 2 * density  # entries that are there and 0 must not matter
    rows, columns = np.nonzero((dense > 0) | kept)
    offsets = np.searchsorted(rows, np.arange(21))
    table = Table.of(offsets, columns, dense[rows, columns], 80)
    queries = Ragged.of([random.integers(0, 20, random.integers(0, 6)) for _ in range(15)])
    weights = random.integers(0, 3, len(queries.values)).astype(np.float64)
    allowed = random.random(80) < 0.8
    exclude = Ragged.of([random.integers(-3, 90, 4) for _ in range(15)])
    for _ in range(2):  # the scratch must be left clean
        found = table.best(queries.offsets, queries.values, weights, 12, exclude, allowed)
        for b, row in enumerate(lists(found)):
            part = slice(queries.offsets[b], queries.offsets[b + 1])
            score = weights[part] @ dense[queries.values[part]]
            order = [i for i in np.lexsort((np.arange(80), -score)) if score[i] > 0 and allowed[i] and i not in exclude[b]]
            assert row == order[:12]
            np.testing.assert_allclose(found.scores[found.offsets[b] : found.offsets[b + 1]], score[row])


def test_distinct():
    nan = np.nan
    histories = Histories(
        np.array([4, 9, 4, -1, 3, 1, 1]),
        np.array([0, 10, 20, 20, 20, 5, 30]),
        np.zeros(7, np.uint32),
        np.array([5, nan, 2, 5, 0.5, 7, 9], np.float32),
        np.array([0, 5, 5, 7]),
    )
    now = np.array([30, 30, 30])
    offsets, items, weights = distinct(histories, now, 9)
    assert [offsets.tolist(), items.tolist(), weights.tolist()] == [[0, 2, 2, 3], [3, 4, 1], [1, 1, 1]]
    offsets, items, weights = distinct(histories, now, 10, half_life=10.0, min_value=1.0, weighted=True)
    assert [offsets.tolist(), items.tolist(), weights.tolist()] == [[0, 2, 2, 3], [4, 9, 1], [1.0, 0.25, 9.0]]


def test_who_was_long_away_is_asked_what_came_last():
    def of(age):
        times = np.array([0, 10, 20, 30]) - age
        histories = Histories(np.arange(4), times, np.zeros(4, np.uint32), np.full(4, np.nan, np.float32), np.array([0, 4]))
        return distinct(histories, np.array([30]), 4, half_life=10.0)[2]

    for age in (0, 100, 390, 2_000, 10**6):
        assert (of(age) / of(age)[0]).tolist() == [1, 0.5, 0.25, 0.125], age
    assert of(10**6)[0] == of(400)[0] == 0.5**40
    assert np.float32(of(10**6)[-1] ** 2) > 0


def test_walk():
    order, allowed = np.array([3, 1, 0, 2]), np.array([True, True, False, True])
    items, offsets = walk(order, np.array([0, 1, 4]), np.array([4, 3, 4]), allowed, 2, Ragged.of([[1], [], []]))
    assert items.tolist() == [3, 0, 1, 0]
    assert offsets.tolist() == [0, 2, 4, 4]
