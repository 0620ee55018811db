"""The log as a world to train on: whatever clients send, a training can begin."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from palate.state import check
from palate.state.catalogue import Catalogue, unfit
from palate.state.embedded import Embedded
from palate.state.own import world_of

PAGE = {"request_id": "r1", "user": "ann", "now": 1, "items": ["tea", "jam"], "propensities": [1.0, 0.5], "scene": "home"}


def test_an_event_named_after_the_page_stands_in_no_impressions_way() -> None:
    with Embedded(None, Catalogue("users"), Catalogue("items")) as state:
        state.save_page(PAGE)
        click = {"user": "ann", "kind": "click", "time": 5, "request_id": "r1"}
        clicks = [{**click, "item": one, "event_id": f"r1/{n}"} for n, one in enumerate(["tea", "jam"])]
        assert {one.status for one in state.append(clicks)} == {"accepted"}
        frame = world_of(state).events.frame
    assert frame["kind"].to_list() == ["impression", "impression", "click", "click"]
    assert frame["event_id"].to_list() == [None, None, "r1/0", "r1/1"]
    assert frame["scene"].to_list() == ["home"] * 4


def test_an_event_that_names_the_page_of_another_user_counts_as_one_without_a_page() -> None:
    page = {**PAGE, "given": {"context": {"device": "phone"}}}
    with Embedded(None, Catalogue("users"), Catalogue("items")) as state:
        state.save_page(page)
        click = {"item": "tea", "kind": "click", "time": 5, "request_id": "r1"}
        state.append([{**click, "user": "ann"}, {**click, "user": "eve"}, {**click, "user": "eve", "request_id": "no such page"}])
        frame = world_of(state).events.frame.filter(pl.col("kind") == "click").sort("user", maintain_order=True)
    assert frame["user"].to_list() == ["ann", "eve", "eve"]
    assert frame["device"].to_list() == ["phone", None, None]
    assert frame["scene"].to_list() == ["home", None, None]
    assert frame["request_id"].to_list() == ["r1", None, "no such page"]


def test_an_id_of_blanks_in_an_older_log_costs_its_own_row_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older, Embedded(tmp_path, Catalogue("users"), Catalogue("items")) as state:
        older.setattr(check, "id_fault", unfit)
        state.save_page(PAGE)
        events = [{"user": "ann", "item": " ", "kind": "click", "time": 5}, {"user": "bob", "item": "jam", "kind": "click", "time": 6}]
        assert {one.status for one in state.append(events)} == {"accepted"}
        digest = state.digest()
    with Embedded(tmp_path, Catalogue("users"), Catalogue("items")) as state:
        assert state.digest() == digest
        frame = world_of(state).events.frame
    assert frame["item"].to_list() == ["tea", "jam", "jam"]
