from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.candidates import DAY
from palate.features.match import Match
from palate.features.pipeline import FeaturePipeline
from palate.state.past import Past
from tests.features import small


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["none", "log1p", "share"]), st.sampled_from(["", "like"]))
def test_counts_equal_those_by_hand(seed, scale, signal):
    rng = np.random.default_rng(seed)
    users, items, rows = small.users(), small.items(), small.events(7, 11, 90, seed)
    windows = (0, 1, 4)
    matches = [Match(attribute, signal, windows, scale) for attribute in ("id", "studio", "genres")]
    pipeline = FeaturePipeline(matches).fit(users, items, rows)
    asking, now = rng.integers(-1, 7, 9), rows.times[rng.integers(0, 90, 9)]
    offered = small.candidates(rng, 9, 11)
    found = pipeline.encode_pairs(Past(rows, 7, 11, limit=40).request(asking, now), offered)

    def values(attribute, item):
        if item < 0:
            return []
        if attribute == "id":
            return [item]
        value = items.attributes(item).get(attribute)
        return value if isinstance(value, list) else [value]

    for n, (item, b) in enumerate(zip(offered.items.tolist(), offered.requests.tolist(), strict=True)):
        past = [m for m in range(90) if rows.users[m] == asking[b] and rows.times[m] < now[b]][-40:]
        if signal:
            past = [m for m in past if rows.values[m] >= 4]
        for match in matches:
            wanted = values(match.attribute, item)
            for window, name in zip(windows, match.names(), strict=True):
                inside = [m for m in past if not window or rows.times[m] >= now[b] - window * DAY]
                total = sum(value in values(match.attribute, int(rows.items[m])) for m in inside for value in wanted) / max(len(wanted), 1)
                expected = {"none": total, "log1p": math.log1p(total), "share": total / max(len(inside), 1)}[scale]
                assert found[name][n] == pytest.approx(expected, rel=1e-6), (name, n)


def test_an_item_that_came_later_matches_at_once():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    pipeline = FeaturePipeline([Match("studio", scale="none"), Match("id", scale="none")]).fit(users, items, rows)
    row = items.add("new", {"studio": "s1"})
    request = Past(rows, 7, 11).request(np.array([0]), rows.times[-1:] + 1)
    offered = small.candidates(np.random.default_rng(0), 1, 11)
    offered = type(offered)(np.array([row, -1]), np.zeros(2, np.float32), np.array([0, 2]))
    found = pipeline.encode_pairs(request, offered)
    mine = rows.items[rows.users == 0]
    assert found["match_studio_all"].tolist() == [float((mine % 3 == 1).sum()), 0]
    assert found["match_id_all"].tolist() == [0, 0]


def test_names_and_options():
    assert Match("brand", "buy", 7).names() == ("match_brand_buy_7d",)
    assert Match("brand", window=(0, 7), label="had").names() == ("had_all", "had_7d")
    assert [column.owner for column in Match(window=(0, 7)).columns()] == ["pair", "pair"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window must be 0"),
        ({"window": []}, "window must be 0"),
        ({"window": [7, 7]}, "window must be 0 .* different ones"),
        ({"window": "7"}, "'window'"),
        ({"attribute": ""}, "attribute must be 'id'"),
        ({"scale": "log"}, "'scale'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        build(Match, options)


def test_what_does_not_fit_the_data_is_named():
    with pytest.raises(ValueError, match=r"no column 'item\.genre'; did you mean 'item\.genres'"):
        FeaturePipeline([Match("genre")]).fit(small.users(), small.items(), small.events(7, 11))
    with pytest.raises(ValueError, match="no signal 'likes'"):
        FeaturePipeline([Match("genres", "likes")]).fit(small.users(), small.items(), small.events(7, 11))
