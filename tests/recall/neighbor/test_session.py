"""Session: STAN's formula in plain loops, where sessions begin and end, and a world where what follows must count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate.candidates import DAY, Histories, Request
from palate.datasets.interactions import Interactions
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.neighbor.session import MINUTE, Session
from palate.state.rows import EventRows
from tests.worlds import Walks

NOW = 100 * DAY


def events(*visits: tuple[int, float, list[int]]) -> Interactions:
    """Visits: the user, days ago when it ended, the items five minutes apart."""
    rows = [(user, item, NOW - round(ago * DAY) - (len(items) - 1 - n) * 5 * MINUTE) for user, ago, items in visits for n, item in enumerate(items)]
    rows.sort(key=lambda row: row[2])
    users, items, times = np.array(rows, np.int64).T
    return Interactions.of(EventRows(users, items, times, np.ones(len(rows), np.uint32), np.ones(len(rows), np.float32), ("taken",)), 9, 12, now=NOW)


VISITS = [(0, 3.0, [1, 2, 3, 4]), (0, 1.0, [5, 6]), (1, 2.0, [2, 1, 7]), (2, 9.0, [3, 8, 2, 9, 1]), (3, 4.0, [6, 10]), (4, 5.0, [2])]


def asking(*visits: tuple[float, list[int]]) -> Request:
    items = [item for _, mine in visits for item in mine]
    times = [NOW - round(ago * DAY) - (len(mine) - 1 - n) * 5 * MINUTE for ago, mine in visits for n in range(len(mine))]
    past = Histories(np.array(items), np.array(times), np.ones(len(items), np.uint32), np.ones(len(items), np.float32), np.array([0, len(items)]))
    return Request(np.array([-1]), past, np.array([NOW]))


@pytest.mark.parametrize(("recent", "age_days", "beside"), [(2.0, 5.0, 1.5), (0.0, 0.0, 0.0), (1.0, 0.0, 2.0)])
@pytest.mark.parametrize("neighbors", [10, 2])
def test_scores_by_hand(recent: float, age_days: float, beside: float, neighbors: int) -> None:
    model = Session(neighbors, recent=recent, age_days=age_days, beside=beside).fit(events(*VISITS))
    request = asking((2, [5, 6]), (0.1, [3, 1, 2]))
    current = [3, 1, 2]  # what was done two days ago is another session
    weight = {item: math.exp(-(2 - place) / recent) if recent else 1.0 for place, item in enumerate(current)}
    like = []
    for _, ago, items in VISITS:
        shared = [item for item in current if item in items]
        if len(items) > 1 and shared:
            sim = sum(weight[item] for item in shared) / math.sqrt(len(current) * len(items))
            like.append((sim * (math.exp(-ago / age_days) if age_days else 1), items, items.index(shared[-1])))
    like = sorted(like, key=lambda one: -one[0])[:neighbors]
    scores = np.zeros(12)
    for sim, items, star in like:
        for place, item in enumerate(items):
            scores[item] += sim * (math.exp(-abs(place - star) / beside) if beside else 1)
    found = model.retrieve(request, 12)
    assert sorted(found.items) == np.flatnonzero(scores).tolist()
    np.testing.assert_allclose(found.scores, scores[found.items], rtol=1e-5)


def test_sessions_end_where_nothing_was_done_for_long_and_single_items_are_none() -> None:
    lists = Session().fit(events(*VISITS)).lists
    assert sorted(lists.columns[lists.offsets[n] : lists.offsets[n + 1]].tolist() for n in range(len(lists))) == sorted(v for _, _, v in VISITS[:-1])
    assert len(Session(gap_minutes=3).fit(events(*VISITS)).lists) == 0
    assert len(Session(gap_minutes=10_000).fit(events(*VISITS)).lists) == 4
    capped = Session(sessions=1, age_days=0).fit(events(*VISITS))
    assert 4 not in capped.retrieve(asking((0.0, [1])), 12).items, "only the latest session of an item counts"


@pytest.mark.parametrize("sure", [0.8, 0.0])
def test_what_follows_is_what_stood_beside_the_last_items(sure: float) -> None:
    """Half the lists go through the items by threes from anywhere, so the last item alone tells the next; by chance, order tells nothing."""
    walks = Walks(1400, lambda taken: taken[:, -1] + 3, sure=sure, items=60, length=9)
    rows = walks.rows(1000)
    taken = Interactions.of(rows, 1000, 60)
    request, wanted = walks.asked(1000)
    options = {"gap_minutes": 2 * 24 * 60.0, "age_days": 0.0}
    models = {"session": Session(**options), "no order": Session(recent=0, beside=0, **options), "cf": ItemCF()}
    hits = {name: float((found.items == wanted[found.requests]).mean() * len(found.items) / len(wanted)) for name, found in
            ((name, model.fit(taken).retrieve(request, 5)) for name, model in models.items())}  # fmt: skip
    print(sure, hits)
    if sure:
        assert hits["session"] > 1.3 * max(hits["no order"], hits["cf"])
    else:
        assert hits["session"] > hits["no order"] - 0.03, "what order does not tell is not lost"
