from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.features.hashing import BITS, FID, Hashes, Keys, fid, shared, slot_of
from palate.features.history import History
from palate.features.pipeline import FeaturePipeline
from palate.features.transforms import Category, Tags
from palate.features.vocabulary import text
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows
from tests.features import small


@settings(deadline=None)
@given(st.integers(0, (1 << 15) - 1), st.text(min_size=1))
def test_an_id_is_the_slot_above_the_low_bits_of_a_hash(slot, value):
    found = fid(slot, value)
    assert 0 <= found < 1 << 63
    assert found >> BITS == slot
    whole = int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    assert found & ((1 << BITS) - 1) == whole & ((1 << BITS) - 1)


def test_numbers_and_text_that_print_alike_are_one_value():
    fids = FID("item.x", buckets=1 << 30)
    fids.vocabulary = Hashes(fids.place, fids.buckets)
    ids = fids.encode([7, 7.0, "7", np.int64(7), np.float32(7), True, "true", 0.5, "0.5", None, "", float("nan")])[0].tolist()
    assert len(set(ids[:5])) == 1
    assert ids[5] == ids[6]
    assert ids[7] == ids[8]
    assert ids[9:] == [1, 1, 1]
    assert len({ids[0], ids[5], ids[7]}) == 3


@settings(deadline=None)
@given(st.lists(st.integers() | st.text() | st.floats() | st.none()), st.integers(1, 9))
def test_ids_stay_inside_the_buckets(values, buckets):
    fids = FID("item.x", buckets=buckets)
    fids.vocabulary = Hashes(fids.place, buckets)
    (ids,) = fids.encode(values)
    assert ((ids >= 1) & (ids < 2 + buckets)).all()
    assert all((one == 1) == (text(value) is None) for one, value in zip(ids, values, strict=True))
    several = FID("item.x", buckets=buckets, length=3)
    several.vocabulary = fids.vocabulary
    (lists,) = several.encode([*values, values])
    assert lists.shape == (len(values) + 1, 3)
    assert (lists[:, 0] >= 1).all()


def test_the_rate_of_collisions_is_counted_and_near_what_chance_gives():
    assert shared(np.array([3, 3, 4, 5, 5, 5])) == 5
    assert shared(np.empty(0, np.int64)) == 0
    catalogue, count, buckets = Catalogue("items"), 3000, 8192
    for n in range(count):
        catalogue.add(f"thing {n}")
    users = small.users()
    rows = EventRows(
        np.zeros(count, np.int64), np.arange(count), np.arange(count), np.ones(count, np.uint32), np.ones(count, np.float32), small.SIGNALS
    )
    pipeline = FeaturePipeline([FID("item.id", buckets=buckets)]).fit(users, catalogue, rows)
    feature = pipeline.features[0]
    by_hand = [fid(slot_of("item.id"), one) % (1 << 48) % buckets for one in catalogue.ids]
    assert feature.learnt() == {"seen": count, "collided": sum(by_hand.count(one) > 1 for one in by_hand)}
    expected = 1 - (1 - 1 / buckets) ** (count - 1)
    assert feature.collided / count == pytest.approx(expected, abs=0.03)
    assert pipeline.notes() == (f"item_id: 3,000 values in 8,192 buckets, {feature.collided / count:.1%} of them share one",)


def test_other_transforms_share_its_ids():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    made = [FID("item.studio", buckets=50, label="studio"), History("studio", length=3), Category("user.gender", shares="studio")]
    pipeline = FeaturePipeline(made).fit(users, items, rows)
    assert [feature.shares for feature in pipeline.schema.features] == ["", "studio", "studio"]
    assert {feature.vocab_size for feature in pipeline.schema.features} == {52}
    assert pipeline.arrays() == {}
    ids = pipeline.item_columns()["studio"]
    (history, table), *_ = pipeline.histories()
    assert history.feature_name == "history_studio"
    assert table.tolist() == ids.tolist()
    again = FeaturePipeline.from_saved(pipeline.to_json(), {}).bind(users, items)
    small.equal(again.item_columns(), pipeline.item_columns())


def test_a_value_that_comes_later_has_an_id_of_its_own():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    pipeline = FeaturePipeline([FID("item.studio", buckets=1 << 20), Category("item.studio", label="learnt")]).fit(users, items, rows)
    row = items.add("new", {"studio": "never seen"})
    found = pipeline.encode_items(np.array([row, 0]))
    assert found["learnt"].tolist()[0] == 1
    assert found["item_studio"][0] > 1
    assert found["item_studio"][0] != found["item_studio"][1]


def test_it_plays_the_part_of_an_id():
    schema = (
        FeaturePipeline([FID("user.id", part="user_id"), FID("item.id", part="item_id")])
        .fit(small.users(), small.items(), small.events(7, 11))
        .schema
    )
    assert (schema.user_id, schema.item_id) == ("user_id", "item_id")
    with pytest.raises(ValueError, match="cannot play the part 'item_id'"):
        FeaturePipeline([FID("item.genres", length=2, part="item_id")])


def test_keys_tell_values_and_columns_apart():
    (keys,) = Keys("item.genres", 2).encode([["a", "b", "c"], "a", None, ["b", "a"], []])
    assert keys.dtype == np.uint64
    a, b = (fid(slot_of("item.genres"), one) for one in "ab")
    assert keys.tolist() == [[a, b], [a, 0], [0, 0], [b, a], [0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "item.x", "buckets": 0}, "buckets must be 1 to"),
        ({"column": "item.x", "length": 0}, "length must be at least 1"),
        ({"column": "item.x", "slot": 1 << 15}, "slot must be 0 to 32767"),
        ({"column": "item.x", "shares": "y", "buckets": 5}, "uses the ids of 'y'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        build(FID, options)


def test_several_values_want_room():
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    with pytest.raises(ValueError, match="holds several values a row: give it a length above 1"):
        FeaturePipeline([FID("item.genres")]).fit(users, items, rows)
    assert Tags("item.genres").columns  # what it would be without hashing


def test_it_is_the_same_on_every_machine():
    assert fid(3, "drama") == 0x3C53A747D80B7
    assert slot_of("item.genres") == 23725
