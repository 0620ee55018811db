from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.candidates import DAY, Audiences, Candidates, Histories, Request
from palate.features.clock import Recency, TimeParts
from palate.features.kinds import View
from tests.features import small

EVERY = ("hour", "weekday", "weekend", "month", "holiday")


def parts(now, **options):
    request = Request(np.zeros(len(now), np.int64), Histories.empty(len(now)), np.array(now, np.int64))
    return TimeParts(**options).encode(View(request, None, small.Known()))


@settings(deadline=None)
@given(st.lists(st.integers(-(10**12), 4 * 10**12), min_size=1, max_size=9), st.integers(-48, 56))
def test_parts_equal_those_of_the_calendar(now, halves):
    offset = halves / 2 if -48 <= halves <= 48 else 0.0
    found = parts(now, parts=EVERY, offset=offset, holidays=("02-29", "12-25", "2026-01-06"))
    for b, moment in enumerate(now):
        local = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=moment, hours=offset)
        free = (local.month, local.day) in ((2, 29), (12, 25)) or local.date() == datetime.date(2026, 1, 6)
        expected = (local.hour, local.weekday(), local.weekday() >= 5, local.month - 1, free)
        assert [int(column[b]) - 2 for column in found] == list(map(int, expected)), local
    assert all(column.dtype == np.int64 for column in found)


def test_names_and_sizes():
    made = TimeParts(("weekend", "hour"), label="clock")
    assert [(c.name, c.owner, c.kind, c.vocab_size) for c in made.columns()] == [
        ("clock_weekend", "context", "category", 4),
        ("clock_hour", "context", "category", 26),
    ]


def view(past=(), now=100 * DAY, created=(), audience=None, signals=()):
    """One request at ``now`` whose user did something at the moments ``past``; candidates are rows -1, 0, 1 ..."""
    past, rows = np.array(past, np.int64), np.arange(-1, len(created))
    shown = np.array(signals or [1] * len(past), np.uint32)
    histories = Histories(np.zeros(len(past), np.int64), past, shown, np.zeros(len(past), np.float32), np.array([0, len(past)]))

    class Counts:
        kept = 5

        def audience(self, items, moments):
            assert items.tolist() == rows.tolist()
            assert moments.tolist() == [now] * len(rows)
            return audience

    request = Request(np.array([0]), histories, np.array([now]), counts=Counts())
    return View(
        request, Candidates(rows, np.zeros(len(rows), np.float32), np.array([0, len(rows)])), small.Known(created=np.array(created, np.int64))
    )


def test_the_last_event_of_the_user():
    past, signals = (93 * DAY, 97 * DAY, 99 * DAY), (3, 1, 1)
    assert Recency("user", half=1).encode(view(past))[0].tolist() == [0.5]
    liked = Recency("user", "like", half=7)
    liked.fit(small.events(3, 3))
    assert liked.encode(view(past, signals=signals))[0].tolist() == [0.5]
    assert Recency("user").encode(view())[0].tolist() == [0]
    assert (Recency("user").owner, Recency("item").owner, Recency("age").owner) == ("user", "pair", "pair")


def test_the_age_of_an_item():
    (found,) = Recency("age", half=10).encode(view(created=(90 * DAY, 0, 100 * DAY, 101 * DAY, 70 * DAY)))
    assert found.tolist() == [0, 0.5, 0, 1, 1, 0.25]
    assert found.dtype == np.float32


def test_the_last_event_of_an_item():
    users, times, signals = np.array([1, 2, 3, 4]), np.array([90, 96, 98, 50]) * DAY, np.array([2, 3, 1, 1], np.uint32)
    known = Audiences(users, times, signals, np.array([0, 0, 3]), np.array([0, 3, 4]))
    asked = view(created=(1, 1), audience=known)
    np.testing.assert_allclose(Recency("item", half=2).encode(asked)[0], [0, 0.5, 2 / 52], rtol=1e-6)
    liked = Recency("item", "like", half=4)
    liked.fit(small.events(3, 3))
    assert liked.encode(asked)[0].tolist() == [0, 0.5, 0]


def test_what_the_state_does_not_keep_is_named():
    request = Request(np.array([0]), Histories.empty(1), np.array([5]))
    with pytest.raises(ValueError, match="carries no counters"):
        Recency("item").encode(View(request, Candidates.empty(1), small.Known()))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (TimeParts, {"parts": []}, "parts must be different ones of hour"),
        (TimeParts, {"parts": ["hour", "hour"]}, "parts must be different"),
        (TimeParts, {"parts": ["our"]}, "hour"),
        (TimeParts, {"offset": 25.0}, "offset must be -24 to 24"),
        (TimeParts, {"parts": ["holiday"]}, "which dates are free"),
        (TimeParts, {"holidays": ["12-25"]}, "go together"),
        (TimeParts, {"parts": ["holiday"], "holidays": ["25.12."]}, "dates such as"),
        (TimeParts, {"parts": ["holiday"], "holidays": ["02-30"]}, "dates such as"),
        (Recency, {"of": "users"}, "did you mean 'user'"),
        (Recency, {"of": "item", "half": 0}, "half must be above 0"),
        (Recency, {"of": "age", "signal": "like"}, "an item's age knows none"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(OptionError, match=message):
        build(cls, options)


def test_an_unknown_signal_is_named_at_fitting():
    with pytest.raises(ValueError, match="no signal 'likes'; did you mean 'like'"):
        Recency("user", "likes").fit(small.events(3, 3))
