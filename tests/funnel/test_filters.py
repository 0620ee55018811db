from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palate.build import OptionError, build
from palate.candidates import Candidates, Histories, Ragged, Request, offsets_of
from palate.catalog import ENTRIES, load
from palate.funnel.filters import Asked, Available, Blocked, Exclude, Seen, Where
from palate.state.catalogue import Catalogue


def request(size: int = 1, **fields: object) -> Request:
    return Request(np.arange(size), Histories.empty(size), np.zeros(size, np.int64), **fields)  # type: ignore[arg-type]


def offer(*lists: list[int]) -> Candidates:
    items = np.array([item for one in lists for item in one], np.int64)
    return Candidates(items, -np.arange(len(items), dtype=np.float32), offsets_of([len(one) for one in lists]), {"x": items * 2})


def lists(candidates: Candidates) -> list[list[int]]:
    return [candidates.items[candidates.offsets[b] : candidates.offsets[b + 1]].tolist() for b in range(len(candidates))]


@pytest.fixture
def items() -> Catalogue:
    made = Catalogue()
    for name, genres, year in (
        ("a", ["Drama"], 1950.0),
        ("b", ["Horror", "War"], 1960.0),
        ("c", None, None),
        ("d", ["War"], 1970.0),
        ("e", [], 1980.0),
    ):
        made.add(name, {"genres": genres, "year": year})
    return made


def test_available_drops_withdrawn_and_unknown(items: Catalogue) -> None:
    step = Available(items)
    whole = offer([0, 1, 2])
    assert step(request(), whole) is whole, "nothing to drop: nothing to copy"
    items.withdraw(1)
    found = step(request(2), offer([0, 1, 2], [99, 1, -1, 4]))
    assert lists(found) == [[0, 2], [4]]
    assert found.columns["x"].tolist() == [0, 4, 8]
    items.withdraw(1, available=True)
    assert lists(step(request(), whole)) == [[0, 1, 2]]
    assert lists(Available(Catalogue())(request(), whole)) == [[]]


def test_exclude_equals_sets() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 40):
        offered = [rng.choice(200, rng.integers(0, 60), replace=False).tolist() for _ in range(size)]
        excluded = [rng.choice(200, rng.integers(0, 90)).tolist() for _ in range(size)]
        found = Exclude()(request(size, exclude=Ragged.of(excluded)), offer(*offered))
        assert lists(found) == [[i for i in one if i not in set(out)] for one, out in zip(offered, excluded, strict=True)]
    frozen = Ragged.of([[3, -1, 7]])
    frozen.values.setflags(write=False)
    assert lists(Exclude()(request(exclude=frozen), offer([7, 8, 3]))) == [[8]]
    whole = offer([1])
    assert Exclude()(request(), whole) is whole
    with pytest.raises(ValueError, match="for 2 requests, there are 1"):
        Exclude()(request(exclude=Ragged.of([[1], [2]])), whole)


def test_seen_asks_for_each_user() -> None:
    class Shown:
        def __init__(self, user: int) -> None:
            self.user = user

        def contains(self, rows: np.ndarray) -> np.ndarray:
            return rows % 3 == self.user

    class State:
        def seen(self, user: int) -> Shown:
            assert user >= 0
            return Shown(user)

    asked = replace(request(3), users=np.array([0, -1, 2]))
    assert lists(Seen(State())(asked, offer([0, 1, 3], [0, 1], [5, 6]))) == [[1], [0, 1], [6]]


def test_blocked_follows_the_catalogue(items: Catalogue) -> None:
    step = Blocked(items, ("b", "later"))
    assert lists(step(request(2), offer([0, 1], [1, 2]))) == [[0], [2]]
    row = items.add("later", {})
    assert lists(step(request(), offer([row, 0]))) == [[0]]


def test_where(items: Catalogue) -> None:
    every = offer([0, 1, 2, 3, 4])

    def kept(**options: object) -> list[int]:
        return lists(build(Where, options, items)(request(), every))[0]

    assert kept(column="genres", not_in=["Horror"]) == [0, 2, 3, 4]
    assert kept(column="genres", one_of=["War", "Drama"]) == [0, 1, 3]
    assert kept(column="genres", one_of=["War"], not_in=["Horror"]) == [3]
    assert kept(column="year", at_least=1960) == [1, 3, 4]
    assert kept(column="year", at_least=1955, at_most=1970.0) == [1, 3]
    assert kept(column="genres", at_least=3) == [], "texts are not numbers"
    assert lists(Where(items, "genres", not_in=("Horror",))(request(), offer([77, 0]))) == [[0]], "an unknown item passes no condition"


def test_where_follows_the_catalogue(items: Catalogue) -> None:
    step = Where(items, "genres", not_in=("Horror",))
    before = step.table()
    items.update(0, {"genres": ["Horror"]})
    row = items.add("new", {"genres": ["Drama"]})
    other = items.add("bad", {"genres": ["Horror"]})
    assert lists(step(request(), offer([0, row, other, 3]))) == [[row, 3]]
    assert before.tolist() == [True, False, True, True, True], "what a reader holds does not change"


def test_wrong_conditions_are_named(items: Catalogue) -> None:
    with pytest.raises(OptionError, match="did you mean 'genres'"):
        build(Where, {"column": "genre", "not_in": ["x"]}, items)
    with pytest.raises(OptionError, match="give one_of"):
        build(Where, {"column": "genres"}, items)
    with pytest.raises(OptionError, match="finite"):
        build(Where, {"column": "year", "at_least": float("nan")}, items)
    asked = Asked(items)
    with pytest.raises(OptionError, match="no option 'notin'"):
        asked(request(parameters={"where": [{"column": "genres", "notin": ["x"]}]}), offer([1]))
    with pytest.raises(OptionError, match="a condition is a table"):
        asked(request(parameters={"where": ["__import__('os')"]}), offer([1]))


def test_asked_with_the_request(items: Catalogue) -> None:
    asked = Asked(items)
    conditions = [{"column": "genres", "one_of": ["War"]}, {"column": "year", "at_most": 1965}]
    for _ in range(3):
        assert lists(asked(request(parameters={"where": conditions}), offer([0, 1, 3]))) == [[1]]
    assert lists(asked(request(), offer([0, 1, 3]))) == [[0, 1, 3]]
    for n in range(200):
        asked(request(parameters={"where": [{"column": "year", "at_least": n}]}), offer([0]))
    assert len(asked._known) <= 64


def test_every_filter_of_the_catalog_is_a_policy() -> None:
    found = [entry.name for entry in ENTRIES if entry.kind == "filter"]
    assert {"Where", "Blocked", "Asked"} <= set(found)
    assert all(load(name, "filter").policy for name in found)


def test_conditions_as_the_rows_that_meet_them(items: Catalogue) -> None:
    every: list[dict[str, object]] = [
        {"column": "genres", "one_of": ["War", "Drama"]},
        {"column": "genres", "one_of": ["War"]},
        {"column": "genres", "one_of": ["War"], "not_in": ["Horror"]},
        {"column": "year", "one_of": [1960.0, 1970]},
        {"column": "year", "at_least": 1955},
        {"column": "genres", "one_of": ["none has it"]},
    ]
    for change in ("none", "update", "erase", "add"):
        if change == "update":
            items.update(0, {"genres": ["War"], "year": 1970.0})
        elif change == "erase":
            items.erase(1)
        elif change == "add":
            items.add("new", {"genres": ["War"]})
        for options in every:
            step = build(Where, options, items)
            assert step.rows().tolist() == np.flatnonzero(step.table()).tolist(), options
    asked = Asked(items)
    assert asked.rows(request()) is None, "no condition is not the same as none that meets it"
    asks = request(parameters={"where": [every[1], {"column": "year", "at_least": 1965}]})
    both = asked.rows(asks)
    assert both is not None
    assert lists(asked(asks, offer(list(range(len(items)))))) == [both.tolist()]
