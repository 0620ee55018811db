from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import DAY
from palate.state.history import LiveHistory
from palate.state.live import CountsAsOf, LiveCounts
from palate.state.past import Past
from palate.state.rows import EventRows

NAMES = ("any", "like", "love")
WINDOWS = (DAY, 3 * DAY, 0)
event = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9 * DAY), st.integers(0, 7))


def as_rows(events: list[tuple[int, int, int, int, int]]) -> EventRows:
    """Events (user, item, time, signals, key) in the order that the live state keeps: (time, key)."""
    table = np.array(sorted(events, key=lambda e: (e[2], e[4])), np.int64).reshape(-1, 5)
    return EventRows(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.uint32), table[:, 4].astype(np.float32), NAMES)


@settings(max_examples=150, deadline=None)
@given(st.lists(event, max_size=50), st.integers(0, 50), st.randoms(use_true_random=False), st.integers(1, 12), st.integers(1, 8 * DAY))
def test_live_equals_past_bit_for_bit(given_events: list[tuple[int, int, int, int]], loaded: int, rng: random.Random, limit: int, later: int) -> None:
    events = [(*e, key) for key, e in enumerate(given_events)]
    rng.shuffle(events)
    history, counts = LiveHistory(limit), LiveCounts(NAMES, WINDOWS, DAY)
    table = np.array(events[:loaded], np.int64).reshape(-1, 5)
    shown = table[:, 3].astype(np.uint32)
    history.load(table[:, 0], table[:, 1], table[:, 2], shown, table[:, 4].astype(np.float32), table[:, 4])
    counts.load(table[:, 0], table[:, 1], table[:, 2], shown)
    rest = events[loaded:]
    ask_at = rng.randrange(len(rest) + 1)
    for place, (user, item, time, signals, key) in enumerate(rest):
        if place == ask_at:  # a question in between must not change the answers that follow
            counts.items(np.arange(3), np.full(3, counts.latest + later if counts.latest > 0 else later))
        history.add(user, item, time, signals, float(key), key)
        counts.add(user, item, time, signals)
    past = Past(as_rows(events), 4, 5, WINDOWS, DAY, limit)
    latest = max((e[2] for e in events), default=0)
    for now in (latest + 1, latest + later, latest + 1):  # forward, then back again
        users, items = np.array([-1, 0, 1, 2, 3, 9]), np.array([-1, 0, 1, 2, 3, 4, 77])
        mine, truth = history.histories(users), past.histories(users, np.full(6, now))
        for name in ("items", "times", "signals", "values", "offsets"):
            found, wanted = getattr(mine, name), getattr(truth, name)
            assert found.dtype == wanted.dtype
            assert found.tobytes() == wanted.tobytes()
        for found, wanted in (
            (counts.items(items, np.full(7, now)), past.counts.items(items, np.full(7, now))),
            (counts.users(users, np.full(6, now)), past.counts.users(users, np.full(6, now))),
        ):
            assert found.dtype == wanted.dtype
            assert found.tobytes() == wanted.tobytes()
        several = np.array([now, now + DAY, now, now + 2 * DAY, now, now, now])
        assert counts.items(items, several).tobytes() == past.counts.items(items, several).tobytes()


@settings(max_examples=80, deadline=None)
@given(st.lists(event, min_size=1, max_size=30), st.lists(event, max_size=20), st.integers(1, 2 * DAY))
def test_counts_of_a_request_do_not_move_while_events_arrive(
    before: list[tuple[int, int, int, int]], after: list[tuple[int, int, int, int]], later: int
) -> None:
    counts = LiveCounts(NAMES, WINDOWS, DAY)
    for place, (user, item, time, signals) in enumerate(before):
        counts.add(user, item, time, signals, place + 1)
    now = np.full(5, counts.latest + later)
    rows = np.arange(5)
    items, users = counts.items(rows, now), counts.users(rows, now)
    seen = CountsAsOf(counts, threading.Lock(), counts.sequence)
    for place, (user, item, time, signals) in enumerate(after):
        newer = min(time + (0 if place % 2 else int(now[0])), int(now[0]) + DAY)  # late ones, and ones after the request
        counts.add(user, item, newer, signals, len(before) + place + 1)
    assert seen.items(rows, now).tobytes() == items.tobytes()
    assert seen.users(rows, now).tobytes() == users.tobytes()


def test_a_moment_that_is_past_is_refused() -> None:
    counts = LiveCounts(("any",), (DAY,), DAY)
    counts.add(0, 0, 100, 1)
    with pytest.raises(ValueError, match="after the latest event"):
        counts.items(np.array([0]), np.array([100]))


def test_forgetting_leaves_nothing_and_gives_the_room_back() -> None:
    history = LiveHistory(limit=16)
    for time in range(40):
        history.add(5, 1234567, time, 1, 0.0, time)
    used = history._used
    history.forget(5)
    assert len(history.histories([5]).items) == 0
    assert 1234567 not in history._items[:used]
    for time in range(40):
        history.add(6, 1, time, 1, 0.0, time)
    assert history._used <= used + 8


def test_memory_is_bounded_by_users_not_by_events() -> None:
    history, counts = LiveHistory(limit=8), LiveCounts(("any",), (DAY, 0), DAY)
    for n in range(20_000):
        history.add(n % 10, n % 7, n, 1, 0.0, n)
        counts.add(n % 10, n % 7, n * 60_000, 1, n)
    assert history.nbytes < 60_000
    assert counts.nbytes < 60_000
