"""Splits: what may be learnt from never lies after what is judged by."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import catalog
from palate.tables import splits
from palate.tables.cleaning import k_core
from palate.tables.events import Events
from palate.tables.splits import Split


def events_of(rows: list[tuple[str, int]], items: list[str] | None = None) -> Events:
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "item": items or [str(n) for n in range(len(rows))],
            "time": [moment for _, moment in rows],
            "kind": ["click"] * len(rows),
        },
        schema={"user": pl.String, "item": pl.String, "time": pl.Int64, "kind": pl.String},
    )
    return Events(frame)


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=40)
SHARES = st.floats(0.05, 0.95)


def whole(split: Split, events: Events) -> None:
    """Every event is on exactly one side, in the order it came."""
    train, test = (side.frame["item"].cast(pl.Int64).to_list() for side in (split.train, split.test))
    assert sorted(train + test) == list(range(len(events)))
    assert train == sorted(train)
    assert test == sorted(test)


@settings(max_examples=200, deadline=None)
@given(ROWS, SHARES)
def test_nothing_after_the_cut_is_in_train(rows: list[tuple[str, int]], share: float) -> None:
    events = events_of(rows)
    if len({moment for _, moment in rows}) == 1:
        with pytest.raises(ValueError, match="same moment"):
            splits.global_time(events, share)
        return
    for split in (splits.global_time(events, share), splits.by_session(events, share, gap=1)):
        whole(split, events)
        assert split.cut is not None
        assert all(moment < split.cut for moment in split.train.frame["time"])
    split = splits.global_time(events, share)
    assert all(moment >= split.cut for moment in split.test.frame["time"])  # so one instant stands on one side
    assert len(split.train)
    assert len(split.test)
    earlier = sum(moment < split.cut for _, moment in rows)
    assert len(split.train) == earlier


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 3))
def test_leave_last_out(rows: list[tuple[str, int]], last: int) -> None:
    events = events_of(rows)
    split = splits.leave_last_out(events, last)
    whole(split, events)
    for user in "abc":
        order = sorted((moment, n) for n, (name, moment) in enumerate(rows) if name == user)
        want = [str(n) for _, n in order[-last:]] if len(order) > last else []
        assert set(split.test.frame.filter(pl.col("user") == user)["item"]) == set(want)


@settings(max_examples=100, deadline=None)
@given(ROWS, SHARES, st.integers(0, 3))
def test_ratio(rows: list[tuple[str, int]], share: float, seed: int) -> None:
    events = events_of(rows)
    for ordered in (True, False):
        split = splits.ratio(events, share, seed=seed, ordered=ordered)
        whole(split, events)
        for user in "abc":
            mine = [moment for name, moment in rows if name == user]
            train = split.train.frame.filter(pl.col("user") == user)["time"].to_list()
            test = split.test.frame.filter(pl.col("user") == user)["time"].to_list()
            assert len(train) >= share * len(mine) - 1e-6
            assert len(train) < share * len(mine) + 1
            if ordered and train and test:
                assert max(train) <= min(test)


def test_ratio_at_random_follows_the_seed() -> None:
    events = events_of([("a", n) for n in range(50)])
    first, again, other = (splits.ratio(events, 0.5, seed=seed, ordered=False).test.frame for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert not first.equals(splits.ratio(events, 0.5).test.frame)


def test_folds_judge_every_event_once() -> None:
    events = events_of([("a", n) for n in range(23)])
    parts = splits.folds(events, 5, seed=4)
    for split in parts:
        whole(split, events)
    assert sorted(item for split in parts for item in split.test.frame["item"].cast(pl.Int64)) == list(range(23))
    assert {len(split.test) for split in parts} == {4, 5}
    with pytest.raises(ValueError, match="k must lie between 2 and the number of events"):
        splits.folds(events, 24)


def test_sessions_stay_whole() -> None:
    events = events_of([("a", 0), ("a", 10), ("b", 11), ("a", 95), ("b", 90), ("a", 100), ("b", 200), ("a", 201), ("b", 12)])
    assert splits.sessions(events, gap=50).to_list() == [0, 0, 0, 1, 1, 1, 2, 2, 0]
    split = splits.by_session(events, 0.6, gap=50)
    assert split.cut == 95
    assert split.test.frame["item"].to_list() == ["3", "5", "6", "7"]
    named = Events(events.frame.with_columns(session=pl.Series([1, 1, 1, 1, 2, 1, None, None, 1])))
    split = splits.by_session(named, 0.6, session="session")
    assert split.test.frame["item"].to_list() == ["0", "1", "3", "5", "6", "7"]
    with pytest.raises(ValueError, match="no context column 'sesion'"):
        splits.by_session(named, session="sesion")


@pytest.mark.parametrize("split", [splits.global_time, splits.leave_last_out, splits.ratio, splits.folds, splits.by_session])
def test_nothing_cannot_be_split(split: Callable[[Events], object]) -> None:
    with pytest.raises(ValueError, match="no events to split"):
        split(events_of([]))


def test_bad_options_and_the_catalog() -> None:
    events = events_of([("a", 1), ("a", 2)])
    for share in (0.0, 1.0, -1, float("nan")):
        for split in (splits.global_time, splits.ratio, splits.by_session):
            with pytest.raises(ValueError, match="ratio must lie between 0 and 1"):
                split(events, share)
    with pytest.raises(ValueError, match="last must be at least 1"):
        splits.leave_last_out(events, 0)
    assert catalog.load("leave_last_out", "split") is splits.leave_last_out


PAIRS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=60)


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.integers(0, 4), st.integers(0, 4))
def test_k_core_is_the_largest_part_that_holds(pairs: list[tuple[str, str]], users: int, items: int) -> None:
    kept, report = k_core(events_of([(user, 0) for user, _ in pairs], [item for _, item in pairs]), users, items)
    want = list(enumerate(pairs))
    while True:  # one pass after another, the plain way
        mine = [user for _, (user, _) in want]
        theirs = [item for _, (_, item) in want]
        fewer = [(n, (u, i)) for n, (u, i) in want if mine.count(u) >= users and theirs.count(i) >= items]
        if len(fewer) == len(want):
            break
        want = fewer
    assert kept.frame.select("user", "item").rows() == [pair for _, pair in want]
    assert report.accepted + len(report.rejected) == report.read == len(pairs)
    assert {r.row - 1 for r in report.rejected} == set(range(len(pairs))) - {n for n, _ in want}
    for r in report.rejected:
        assert r.value == pairs[r.row - 1][0 if r.column == "user" else 1]


@settings(max_examples=100, deadline=None)
@given(ROWS, SHARES, st.integers(0, 3))
def test_new_users_are_held_out_with_all_they_did(rows: list[tuple[str, int]], share: float, seed: int) -> None:
    events = events_of(rows)
    split = splits.new_users(events, share, seed)
    whole(split, events)
    sides = [set(side.frame["user"]) for side in (split.train, split.test)]
    assert not sides[0] & sides[1]
    users = len({name for name, _ in rows})
    assert share * users - 1e-6 <= len(sides[0]) < share * users + 1
    assert split.cut is None
    assert split.test.frame.equals(splits.new_users(events, share, seed).test.frame)
