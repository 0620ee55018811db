from __future__ import annotations

import numpy as np
import pytest

from palate.candidates import Histories, Request
from palate.features.history import History
from palate.features.kinds import View
from palate.features.vocabulary import Vocabulary
from tests.features import small

TABLE = np.array([5, 6, 7, 8], np.int64)


def request(items, times, signals, offsets, now):
    size = len(offsets) - 1
    histories = Histories(
        np.array(items, np.int64),
        np.array(times, np.int64),
        np.array(signals, np.uint32),
        np.zeros(len(items), np.float32),
        np.array(offsets, np.int64),
    )
    return Request(np.zeros(size, np.int64), histories, np.array(now, np.int64))


def encode(history, asked):
    return history.encode(View(asked, None, small.Known({history.feature_name: TABLE})))


def test_the_last_ones_oldest_first_padded_on_the_right():
    asked = request([0, 1, 2, 3, -1, 99], [1] * 6, [1] * 6, [0, 0, 4, 6], [9, 9, 9])
    (found,) = encode(History(length=3), asked)
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 0, 0], [6, 7, 8], [1, 1, 0]]  # nobody; the last three; items that nobody knows


def test_only_events_that_show_the_signal():
    history = History(length=2, signal="like")
    history.bit = 2
    (found,) = encode(history, request([0, 1, 2, 3], [1] * 4, [3, 1, 2, 7], [0, 4], [9]))
    assert found.tolist() == [[7, 8]]
    assert history.feature_name == "history_id_like"


def test_gaps_grow_with_the_logarithm_of_seconds():
    asked = request([0, 1, 2, 3], [0, 99_000, 100_000, 200_000], [1] * 4, [0, 4], [100_000])
    _, gaps = encode(History(length=5, gaps=True), asked)
    assert gaps.tolist() == [[2 + 7, 2 + 1, 2, 2, 0]]  # 100 s: 7 digits; 1 s; the same second; later than now
    _, far = encode(History(length=1, gaps=True), request([0], [-(2**62)], [1], [0, 1], [2**62 - 1]))
    assert far.tolist() == [[41]]


def test_the_highest_signal_bit():
    history = History(length=2, signal="x")
    history.bit = 1 << 31
    (found,) = encode(history, request([0, 1], [1, 1], [1 << 31, 1], [0, 2], [9]))
    assert found.tolist() == [[5, 0]]


def test_schema_and_options():
    history = History("genres", length=4, gaps=True, label="seen")
    history.vocabulary = Vocabulary("ab")
    assert [(c.name, c.kind, c.vocab_size, c.length, c.owner) for c in history.columns()] == [
        ("seen", "sequence", 4, 4, "user"),
        ("seen_gaps", "sequence", 42, 4, "user"),
    ]
    with pytest.raises(ValueError, match="length must be at least 1"):
        History(length=0)
