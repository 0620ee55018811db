from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate import catalog
from palate.candidates import Candidates, Histories, Request
from palate.features.counters import Count, Rate, RouteScore
from palate.features.history import History
from palate.features.pipeline import FeaturePipeline
from palate.features.transforms import Category, Number, Tags
from palate.schema import MissingFeature, Schema
from palate.state.history import LiveHistory
from palate.state.live import LiveCounts
from palate.state.past import Past
from tests.features import small
from tests.features.test_transforms import HOSTILE


def world(seed=0, count=120):
    users, items = small.users(), small.items()
    return users, items, small.events(len(users), len(items), count, seed)


def past_of(users, items, rows):
    return Past(rows, len(users), len(items), windows=small.WINDOWS, audience=small.AUDIENCE)


def fitted(users, items, rows):
    return FeaturePipeline(small.features(), small.LABELS).fit(users, items, rows)


def saved(pipeline):
    arrays = {name: (str(array.dtype), array.tobytes()) for name, array in sorted(pipeline.arrays().items())}
    return json.dumps(pipeline.to_json()), arrays


def test_every_transform_of_the_catalog_is_in_the_small_world():
    known = {entry.load() for entry in catalog.ENTRIES if entry.kind == "feature"}
    assert known == {type(feature) for feature in small.features()}


def test_the_schema_says_all():
    schema = fitted(*world()).schema
    found = {f.name: (f.owner, f.kind, f.vocab_size, f.length, f.dim, f.shares) for f in schema.features}
    assert found == {
        "user_id": ("user", "category", 9, 0, 1, ""),
        "user_gender": ("user", "category", 4, 0, 1, ""),
        "user_liked": ("user", "sequence", 7, 2, 1, "item_genres"),
        "user_age": ("user", "number", 0, 0, 1, ""),
        "user_age_missing": ("user", "number", 0, 0, 1, ""),
        "item_id": ("item", "category", 10, 0, 1, ""),
        "item_studio": ("item", "category", 5, 0, 1, ""),
        "item_genres": ("item", "sequence", 7, 3, 1, ""),
        "item_year": ("item", "number", 0, 0, 1, ""),
        "item_image": ("item", "vector", 0, 0, 3, ""),
        "context_scene": ("context", "category", 4, 0, 1, ""),
        "context_hour": ("context", "number", 0, 0, 1, ""),
        "history_id": ("user", "sequence", 10, 5, 1, "item_id"),
        "history_id_gaps": ("user", "sequence", 42, 5, 1, ""),
        "history_genres_like": ("user", "sequence", 7, 4, 1, "item_genres"),
        "item_rated_count_7d": ("pair", "number", 0, 0, 1, ""),
        "user_love_count_1d": ("user", "number", 0, 0, 1, ""),
        "item_like_rate_all": ("pair", "number", 0, 0, 1, ""),
        "user_love_rate_7d": ("user", "number", 0, 0, 1, ""),
        "itemcf_score": ("pair", "number", 0, 0, 1, ""),
        "itemcf_score_offered": ("pair", "number", 0, 0, 1, ""),
        "popular_score": ("pair", "number", 0, 0, 1, ""),
        "itemcf_rank": ("pair", "number", 0, 0, 1, ""),
        "age_place": ("user", "number", 0, 0, 1, ""),
        "age_place_missing": ("user", "number", 0, 0, 1, ""),
        "year_width": ("item", "category", 5, 0, 1, ""),
        "year_quantile": ("item", "category", 5, 0, 1, ""),
        "year_tree": ("item", "category", 6, 0, 1, ""),
        "daytime": ("context", "category", 6, 0, 1, ""),
        "studio_fid": ("item", "category", 9, 0, 1, ""),
        "genres_fid": ("item", "sequence", 7, 3, 1, ""),
        "context_device": ("context", "category", 6, 0, 1, ""),
        "device": ("context", "category", 4, 0, 1, ""),
        "context_battery": ("context", "number", 0, 0, 1, ""),
        "battery_tree": ("context", "category", 5, 0, 1, ""),
        "studios": ("user", "sequence", 9, 4, 1, "studio_fid"),
        "user_gender_x_user_age": ("user", "category", 262146, 0, 1, ""),
        "item_studio_x_item_genres": ("item", "sequence", 13, 2, 1, ""),
        "user_gender_x_context_scene": ("context", "category", 262146, 0, 1, ""),
        "user_gender_x_item_genres_x_context_device": ("pair", "sequence", 52, 3, 1, ""),
        "user_liked_x_item_id": ("pair", "sequence", 42, 2, 1, ""),
        "time_hour": ("context", "category", 26, 0, 1, ""),
        "time_weekday": ("context", "category", 9, 0, 1, ""),
        "time_weekend": ("context", "category", 4, 0, 1, ""),
        "time_month": ("context", "category", 14, 0, 1, ""),
        "time_holiday": ("context", "category", 4, 0, 1, ""),
        "user_recency_like": ("user", "number", 0, 0, 1, ""),
        "item_last": ("pair", "number", 0, 0, 1, ""),
        "item_recency_love": ("pair", "number", 0, 0, 1, ""),
        "item_age": ("pair", "number", 0, 0, 1, ""),
        "item_audience_gender": ("pair", "vector", 0, 0, 2, ""),
        "item_audience_age_like": ("pair", "vector", 0, 0, 3, ""),
        "item_audience_liked": ("pair", "vector", 0, 0, 2, ""),
        "liked_lately_all": ("pair", "number", 0, 0, 1, ""),
        "liked_lately_1d": ("pair", "number", 0, 0, 1, ""),
        "smooth_all": ("pair", "number", 0, 0, 1, ""),
        "smooth_7d": ("pair", "number", 0, 0, 1, ""),
        "user_love_active_1d": ("user", "number", 0, 0, 1, ""),
        "user_love_active_7d": ("user", "number", 0, 0, 1, ""),
        "item_new": ("pair", "number", 0, 0, 1, ""),
        "match_id_all": ("pair", "number", 0, 0, 1, ""),
        "match_genres_all": ("pair", "number", 0, 0, 1, ""),
        "match_genres_2d": ("pair", "number", 0, 0, 1, ""),
        "match_studio_like_1d": ("pair", "number", 0, 0, 1, ""),
    }
    assert (schema.user_id, schema.item_id, schema.history, schema.domain) == ("user_id", "item_id", "history_id", "context_scene")
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    with pytest.raises(MissingFeature, match="plays the part 'user_id'"):
        FeaturePipeline([Number("item.year")]).fit(*world()).schema.part("user_id")


def test_every_column_has_the_shape_that_the_schema_promises():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    request = past_of(users, items, rows).request(np.array([0, -1, 3]), np.full(3, rows.times[-1]), scene="home")
    offered = small.candidates(np.random.default_rng(1), 3, len(items))
    total = len(offered.items)
    assert total
    halves = {"user": pipeline.encode_users(request), "item": pipeline.encode_items(offered.items), "pair": pipeline.encode_pairs(request, offered)}
    halves["context"] = {name: halves["user"].pop(name) for name in [f.name for f in pipeline.schema.of("context")]}
    whole = pipeline.encode(request, offered)
    assert set(whole) == {f.name for f in pipeline.schema.features}
    for feature in pipeline.schema.features:
        part = halves[feature.owner].pop(feature.name)
        inner = {"category": (), "number": (), "sequence": (feature.length,), "vector": (feature.dim,)}[feature.kind]
        assert part.shape == (3 if feature.owner in ("user", "context") else total, *inner)
        column = whole[feature.name]
        assert column.shape == (total, *inner)
        assert column.flags.c_contiguous
        assert column.dtype == (np.int64 if feature.kind in ("category", "sequence") else np.float32)
        if feature.kind in ("category", "sequence"):
            assert column.min() >= 0
            assert column.max() < feature.vocab_size
        np.testing.assert_array_equal(column, part if feature.owner in ("item", "pair") else part[offered.requests])
    assert not any(halves.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.integers(2, 80))
def test_offline_in_bulk_equals_online_one_by_one(seed, count):
    """Live state fed the same events, asked just before each moment, gives the rows that the past gives in bulk, bit for bit."""
    rng = np.random.default_rng(seed)
    users, items = small.users(), small.items()
    rows = small.events(len(users), len(items), count, seed)
    rows.users[rng.random(count) < 0.1] = -1
    rows.items[rng.random(count) < 0.1] = -1
    pipeline = fitted(users, items, rows.before(int(rows.times[count // 2])))
    moments = np.sort(rng.integers(rows.times[0] - 1, rows.times[-1] + small.DAY, 12))
    moments[:6] = rows.times[rng.integers(0, count, 6)]  # at the very instant of events
    moments.sort()
    asking = rng.integers(-1, len(users), 12)
    offered = small.candidates(rng, 12, len(items))
    context = {
        "hour": rng.integers(0, 24, 12).tolist(),
        "device": rng.choice(["tv", "phone", ""], 12).tolist(),
        "battery": [None, *rng.random(11).tolist()],
    }
    bulk = pipeline.encode(past_of(users, items, rows).request(asking, moments, context=context, scene="home"), offered)

    online = FeaturePipeline.from_saved(json.loads(json.dumps(pipeline.to_json())), pipeline.arrays()).bind(users, items)
    history = LiveHistory(limit=200)
    counts = LiveCounts(small.SIGNALS, small.WINDOWS, n_users=len(users), n_items=len(items), audience=small.AUDIENCE)
    singles, fed = [], 0
    for b in range(12):
        while fed < count and rows.times[fed] < moments[b]:
            event = (int(rows.users[fed]), int(rows.items[fed]), int(rows.times[fed]))
            history.add(*event, int(rows.signals[fed]), float(rows.values[fed]), fed)
            counts.add(*event, int(rows.signals[fed]), fed + 1)
            fed += 1
        request = Request(
            asking[b : b + 1],
            history.histories(asking[b : b + 1]),
            moments[b : b + 1],
            counts=counts,
            context={name: values[b : b + 1] for name, values in context.items()},
            scene="home",
        )
        singles.append(online.encode(request, small.one(offered, b)))
    small.equal(bulk, {name: np.concatenate([one[name] for one in singles]) for name in bulk})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_rows_equal_a_count_by_hand(seed):
    users, items, rows = world(seed)
    rng = np.random.default_rng(seed)
    pipeline = fitted(users, items, rows.before(int(rows.times[80])))
    share = (rows.before(int(rows.times[80])).values >= 4).mean()
    asking, now = rng.integers(0, len(users), 8), rows.times[rng.integers(0, len(rows), 8)]
    found = pipeline.encode(past_of(users, items, rows).request(asking, now), Candidates(np.arange(8), np.zeros(8, np.float32), np.arange(9)))
    ids = pipeline.item_columns()["item_id"]
    for b in range(8):
        earlier = [n for n in range(len(rows)) if rows.times[n] < now[b]]
        own = [int(ids[rows.items[n]]) for n in earlier if rows.users[n] == asking[b]][-5:]
        assert found["history_id"][b].tolist() == own + [0] * (5 - len(own))
        of_item = [n for n in earlier if rows.items[n] == b]
        week = [n for n in of_item if rows.times[n] >= (now[b] // small.DAY - 6) * small.DAY]
        assert found["item_rated_count_7d"][b] == np.float32(np.log1p(len(week)))
        liked = sum(rows.values[n] >= 4 for n in of_item)
        assert found["item_like_rate_all"][b] == pytest.approx((liked + 5 * share) / (len(of_item) + 5), rel=1e-6)
        today = [n for n in earlier if rows.users[n] == asking[b] and rows.times[n] >= now[b] // small.DAY * small.DAY]
        assert found["user_love_count_1d"][b] == sum(rows.values[n] >= 5 for n in today)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_comes_after_the_cut_changes_nothing_that_is_saved(seed):
    rng = np.random.default_rng(seed)
    users, items, rows = world(seed % 7)
    cut = int(rows.times[60])
    counts = past_of(users, items, rows).counts
    first = saved(FeaturePipeline(small.features(), small.LABELS).fit(users, items, rows.before(cut), counts))

    late = len(rows.before(cut))
    other = rows.take(np.arange(len(rows)))
    others_users, others_items = small.users(), small.items()
    seen = (set(rows.users[:late].tolist()), set(rows.items[:late].tolist()))
    for row in set(range(len(others_users))) - seen[0]:
        others_users.update(row, {"gender": "X", "age": 1e9, "liked": ["brand new"]})
    for row in set(range(len(others_items))) - seen[1]:
        others_items.update(row, {"studio": "later", "year": -1e9, "genres": ["brand new"], "image": [9.0]})
    for n in range(5):
        others_users.add(f"later {n}", {"gender": "Y", "age": -7})
        others_items.add(f"later {n}", {"studio": "s9", "year": 3000})
    other.users[late:] = rng.integers(0, len(others_users), len(rows) - late)
    other.items[late:] = rng.integers(0, len(others_items), len(rows) - late)
    other.signals[late:] = rng.integers(0, 8, len(rows) - late)
    other.context["device"][late:] = "watch"
    counts = past_of(others_users, others_items, other).counts
    assert saved(FeaturePipeline(small.features(), small.LABELS).fit(others_users, others_items, other.before(cut), counts)) == first
    if rng.random() < 0.2:  # and what comes before it does
        other.signals[:late] ^= 1
        other.users[:late] = other.users[0]
        assert saved(FeaturePipeline(small.features(), small.LABELS).fit(others_users, others_items, other.before(cut), counts)) != first


def test_the_order_of_the_catalogue_changes_nothing_that_is_saved():
    users, items, rows = world()
    order = np.random.default_rng(0).permutation(len(items))
    shuffled = type(items)("items")
    for row in order.tolist():
        shuffled.add(items.ids[row], items.attributes(row))
    moved = rows.take(np.arange(len(rows)))
    moved.items[:] = shuffled.rows([items.ids[row] for row in rows.items])
    assert saved(fitted(users, items, rows)) == saved(fitted(users, shuffled, moved))


def test_only_rows_of_training_are_known():
    users, items, rows = world()
    kept = rows.take(rows.items < 4)
    pipeline = fitted(users, items, kept)
    ids = pipeline.item_columns()["item_id"].tolist()
    assert sorted(ids[:4]) == [2, 3, 4, 5]
    assert ids[4:] == [1] * 7


def test_saved_and_loaded_gives_equal_rows():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    pipeline.fit_routes(small.candidates(np.random.default_rng(0), 9, len(items)))
    loaded = FeaturePipeline.from_saved(json.loads(json.dumps(pipeline.to_json())), pipeline.arrays())
    assert saved(loaded) == saved(pipeline)
    assert loaded.schema == pipeline.schema
    with pytest.raises(ValueError, match="call bind"):
        loaded.encode_items(np.array([0]))
    loaded.bind(users, items)
    request = past_of(users, items, rows).request(np.array([1, 2]), np.full(2, rows.times[-1]))
    offered = small.candidates(np.random.default_rng(2), 2, len(items))
    small.equal(pipeline.encode(request, offered), loaded.encode(request, offered))


def test_saved_wrongly_is_refused():
    pipeline = fitted(*world())
    arrays, data = pipeline.arrays(), pipeline.to_json()
    with pytest.raises(ValueError, match=r"lacks the array 'item_id\.bytes'"):
        FeaturePipeline.from_saved(data, {name: array for name, array in arrays.items() if name != "item_id.bytes"})
    with pytest.raises(ValueError, match="its schema does not fit"):
        FeaturePipeline.from_saved(data, {**arrays, "item_id.bytes": arrays["item_id.bytes"][:0], "item_id.offsets": np.zeros(1, np.int64)})
    with pytest.raises(ValueError, match="format 7"):
        FeaturePipeline.from_saved({**data, "format": 7}, arrays)
    with pytest.raises(ValueError, match="names the transform 'Eval'"):
        FeaturePipeline.from_saved({**data, "features": [{"name": "Eval", "options": {}, "learnt": {}}]}, arrays)


def test_a_row_does_not_depend_on_the_rest_of_the_batch():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    rng = np.random.default_rng(3)
    asking, now = rng.integers(-1, len(users), 30), rng.integers(rows.times[0], rows.times[-1], 30)
    past = past_of(users, items, rows)
    offered = small.candidates(rng, 30, len(items))
    whole = pipeline.encode(past.request(asking, now), offered)
    for b in range(30):
        alone = pipeline.encode(past.request(asking[b : b + 1], now[b : b + 1]), small.one(offered, b))
        here = slice(offered.offsets[b], offered.offsets[b + 1])
        small.equal(alone, {name: column[here] for name, column in whole.items()})


def test_a_stranger_and_what_the_call_says_of_him():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    now = rows.times[-1:]
    past = past_of(users, items, rows)
    stranger = pipeline.encode_users(past.request(np.array([-1]), now))
    assert (stranger["user_id"][0], stranger["user_gender"][0], stranger["user_liked"].tolist()) == (1, 1, [[1, 0]])
    assert stranger["user_age_missing"][0] == 1
    assert abs(stranger["user_age"][0]) < 1e-6
    assert not stranger["history_id"].any()

    told = past.request(
        np.array([-1, 0]), now.repeat(2), attributes={"gender": ["M", None], "age": [25, None], "liked": [["drama"], None], "zip": [1, 2]}
    )
    known = pipeline.encode_users(past.request(np.array([0]), now))
    both = pipeline.encode_users(told)
    small.equal({k: v[1:] for k, v in both.items()}, known)
    assert both["user_gender"][0] == known["user_gender"][0]  # u0 is M
    assert both["user_liked"][0].tolist() == known["user_liked"][0].tolist()
    assert both["user_age_missing"].tolist() == [0, 0]
    assert pipeline.encode_users(past.request(np.array([0]), now, attributes={"gender": ["F"]}))["user_gender"][0] != known["user_gender"][0]
    with pytest.raises(ValueError, match="'gender' must hold one value for each of 2 rows"):
        pipeline.encode_users(past.request(np.array([0, 1]), now.repeat(2), attributes={"gender": ["F"]}))
    with pytest.raises(ValueError, match="one value for each"):
        pipeline.encode_users(past.request(np.array([0]), now, attributes={"gender": "F"}))
    small.equal(pipeline.encode_users(past.request(np.array([-1]), now)), stranger)  # what was told left no trace


def test_context_and_scene():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    past, now = past_of(users, items, rows), rows.times[-1:]
    assert pipeline.encode_users(past.request(np.array([0]), now, scene="search"))["context_scene"].tolist() == [3]
    assert pipeline.encode_users(past.request(np.array([0]), now, scene="search", context={"scene": ["home"]}))["context_scene"].tolist() == [2]
    assert pipeline.encode_users(past.request(np.array([0]), now))["context_scene"].tolist() == [1]
    learnt = FeaturePipeline([Category("context.device"), Number("context.hour", scale="standard")])
    rows = replace(rows, context={})
    with pytest.raises(ValueError, match=r"'context_device': fit needs context=\{'device'"):
        learnt.fit(users, items, rows)
    rows.users[0] = -1  # an event of a user that nobody knows is not learnt from
    devices = ["never", *["tv"] * 10, *["phone"] * (len(rows) - 11)]
    learnt.fit(users, items, rows, context={"device": devices, "hour": [5] * len(rows)})
    assert learnt.schema["context_device"].vocab_size == 4
    asked = Request(np.array([0, 1, 2]), Histories.empty(3), now.repeat(3), context={"device": ["tv", "phone", "never"], "hour": [5, 5, None]})
    assert learnt.encode_users(asked)["context_device"].tolist() == [3, 2, 1]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_are_unknown_or_missing(value):
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    asked = past_of(users, items, rows).request(
        np.array([0]), rows.times[-1:], attributes={"gender": [value], "age": [value], "liked": [value]}, context={"hour": [value], "scene": [value]}
    )
    for name, column in pipeline.encode_users(asked).items():
        assert np.isfinite(column).all(), name
        assert column.min() >= (0 if pipeline.schema[name].kind == "sequence" else -10)
        if pipeline.schema[name].vocab_size:
            assert column.max() < pipeline.schema[name].vocab_size


def test_what_changes_in_the_catalogue_is_taken_in():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    assert len(pipeline.item_columns()["item_year"]) == 11
    before = pipeline.encode_items(np.arange(11))
    row = items.add("new", {"studio": "s1", "genres": ["war"], "year": 1980, "colour": "red"})
    after = pipeline.encode_items(np.array([row]))
    assert after["item_id"].tolist() == [1]
    assert after["item_studio"].tolist() == before["item_studio"][1:2].tolist()
    assert after["item_genres"][0].tolist() == [pipeline.features[6].vocabulary.id("war"), 0, 0]
    items.update(row, {"year": None, "studio": "nobody's"})
    items.update(2, {"genres": ["crime"]})
    again = pipeline.encode_items(np.array([row, 2, 3]))
    assert again["item_studio"][0] == 1
    assert again["item_year"][0] == pipeline.encode_items(np.array([-1]))["item_year"][0]
    assert again["item_genres"][1].tolist() == [pipeline.features[6].vocabulary.id("crime"), 0, 0]
    assert again["item_genres"][2].tolist() == before["item_genres"][3].tolist()
    user = users.add("somebody", {"gender": "M"})
    asked = Request(np.array([user]), Histories.empty(1), rows.times[-1:], counts=past_of(users, items, rows).counts)
    assert pipeline.encode_users(asked)["user_gender"].tolist() == [pipeline.features[1].vocabulary.id("M")]
    with pytest.raises(IndexError, match="catalogue of items has no row 100000"):
        pipeline.encode_items(np.array([100_000]))


def test_a_history_shows_items_added_later():
    users, items, rows = world()
    pipeline = FeaturePipeline([History("studio", length=2)]).fit(users, items, rows)
    row = items.add("new", {"studio": "s1"})
    known = Histories(np.array([row]), np.zeros(1, np.int64), np.ones(1, np.uint32), np.zeros(1, np.float32), np.array([0, 1]))
    found = pipeline.encode_users(Request(np.array([-1]), known, np.array([5])))
    assert found["history_studio"].tolist() == [[pipeline.features[0].vocabulary.id("s1"), 0]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(small.GENRES), st.integers(1900, 2000)), max_size=30), st.booleans())
def test_refreshed_rows_equal_rows_encoded_anew(changes, often):
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    for place, genre, year in changes:
        if place < len(items):
            items.update(place, {"genres": [genre], "year": year})
        else:
            for n in range(len(items), len(items) + place // 4):
                items.add(f"i{n}", {"genres": [genre], "year": year, "studio": "s2"})
        if often:
            pipeline.item_columns()
    anew = FeaturePipeline.from_saved(pipeline.to_json(), pipeline.arrays()).bind(users, items)
    small.equal(pipeline.item_columns(), anew.item_columns())
    everyone = np.arange(-1, len(items))
    small.equal(pipeline.encode_items(everyone), anew.encode_items(everyone))


def test_readers_never_see_a_half_grown_sheet():
    users, items, rows = world()
    pipeline = fitted(users, items, rows)
    expected = pipeline.encode_items(np.arange(11))
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            found = pipeline.encode_items(np.arange(-1, 11))
            if not all(np.array_equal(found[name][1:], expected[name]) for name in expected):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(1500):
        items.add(f"more {n}", {"studio": "s1"})
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert (pipeline.item_columns()["item_studio"][11:] == expected["item_studio"][1]).all()


def test_shared_vocabularies():
    users, items, rows = world()
    shared = FeaturePipeline(
        [
            Tags("item.genres"),
            Tags("user.liked", shares="item.genres"),
            History("genres"),
            History("id"),
            Category("item.studio"),
            History("studio", shares="item_genres"),
        ]
    ).fit(users, items, rows)
    assert [f.shares for f in shared.schema.features] == ["", "item_genres", "item_genres", "", "", "item_genres"]
    assert len({f.vocab_size for f in shared.schema.features if "item_genres" in (f.name, f.shares)}) == 1
    assert shared.schema["history_id"].vocab_size == 2 + len(np.unique(rows.items))
    users.update(0, {"liked": ["only a user has it"]})
    again = FeaturePipeline([Tags("item.genres"), Tags("user.liked", shares="item_genres")]).fit(users, items, rows)
    assert "only a user has it" in again.features[0].vocabulary.values
    chained = FeaturePipeline([Category("user.gender", shares="b"), Category("user.id", shares="item_id", label="b"), Category("item.id")])
    assert [f.shares for f in chained.features] == ["item_id", "item_id", ""]
    own = FeaturePipeline([Category("item.id", shares="history_id"), History("id")]).fit(users, items, rows)
    assert [f.shares for f in own.schema.features] == ["history_id", ""]


def test_given_features_are_not_touched():
    given_ones = small.features()
    FeaturePipeline(given_ones).fit(*world())
    assert not hasattr(given_ones[0], "vocabulary")
    assert given_ones[11].shares == ""


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([Number("item.year"), Number("item.year")], "two features have the name 'item_year'"),
        ([Number("item.year", flag=True), Number("item.x", label="item_year_missing")], "two features have the name 'item_year_missing'"),
        ([Category("user.id", shares="item_ids"), Category("item.id")], "shares 'item_ids', which does not exist; did you mean 'item_id'"),
        ([Category("user.id", shares="item_year"), Number("item.year")], "'item_year', which has no vocabulary"),
        ([Category("user.id", shares="b"), Category("item.id", shares="user_id", label="b")], "in a circle: user_id -> b -> user_id"),
        ([Category("user.id", part="user_id"), Category("user.gender", part="user_id")], "'user_id' and 'user_gender' cannot both play"),
        ([Category("item.id", part="user_id")], "cannot play the part 'user_id': that takes a Category of user"),
        ([History(part="item_id")], "cannot play the part 'item_id'"),
        ([Category("user.a.b", label="a.b")], "cannot be the name of a feature"),
        ([Category("user.id", label="log_q")], "cannot be the name of a feature"),
    ],
)
def test_what_cannot_be_is_named(features, message):
    with pytest.raises(ValueError, match=message):
        FeaturePipeline(features)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Category("user.gendre"), "no column 'user.gendre'; did you mean 'user.gender'"),
        (Category("item.gender"), "no column 'item.gender'"),
        (Number("item.yaer", scale="standard"), "did you mean 'item.year'"),
        (History("genre"), "no column 'item.genre'; did you mean 'item.genres'"),
        (History(signal="liked"), "no signal 'liked'; did you mean 'like'"),
        (Count("item", "rated", 3), "needs counts over 3 days"),
        (Category("item.genres"), "take Tags"),
    ],
)
def test_what_does_not_fit_the_data_is_named(feature, message):
    users, items, rows = world()
    with pytest.raises(ValueError, match=message):
        FeaturePipeline([feature]).fit(users, items, rows, past_of(users, items, rows).counts)


def test_before_it_is_fitted():
    pipeline = FeaturePipeline(small.features())
    with pytest.raises(ValueError, match="call fit"):
        _ = pipeline.schema
    with pytest.raises(ValueError, match="call fit"):
        pipeline.bind(small.users(), small.items())
    assert pipeline.windows == small.WINDOWS
    assert pipeline.routes == ("itemcf", "popular")


def test_nothing_to_learn_from_and_nothing_to_encode():
    users, items, rows = world()
    pipeline = fitted(users, items, rows.take(slice(0, 0)))
    assert pipeline.schema["item_id"].vocab_size == 2
    past = past_of(users, items, rows)
    request = past.request(np.array([0]), rows.times[-1:])
    assert all(len(column) == 0 for column in pipeline.encode(request, Candidates.empty(1)).values())
    nobody = past.request(np.empty(0, np.int64), np.empty(0, np.int64))
    assert all(len(column) == 0 for column in pipeline.encode(nobody, Candidates.empty(0)).values())
    with pytest.raises(ValueError, match="candidates of 2 requests do not belong to 1"):
        pipeline.encode(request, Candidates.empty(2))


def test_fitted_route_scores():
    users, items, rows = world()
    pipeline = FeaturePipeline([RouteScore("itemcf", scale="fitted"), RouteScore("gone", scale="fitted"), Rate("item", "like", "rated")]).fit(
        users, items, rows
    )
    request, offered = past_of(users, items, rows).request(np.array([0]), rows.times[-1:]), small.candidates(np.random.default_rng(4), 1, len(items))
    with pytest.raises(ValueError, match="fit_routes"):
        pipeline.encode_pairs(request, offered)
    many = small.candidates(np.random.default_rng(0), 200, len(items))
    found = pipeline.fit_routes(many).encode_pairs(past_of(users, items, rows).request(np.zeros(200, np.int64), rows.times[-1:].repeat(200)), many)
    shown = found["itemcf_score"][found["itemcf_score_offered"] > 0]
    assert abs(shown.mean()) < 1e-5
    assert shown.std() == pytest.approx(1, abs=1e-5)
    assert not found["gone_score"].any()
