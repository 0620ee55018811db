from __future__ import annotations

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.state.catalogue import Catalogue

FRAME = polars.DataFrame(
    {
        "id": ["a", "b", "ü"],
        "title": ["A", None, "C"],
        "year": [1990, 1991, None],
        "score": [1.0, float("nan"), 2.5],
        "genres": [["x", "y"], [], None],
    }
)


def test_rows_are_given_in_order_and_unknown_is_minus_one() -> None:
    items = Catalogue.of(FRAME)
    assert len(items) == 3
    assert items.row("ü") == 2
    assert items.row("nobody") == -1
    assert items.rows(["b", "?", "a"]).tolist() == [1, -1, 0]
    assert items.add("d", {"year": 2000}) == 3
    assert items.add("d", {"title": "D"}) == 3
    assert items.attributes(3) == {"year": 2000, "title": "D"}


def test_missing_and_not_a_number_become_none() -> None:
    items = Catalogue.of(FRAME)
    assert items.column("score") == [1.0, None, 2.5]
    assert items.attributes(1) == {"year": 1991, "genres": []}


def test_frame_and_back() -> None:
    items = Catalogue.of(FRAME, created={"a": 5})
    items.add("d", {"year": 2000, "genres": ["z"]}, created=9)
    items.withdraw(1)
    items.erase(2)
    again = Catalogue.of(items.frame())
    assert again.ids == ["a", "b", "", "d"]
    assert again.row("") == -1
    assert again.created.tolist() == [5, 0, 0, 9]
    assert again.available.tolist() == [True, False, False, True]
    assert [again.attributes(row) for row in range(4)] == [items.attributes(row) for row in range(4)]
    assert again.frame().equals(items.frame())


def test_changed_since() -> None:
    items = Catalogue.of(FRAME)
    before = items.version
    assert items.changed_since(before).tolist() == []
    items.update(2, {"year": 1})
    items.add("z")
    assert items.changed_since(before).tolist() == [2, 3]
    assert items.changed_since(before + 1).tolist() == [3]
    assert items.changed_since(0).tolist() == [0, 1, 2, 3]


def test_errors_name_the_culprit() -> None:
    items = Catalogue.of(FRAME)
    with pytest.raises(KeyError, match="genres"):
        items.having("genre", "x")
    with pytest.raises(ValueError, match="'year' of items holds a number"):
        items.add("q", {"year": "soon"})
    assert items.row("q") == -1
    for bad in ("", "a\nb", "x" * 513, "\ud800", 7, None):
        with pytest.raises(ValueError):
            items.add(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'a' more than once"):
        Catalogue.of(polars.DataFrame({"id": ["a", "a"]}))
    with pytest.raises(ValueError, match="no column 'id'"):
        Catalogue.of(polars.DataFrame({"ids": ["a"]}))


def test_an_erased_id_comes_back_with_a_new_row() -> None:
    users = Catalogue("users")
    assert users.add("u", {"age": 3}) == 0
    users.erase(0)
    assert users.row("u") == -1
    assert users.attributes(0) == {}
    assert users.having("age", 3).tolist() == []
    assert users.add("u") == 1


values = st.one_of(st.none(), st.lists(st.sampled_from("abc"), max_size=3))
steps = st.lists(st.tuples(st.integers(0, 6), values, st.sampled_from([None, "p", "q"])), max_size=40)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 40))
def test_inverted_index_says_what_the_columns_say(changes: list[tuple[int, list[str] | None, str | None]], ask_at: int) -> None:
    items = Catalogue()
    items.add("first", {"tags": ["a"], "brand": "p"})
    for place, (which, tags, brand) in enumerate(changes):
        if place == ask_at:
            items.having("tags", "a")  # from here on the index is kept up to date, not rebuilt
            items.having("brand", "p")
        items.add(f"item{which}", {"tags": tags, "brand": brand})
    for tag in "abc":
        truth = [row for row in range(len(items)) if tag in (items.column("tags")[row] or [])]
        assert items.having("tags", tag).tolist() == truth
    for brand in "pq":
        assert items.having("brand", brand).tolist() == [row for row in range(len(items)) if items.column("brand")[row] == brand]
    assert set(items.values("tags")) == {tag for value in items.column("tags") for tag in value or []}
