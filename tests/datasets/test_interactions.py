"""Interactions keep what signals a pair showed, over all its events."""

import numpy as np
import pytest

from palate.datasets.interactions import Interactions
from palate.state.rows import EventRows


def test_a_pair_s_signals_are_those_of_all_its_events():
    users, items = np.array([0, 1, 0, -1, 0, 1]), np.array([2, 0, 2, 1, 1, 0])
    signals = np.array([1, 4, 2, 7, 1, 1], np.uint32)
    rows = EventRows(users, items, np.arange(6), signals, np.ones(6, np.float32), ("click", "book", "like"))
    data = Interactions.of(rows, 2, 3)
    assert data.items.tolist() == [1, 2, 0]
    assert data.signals.tolist() == [1, 3, 5]
    assert data.showing("book").tolist() == [False, True, False]
    assert data.by_item.showing("like").tolist() == [True, False, False]
    with pytest.raises(ValueError, match="did you mean 'book'"):
        data.showing("bok")
    with pytest.raises(ValueError, match="no signal 'book'"):
        Interactions.empty(2, 3).showing("book")


def test_weighted_they_are_the_last_values_and_what_has_none_is_no_rating() -> None:
    values = np.array([5, np.nan, np.nan, 3, 2], np.float32)
    rows = EventRows(np.array([0, 0, 0, 1, 1]), np.array([1, 1, 2, 2, 2]), np.arange(5), np.ones(5, np.uint32), values, ("seen",))
    data = Interactions.of(rows, 2, 3, weighted=True)
    assert (data.offsets.tolist(), data.items.tolist(), data.values.tolist(), data.times.tolist()) == ([0, 1, 2], [1, 2], [5, 2], [0, 4])
    assert Interactions.of(rows, 2, 3).values.tolist() == [1, 1, 1]
