from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.candidates import Candidates, Histories, Request
from palate.features.cross import Cross
from palate.features.hashing import fid, slot_of
from palate.features.pipeline import FeaturePipeline
from palate.features.vocabulary import parts
from palate.state.past import Past
from tests.features import small

MASK = (1 << 64) - 1


def mixed(value: int) -> int:
    """SplitMix64's finaliser in Python's own integers."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def by_hand(feature: Cross, cells: list) -> list[int]:
    """The ids of one row whose columns hold ``cells``."""
    keys = [[fid(slot_of(column), one) for one in parts(cell)][: feature.length] for column, cell in zip(feature.of, cells, strict=True)]
    ids = []
    for combination in itertools.product(*keys):
        value = mixed(combination[0])
        for key in (*combination[1:], *([1] if len(combination) == 2 else [])):
            value = mixed(value + key & MASK)
        ids.append(2 + value % feature.buckets)
    ids = ids[: feature.length] or [1]
    return ids + [0] * (feature.length - len(ids))


def test_owners_follow_the_sides():
    owners = {
        ("user.gender", "user.age"): "user",
        ("item.studio", "item.year", "item.genres"): "item",
        ("context.a", "context.b"): "context",
        ("user.gender", "context.scene"): "context",
        ("user.gender", "item.studio"): "pair",
        ("item.studio", "context.scene"): "pair",
        ("user.gender", "item.studio", "context.scene"): "pair",
    }
    assert {of: Cross(of).owner for of in owners} == owners
    assert Cross(("user.gender", "item.studio")).feature_name == "user_gender_x_item_studio"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_ids_equal_those_by_hand(seed):
    rng = np.random.default_rng(seed)
    users, items, rows = small.users(), small.items(), small.events(7, 11, 60, seed)
    crosses = [feature for feature in small.features() if isinstance(feature, Cross)]
    assert {cross.owner for cross in crosses} == {"user", "item", "context", "pair"}
    pipeline = FeaturePipeline(crosses).fit(users, items, rows)
    asking = rng.integers(-1, 7, 5)
    given_ones = {"gender": [None, "X", None, "M", None]}
    told = {"device": ["tv", None, "phone", "", "radio"], "scene": ["home", "search", None, "home", "x"]}
    offered = small.candidates(rng, 5, 11)
    request = Past(rows, 7, 11).request(asking, np.full(5, rows.times[-1]), attributes=given_ones, context=told)
    found = pipeline.encode(request, offered)
    for n, (item, b) in enumerate(zip(offered.items.tolist(), offered.requests.tolist(), strict=True)):
        known = users.attributes(int(asking[b]))
        if given_ones["gender"][b] is not None:
            known["gender"] = given_ones["gender"][b]
        sides = {
            "user": known,
            "item": {**items.attributes(item), "id": items.ids[item] if item >= 0 else None},
            "context": {name: values[b] for name, values in told.items()},
        }
        for cross in crosses:
            cells = [sides[column.partition(".")[0]].get(column.partition(".")[2]) for column in cross.of]
            assert np.atleast_1d(found[cross.feature_name][n]).tolist() == by_hand(cross, cells), cross.of


def test_the_order_of_columns_and_values_matters():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    a, b = Cross(("item.studio", "item.year")), Cross(("item.year", "item.studio"))
    pipeline = FeaturePipeline([a, b]).fit(users, items, rows)
    columns = pipeline.item_columns()
    known = columns["item_studio_x_item_year"] > 1
    assert known.sum() == 8
    assert not (columns["item_studio_x_item_year"] == columns["item_year_x_item_studio"])[known].any()


def test_collisions_are_those_of_the_pairs_that_training_showed():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    pipeline = FeaturePipeline([Cross(("user.id", "item.id"), buckets=64)]).fit(users, items, rows)
    pairs = {(int(u), int(i)) for u, i in zip(rows.users, rows.items, strict=True)}
    ids = [by_hand(pipeline.features[0], [f"u{u}", f"i{i}"])[0] for u, i in pairs]
    assert pipeline.features[0].learnt() == {"seen": len(pairs), "collided": sum(ids.count(one) > 1 for one in ids)}
    assert pipeline.notes()[0].startswith(f"user_id_x_item_id: {len(pairs)} values in 64 buckets")


def test_what_changes_in_the_catalogue_changes_the_cross():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    pipeline = FeaturePipeline([Cross(("user.gender", "item.studio")), Cross(("item.studio", "item.year"))]).fit(users, items, rows)
    request = Request(np.array([0]), Histories.empty(1), rows.times[-1:])
    offered = Candidates(np.array([1, 2]), np.zeros(2, np.float32), np.array([0, 2]))
    before = pipeline.encode(request, offered)
    items.update(1, {"studio": "another"})
    users.update(0, {"gender": "F"})
    row = items.add("new", {"studio": "s2", "year": 1956})
    after = pipeline.encode(request, offered)
    assert (before["user_gender_x_item_studio"] != after["user_gender_x_item_studio"]).all()
    assert (before["item_studio_x_item_year"] != after["item_studio_x_item_year"]).tolist() == [True, False]
    assert pipeline.encode_items(np.array([row]))["item_studio_x_item_year"][0] == before["item_studio_x_item_year"][1]
    with pytest.raises(IndexError, match="no row 100000"):
        pipeline.encode(request, Candidates(np.array([100_000]), np.zeros(1, np.float32), np.array([0, 1])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": ["user.a"]}, "two or three different columns"),
        ({"of": ["user.a", "user.a"]}, "two or three different columns"),
        ({"of": ["user.a", "item.a", "user.b", "user.c"]}, "two or three different columns"),
        ({"of": ["user.a", "b"]}, "column 'b' must read 'user.x'"),
        ({"of": ["user.a", "item.b"], "buckets": 0}, "buckets must be"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        build(Cross, options)


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        (Cross(("user.gendr", "item.studio")), "no column 'user.gendr'; did you mean 'user.gender'"),
        (Cross(("user.gender", "item.genres")), "'item.genres' holds several values a row: give it a length"),
    ],
)
def test_what_does_not_fit_the_data_is_named(cross, message):
    with pytest.raises(ValueError, match=message):
        FeaturePipeline([cross]).fit(small.users(), small.items(), small.events(7, 11))
