"""Weighted, Cascade and Switching: what their formulas say, and worlds in which each must be more than its best part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.datasets.interactions import Interactions
from palate.recall.content.tag import Tag
from palate.recall.hybrid.cascade import Cascade
from palate.recall.hybrid.switching import Switching
from palate.recall.hybrid.weighted import Weighted
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.popular.popular import Popular
from tests.recall.hybrid.made import Told, asking, names, others, pairs, told
from tests.worlds import Views

NOTHING = Interactions.empty(3, 10)


def test_weighted_is_the_sum_of_scaled_scores() -> None:
    one, two = Told([(3, 5.0), (1, 4.0), (2, 1.0)], []), Told([(2, 0.9), (7, 0.1)], [(4, 0.3)])
    model = Weighted(told(one, two), names(2), fixed=(3, 1), depth=10).fit(NOTHING)
    low = 0.1  # the last of a list of depth 10
    between = 1 - 0.9 * (5 - 4) / (5 - 1)
    expected = {3: 0.75, 1: 0.75 * between, 2: 0.75 * low + 0.25, 7: 0.25 * low}
    first, second = pairs(model.retrieve(asking(0, 0), 9))
    assert first == [(item, round(score, 5)) for item, score in sorted(expected.items(), key=lambda pair: -pair[1])]
    assert second == [(4, 0.25)]
    ranks = Weighted(told(one, two), names(2), fixed=(1, 1), scale="rank", depth=10).fit(NOTHING)
    assert pairs(ranks.retrieve(asking(0), 2))[0] == [(2, 0.9), (3, 0.5)]
    assert pairs(Weighted(told(one, two), names(2), fixed=(1, 0)).fit(NOTHING).retrieve(asking(0, 0), 9))[1] == [], "of no weight, not offered"


def test_cascade_fills_what_is_left_and_asks_only_then() -> None:
    one, two = Told([(3, 5.0), (1, 4.0)], [(6, 1.0)]), Told([(1, 9.0), (8, 2.0), (3, 1.0)], [(5, 3.0)])
    model = Cascade(told(one, two), names(2)).fit(NOTHING)
    first, second = pairs(model.retrieve(asking(0, 0), 2))
    assert [item for item, _ in first] == [3, 1]
    assert [item for item, _ in second] == [6, 5]
    assert two.asked == [[1]], "only who was short of something"
    assert [item for item, _ in pairs(model.retrieve(asking(0, 0), 5))[0]] == [3, 1, 8]


def test_cascade_refines_what_the_first_chose() -> None:
    one, two = Told([(3, 5.0), (1, 4.0), (9, 3.0), (2, 1.0)]), Told([(2, 9.0), (8, 2.0), (1, 1.0)])
    model = Cascade(told(one, two), names(2), refine=True).fit(NOTHING)
    assert [item for item, _ in pairs(model.retrieve(asking(0), 9))[0]] == [2, 1, 3, 9]


def test_switching_by_length_and_by_confidence() -> None:
    low, middle, high = Told(*[[(0, 1.0)]] * 4), Told(*[[(1, 1.0)]] * 3, [(1, 0.2)]), Told([], [], [(2, 7.0)], [])
    model = Switching(told(low, middle, high), names(3), events=(1, 3), confidence=0.5).fit(NOTHING)
    found = [[item for item, _ in one] for one in pairs(model.retrieve(asking(0, 2, 3, 9), 4))]
    assert found == [[0], [1], [2], [0]], "the last has nothing of the third, and the second is not sure"
    assert high.asked == [[2, 3]]
    assert middle.asked == [[1, 3]]
    assert low.asked == [[0, 3]]


def measured(world: Views, k: int, **models: Any) -> dict[str, float]:
    request = world.request()
    return {name: world.recall(model.retrieve(request, k)) for name, model in models.items()}


@pytest.mark.parametrize(("author", "rounds"), [(0.1, 6), (1.0, 12)])
def test_two_views_are_more_than_one_and_a_blind_one_weighs_nothing(author: float, rounds: int) -> None:
    world = Views(author=author, rounds=rounds)
    parts = others(world, cf=ItemCF, author=lambda: Tag(world.catalogue, "author"))
    mixed = Weighted(parts, ("cf", "author"), held=0.2).fit(NOTHING)
    refined = Cascade(parts, ("cf", "author"), refine=True, depth=60).fit(NOTHING)
    found = measured(world, 10, cf=parts.named("cf"), author=parts.named("author"), mixed=mixed, refined=refined)
    print(found, mixed.weights)
    if author < 1:
        assert found["mixed"] > 1.08 * max(found["cf"], found["author"])
        assert found["refined"] > 1.05 * max(found["cf"], found["author"])
    else:
        assert found["mixed"] > 0.97 * found["cf"]
        assert mixed.weights[1] < 0.3


@pytest.mark.parametrize("block", [0.05, 1.0])
def test_what_a_short_list_leaves_is_filled(block: float) -> None:
    world = Views(block=block, author=1.0, rounds=5)
    parts = others(world, cf=lambda: ItemCF(neighbors=3), hot=Popular)
    found = measured(world, 30, cf=parts.named("cf"), hot=parts.named("hot"), filled=Cascade(parts, ("cf", "hot")).fit(NOTHING))
    print(found)
    if block < 1:
        assert found["filled"] > 1.1 * max(found["cf"], found["hot"])
    else:
        assert found["filled"] > 0.9 * found["hot"], "six items by chance in the place of hot ones"


@pytest.mark.parametrize("new", [0.5, 0.0])
def test_who_just_came_is_answered_otherwise(new: float) -> None:
    world = Views(block=0.03, author=1.0, new=new)
    parts = others(world, cf=ItemCF, hot=Popular)
    switching = Switching(parts, ("hot", "cf"), events=(3,)).fit(Interactions.of(world.rows, *world.size))
    found = measured(world, 20, cf=parts.named("cf"), hot=parts.named("hot"), switching=switching)
    print(found)
    if new:
        assert found["switching"] > 1.05 * max(found["cf"], found["hot"])
    else:
        assert found["switching"] == found["cf"]


def test_weights_are_those_of_the_better_lists() -> None:
    world = Views(author=0.1, rounds=6)
    parts = others(world, hot=Popular, author=lambda: Tag(world.catalogue, "author"))
    good = Weighted(parts, ("hot", "author"), held=0.2).fit(NOTHING).weights
    assert good[1] > good[0]
    assert good.sum() == pytest.approx(1)
    np.testing.assert_array_equal(Weighted(parts, ("author", "hot"), held=0.2).fit(NOTHING).weights.sum().round(5), 1)
