from __future__ import annotations

import math

import numpy as np
import pytest

from palate.build import OptionError, build
from palate.candidates import DAY, Candidates, Histories, Request
from palate.features.counters import Count, Rate, RouteRank, RouteScore
from palate.features.kinds import View
from tests.features import small


class Fixed:
    """Counts that depend on row, signal and window in a known way."""

    signals = small.SIGNALS
    windows = (0, 7 * DAY)

    def items(self, rows, now):
        values = np.arange(6, dtype=np.int32).reshape(3, 2) * 10
        return np.where((rows < 0)[:, None, None], 0, values + rows[:, None, None]).astype(np.int32)

    users = items


def view(counts=None, columns=None, offsets=(0, 3)):
    offsets = np.array(offsets, np.int64)
    size = len(offsets) - 1
    request = Request(np.arange(size, dtype=np.int64) - 1, Histories.empty(size), np.full(size, DAY), counts=counts)
    return View(request, Candidates(np.array([-1, 0, 4]), np.zeros(3, np.float32), offsets, columns or {}), small.Known())


def test_counts_of_items_and_users():
    asked = view(Fixed())
    (found,) = Count("item", "like", 7).encode(asked)
    np.testing.assert_array_equal(found, np.array([0, math.log1p(30), math.log1p(34)], np.float32))
    (plain,) = Count("item", "like", 0, scale="none").encode(asked)
    assert plain.tolist() == [0, 20, 24]
    assert plain.dtype == np.float32
    (own,) = Count("user", "rated", 0).encode(view(Fixed(), offsets=(0, 1, 3)))
    np.testing.assert_array_equal(own, np.array([0, 0], np.float32))
    assert (Count("user", "rated").owner, Count("item", "rated").owner) == ("user", "pair")


def test_rates_are_smoothed_by_the_share_of_training():
    rate = Rate("item", "like", "rated", window=7, prior=2)
    rate.fit(small.events(5, 5))
    rows = small.events(5, 5)
    ((share, weight),) = rate.priors
    assert share == pytest.approx((rows.values >= 4).mean())
    assert weight == 2
    (found,) = rate.encode(view(Fixed()))
    np.testing.assert_allclose(found, [share, (30 + 2 * share) / (10 + 2), (34 + 2 * share) / (14 + 2)], rtol=1e-6)
    bare = Rate("item", "like", "rated", prior=0)
    bare.priors = ((0.25, 0.0),)
    assert bare.encode(view(Fixed()))[0].tolist() == [0.25, 0.25, 6.0]


def test_scores_by_request():
    nan = math.nan
    columns = {"cf.score": np.array([nan, 1, 3], np.float32)}
    score, offered = RouteScore("cf").encode(view(columns=columns))
    assert score.tolist() == [0, -1, 1]
    assert offered.tolist() == [0, 1, 1]
    assert RouteScore("cf").encode(view(columns=columns, offsets=(0, 2, 3)))[0].tolist() == [0, 0, 0]
    assert RouteScore("cf", scale="none", flag=False).encode(view(columns=columns))[0].tolist() == [0, 1, 3]
    equal = {"cf.score": np.full(3, 0.1, np.float32)}
    np.testing.assert_allclose(RouteScore("cf").encode(view(columns=equal))[0], 0, atol=1e-6)


def test_scores_by_a_fitted_scale():
    score = RouteScore("cf", scale="fitted", flag=False)
    columns = {"cf.score": np.array([math.inf, 1, 3], np.float32)}
    with pytest.raises(ValueError, match="call fit_routes"):
        score.encode(view(columns=columns))
    score.fit_route(np.array([0, 4, math.nan], np.float32))
    assert score.encode(view(columns=columns))[0].tolist() == [0, -0.5, 0.5]


def test_ranks():
    columns = {"cf.rank": np.array([math.nan, 0, 10], np.float64)}
    assert RouteRank("cf").encode(view(columns=columns))[0].tolist() == [0, 1, 0.5]
    assert RouteRank("cf", half=40).encode(view(columns=columns))[0][2] == np.float32(0.8)


def test_a_route_that_failed_offered_nothing():
    assert [column.tolist() for column in RouteScore("cf").encode(view())] == [[0, 0, 0], [0, 0, 0]]
    assert RouteRank("cf").encode(view())[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("feature", "counts", "message"),
    [
        (Count("item", "rated", 30), Fixed(), "'item_rated_count_30d' needs counts over 30 days .* the state keeps windows of: 0, 7"),
        (Count("item", "rate"), Fixed(), "did you mean 'rated'"),
        (Count("item", "rated"), None, "the request carries no counters"),
    ],
)
def test_what_the_state_does_not_count_is_named(feature, counts, message):
    with pytest.raises(ValueError, match=message):
        feature.encode(view(counts))


@pytest.mark.parametrize("feature", [Count("item", "likes"), Rate("user", "like", "likes")])
def test_an_unknown_signal_is_named_at_fitting(feature):
    with pytest.raises(ValueError, match="no signal 'likes'; did you mean 'like'"):
        feature.fit(small.events(3, 3))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Count, {"of": "items", "signal": "rated"}, "did you mean 'item'"),
        (Count, {"of": "item"}, "needs the option 'signal'"),
        (Count, {"of": "item", "signal": "rated", "window": -1}, "window must be 0"),
        (Rate, {"of": "item", "signal": "like", "among": "rated", "prior": -1.0}, "prior must be 0 or more"),
        (RouteRank, {"route": "cf", "half": 0}, "half must be above 0"),
        (RouteScore, {"rout": "cf"}, "did you mean 'route'"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(OptionError, match=message):
        build(cls, options)
