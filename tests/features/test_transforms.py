from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.features.transforms import Category, Number, Tags, Vector
from palate.features.vocabulary import Vocabulary

HOSTILE = [
    None,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    1e300,
    "",
    "x",
    "\ud800",
    "🎬" * 100,
    [],
    [[]],
    {},
    b"\xff",
    True,
    [None],
    object(),
]


@pytest.mark.parametrize(
    ("scale", "known", "expected"),
    [
        ("none", [1, 3], [1.0, 3.0, 2.0, 20.0]),
        ("standard", [1, 3], [-1.0, 1.0, 0.0, 10.0]),
        ("minmax", [1, 3], [0.0, 1.0, 0.5, 1.0]),
        ("log1p", [1, 3], [math.log(2), math.log(4), (math.log(2) + math.log(4)) / 2, math.log(21)]),
    ],
)
def test_numbers_by_scale(scale, known, expected):
    number = Number("item.year", scale=scale)
    number.fit(known)
    (found,) = number.encode([*known, None, 20])
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6)
    assert found.dtype == np.float32


def test_a_missing_number_is_flagged():
    number = Number("user.age", flag=True)
    number.fit(["10", 20])
    values, missing = number.encode([None, "30", "old", math.nan, 1e31])
    assert values.tolist() == [15, 30, 15, 15, 15]
    assert missing.tolist() == [1, 0, 1, 1, 1]
    assert number.names() == ("user_age", "user_age_missing")


@pytest.mark.parametrize("scale", ["none", "standard", "minmax", "log1p"])
@pytest.mark.parametrize("known", [[], [None, "x"], [5, 5, 5], [0.1] * 7, [1e30, -1e30], [1e-300, 2e-300], HOSTILE], ids=range(7))
def test_numbers_are_finite_whatever_comes(scale, known):
    number = Number("user.age", scale=scale, flag=True)
    number.fit(known)
    for column in number.encode([*HOSTILE, 0, -5, 1e30]):
        assert np.isfinite(column).all()


def test_equal_numbers_scale_to_zero():
    number = Number("user.age", scale="standard")
    number.fit([0.1] * 3)
    np.testing.assert_allclose(number.encode([0.1, None])[0], 0, atol=1e-12)


def test_the_sum_does_not_depend_on_the_order():
    values = np.random.default_rng(0).normal(size=1000).tolist()
    one, two = Number("user.age", scale="standard"), Number("user.age", scale="standard")
    one.fit(values)
    two.fit(values[::-1])
    assert one.learnt() == two.learnt()


def test_tags_are_padded_cut_and_never_empty():
    tags = Tags("item.genres", length=3)
    tags.vocabulary = Vocabulary(["a", "b", "c", "d"])
    (found,) = tags.encode([["b", "a"], ["a", "b", "c", "d"], [], None, "c", ["x", "y", "a"], ["a", "a"]])
    assert found.tolist() == [[3, 2, 0], [2, 3, 4], [1, 0, 0], [1, 0, 0], [4, 0, 0], [1, 2, 0], [2, 0, 0]]


def test_vectors():
    vector = Vector("item.image", dim=2, scale="unit")
    vector.fit([[3, 4], None])
    (found,) = vector.encode([[3, 4], None, [1, 2, 3], [math.nan, 1], ["x", 1], [0, 0], np.array([0.0, 2.0]), *HOSTILE])
    np.testing.assert_allclose(found[:7], [[0.6, 0.8], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 1]], rtol=1e-6)
    assert not found[7:].any()
    with pytest.raises(ValueError, match=r"no vector of 2 numbers in column 'item\.image'; the longest has 3"):
        vector.fit([[1, 2, 3]])


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.text()), st.booleans())))
def test_ids_stay_inside_the_vocabulary(values):
    category, tags = Category("user.x"), Tags("item.x", length=2)
    category.vocabulary = tags.vocabulary = Vocabulary(["0", "a", "true"])
    (ids,) = category.encode(values)
    (several,) = tags.encode(values)
    assert ids.shape == (len(values),)
    assert several.shape == (len(values), 2)
    assert ((ids >= 1) & (ids < 5)).all()
    assert ((several >= 0) & (several < 5)).all()
    assert (several[:, 0] >= 1).all()


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Category, {"colum": "user.id"}, "no option 'colum'; did you mean 'column'"),
        (Category, {"column": "usr.id"}, "did you mean 'user'"),
        (Category, {"column": "id"}, "must read 'user.x'"),
        (Category, {"column": "user.id", "min_count": 0}, "min_count must be at least 1"),
        (Category, {"column": "user.id", "limit": -1}, "limit must be 0"),
        (Category, {"column": "user.id", "shares": "other", "min_count": 3}, "uses the vocabulary of 'other'"),
        (Category, {"column": "user.id", "part": "userid"}, "did you mean 'user_id'"),
        (Number, {"column": "item.year", "scale": "standart"}, "did you mean 'standard'"),
        (Number, {"column": "item.year", "flag": 1}, "'flag' of Number must be bool"),
        (Tags, {"column": "item.genres", "length": 0}, "length must be at least 1"),
        (Vector, {"column": "item.image"}, "needs the option 'dim'"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(OptionError, match=message):
        build(cls, options)


def test_a_category_over_lists_says_what_to_take():
    with pytest.raises(ValueError, match="take Tags"):
        Category("item.genres").tally([["a"]], [1])
