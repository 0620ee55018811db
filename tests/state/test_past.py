from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import DAY
from palate.state.past import Past
from palate.state.rows import EventRows

event = st.tuples(st.integers(-1, 3), st.integers(-1, 4), st.integers(0, 6 * DAY), st.integers(0, 3))
NAMES = ("any", "like")


def rows_of(events: list[tuple[int, int, int, int]]) -> EventRows:
    table = np.array(sorted(events, key=lambda e: e[2]), np.int64).reshape(-1, 4)
    values = table[:, 3].astype(np.float32)
    return EventRows(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.uint32), values, NAMES)


@settings(max_examples=120, deadline=None)
@given(st.lists(event, max_size=60), st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 6), st.integers(0, 7 * DAY)), min_size=1, max_size=8))
def test_past_equals_a_loop_over_all_events(events: list[tuple[int, int, int, int]], asked: list[tuple[int, int, int]]) -> None:
    rows = rows_of(events)
    windows = (DAY, 3 * DAY, 0)
    past = Past(rows, 4, 5, windows, DAY, limit=3)
    users, items, now = (np.array(x, np.int64) for x in zip(*asked, strict=True))
    request = past.request(users, now)
    counted_items, counted_users = past.counts.items(items, now), past.counts.users(users, now)
    ordered = list(zip(rows.users, rows.items, rows.times, rows.signals, strict=True))
    for b, (user, item, moment) in enumerate(asked):
        mine = [e for e in ordered if e[0] == user >= 0 and e[1] >= 0 and e[2] < moment]
        part = slice(request.histories.offsets[b], request.histories.offsets[b + 1])
        assert request.histories.items[part].tolist() == [e[1] for e in mine][-3:]
        assert request.histories.times[part].tolist() == [e[2] for e in mine][-3:]
        assert request.histories.signals[part].tolist() == [e[3] for e in mine][-3:]
        assert request.exclude is not None
        assert request.exclude[b].tolist() == sorted({e[1] for e in mine})
        for s in range(2):
            for w, window in enumerate(windows):
                start = (moment // DAY - (window // DAY - 1)) * DAY if window else -1
                inside = [e for e in ordered if start <= e[2] < moment and (int(e[3]) >> s) & 1]
                assert counted_items[b, s, w] == sum(e[1] == item >= 0 for e in inside)
                assert counted_users[b, s, w] == sum(e[0] == user >= 0 for e in inside)


def test_no_events_at_all() -> None:
    past = Past(rows_of([]), 0, 0, (DAY,))
    request = past.request(np.array([-1, 3]), np.array([5, 5]))
    assert len(request.histories) == 2
    assert request.histories.items.size == 0
    assert past.counts.items(np.array([-1, 0, 9]), np.array([1, 2, 3])).sum() == 0


def test_disorder_and_broken_windows_are_refused() -> None:
    none = np.zeros(2, np.int64)
    rows = EventRows(none, none, np.array([2, 1]), none.astype(np.uint32), none.astype(np.float32), ("any",))
    with pytest.raises(ValueError, match="order of time"):
        Past(rows, 1, 1)
    with pytest.raises(ValueError, match="whole buckets"):
        Past(rows.take(slice(0, 1)), 1, 1, windows=(DAY + 1,))


def test_memory_and_time_grow_linearly() -> None:
    sizes = []
    for n in (20_000, 40_000):
        rng = np.random.default_rng(0)
        times = np.sort(rng.integers(0, 100 * DAY, n))
        rows = EventRows(rng.integers(0, 1000, n), rng.integers(0, 500, n), times, np.ones(n, np.uint32), np.ones(n, np.float32), ("any",))
        counts = Past(rows, 1000, 500, (DAY, 0)).counts
        side, running = counts._items  # type: ignore[attr-defined]
        sizes.append(side.nbytes + running.nbytes)
    assert sizes[1] <= 2 * sizes[0]
