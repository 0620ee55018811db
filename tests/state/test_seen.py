from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.state.seen import CountingBloom, ExactSeen, SeenBy, SeenFilter, WindowedBloom, seen_filter

WINDOW = 1000
KINDS: dict[str, dict[str, Any]] = {"exact": {}, "bloom": {"capacity": 32}, "counting": {"capacity": 32}}
show = st.tuples(st.integers(0, 3), st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(0, 400))


def made(kind: str) -> SeenFilter:
    return seen_filter(kind, WINDOW, **KINDS[kind])


def again(filter: SeenFilter, kind: str) -> SeenFilter:
    other = made(kind)
    other.restore(filter.arrays())
    return other


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(show, max_size=30), restart=st.integers(0, 30))
def test_nothing_shown_within_the_window_is_missed(kind: str, steps: list[tuple[int, list[int], int]], restart: int) -> None:
    filter, now, log = made(kind), 0, []
    for place, (user, items, pause) in enumerate(steps):
        if place == restart:
            filter = again(filter, kind)
        now += pause
        filter.show(user, np.array(items), now)
        log += [(user, item, now) for item in items]
        for who in range(4):
            due = [item for u, item, time in log if u == who and time > now - WINDOW]
            assert SeenBy(filter, who, now).contains(np.array(due, np.int64)).all()
    if kind == "exact":
        for who in range(4):
            truth = {item for u, item, time in log if u == who and now - WINDOW < time}
            assert np.flatnonzero(filter.contains(who, np.arange(201), now)).tolist() == sorted(truth)


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_passes(kind: str) -> None:
    filter = made(kind)
    filter.show(1, np.array([5, 6]), 0)
    filter.show(1, np.array([6]), 500)
    assert filter.contains(1, np.array([5, 6]), 999).tolist() == [True, True]
    assert not filter.contains(1, np.array([5]), 3000).any()
    assert not filter.contains(2, np.array([5, 6, -1]), 600).any()
    filter.forget(1)
    assert not filter.contains(1, np.array([5, 6]), 600).any()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_once_the_window_is_full(kind: str) -> None:
    filter, sizes = made(kind), []
    for now in range(6000):
        filter.show(now % 300, np.array([now % 97]), now)
        sizes.append(filter.nbytes)
    assert max(sizes[3000:]) <= 1.3 * max(sizes[1500:3000])
    for user in range(300, 4000):  # ever new users, each seen once
        filter.show(user, np.array([1]), 6000 + 50 * user)
    assert filter.nbytes <= 2 * max(sizes)


@pytest.mark.parametrize("kind", ["bloom", "counting"])
def test_false_positives_stay_below_what_is_stated(kind: str) -> None:
    filter = seen_filter(kind, WINDOW, capacity=100, error=0.02)
    rng = np.random.default_rng(0)
    hidden = total = 0
    for user in range(60):
        shown = rng.choice(50_000, 100, replace=False)
        filter.show(user, shown, 10)
        others = np.setdiff1d(rng.choice(50_000, 2000, replace=False), shown)
        hidden += int(filter.contains(user, others, 10).sum())
        total += len(others)
        if isinstance(filter, WindowedBloom):
            assert 0 < filter.loss(user, 10) < 0.02
    assert 0 < hidden / total < 0.02  # 0 would mean that this is no Bloom filter, or no test


def test_counting_takes_back_only_what_it_was_given() -> None:
    rng = np.random.default_rng(1)
    filter = CountingBloom(WINDOW, capacity=16, error=0.3)  # full of collisions on purpose
    kept = rng.choice(10_000, 60, replace=False)
    filter.show(0, kept, 10)
    absent = np.setdiff1d(np.arange(10_000), kept)
    looks_there = absent[filter.contains(0, absent, 10)]
    assert len(looks_there) > 100  # false positives: a plain counting filter would delete them and lose others
    assert not filter.remove(0, absent).any()
    assert filter.contains(0, kept, 10).all()
    assert filter.remove(0, kept[:30]).all()
    assert filter.contains(0, kept[30:], 10).all()
    assert filter.remove(0, kept).sum() == 30
    assert not filter.contains(0, np.arange(10_000), 10).any()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_pages_and_shows_taken_back_leave_nothing(kind: str) -> None:
    filter = made(kind)
    before = filter.nbytes
    for user in range(50):
        filter.show(user, np.array([-1] if user % 2 else [], np.int64), user)
    assert filter.nbytes == before
    if isinstance(filter, CountingBloom):
        filter.show(7, np.array([1, 2]), 60)
        filter.remove(7, np.array([1, 2]))
        filter.show(8, np.array([1]), 60 + WINDOW)
        filter.forget(8)
        assert filter.nbytes == before


def test_bloom_size_is_what_it_says() -> None:
    filter = WindowedBloom(WINDOW, capacity=64, error=0.01)
    for user in range(1000):
        filter.show(user, np.arange(10), 5)
    assert filter.nbytes <= 1000 * (filter.bytes_per_user * 1.5 + 200)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'exact'"):
        seen_filter("exakt")
    with pytest.raises(ValueError, match="window"):
        ExactSeen(0)
    with pytest.raises(ValueError, match="error"):
        WindowedBloom(WINDOW, error=2.0)
    with pytest.raises(ValueError, match="shape"):
        WindowedBloom(WINDOW, capacity=10).restore(WindowedBloom(WINDOW, capacity=1000).arrays())
