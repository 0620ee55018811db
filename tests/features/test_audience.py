from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.candidates import Candidates
from palate.features.audience import Audience
from palate.features.pipeline import FeaturePipeline
from palate.state.past import Past
from tests.features import small


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["", "like"]), st.sampled_from([0.0, 5.0]))
def test_shares_equal_those_by_hand(seed, signal, prior):
    rng = np.random.default_rng(seed)
    users, items, rows = small.users(), small.items(), small.events(7, 11, 90, seed)
    rows.users[rng.random(90) < 0.1] = -1
    made = [Audience("gender", 4, signal, prior=prior), Audience("age", 4, signal, edges=(30, 45), prior=prior)]
    pipeline = FeaturePipeline(made).fit(users, items, rows)
    kept = 6
    past = Past(rows, 7, 11, audience=kept)
    asking, now = rng.integers(-1, 7, 8), rows.times[rng.integers(0, 90, 8)]
    offered = small.candidates(rng, 8, 11)
    found = pipeline.encode_pairs(past.request(asking, now), offered)
    ages, genders = ([users.attributes(u).get(name) for u in range(7)] for name in ("age", "gender"))
    order = pipeline.features[0].vocabulary.values
    groups = {
        "gender": [None if g is None else order.index(g) for g in genders],
        "age": [None if a is None else int(np.searchsorted([30, 45], a, side="right")) for a in ages],
    }
    for feature in pipeline.features:
        group, size = groups[feature.attribute], len(feature.usual)
        trained = np.bincount([group[u] for u in rows.users if u >= 0 and group[u] is not None], minlength=size)
        np.testing.assert_allclose(feature.usual, trained / trained.sum(), rtol=1e-6)
        for n, (item, b) in enumerate(zip(offered.items.tolist(), offered.requests.tolist(), strict=True)):
            past_ones = [m for m in range(90) if rows.items[m] == item and rows.users[m] >= 0 and rows.times[m] < now[b]][-kept:]
            shown = [int(rows.users[m]) for m in past_ones if not signal or rows.values[m] >= 4][-4:]
            counts = np.bincount([group[u] for u in shown if group[u] is not None], minlength=size)
            weight = counts.sum() + prior
            expected = (counts + prior * feature.usual) / weight if weight else feature.usual
            np.testing.assert_allclose(found[feature.feature_name][n], expected, rtol=1e-5)
    for name in found:
        np.testing.assert_allclose(found[name].sum(1), 1, rtol=1e-5)


def test_schema_and_values():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    made = [Audience("gender", values=("F", "M", "X")), Audience("age", edges=(30,)), Audience("liked", limit=3), Audience("gender", label="empty")]
    pipeline = FeaturePipeline(made).fit(users, items, rows)
    assert [(c.name, c.owner, c.kind, c.dim) for c in pipeline.schema.features] == [
        ("item_audience_gender", "pair", "vector", 3),
        ("item_audience_age", "pair", "vector", 2),
        ("item_audience_liked", "pair", "vector", 3),
        ("empty", "pair", "vector", 2),
    ]
    assert pipeline.audience == 50
    assert pipeline.features[0].vocabulary.values == ("F", "M", "X")
    nothing = FeaturePipeline([Audience("gender")]).fit(users, items, rows.take(slice(0, 0)))
    past = Past(rows, 7, 11, audience=50)
    found = nothing.encode_pairs(past.request(np.array([0]), rows.times[-1:]), Candidates(np.array([0]), np.zeros(1, np.float32), np.array([0, 1])))
    assert found["item_audience_gender"].tolist() == [[1]]


def test_who_came_to_the_catalogue_later_counts_once_known():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    pipeline = FeaturePipeline([Audience("gender", length=2, prior=0)]).fit(users, items, rows)
    row = users.add("late", {})
    rows.users[:], rows.items[:] = row, 0
    request = Past(rows, row + 1, 11, audience=2).request(np.array([0]), rows.times[-1:] + 1)
    offered = Candidates(np.array([0]), np.zeros(1, np.float32), np.array([0, 1]))
    usual = pipeline.features[0].usual
    np.testing.assert_array_equal(pipeline.encode_pairs(request, offered)["item_audience_gender"][0], usual)
    users.update(row, {"gender": "F"})
    place = pipeline.features[0].vocabulary.values.index("F")
    assert pipeline.encode_pairs(request, offered)["item_audience_gender"][0, place] == 1


def test_a_state_that_keeps_too_few_events_is_named():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    past = Past(rows, 7, 11, audience=9)
    with pytest.raises(ValueError, match="'item_audience_gender' needs the last 10 events of each item; the state keeps 9: set audience of"):
        FeaturePipeline([Audience("gender", length=10)]).fit(users, items, rows, past.counts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attribute": "gender", "length": 0}, "length must be at least 1"),
        ({"attribute": "gender", "limit": 0}, "limit must be at least 1"),
        ({"attribute": "gender", "prior": -1.0}, "prior must be 0 or more"),
        ({"attribute": "id"}, "attribute must be a column"),
        ({"attribute": "age", "edges": [3, 1]}, "edges must rise"),
        ({"attribute": "age", "edges": [3], "values": ["x"]}, "give one of them"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        build(Audience, options)
