import numpy as np
import pytest

from palate.recall.popular.fresh import Fresh
from palate.recall.popular.popular import Popular
from palate.state.catalogue import Catalogue
from tests.recall.made import DAY, NOW, catalogue, interactions, lists, random_matrix, request


def test_popular_decays():
    r = random_matrix()
    ages = np.random.default_rng(0).random(r.shape) * 100
    model = Popular(20.0).fit(interactions(r, NOW - (ages * DAY).astype(np.int64)))
    expected = (r * 0.5 ** (ages / 20)).sum(0)
    np.testing.assert_allclose(model.scores, expected, rtol=1e-5)
    found = model.retrieve(request([[], [1]]), 25)
    order = [i for i in np.argsort(-expected, kind="stable") if expected[i] > 0]
    assert lists(found) == [order, order]
    np.testing.assert_allclose(found.scores[: len(order)], expected[order], rtol=1e-5)


def test_popular_without_decay_counts():
    r = random_matrix()
    np.testing.assert_array_equal(Popular(0.0).fit(interactions(r)).scores, r.sum(0))
    with pytest.raises(ValueError, match="half_life_days"):
        Popular(-1.0)


def test_popular_leaves_out_what_is_withdrawn():
    items = catalogue()
    model = Popular(catalogue=items).fit(interactions(random_matrix()))
    first = lists(model.retrieve(request([[]]), 3))[0]
    items.withdraw(first[0])
    assert lists(model.retrieve(request([[]]), 2))[0] == first[1:]


def test_fresh_newest_first_and_live():
    items = catalogue()
    model = Fresh(items).fit(interactions(random_matrix()))
    assert lists(model.retrieve(request([[], []]), 4)) == [[0, 1, 2, 3]] * 2
    row = items.add("new", created=NOW - 1)
    late = items.add("from the future", created=NOW + 5)
    middle = items.add("middle", created=NOW - 2 * DAY)
    found = model.retrieve(request([[]]), 5)
    assert lists(found) == [[row, 0, 1, middle, 2]]
    assert found.scores[1] == -1.0
    assert late in lists(model.retrieve(request([[]], now=NOW + 6), 1))[0]
    items.withdraw(row)
    assert lists(model.retrieve(request([[]]), 2)) == [[0, 1]]
    items.withdraw(row, available=True)
    assert lists(model.retrieve(request([[]]), 2)) == [[row, 0]]


def test_fresh_each_request_has_its_own_now():
    model = Fresh(catalogue()).fit(interactions(random_matrix()))
    asked = request([[], [], []])
    moments = np.array([NOW, NOW - 10 * DAY, NOW - 26 * DAY])
    asked = type(asked)(asked.users, asked.histories, moments)
    assert lists(model.retrieve(asked, 2)) == [[0, 1], [9, 10], []]
    young = Fresh(catalogue(), days=3).fit(interactions(random_matrix()))
    assert lists(young.retrieve(asked, 9)) == [[0, 1, 2], [9, 10, 11, 12], []]


def test_fresh_falls_back_to_the_first_event():
    items = Catalogue()
    for row in range(25):
        items.add(f"i{row}")
    r = random_matrix()
    times = NOW - DAY - np.random.default_rng(0).permutation(r.size).reshape(r.shape) * 60_000
    model = Fresh(items).fit(interactions(r, times))
    first = np.where(r > 0, times, NOW).min(0)
    order = [row for row in np.argsort(-first, kind="stable") if first[row] < NOW]
    assert 24 not in order
    assert lists(model.retrieve(request([[]]), 25)) == [order]


@pytest.mark.parametrize("many", [3, 200])
def test_fresh_moved_rows_equal_a_new_order(many):
    random = np.random.default_rng(many)
    items = catalogue(300)
    model = Fresh(items).fit(interactions(random_matrix(30, 300)))
    model.retrieve(request([[]]), 1)
    for step in range(many):
        if random.random() < 0.5:
            items.add(f"n{step}", created=NOW - int(random.integers(1, 400)) * DAY)
        else:
            items.withdraw(int(random.integers(300)), available=bool(random.random() < 0.5))
        if random.random() < 0.2:
            model.retrieve(request([[]]), 3)
    whole = Fresh(items).fit(interactions(random_matrix(30, 300)))
    assert lists(model.retrieve(request([[]]), 999)) == lists(whole.retrieve(request([[]]), 999))
