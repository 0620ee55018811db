"""Near: distances as on a globe, a hard edge, places that change; and a world where near and popular must both count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from palate.candidates import Histories, Request
from palate.datasets.interactions import Interactions
from palate.recall.content.near import Near
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue
from tests.recall.made import interactions, lists, request


def placed(places: np.ndarray) -> Catalogue:
    return Catalogue.of(pl.DataFrame({"id": [str(row) for row in range(len(places))], "latitude": places[:, 0], "longitude": places[:, 1]}))


def asking(places: list[tuple[float | None, float | None]]) -> Request:
    size = len(places)
    context = {"latitude": [one[0] for one in places], "longitude": [one[1] for one in places]}
    return Request(np.full(size, -1), Histories.empty(size), np.zeros(size, np.int64), context=context)


def away(one: tuple[float, float], other: tuple[float, float]) -> float:
    """By the angle between two points of a sphere."""
    points = []
    for lat, lon in (one, other):
        lat, lon = math.radians(lat), math.radians(lon)
        points.append((math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)))
    return 6371.0088 * 2 * math.asin(min(math.dist(*points) / 2, 1))


@pytest.mark.parametrize("radius", [2.0, 400.0, 6000.0, 19000.0])
def test_it_finds_what_lies_within_the_radius_anywhere_on_the_globe(radius: float) -> None:
    random = np.random.default_rng(0)
    places = np.stack((random.uniform(-90, 90, 300), random.uniform(-180, 180, 300)), 1)
    centres = [(0.0, 0.01), (89.9, 10.0), (-89.0, 179.9), (45.0, 179.99), (45.0, -179.99), (10.0, 359.0), (math.inf, 3.0), (95.0, 3.0)]
    places[:50] = [(lat + north, lon + east) for lat, lon in centres[3:5] for north in (-0.01, 0, 0.012, 1, 2) for east in (-0.02, 0, 0.01, 2, -2)]
    taken = random.integers(0, 2, (20, 300)).astype(np.float64)
    model = Near(placed(places), radius_km=radius, scale_km=700, popular=0.5).fit(interactions(taken))
    found = model.retrieve(asking(centres), 300)
    for b, centre in enumerate(centres):
        mine = slice(found.offsets[b], found.offsets[b + 1])
        distances = np.array([away(centre, place) for place in places.tolist()]) if abs(centre[0]) <= 90 else np.full(300, np.inf)
        assert sorted(found.items[mine]) == np.flatnonzero(distances <= radius).tolist()
        expected = (1 + taken.sum(0)) ** 0.5 * np.exp(-distances / 700)
        np.testing.assert_allclose(found.scores[mine], expected[found.items[mine]], rtol=1e-4)


def test_the_place_is_the_moments_then_the_users_then_that_of_the_last_item() -> None:
    users = Catalogue("users")
    users.add("at home", {"latitude": 10.0, "longitude": 10.0})
    model = Near(placed(np.array([(0.0, 0.0), (10, 10), (20, 20), (np.nan, 3)])), Askers(users)).fit(Interactions.empty(1, 4))
    asked = request([[2], [2], [0, 2, 3], [3]], users=[0, -1, -1, -1])
    assert lists(model.retrieve(asked, 5)) == [[1], [2], [2], []]
    told = Request(asked.users, asked.histories, asked.now, context={"latitude": [0.0, None, 0.0, 0], "longitude": [0.0, 0.0, None, 0]})
    assert lists(model.retrieve(told, 5)) == [[0], [2], [2], [0]]
    for kind in (np.float32, np.int64):
        columns = {"latitude": np.full(4, 10, kind), "longitude": np.full(4, 10, kind)}
        assert lists(model.retrieve(replace(asked, context=columns), 5)) == [[1]] * 4


def test_items_that_move_come_and_go() -> None:
    items = placed(np.array([(0.0, 0.0), (0, 0.1), (30, 30)]))
    model, asked = Near(items).fit(Interactions.empty(1, 3)), asking([(0, 0)])
    assert lists(model.retrieve(asked, 5)) == [[0, 1]]
    items.update(2, {"latitude": 0.05, "longitude": 0.0})
    items.update(0, {"latitude": None})
    new = items.add("new", {"latitude": 0.0, "longitude": 359.99})
    assert lists(model.retrieve(asked, 5)) == [[new, 2, 1]]
    items.withdraw(2)
    assert lists(model.retrieve(asked, 5)) == [[new, 1]]


@pytest.mark.parametrize("spread", [0.3, 0.0])
def test_near_and_popular_are_more_than_one_of_them(spread: float) -> None:
    """Everybody takes five items, popular ones and near ones; where all is in one place, it is what most took."""
    random, users, size = np.random.default_rng(1), 300, 200
    things, people = (48 + spread * random.standard_normal((many, 2)) for many in (size, users))
    popular = 1 / (1 + random.permutation(size)) ** 0.8
    distance = np.array([[away(one, other) for other in things.tolist()] for one in people.tolist()])
    order = np.argsort(-(np.log(popular) - distance / 10 + random.gumbel(size=distance.shape)), 1)[:, :5]
    train, held = np.zeros(distance.shape), np.zeros(distance.shape, bool)
    np.put_along_axis(train, order[:, :4], 1, 1)
    np.put_along_axis(held, order[:, 4:], True, 1)
    asked = asking([(lat, lon) for lat, lon in people.tolist()])
    asked = Request(
        asked.users, asked.histories, asked.now, context=asked.context, exclude=request([[]] * users, [np.flatnonzero(row) for row in train]).exclude
    )
    recall = {}
    for name, options in {"near": {}, "only near": {"popular": 0.0}, "popular": {"scale_km": 1e9, "radius_km": 1e9}}.items():
        found = Near(placed(things), **options).fit(interactions(train)).retrieve(asked, 10)
        recall[name] = held[found.requests, found.items].mean() * len(found.items) / users
    print(spread, recall)
    if spread:
        assert recall["near"] > 1.15 * max(recall["only near"], recall["popular"])
    else:
        assert recall["near"] == recall["popular"]
