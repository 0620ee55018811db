from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.features.vocabulary import Vocabulary, parts, text


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (7, "7"),
        (7.0, "7"),
        ("7", "7"),
        (np.int64(7), "7"),
        (np.float32(7), "7"),
        ("07", "07"),
        (" 7", " 7"),
        (0.5, "0.5"),
        (-0.0, "0"),
        (True, "true"),
        (np.False_, "false"),
        ("", None),
        (None, None),
        (float("nan"), None),
        (float("-inf"), None),
        (10**5000, None),
        (2**70, str(2**70)),
        (["a", "b"], "a"),
        ([], None),
        ("\ud800", "\ud800"),
    ],
    ids=range(20),
)
def test_values_are_compared_as_text(value, form):
    assert text(value) == form


def test_parts_of_a_cell_are_different_and_in_order():
    assert parts(["b", 1, "b", None, 1.0, "a"]) == ["b", "1", "a"]
    assert parts("one") == ["one"]
    assert parts(None) == []
    assert parts(np.array([3, 1])) == ["3", "1"]


def test_most_frequent_first_ties_by_value_rare_ones_unknown():
    vocabulary = Vocabulary.fit({"b": 2, "a": 2, "z": 9, "rare": 1}, min_count=2)
    assert vocabulary.values == ("z", "a", "b")
    assert vocabulary.ids(["z", "a", "b", "rare", None, "new"]).tolist() == [2, 3, 4, 1, 1, 1]
    assert vocabulary.size == 5
    assert Vocabulary.fit({"b": 2, "a": 2, "z": 9}, limit=1).values == ("z",)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(), min_size=1)))
def test_arrays_hold_any_text(values):
    vocabulary = Vocabulary(values)
    again = Vocabulary.from_arrays(vocabulary.arrays())
    assert again.values == vocabulary.values
    assert again.ids(values).tolist() == vocabulary.ids(values).tolist()


@pytest.mark.parametrize("offsets", [[], [0, 2, 1, 3], [0, 2], [1, 3]])
def test_damaged_arrays_are_refused(offsets):
    with pytest.raises(ValueError, match="damaged"):
        Vocabulary.from_arrays({"bytes": np.frombuffer(b"abc", np.uint8), "offsets": np.array(offsets, np.int64)})
