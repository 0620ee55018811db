"""Every similarity against the formula written out in numpy."""

import numpy as np
import pytest

from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.neighbor.similarity import latest
from palate.recall.neighbor.swing import Swing
from palate.recall.neighbor.usercf import UserCF
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request


def item_similarity(r, kind, shrink=0.0):
    """``S[s, s']``, s the candidate; diagonal 0."""
    taken = (r != 0).astype(float)
    n = taken.sum(0)
    co = taken.T @ taken
    with np.errstate(all="ignore"):
        if kind == "cosine":
            norm = np.sqrt((r**2).sum(0))
            s = (r.T @ r) / (np.outer(norm, norm) + shrink)
        elif kind == "jaccard":
            s = co / (n[:, None] + n - co + shrink)
        elif kind == "conditional":
            s = co / (n[None, :] + shrink)
        elif kind == "iuf":
            w = 1 / np.log(1 + np.maximum(taken.sum(1), 1))
            s = ((taken * w[:, None]).T @ taken) / (np.sqrt(np.outer(n, n)) + shrink)
        else:
            d = np.where(r != 0, r - r.sum(1, keepdims=True) / taken.sum(1, keepdims=True), 0)
            s = (d.T @ d) / (np.sqrt(((d**2).T @ taken) * (taken.T @ d**2)) + shrink)
    s = np.nan_to_num(s, nan=0, posinf=0)
    np.fill_diagonal(s, 0)
    return np.maximum(s, 0)


def keep_best(s, k, axis):
    """The k largest of each row (axis 1) or column (axis 0), ties to the lower index."""
    if axis == 0:
        return keep_best(s.T, k, 1).T
    kept = np.zeros_like(s)
    for row, values in enumerate(s):
        best = np.argsort(-values, kind="stable")[:k]
        kept[row, best] = values[best]
    return kept


def learned(model, n):
    s = np.zeros((n, n))
    rows = model.sources
    for source in range(n):
        part = slice(rows.offsets[source], rows.offsets[source + 1])
        s[rows.columns[part], source] = rows.values[part]
    return s


@pytest.mark.parametrize("shrink", [0.0, 2.5])
@pytest.mark.parametrize("kind", ["cosine", "jaccard", "conditional", "iuf", "adjusted_cosine"])
def test_item_similarities(kind, shrink):
    r = random_matrix(ratings=True)
    model = ItemCF(25, kind, shrink).fit(interactions(r))
    np.testing.assert_allclose(learned(model, 25), item_similarity(r, kind, shrink), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("keep", ["target", "source"])
@pytest.mark.parametrize("prediction", ["mean", "baseline"])
def test_item_predictions(prediction, keep, weighted):
    r = random_matrix(seed=5, ratings=True)
    model = ItemCF(4, "jaccard", prediction=prediction, keep=keep, weighted=weighted).fit(interactions(r))
    s = keep_best(item_similarity(r, "jaccard"), 4, 1 if keep == "target" else 0)  # [s, s']
    s /= np.maximum(s.sum(1 if keep == "target" else 0, keepdims=True), 1e-12)
    given = r if weighted else (r != 0).astype(float)
    b = given.mean(0) if prediction == "baseline" else np.zeros(25)
    histories = [np.flatnonzero(row) for row in r]
    found = model.retrieve(request(histories, values=[row[taken] for row, taken in zip(r, histories, strict=True)]), 25)
    for user, row in enumerate(lists(found)):
        near = s @ given[user]
        score = np.where(near > 0, near + b - s @ b, 0)
        assert sorted(row) == np.flatnonzero(score > 0).tolist()
        np.testing.assert_allclose(found.scores[found.offsets[user] : found.offsets[user + 1]], score[row], rtol=1e-5)
        assert (np.diff(score[row]) <= 1e-7).all()


def test_a_baseline_is_saved_and_must_fit():
    r = random_matrix(seed=5)
    model = ItemCF(4, prediction="baseline").fit(interactions(r))
    asked = request([np.flatnonzero(row) for row in r])
    again = ItemCF(4, prediction="baseline").from_arrays(model.arrays())
    assert lists(again.retrieve(asked, 9)) == lists(model.retrieve(asked, 9))
    with pytest.raises(ValueError, match="a base of 24 items does not fit 25"):
        again.from_arrays(model.arrays() | {"base": np.zeros(24)})


def test_a_baseline_and_age_exclude_each_other():
    with pytest.raises(ValueError, match="half_life_days must be 0, not 7"):
        ItemCF(prediction="baseline", half_life_days=7)


@pytest.mark.parametrize("keep", ["target", "source"])
@pytest.mark.parametrize("kind", ["cosine", "conditional"])
def test_item_neighbors_kept(kind, keep):
    r = random_matrix(seed=3, ratings=True)
    model = ItemCF(4, kind, keep=keep).fit(interactions(r))
    whole = np.float32(item_similarity(r, kind))
    expected = keep_best(whole, 4, 1 if keep == "target" else 0)
    np.testing.assert_allclose(np.sort(learned(model, 25)), np.sort(expected), rtol=1e-5)
    for item in range(25):  # similar() gives the item's own list
        own = expected[item] if keep == "target" else expected[:, item]
        rows, sims = model.similar(item, 3)
        np.testing.assert_allclose(sims, np.sort(own)[::-1][:3][: np.count_nonzero(own)], rtol=1e-5)
        np.testing.assert_allclose(own[rows], sims, rtol=1e-5)


def test_itemcf_scores_are_weighted_sums():
    r = random_matrix(seed=1, ratings=True)
    s = item_similarity(r, "cosine")
    model = ItemCF(25, weighted=True, half_life_days=10).fit(interactions(r))
    history, values, ages = [3, 7, 11], [5.0, 2.0, np.nan], [0.0, 10.0, 20.0]
    found = model.retrieve(request([history], [history], [values], [ages]), 50)
    score = s[:, history] @ np.array([5.0, 2.0 * 0.5, 1.0 * 0.25])
    score[history] = 0
    np.testing.assert_allclose(found.scores, score[found.items], rtol=1e-5)
    assert sorted(found.items) == np.flatnonzero(score).tolist()
    assert (np.diff(found.scores) <= 0).all()


def test_history_counts_once_and_with_its_last_value():
    model = ItemCF(25, weighted=True, min_value=2.0).fit(interactions(random_matrix(seed=1, ratings=True)))
    once = model.retrieve(request([[4, 9]], values=[[3.0, 5.0]]), 20)
    again = model.retrieve(request([[9, 4, 8, 9]], values=[[2.0, 3.0, 1.0, 5.0]]), 20)
    assert lists(once) == lists(again)
    np.testing.assert_array_equal(once.scores, again.scores)


def swing_similarity(taken, alpha, alpha1, beta):
    users, items = taken.shape
    s = np.zeros((items, items))
    w = (alpha1 + taken.sum(1)) ** -beta
    for u in range(users):
        for v in range(u + 1, users):
            both = taken[u] * taken[v]
            if both.any():
                s += np.outer(both, both) * w[u] * w[v] / (alpha + both.sum())
    np.fill_diagonal(s, 0)
    return s


@pytest.mark.parametrize("settings", [(1.0, 5.0, 0.35), (0.0, 0.0, 0.5), (3.0, 1.0, 0.0)])
def test_swing(settings):
    r = random_matrix(seed=2)
    model = Swing(25, *settings).fit(interactions(r))
    s = learned(model, 25)
    np.testing.assert_allclose(s, swing_similarity(r, *settings), rtol=1e-5)
    assert (s.diagonal() == 0).all()
    np.testing.assert_allclose(s, s.T, rtol=1e-6)  # unordered pairs


def test_swing_users_cap_takes_the_latest():
    r = random_matrix(seed=2)
    times = np.random.default_rng(0).permutation(r.size).reshape(r.shape)
    model = Swing(25, max_users_per_item=3).fit(interactions(r, times))
    w = (5 + r.sum(1)) ** -0.35
    item = 5
    members = sorted(np.flatnonzero(r[:, item]), key=lambda u: times[u, item])[-3:]
    expected = np.zeros(25)
    for a, u in enumerate(members):
        for v in members[a + 1 :]:
            expected += r[u] * r[v] * w[u] * w[v] / (1 + (r[u] * r[v]).sum())
    expected[item] = 0
    np.testing.assert_allclose(learned(model, 25)[:, item], expected, rtol=1e-5)
    assert model.report == {"interactions": int(r.sum()), "used": int(r.sum()), "pairing": int(np.minimum(r.sum(0), 3).sum())}


def test_items_cap_takes_the_latest_and_is_reported():
    r = random_matrix(seed=5)
    times = np.random.default_rng(0).permutation(r.size).reshape(r.shape)
    capped = np.zeros_like(r)
    for u in range(len(r)):
        capped[u, sorted(np.flatnonzero(r[u]), key=lambda i, u=u: times[u, i])[-4:]] = 1
    model = ItemCF(25, max_items_per_user=4).fit(interactions(r, times))
    np.testing.assert_allclose(learned(model, 25), item_similarity(capped, "cosine"), rtol=1e-5)
    assert model.report == {"interactions": int(r.sum()), "used": int(capped.sum())}
    same = interactions(r)
    assert latest(same, 0) is same


def test_users_cap_of_itemcf_takes_the_latest_after_the_items_cap():
    r = random_matrix(seed=5)
    times = np.random.default_rng(2).permutation(r.size).reshape(r.shape)
    capped = np.zeros_like(r)
    for u in range(len(r)):
        capped[u, sorted(np.flatnonzero(r[u]), key=lambda i, u=u: times[u, i])[-5:]] = 1
    for i in range(r.shape[1]):
        capped[sorted(np.flatnonzero(capped[:, i]), key=lambda u, i=i: times[u, i])[:-4], i] = 0
    model = ItemCF(25, max_items_per_user=5, max_users_per_item=4).fit(interactions(r, times))
    np.testing.assert_allclose(learned(model, 25), item_similarity(capped, "cosine"), rtol=1e-5)
    assert model.report == {"interactions": int(r.sum()), "used": int(capped.sum())}
    assert capped.sum() < np.minimum(r.sum(1), 5).sum(), "the second cap took something away"


def user_similarity(history, r, kind, shrink=0.0):
    h, taken, rated = (history != 0).astype(float), (r != 0).astype(float), r
    co = taken @ h
    with np.errstate(all="ignore"):
        if kind == "cosine":
            s = (rated @ h) / (np.sqrt((rated**2).sum(1)) * np.sqrt(h.sum()) + shrink)
        elif kind == "jaccard":
            s = co / (taken.sum(1) + h.sum() - co + shrink)
        elif kind == "damped":
            s = (taken * h) @ (1 / np.log(1 + np.maximum(taken.sum(0), 1))) / (np.sqrt(taken.sum(1) * h.sum()) + shrink)
        else:
            d = np.where(taken > 0, r - r.sum(1, keepdims=True) / taken.sum(1, keepdims=True), 0)
            e = np.where(h > 0, history - history.sum() / h.sum(), 0)
            s = (d @ e) / (np.sqrt((d**2 @ h) * (taken @ e**2)) + shrink)
    return np.maximum(np.nan_to_num(s, nan=0, posinf=0), 0)


@pytest.mark.parametrize("kind", ["cosine", "pearson", "jaccard", "damped"])
def test_usercf(kind):
    r = random_matrix(seed=4, ratings=True)
    history = np.array([0, 4, 0, 0, 5, 1, 0, 2] + [0] * 17)
    rows = np.flatnonzero(history)
    asked = request([rows], [rows], [history[rows]])
    model = UserCF(6, kind, shrink=0.5).fit(interactions(r))
    s = keep_best(np.float32(user_similarity(history.astype(float), r, kind, 0.5))[None], 6, 1)[0]
    near = model.neighborhood(asked)
    np.testing.assert_allclose(near.values, np.sort(s)[::-1][: len(near.values)], rtol=1e-5)
    score = s @ r
    score[rows] = 0
    found = model.retrieve(asked, 50)
    np.testing.assert_allclose(found.scores, score[found.items], rtol=1e-5)
    assert sorted(found.items) == np.flatnonzero(score > 0).tolist()


def test_usercf_ratings():
    r = random_matrix(seed=4, ratings=True)
    values = [4.0, 1.0, 5.0]
    asked = request([[1, 4, 6]], values=[values])
    model = UserCF(30, "pearson").fit(interactions(r))
    found = model.retrieve(asked, 50)
    near = model.neighborhood(asked)
    s = np.zeros(len(r))
    s[near.columns] = near.values
    taken = r != 0
    mean = r.sum(1) / taken.sum(1)
    away = np.where(taken, r - mean[:, None], 0)
    expected = np.mean(values) + (s @ away) / np.maximum(s @ taken, 1e-12)
    np.testing.assert_allclose(model.ratings(asked, found), expected[found.items], rtol=1e-4)


def test_usercf_never_asks_oneself():
    r = random_matrix(seed=6)
    model = UserCF(30).fit(interactions(r))
    mine = np.flatnonzero(r[7])
    assert 7 in model.neighborhood(request([mine])).columns
    assert 7 not in model.neighborhood(request([mine], users=[7])).columns


def test_usercf_users_cap():
    r = random_matrix(seed=6)
    times = np.random.default_rng(1).permutation(r.size).reshape(r.shape)
    model = UserCF(30, max_users_per_item=2).fit(interactions(r, times))
    expected = sorted(np.flatnonzero(r[:, 3]), key=lambda u: times[u, 3])[-2:]
    assert sorted(model.neighborhood(request([[3]])).columns) == sorted(expected)


@pytest.mark.parametrize(
    "model", [ItemCF(), ItemCF(similarity="iuf", keep="source", prediction="baseline"), UserCF(), UserCF(similarity="jaccard"), Swing()]
)
def test_checkerboard(model):
    board = checkerboard()
    model.fit(interactions(board))
    histories = [np.flatnonzero(row) for row in board]
    found = lists(model.retrieve(request(histories, histories, users=range(len(board))), 1))
    assert found == [[u] for u in range(len(board))]


def test_threads_change_nothing():
    r = (np.random.default_rng(0).random((300, 2500)) < 0.02).astype(float)
    for cls in (ItemCF, Swing):
        one, two = cls(10).fit(interactions(r)).arrays(), cls(10, threads=2).fit(interactions(r)).arrays()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_equal_ratings_say_nothing():
    same = np.where(random_matrix(seed=9) > 0, 0.1, 0)  # 0.1 has no exact float: means differ from it in the last digit
    assert len(ItemCF(similarity="adjusted_cosine").fit(interactions(same)).arrays()["items"]) == 0
    model = UserCF(similarity="pearson").fit(interactions(same))
    assert len(model.retrieve(request([[1, 2, 3]], values=[[0.1, 0.1, 0.1]]), 5).items) == 0


@pytest.mark.parametrize("cls", [ItemCF, Swing])
def test_no_neighbors_and_no_threads_are_refused(cls):
    for options in ({"neighbors": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="neighbors and threads must be at least 1"):
            cls(**options)
