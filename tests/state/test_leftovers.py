"""What rankings held beyond a page: kept in order, gone once shown, read back from the log, forgotten with the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palate.candidates import DAY, Histories, Leftovers, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.recall.served.former import Former
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.leftovers import Left

NOW = 100 * DAY


def test_the_latest_ranking_goes_first_and_what_is_shown_goes() -> None:
    left = Left(4)
    left.add(7, np.array([1, 2, 3]), np.array([9]), 10)
    left.add(7, np.array([5, 3, -1, 9, 8]), np.array([2, 8]), 20)
    left.add(-1, np.array([1]), np.array([2]), 20)
    found = left.of([3, 7])
    assert found.offsets.tolist() == [0, 0, 4]
    assert found.items.tolist() == [5, 3, 9, 1]
    assert found.places.tolist() == [0, 1, 2, 0]
    assert found.times.tolist() == [20, 20, 20, 10]
    left.forget(7)
    assert len(left.of([7]).items) == 0


def test_a_page_of_the_state_leaves_something_over_and_the_log_knows_it(tmp_path: Path) -> None:
    def opened(former: int = 3) -> Embedded:
        users, items = Catalogue("users"), Catalogue("items")
        for item in "abcdef":
            items.add(item)
        return Embedded(tmp_path, users, items, former=former)

    def left(state: Embedded, user: str) -> list[str]:
        former = state.request([user]).former
        return [] if former is None else [state.items.ids[row] for row in former.items]

    with opened() as state:
        assert left(state, "u") == []
        assert state.save_pages(
            [{"request_id": str(n), "user": "u", "now": n, "items": [one], "former": list("bcdef")} for n, one in ((1, "a"), (2, "c"))]
        )
        assert left(state, "u") == ["b", "d", "e"]
        assert not state.save_page({"request_id": "2", "user": "u", "now": 3, "items": ["b"], "former": ["f"]})
        assert left(state, "u") == ["b", "d", "e"], "a page that is there already changes nothing"
    with opened() as state:
        assert left(state, "u") == ["b", "d", "e"]
        state.forget("u")
        assert left(state, "u") == []
    with opened(0) as state:
        assert state.request(["u"]).former is None


def test_former_scores_by_hand() -> None:
    former = Leftovers(np.array([4, 2, 9, 1]), np.array([0, 1, 3, 0]), NOW - np.array([0, 0, 36, 73]) * DAY // 24, np.array([0, 3, 4]))
    request = Request(np.array([0, 1]), Histories.empty(2), np.array([NOW, NOW]), exclude=Ragged.of([[2], []]), former=former)
    model = Former(days=3, half_life_days=1.5).fit(Interactions.empty(1, 1))
    found = model.retrieve(request, 5)
    assert found.items.tolist() == [4, 9]
    np.testing.assert_allclose(found.scores, [1, 0.5 / 4])
    assert model.retrieve(request.take(np.array([1])), 5).offsets.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="not fitted"):
        Former().retrieve(request, 5)
