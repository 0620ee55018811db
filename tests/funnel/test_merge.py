"""The snake merge against one written the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import Candidates, offsets_of
from palate.funnel.merge import finite, place_scores, snake_merge

Offer = list[list[tuple[int, float]]]  # for each request, items and scores


def candidates(lists: Offer) -> Candidates:
    flat = [pair for one in lists for pair in one]
    items = np.array([item for item, _ in flat], np.int64)
    return Candidates(items, np.array([score for _, score in flat], np.float32), offsets_of([len(one) for one in lists]))


def by_hand(routes: list[Offer], quotas: list[int], priorities: list[int]) -> list[list[int]]:
    order = sorted(range(len(routes)), key=lambda r: (-priorities[r], r))
    answer = []
    for b in range(len(routes[0])):
        queues = {r: [item for item, _ in routes[r][b][: quotas[r]] if item >= 0] for r in order}
        merged: list[int] = []
        while any(queues.values()):
            for r in order:
                while queues[r]:
                    item = queues[r].pop(0)
                    if item not in merged:
                        merged.append(item)
                        break
        answer.append(merged)
    return answer


def test_one_from_each_in_turn() -> None:
    hot = candidates([[(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0)]])
    near = candidates([[(2, 0.5), (1, 0.4), (9, 0.3)]])
    new = candidates([[(7, 0.1)]])
    merged = snake_merge(["hot", "near", "new"], [hot, near, new], [3, 3, 3], [0, 5, 0])
    assert merged.items.tolist() == [2, 1, 7, 9, 3]
    assert merged.scores.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    np.testing.assert_array_equal(merged.columns["hot.rank"], np.array([1, 0, np.nan, np.nan, 2], np.float32))
    np.testing.assert_array_equal(merged.columns["hot.score"], np.array([8, 9, np.nan, np.nan, 7], np.float32))
    np.testing.assert_array_equal(merged.columns["near.rank"], np.array([0, 1, np.nan, 2, np.nan], np.float32))
    np.testing.assert_array_equal(merged.columns["new.score"], np.array([np.nan, np.nan, 0.1, np.nan, np.nan], np.float32))
    assert merged.columns["hot.rank"].dtype == np.float32


pair = st.tuples(st.integers(-1, 12), st.floats(-5, 5, width=32))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_slow_way(data: st.DataObject) -> None:
    count, requests = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    routes: list[Offer] = [[data.draw(st.lists(pair, max_size=9)) for _ in range(requests)] for _ in range(count)]
    quotas = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    priorities = data.draw(st.lists(st.integers(-1, 1), min_size=count, max_size=count))
    names = [f"r{r}" for r in range(count)]
    merged = snake_merge(names, [candidates(one) for one in routes], quotas, priorities)
    expected = by_hand(routes, quotas, priorities)
    assert [merged.items[merged.offsets[b] : merged.offsets[b + 1]].tolist() for b in range(requests)] == expected
    for b in range(requests):
        for place in range(merged.offsets[b], merged.offsets[b + 1]):
            for r, name in enumerate(names):
                ranks = [n for n, (item, _) in enumerate(routes[r][b][: quotas[r]]) if item == merged.items[place]]
                rank, score = merged.columns[f"{name}.rank"][place], merged.columns[f"{name}.score"][place]
                if ranks:
                    assert rank == ranks[0]
                    assert score == np.float32(routes[r][b][ranks[0]][1])
                else:
                    assert np.isnan(rank)
                    assert np.isnan(score)


def test_a_batch_equals_its_requests_one_by_one() -> None:
    rng = np.random.default_rng(0)
    routes: list[Offer] = [
        [[(int(i), float(rng.random())) for i in rng.choice(2**40, int(rng.integers(0, 60)))] for _ in range(40)] for _ in range(5)
    ]
    names, quotas, priorities = list("abcde"), [50, 20, 40, 10, 30], [0, 1, 0, 2, 0]
    batch = snake_merge(names, [candidates(one) for one in routes], quotas, priorities)
    for b in range(40):
        alone = snake_merge(names, [candidates([one[b]]) for one in routes], quotas, priorities)
        mine = slice(batch.offsets[b], batch.offsets[b + 1])
        assert alone.items.tolist() == batch.items[mine].tolist()
        assert alone.scores.tolist() == batch.scores[mine].tolist()
        for name, column in alone.columns.items():
            np.testing.assert_array_equal(column, batch.columns[name][mine])


def test_score_keeps_the_order_at_any_length() -> None:
    scores = place_scores(np.array([0, 300_000]))
    assert (np.diff(scores) < 0).all()
    assert place_scores(np.array([0, 3])).tolist() == place_scores(np.array([0, 3, 3]))[:3].tolist()


def test_wrong_routes_are_named() -> None:
    with pytest.raises(ValueError, match=r"different numbers of requests: \{'a': 1, 'b': 2\}"):
        snake_merge(["a", "b"], [Candidates.empty(1), Candidates.empty(2)], [1, 1])
    with pytest.raises(ValueError, match="nothing to merge"):
        snake_merge([], [], [])
    assert len(snake_merge(["a"], [Candidates.empty(0)], [3])) == 0


def test_finite() -> None:
    assert finite(np.array([1.0, -2.0], np.float32))
    assert finite(np.empty(0, np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        assert not finite(np.array([1.0, bad], np.float32))
