"""A small world for the tests of features: people, things with every kind of attribute, events of three signals."""

from __future__ import annotations

import numpy as np

from palate.candidates import DAY, Candidates, Ints
from palate.features.audience import Audience
from palate.features.clock import Recency, TimeParts
from palate.features.counters import Active, Count, Newcomer, Rate, RouteRank, RouteScore
from palate.features.cross import Cross
from palate.features.hashing import FID
from palate.features.history import History
from palate.features.kinds import Transform
from palate.features.match import Match
from palate.features.numbers import Bucket, Quantile
from palate.features.transforms import Category, Number, Tags, Vector
from palate.schema import Label
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows, objects

SIGNALS = ("rated", "like", "love")
WINDOWS = (0, DAY, 7 * DAY)
AUDIENCE = 6  #: events kept of each item: few, so that lists are full
START = 1_000 * DAY
GENRES = ("drama", "comedy", "crime", "Ünïcode 🎬", "war")


def users(count: int = 7) -> Catalogue:
    made = Catalogue("users")
    for n in range(count):
        made.add(f"u{n}", {"gender": "MF"[n % 2] if n != 3 else None, "age": 20 + 5 * n if n != 4 else None, "liked": [GENRES[n % 5]]})
    return made


def items(count: int = 11) -> Catalogue:
    made = Catalogue("items")
    for n in range(count):
        genres = [GENRES[(n + g) % 5] for g in range(n % 4)]
        known = {"genres": genres, "year": 1950 + 3 * n if n % 5 else None, "studio": f"s{n % 3}", "image": [n / 10, 1.0, -n / 7]}
        made.add(f"i{n}", known, created=START + n * DAY if n % 3 else None)
    return made


def events(n_users: int, n_items: int, count: int = 120, seed: int = 0, step: int = DAY // 6) -> EventRows:
    """Random events in order of time; many share an instant."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 6, count).astype(np.float32)
    signals = (1 | ((values >= 4) << 1) | ((values >= 5) << 2)).astype(np.uint32)
    times = START + np.sort(rng.integers(0, count // 2, count)) * step
    context = {"device": objects(rng.choice(["tv", "phone", ""], count).tolist()), "battery": objects([None, *rng.random(count - 1).tolist()])}
    return EventRows(rng.integers(0, n_users, count), rng.integers(0, n_items, count), times, signals, values, SIGNALS, context)


def features() -> list[Transform]:
    """One of every transform, and of every option that changes the shape."""
    return [
        Category("user.id", part="user_id"),
        Category("user.gender", min_count=2),
        Tags("user.liked", length=2, shares="item_genres"),
        Number("user.age", scale="standard", flag=True),
        Category("item.id", part="item_id", limit=8),
        Category("item.studio"),
        Tags("item.genres", length=3),
        Number("item.year", scale="minmax"),
        Vector("item.image", dim=3),
        Category("context.scene", values=("home", "search"), part="domain"),
        Number("context.hour", scale="log1p"),
        History("id", length=5, part="history", gaps=True),
        History("genres", length=4, signal="like"),
        Count("item", "rated", 7),
        Count("user", "love", 1, scale="none"),
        Rate("item", "like", "rated", prior=5),
        Rate("user", "love", "like", 7, prior=0),
        RouteScore("itemcf"),
        RouteScore("popular", scale="none", flag=False),
        RouteRank("itemcf"),
        Quantile("user.age", steps=4, flag=True, label="age_place"),
        Bucket("item.year", buckets=3, by="width", label="year_width"),
        Bucket("item.year", buckets=3, label="year_quantile"),
        Bucket("item.year", buckets=4, by="tree", signal="like", among="rated", least=3, label="year_tree"),
        Bucket("context.hour", edges=(6, 12, 18), label="daytime"),
        FID("item.studio", buckets=7, label="studio_fid"),
        FID("item.genres", buckets=5, length=3, slot=9, label="genres_fid"),
        FID("context.device", buckets=4),
        Category("context.device", label="device"),
        Quantile("context.battery", steps=9),
        Bucket("context.battery", buckets=3, by="tree", signal="love", least=5, label="battery_tree"),
        History("studio", length=4, signal="love", shares="studio_fid", label="studios"),
        Cross(("user.gender", "user.age")),
        Cross(("item.studio", "item.genres"), buckets=11, length=2),
        Cross(("user.gender", "context.scene")),
        Cross(("user.gender", "item.genres", "context.device"), buckets=50, length=3),
        Cross(("user.liked", "item.id"), buckets=40, length=2),
        TimeParts(("hour", "weekday", "weekend", "month", "holiday"), offset=5.5, holidays=("1972-09-30", "10-01")),
        Recency("user", "like", half=0.5),
        Recency("item", label="item_last"),
        Recency("item", "love", half=2),
        Recency("age"),
        Audience("gender", length=4, prior=0),
        Audience("age", length=3, signal="like", edges=(25, 40)),
        Audience("liked", length=6, limit=2),
        Count("item", "like", (0, 1), label="liked_lately"),
        Rate("item", "like", "rated", (0, 7), prior="fit", label="smooth"),
        Active("user", "love", (1, 7), least=2),
        Newcomer("item", "rated", events=4),
        Match("id"),
        Match("genres", window=(0, 2), scale="share"),
        Match("studio", "like", 1, scale="none"),
    ]


LABELS = (Label("choose"), Label("like", weight=0.5))


def candidates(rng: np.random.Generator, requests: int, n_items: int) -> Candidates:
    """A few items for each request, some unknown, each route offering some."""
    lengths = rng.integers(0, 6, requests)
    total = int(lengths.sum())
    columns = {}
    for route in ("itemcf", "popular"):
        offered = rng.random(total) < 0.6
        columns[f"{route}.score"] = np.where(offered, rng.normal(3, 2, total), np.nan).astype(np.float32)
        columns[f"{route}.rank"] = np.where(offered, rng.integers(0, 50, total), np.nan).astype(np.float32)
    offsets = np.zeros(requests + 1, np.int64)
    offsets[1:] = np.cumsum(lengths)
    return Candidates(rng.integers(-1, n_items, total), np.zeros(total, np.float32), offsets, columns)


def one(offered: Candidates, b: int) -> Candidates:
    """The candidates of request b alone."""
    here = slice(offered.offsets[b], offered.offsets[b + 1])
    offsets: Ints = np.array([0, offered.offsets[b + 1] - offered.offsets[b]], np.int64)
    return Candidates(offered.items[here], offered.scores[here], offsets, {name: column[here] for name, column in offered.columns.items()})


class Known:
    """What a view looks up, as it is given."""

    def __init__(self, items: dict | None = None, users: dict | None = None, created: Ints | None = None) -> None:
        self.items, self.users = items or {}, users or {}
        self.created = np.empty(0, np.int64) if created is None else created

    def lookup(self, name):
        raise KeyError(name)


def equal(left: dict, right: dict) -> None:
    """The same columns, dtypes, shapes and bits."""
    assert list(left) == list(right)
    for name, column in left.items():
        assert column.dtype == right[name].dtype, name
        np.testing.assert_array_equal(column, right[name], err_msg=name)
