"""Followed and SimilarAuthors: their formulas in plain loops, and worlds where they find what no other route can."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from palate.candidates import DAY
from palate.recall.content.followed import Followed
from palate.recall.content.similarauthors import SimilarAuthors
from palate.recall.content.tag import Tag
from palate.recall.popular.popular import Popular
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue
from tests.recall.made import NOW, interactions, lists, request


def by(authors: list[object], ages: list[int] | None = None) -> Catalogue:
    created = {str(row): NOW - age * DAY for row, age in enumerate(ages or [])}
    return Catalogue.of(pl.DataFrame({"id": [str(row) for row in range(len(authors))], "author": authors}), created=created)


AUTHORS, AGES = ["a", "b", "a", "c", "c", "b", "a"], [0, 1, 7, 30, 2, 400, 14]
TAKEN = np.array([[1, 0, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 0], [0, 0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0, 0]], float)


def test_followed_by_hand() -> None:
    model = Followed(by(AUTHORS, AGES), fresh=2.0, fresh_days=7).fit(interactions(TAKEN))
    asked = replace(request([[0, 2, 3], []], [[0], []]), attributes={"follows": ["b", ["c", "nobody"]]})
    shares = [{"a": 2 / 3, "c": 1 / 3, "b": 1.0}, {"c": 1.0}]
    found = model.retrieve(asked, 9)
    for b, weights in enumerate(shares):
        expected = {
            row: weights[author] * (math.log(2 + TAKEN[:, row].sum()) + 2 * 0.5 ** (AGES[row] / 7))
            for row, author in enumerate(AUTHORS)
            if author in weights and not (b == 0 and row == 0)
        }
        mine = slice(found.offsets[b], found.offsets[b + 1])
        assert found.items[mine].tolist() == sorted(expected, key=lambda row: -expected[row])
        np.testing.assert_allclose(found.scores[mine], [expected[row] for row in found.items[mine].tolist()], rtol=1e-5)


def test_a_follow_told_to_the_catalogue_counts_at_once() -> None:
    items, users = by(AUTHORS, AGES), Catalogue("users")
    users.add("one")
    model = Followed(items, Askers(users), per_author=1).fit(interactions(TAKEN))
    asked = request([[]], users=[0])
    assert lists(model.retrieve(asked, 9)) == [[]]
    users.update(0, {"follows": ["c"]})
    assert lists(model.retrieve(asked, 9)) == [[4, 3]], "of each author the most taken and the newest are held"
    new = items.add("new", {"author": "c"}, created=NOW)
    assert lists(model.retrieve(asked, 9))[0][0] == new


def test_who_follows_what_is_no_author_follows_nobody() -> None:
    model = Followed(by(AUTHORS, AGES)).fit(interactions(TAKEN))
    told: list[object] = [[{"a": 1}], {"a": 1}, [["a"]], 3, ["c", None, {}, "c"]]
    found = model.retrieve(replace(request([[]] * 5), attributes={"follows": told}), 9)
    assert lists(found) == [[], [], [], [], [4, 3]]


def test_similar_authors_by_hand() -> None:
    items = by([["a", "d"], ["b"], ["a"], ["c"], ["c"], ["b"], ["d"]])
    column = items.column("author")
    model = SimilarAuthors(items, shrink=0.5).fit(interactions(TAKEN))
    names = ["a", "d", "b", "c"]
    of = {name: {row for row, value in enumerate(column) if name in value} for name in names}
    takers = {name: {user for user in range(4) if any(TAKEN[user, row] for row in of[name])} for name in names}
    history = [0, 4]
    counts = {name: sum(row in of[name] for row in history) for name in names}
    scores = np.zeros(7)
    for own, count in counts.items():
        for other in names:
            if other != own and takers[own] and takers[other]:
                sim = len(takers[own] & takers[other]) / (math.sqrt(len(takers[own]) * len(takers[other])) + 0.5)
                for row in of[other]:
                    scores[row] += count / sum(counts.values()) * sim * math.log(2 + TAKEN[:, row].sum())
    found = model.retrieve(request([history]), 9)
    np.testing.assert_allclose(found.scores, scores[found.items], rtol=1e-5)
    assert sorted(found.items) == np.flatnonzero(scores).tolist()
    saved = SimilarAuthors(items, shrink=0.5).from_arrays(model.arrays())
    np.testing.assert_array_equal(saved.retrieve(request([history]), 9).scores, found.scores)
    with pytest.raises(ValueError, match="outside"):
        saved.from_arrays({**model.arrays(), "authors": model.arrays()["authors"] + 9})


@pytest.mark.parametrize("circles", [5, 1])
def test_new_items_of_authors_one_never_met(circles: int) -> None:
    """Users take from three authors of a circle of six; wanted are new items, that nobody took, of the circle's others."""
    random, users, authors, each = np.random.default_rng(2), 200, 30, 8
    circle, mine = np.arange(authors) % circles, np.arange(users) % circles
    author, new = np.arange(authors * each) // each, np.arange(authors * each) % each >= each - 2
    taken, held, histories = np.zeros((users, len(author))), np.zeros((users, len(author)), bool), []
    for user in range(users):
        met = random.choice(np.flatnonzero(circle == mine[user]), 3, replace=False)
        histories.append(random.choice(np.flatnonzero(np.isin(author, met) & ~new), 8, replace=False))
        taken[user, histories[-1]] = 1
        held[user] = new & (circle[author] == mine[user]) & ~np.isin(author, met)
    items, asked = by([str(one) for one in author]), request(histories, histories)
    models = {"similar": SimilarAuthors(items, "author"), "own": Tag(items, "author", tags=3), "hot": Popular()}
    share = {}
    for name, model in models.items():
        found = model.fit(interactions(taken)).retrieve(asked, 240)
        fresh = found.take(new[found.items]).top(5)  # as a filter of what is new leaves it
        share[name] = held[fresh.requests, fresh.items].sum() / (5 * users)
    print(circles, share)
    if circles > 1:
        assert share["similar"] > 0.6
        assert share["own"] == share["hot"] == 0
    else:
        assert share["similar"] > 0.6, "any author will do"
