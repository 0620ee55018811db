from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.features.numbers import Bucket, Quantile, tree_cuts
from palate.features.pipeline import FeaturePipeline
from tests.features import small
from tests.features.test_transforms import HOSTILE

FINITE = st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float)


def fitted(feature, values, *more):
    feature.fit(values, *more)
    again = type(feature)(**feature.options())
    again.restore(json.loads(json.dumps(feature.learnt())))
    asked = [*values, *HOSTILE, 0, -1e29, 1e29, 0.5]
    for one, other in zip(feature.encode(asked), again.encode(asked), strict=True):
        np.testing.assert_array_equal(one, other)
    return feature


# ---- quantiles


def test_a_quantile_is_the_share_that_is_less_and_half_of_the_equal():
    place = fitted(Quantile("item.price", steps=4, flag=True), [10, 20, 20, 20, None, 40])
    found, missing = place.encode([5, 10, 15, 20, 30, 40, 41, None, "x"])
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.5, 0.8, 0.9, 1, 0.5, 0.5], atol=1e-7)
    assert missing.tolist() == [0] * 7 + [1, 1]
    assert found.dtype == missing.dtype == np.float32
    assert place.names() == ("item_price", "item_price_missing")


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=60), st.lists(FINITE, max_size=20))
def test_with_a_knot_for_every_value_it_is_the_empirical_distribution(known, asked):
    place = Quantile("item.price", steps=len(known))
    place.fit(known)
    (found,) = place.encode([*known, *asked])
    values = np.array(known)
    expected = [(values < one).mean() + (values == one).mean() / 2 for one in known]
    np.testing.assert_allclose(found[: len(known)], expected, atol=1e-6)
    assert (found >= 0).all()
    assert (found <= 1).all()
    order = np.argsort([*known, *asked], kind="stable")
    assert (np.diff(found[order]) >= -1e-6).all(), "it never falls"


def test_what_is_even_after_it_was_not():
    values = np.random.default_rng(0).lognormal(3, 2, 5000)
    place = Quantile("item.price")
    place.fit(values.tolist())
    assert len(place.knots) <= 101
    (found,) = place.encode(np.random.default_rng(1).lognormal(3, 2, 5000).tolist())
    counts = np.histogram(found, 10, (0, 1))[0]
    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize("known", [[], [None, "x"], [7, 7, 7]], ids=range(3))
def test_nothing_or_one_value_to_learn_from(known):
    place = fitted(Quantile("item.price"), known)
    (found,) = place.encode([7, None, *HOSTILE])
    assert np.isfinite(found).all()
    assert found[0] == 0.5


# ---- buckets


@pytest.mark.parametrize(
    ("options", "cuts", "expected"),
    [
        ({"buckets": 4}, [2, 4, 6], [2, 3, 3, 4, 5, 2, 5, 1]),
        ({"buckets": 2, "by": "width"}, [50], [2, 2, 2, 2, 2, 2, 3, 1]),
        ({"edges": (2, 4.5)}, [2, 4.5], [2, 3, 3, 3, 4, 2, 4, 1]),
    ],
)
def test_buckets(options, cuts, expected):
    bucket = fitted(Bucket("item.price", **options), [0, 1, 2, 3, 4, 5, 6, 100])
    assert bucket.cuts.tolist() == cuts
    (found,) = bucket.encode([1, 2, 3, 4, 6, -1e9, 1e9, None])
    assert found.tolist() == expected
    assert found.dtype == np.int64
    (column,) = bucket.columns()
    assert (column.kind, column.vocab_size) == ("category", len(cuts) + 3)


@settings(deadline=None)
@given(st.lists(FINITE | st.none(), max_size=50), st.integers(2, 12), st.sampled_from(["quantile", "width"]))
def test_no_bucket_is_without_a_value_of_training_by_quantiles_and_all_are_in_the_vocabulary(values, buckets, by):
    bucket = Bucket("item.price", buckets=buckets, by=by)
    bucket.fit(values)
    (found,) = bucket.encode([*values, *HOSTILE])
    size = bucket.columns()[0].vocab_size
    assert ((found >= 1) & (found < size)).all()
    assert size <= buckets + 2
    known = [place for place, value in zip(found, values, strict=False) if value is not None]
    if by == "quantile" and known:
        assert set(known) == set(range(2, size))


def test_a_tree_finds_where_the_rate_changes():
    rng = np.random.default_rng(0)
    ages = rng.integers(15, 80, 400).astype(float)
    rate = np.where(ages < 30, 0.1, np.where(ages < 55, 0.5, 0.2))
    trials = rng.integers(0, 60, 400)
    hits = rng.binomial(trials, rate)
    cuts = tree_cuts(ages, hits, trials, 3, 50)
    assert cuts.tolist() == [29.5, 54.5]
    assert len(tree_cuts(ages, hits, trials, 3, 10**6)) == 0, "no leaf with so many trials"
    assert len(tree_cuts(ages, np.zeros(400, int), trials, 3, 1)) == 0, "nothing to tell apart"
    assert tree_cuts(ages[::-1], hits[::-1], trials[::-1], 3, 50).tolist() == cuts.tolist()


def test_a_tree_is_the_best_of_all_cuts():
    """Against every cut tried by hand: the first has the largest gain of information."""
    rng = np.random.default_rng(3)
    values, trials = rng.integers(0, 9, 30).astype(float), rng.integers(1, 9, 30)
    hits = rng.binomial(trials, 0.4)

    def bits(k, n):
        return -sum(part * math.log2(part / n) for part in (k, n - k) if part)

    gains = {}
    for cut in np.unique(values)[1:]:
        left = values < cut
        gains[cut] = bits(hits.sum(), trials.sum()) - sum(bits(hits[side].sum(), trials[side].sum()) for side in (left, ~left))
    best = max(gains, key=gains.get)
    (found,) = tree_cuts(values, hits, trials, 2, 1)
    assert max(value for value in values if value < best) < found < best


def test_a_tree_in_the_pipeline_sees_the_events_of_training_alone():
    users, items, rows = small.users(), small.items(), small.events(7, 11, 400)
    rows.signals[:] = 1 | ((rows.items % 11 >= 6).astype(np.uint32) << 1)
    tree = Bucket("item.year", buckets=2, by="tree", signal="like", among="rated", least=1)
    by_user = Bucket("user.age", buckets=2, by="tree", signal="like", least=1)
    pipeline = FeaturePipeline([tree, by_user]).fit(users, items, rows)
    years = [items.attributes(row).get("year") for row in range(11)]
    below, above = max(y for r, y in enumerate(years) if y and r < 6), min(y for r, y in enumerate(years) if y and r >= 6)
    assert pipeline.features[0].cuts.tolist() == [(below + above) / 2]
    with pytest.raises(ValueError, match="no signal 'liek'; did you mean 'like'"):
        FeaturePipeline([Bucket("item.year", by="tree", signal="liek")]).fit(users, items, rows)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Quantile, {"column": "item.x", "steps": 0}, "steps must be"),
        (Quantile, {"column": "x"}, "must read 'user.x'"),
        (Bucket, {"column": "item.x", "buckets": 1}, "buckets must be at least 2"),
        (Bucket, {"column": "item.x", "by": "tree"}, "go with by = 'tree'"),
        (Bucket, {"column": "item.x", "signal": "like"}, "go with by = 'tree'"),
        (Bucket, {"column": "item.x", "by": "tree", "signal": "like", "least": 0}, "least must be"),
        (Bucket, {"column": "item.x", "edges": [3, 2]}, "edges must rise"),
        (Bucket, {"column": "item.x", "edges": [1, 2], "by": "width"}, "go without by"),
        (Bucket, {"column": "item.x", "by": "widht"}, "did you mean 'width'"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(OptionError, match=message):
        build(cls, options)
