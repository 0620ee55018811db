import numpy as np

from palate.candidates import Candidates, Histories, Request
from palate.datasets.offered import Outcomes
from palate.state.rows import EventRows

NAN = float("nan")
#: user, item, time, signals (1 click, 2 watch), value
EVENTS = [(0, 1, 5, 3, 9.0), (0, 1, 12, 1, NAN), (0, 1, 15, 2, 4.0), (0, 1, 20, 2, 6.0), (0, 2, 14, 1, NAN), (1, 1, 30, 3, 2.5), (1, 3, 31, 2, NAN)]


def asked(moment: int) -> tuple[Request, Candidates]:
    """Users 0 and 1 at a moment, both offered the items 0 to 3."""
    empty = Histories(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.float32), np.zeros(3, np.int64))
    offered = Candidates(np.tile(np.arange(4), 2), np.zeros(8, np.float32), np.array([0, 4, 8]))
    return Request(np.array([0, 1]), empty, np.full(2, moment)), offered


def labels(moment: int, numbers: tuple[str, ...] = ("watch",), given: str = "") -> list[list[float]]:
    users, items, times, signals, values = (np.array(column) for column in zip(*EVENTS, strict=True))
    rows = EventRows(users, items, times, signals.astype(np.uint32), values.astype(np.float32), ("click", "watch"))
    found = Outcomes.of(rows, {"watch": ("watch", given)}, 4, numbers).labels(*asked(moment))["watch"]
    assert found.dtype == np.float32
    return found.reshape(2, 4).tolist()


def test_a_number_is_the_value_of_the_last_later_event_and_0_where_there_is_none() -> None:
    np.testing.assert_array_equal(labels(10), [[0, 6, 0, 0], [0, 2.5, 0, NAN]])
    np.testing.assert_array_equal(labels(21), [[0, 0, 0, 0], [0, 2.5, 0, NAN]])
    np.testing.assert_array_equal(labels(10, ()), [[0, 1, 0, 0], [0, 1, 0, 1]])


def test_what_is_given_must_be_shown_later_too() -> None:
    np.testing.assert_array_equal(labels(10, given="click"), [[NAN, 6, 0, NAN], [NAN, 2.5, NAN, NAN]])
    np.testing.assert_array_equal(labels(13, given="click"), [[NAN, NAN, 0, NAN], [NAN, 2.5, NAN, NAN]])
    np.testing.assert_array_equal(labels(10, given="watch"), [[NAN, 6, NAN, NAN], [NAN, 2.5, NAN, NAN]])
