"""What every route without gradients owes, whichever it is."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from palate.candidates import Ragged
from palate.contracts import Counter, Retriever, Similar
from palate.datasets.interactions import Interactions
from palate.recall.content.content import Content
from palate.recall.content.tag import Tag
from palate.recall.factor.ials import IALS
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.neighbor.swing import Swing
from palate.recall.neighbor.usercf import UserCF
from palate.recall.popular.fresh import Fresh
from palate.recall.popular.popular import Popular
from tests.recall.made import catalogue, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=7)
ITEMS = catalogue()
MAKERS = {
    "Popular": lambda: Popular(),
    "Fresh": lambda: Fresh(ITEMS),
    "Tag": lambda: Tag(ITEMS),
    "Content": lambda: Content(ITEMS, text=("title",)),
    "UserCF": lambda: UserCF(),
    "UserCF pearson": lambda: UserCF(similarity="pearson"),
    "ItemCF": lambda: ItemCF(),
    "ItemCF source": lambda: ItemCF(5, "iuf", keep="source"),
    "Swing": lambda: Swing(),
    "IALS": lambda: IALS(8),
}
PERSONAL = [name for name in MAKERS if name not in ("Popular", "Fresh")]

every = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def fitted():
    rated = random_matrix(40, 25, seed=7, ratings=True)
    return {name: make().fit(interactions(rated if "pearson" in name else R)) for name, make in MAKERS.items()}


HISTORIES = [np.flatnonzero(row).tolist() for row in R] + [[], [3], [24], [-1, 3, 25, 10**9]]
VALUES = [[1.0 + (i * 7 % 5) for i in range(len(row))] for row in HISTORIES]


def asked(exclude=None):
    return request(HISTORIES, HISTORIES if exclude is None else exclude, VALUES)


@every
def test_keeps_the_contracts(name, fitted):
    assert isinstance(fitted[name], Counter)
    assert isinstance(fitted[name], Retriever)
    assert isinstance(fitted[name], Similar) == (name.split()[0] in ("ItemCF", "Swing", "IALS", "Content"))


@every
def test_best_first_ties_by_row_no_repeats_none_excluded(name, fitted):
    found = fitted[name].retrieve(asked(), 7)
    assert len(found) == len(HISTORIES)
    assert found.items.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.offsets.dtype == np.int64
    assert np.isfinite(found.scores).all()
    order = np.lexsort((found.items, -found.scores, found.requests))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    for row, history in zip(lists(found), HISTORIES, strict=True):
        assert len(set(row)) == len(row) <= 7
        assert not set(row) & set(history)


@every
def test_k_is_a_prefix(name, fitted):
    model = fitted[name]
    whole = lists(model.retrieve(asked(), 10_000))
    for k in (0, 1, 3, 12):
        assert lists(model.retrieve(asked(), k)) == [row[:k] for row in whole]
    assert lists(model.retrieve(asked(), -1)) == [[]] * len(whole)


@every
def test_one_answer_does_not_depend_on_the_rest_of_the_batch(name, fitted):
    model = fitted[name]
    together = model.retrieve(asked(), 9)
    for b, history in enumerate(HISTORIES):
        alone = model.retrieve(request([history], [history], [VALUES[b]]), 9)
        part = slice(together.offsets[b], together.offsets[b + 1])
        assert alone.items.tolist() == together.items[part].tolist()
        np.testing.assert_allclose(alone.scores, together.scores[part], rtol=1e-5, atol=1e-6)


@every
def test_small_blocks_give_the_same(name, fitted, monkeypatch):
    whole = fitted[name].retrieve(asked(), 9)
    monkeypatch.setattr("palate.index.topk.BLOCK", 60)
    parts = fitted[name].retrieve(asked(), 9)
    np.testing.assert_array_equal(whole.items, parts.items)
    np.testing.assert_array_equal(whole.offsets, parts.offsets)


@every
def test_saved_and_loaded_answers_the_same(name, fitted):
    arrays = {key: array.copy() for key, array in fitted[name].arrays().items()}
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "iuf" for array in arrays.values())
    for array in arrays.values():
        array.flags.writeable = False  # as when mapped from a file
    loaded = MAKERS[name]().from_arrays(arrays)
    a, b = fitted[name].retrieve(asked(), 9), loaded.retrieve(asked(), 9)
    np.testing.assert_array_equal(a.items, b.items)
    np.testing.assert_array_equal(a.scores, b.scores)
    if isinstance(loaded, Similar):
        np.testing.assert_array_equal(fitted[name].similar(3, 5)[0], loaded.similar(3, 5)[0])


@pytest.mark.parametrize("name", PERSONAL)
def test_a_history_without_anything_known_gets_nothing(name, fitted):
    empty = lists(fitted[name].retrieve(request([[], [-1, 10**9], [-5]]), 9))
    assert empty == [[], [], []]


@pytest.mark.parametrize("name", ["Popular", "Fresh"])
def test_the_same_for_everybody_and_for_a_stranger(name, fitted):
    one, two, three = lists(fitted[name].retrieve(request([[], [-1, 10**9], [3, 4]], users=[-1, 3, 10**6]), 9))
    assert one == two == three
    assert len(one) == 9


@pytest.mark.parametrize("name", PERSONAL)
def test_unknown_rows_of_a_history_are_ignored(name, fitted):
    known, mixed = request([[3, 8]], values=[[2, 5]]), request([[-1, 3, 10**12, 8, 25]], values=[[1, 2, 1, 5, 3]])
    assert lists(fitted[name].retrieve(known, 9)) == lists(fitted[name].retrieve(mixed, 9))


@pytest.mark.parametrize("name", PERSONAL)
def test_what_was_done_a_second_ago_counts(name, fitted):
    if name == "UserCF pearson":
        before, after = request([[3, 4]], values=[[1, 5]]), request([[3, 4, 8]], values=[[1, 5, 5]])
    else:
        before, after = request([[3]]), request([[3, 8]])
    assert fitted[name].retrieve(before, 25).scores.tolist() != fitted[name].retrieve(after, 25).scores.tolist()


@every
def test_everything_excluded_and_odd_exclusions(name, fitted):
    model = fitted[name]
    assert lists(model.retrieve(request([[3, 8]], [range(25)], [[2, 5]]), 9)) == [[]]
    odd = request([[3, 8]], [[-1, 3, 3, 10**12, 25]], [[2, 5]])
    plain = request([[3, 8]], [[3]], [[2, 5]])
    assert lists(model.retrieve(odd, 9)) == lists(model.retrieve(plain, 9))
    assert lists(model.retrieve(plain, 25)) == [[row for row in lists(model.retrieve(request([[3, 8]], None, [[2, 5]]), 25))[0] if row != 3]]


@every
def test_no_requests(name, fitted):
    nobody = request([])
    assert len(fitted[name].retrieve(nobody, 5)) == 0


@every
def test_an_unfitted_model_says_so(name):
    with pytest.raises(RuntimeError, match="not fitted"):
        MAKERS[name]().retrieve(request([[1]]), 3)


@every
def test_nothing_to_fit_on(name):
    none = Interactions(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64), 0)
    model = MAKERS[name]().fit(none)
    for k in (0, 5):
        found = model.retrieve(request([[1], []]), k)
        assert len(found) == 2
        assert not np.isnan(found.scores).any()


@every
def test_one_user_is_enough(name):
    model = MAKERS[name]().fit(interactions(R[:1]))
    found = model.retrieve(request([[int(np.flatnonzero(R[0])[0])]], values=[[3.0]]), 5)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", ["ItemCF", "Swing", "IALS", "Content"])
def test_similar_of_the_unknown_is_nothing(name, fitted):
    for item, k in ((-1, 5), (10**9, 5), (3, 0)):
        rows, scores = fitted[name].similar(item, k)
        assert len(rows) == len(scores) == 0
    rows, scores = fitted[name].similar(3, 4)
    assert 3 not in rows
    assert len(rows) == 4
    assert (np.diff(scores) <= 0).all()


@every
def test_two_threads_at_once(name, fitted):
    expected = [lists(fitted[name].retrieve(request([history], [history], [values]), 9)) for history, values in zip(HISTORIES, VALUES, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        requests = [request([history], [history], [values]) for history, values in zip(HISTORIES, VALUES, strict=True)]
        found = [lists(one) for one in pool.map(lambda one: fitted[name].retrieve(one, 9), requests * 5)]
    assert found == expected * 5


def test_ragged_exclusions_survive_a_read_only_request(fitted):
    frozen = Ragged.of([[3, 4]])
    frozen.values.flags.writeable = False
    one = request([[1, 2]])
    one.histories.items.flags.writeable = False
    found = fitted["ItemCF"].retrieve(type(one)(one.users, one.histories, one.now, exclude=frozen), 5)
    assert not {3, 4} & set(found.items.tolist())
