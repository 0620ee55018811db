"""The last events of each item: live as in the past, as of a request, after a restart and after a user was forgotten."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import DAY, Audiences, Ints
from palate.state.audience import SLACK, LiveAudience
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.history import LiveHistory
from palate.state.live import CountsAsOf, LiveCounts
from palate.state.past import Past, PastCounts
from palate.state.rows import EventRows, event_rows
from palate.tables.events import Events
from tests.state.worlds import NOW, SIGNALS, WINDOWS, opened, rating

event = st.tuples(st.integers(-1, 4), st.integers(-1, 3), st.integers(0, 12), st.integers(1, 3))  # user, item, hour, signals


def lists(found: Audiences) -> list[list[tuple[int, int, int]]]:
    """Who, when and what of each item."""
    columns = (found.users.tolist(), found.times.tolist(), found.signals.tolist())
    everything = list(zip(*columns, strict=True))
    return [everything[begin:end] for begin, end in zip(found.begin.tolist(), found.end.tolist(), strict=True)]


def rows_of(events: list[tuple[int, int, int, int]]) -> EventRows:
    users, items, times, signals = (np.array(column, np.int64) for column in zip(*events, strict=True)) if events else [np.empty(0, np.int64)] * 4
    order = np.argsort(times, kind="stable")
    values = np.ones(len(order), np.float32)
    return EventRows(users[order], items[order], times[order], signals[order].astype(np.uint32), values, ("a", "b"))


@settings(max_examples=100, deadline=None)
@given(st.lists(event, max_size=60), st.integers(0, 60), st.randoms(use_true_random=False), st.integers(1, 9))
def test_live_equals_past_in_whatever_order_events_come(events: list[tuple[int, int, int, int]], loaded: int, rng: random.Random, kept: int) -> None:
    rows = rows_of(events)
    past = PastCounts(rows, (0,), DAY, kept)
    asked, now = np.array([-1, 0, 1, 2, 3, 9]), np.full(6, 13, np.int64)
    live = LiveCounts(("a", "b"), (0,), DAY, audience=kept)
    first = rows.take(slice(0, loaded))
    live.load(first.users, first.items, first.times, first.signals)
    rest = list(range(len(first), len(rows)))
    rng.shuffle(rest)
    for place in rest:
        live.add(int(rows.users[place]), int(rows.items[place]), int(rows.times[place]), int(rows.signals[place]), place + 1, place)
    assert lists(live.audience(asked, now)) == lists(past.audience(asked, now))
    at = np.array([rng.randrange(14) for _ in asked])
    for n, (item, moment) in enumerate(zip(asked.tolist(), at.tolist(), strict=True)):
        theirs = [e for e in zip(rows.users, rows.items, rows.times, rows.signals, strict=True) if e[1] == item >= 0 and e[0] >= 0 and e[2] < moment]
        assert lists(past.audience(asked, at))[n] == [(u, t, s) for u, _, t, s in theirs[-kept:]]


@settings(max_examples=80, deadline=None)
@given(st.lists(event, min_size=1, max_size=40), st.lists(event, max_size=SLACK), st.integers(1, 6))
def test_what_comes_after_a_request_does_not_move_its_audience(
    before: list[tuple[int, int, int, int]], after: list[tuple[int, int, int, int]], kept: int
) -> None:
    live = LiveCounts(("a", "b"), (0,), DAY, audience=kept)
    for n, (user, item, time, signals) in enumerate(before):
        live.add(user, item, time, signals, n + 1)
    seen = CountsAsOf(live, threading.Lock(), live.sequence)
    asked, now = np.array([3, 2, 1, 0, -1, 2]), np.full(6, live.latest + 1)
    expected = lists(seen.audience(asked, now))
    for n, (user, item, time, signals) in enumerate(after):
        live.add(user, item, time, signals, len(before) + n + 1)
    assert lists(seen.audience(asked, now)) == expected
    assert seen.kept == kept


def test_nothing_is_kept_where_nothing_was_asked_for() -> None:
    live = LiveCounts(("a",), (0,), DAY)
    live.add(1, 2, 3, 1, 1)
    assert lists(live.audience(np.array([2, -1]), np.array([9, 9]))) == [[], []]
    assert lists(PastCounts(rows_of([(1, 2, 3, 1)]), (0,), DAY).audience(np.array([2]), np.array([9]))) == [[]]
    assert LiveAudience().nbytes == 0
    with pytest.raises(ValueError, match="0 or more"):
        LiveAudience(-1)
    with pytest.raises(ValueError, match="only moments after the latest event"):
        live.audience(np.array([2]), np.array([3]))


def test_gathering_many_equals_one_by_one() -> None:
    history, rng = LiveHistory(limit=20), np.random.default_rng(0)
    for n in range(400):
        history.add(int(rng.integers(0, 9)), int(rng.integers(0, 50)), int(rng.integers(0, 99)), int(rng.integers(1, 8)), 1.0, n)
    asked: Ints = np.array([3, -1, 8, 3, 10**6, 0])
    items, times, signals, offsets = history.gather(asked, 20)
    whole = history.histories(asked)
    for one, other in ((items, whole.items), (times, whole.times), (signals, whole.signals), (offsets, whole.offsets)):
        np.testing.assert_array_equal(one, other)
    items, _, _, offsets = history.gather(asked, 3)
    assert [one.tolist() for one in np.split(items, offsets[1:-1])] == [one.tolist()[-3:] for one in np.split(whole.items, whole.offsets[1:-1])]


def many(n: int, seed: int, name: str = "e") -> list[dict[str, object]]:
    rng = random.Random(seed)
    times = [NOW - rng.randrange(30 * DAY) // 1000 * 1000 for _ in range(n)]
    return [rating(f"u{rng.randrange(9)}", f"i{rng.randrange(6)}", rng.randrange(1, 6), times[k], event_id=f"{name}{k}") for k in range(n)]


def truth(state: Embedded, without: str = "", last: int = 2**60) -> list[list[tuple[int, int, int]]]:
    """What the past over the state's own log says of all items."""
    frame = state.events_frame().filter((polars.col("sequence") <= last) & (polars.col("user") != without)).drop("sequence")
    rows = event_rows(Events(frame), state.users, state.items, SIGNALS)
    past = Past(rows, len(state.users), len(state.items), WINDOWS, audience=5)
    return lists(past.counts.audience(np.arange(6), np.full(6, NOW + DAY)))


def now_of(state: Embedded) -> list[list[tuple[int, int, int]]]:
    request = state.request(["u1"])
    assert request.counts is not None
    return lists(request.counts.audience(np.arange(6), np.full(6, request.now[0])))


def test_a_service_keeps_it_over_a_restart_and_as_of_each_request(tmp_path: Path) -> None:
    with opened(tmp_path, audience=5) as state:
        state.append(many(120, 1))
        first, last = state.request(["u1"]), state.sequence
        state.append(many(30, 2, "later"))
        assert first.counts is not None
        assert lists(first.counts.audience(np.arange(6), np.full(6, first.now[0]))) == truth(state, last=last)
        found = now_of(state)
        assert found == truth(state)
        assert {len(one) for one in found} == {5}
    with opened(tmp_path, audience=5) as state:
        assert now_of(state) == found


def test_who_is_forgotten_leaves_the_audiences_and_earlier_events_fill_them_up(tmp_path: Path) -> None:
    users, items = Catalogue("users"), Catalogue("items")
    [users.add(f"u{n}") for n in range(9)]
    [items.add(f"i{n}") for n in range(6)]
    rng = np.random.default_rng(5)
    names = tuple(signal.name for signal in SIGNALS)
    base = EventRows(
        rng.integers(0, 9, 60),
        rng.integers(0, 6, 60),
        NOW - 90 * DAY + np.arange(60) * 1000,
        np.full(60, 7, np.uint32),
        np.full(60, 5, np.float32),
        names,
    )
    with opened(tmp_path, users=users, items=items, base=base, audience=40) as state:
        state.append([event for event in many(100, 3) if event["item"] != "i0"])
        before = now_of(state)
        gone = users.row("u3")
        assert any(user == gone for one in before for user, _, _ in one)
        state.forget("u3")
        after = now_of(state)
        kept = base.take(base.users != gone)
        log = event_rows(Events(state.events_frame().drop("sequence")), users, items, SIGNALS)
        past = Past(kept.joined(log), 10, 6, WINDOWS, audience=40)
        assert after == lists(past.counts.audience(np.arange(6), np.full(6, NOW + DAY)))
        assert not any(user == gone for one in after for user, _, _ in one)
    again = Catalogue("users")
    [again.add(f"u{n}") for n in range(9)]
    with opened(tmp_path, users=again, items=items, base=base, audience=40) as state:
        assert now_of(state) == after
