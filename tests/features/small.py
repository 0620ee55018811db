"""A small world for the tests of features: people, things with every kind of attribute, events of three signals."""

from __future__ import annotations

import numpy as np

from palate.candidates import DAY, Candidates, Ints
from palate.features.counters import Count, Rate, RouteRank, RouteScore
from palate.features.history import History
from palate.features.kinds import Transform
from palate.features.transforms import Category, Number, Tags, Vector
from palate.schema import Label
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows

SIGNALS = ("rated", "like", "love")
WINDOWS = (0, DAY, 7 * DAY)
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
        made.add(f"i{n}", {"genres": genres, "year": 1950 + 3 * n if n % 5 else None, "studio": f"s{n % 3}", "image": [n / 10, 1.0, -n / 7]})
    return made


def events(n_users: int, n_items: int, count: int = 120, seed: int = 0, step: int = DAY // 6) -> EventRows:
    """Random events in order of time; many share an instant."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 6, count).astype(np.float32)
    signals = (1 | ((values >= 4) << 1) | ((values >= 5) << 2)).astype(np.uint32)
    times = START + np.sort(rng.integers(0, count // 2, count)) * step
    return EventRows(rng.integers(0, n_users, count), rng.integers(0, n_items, count), times, signals, values, SIGNALS)


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


def equal(left: dict, right: dict) -> None:
    """The same columns, dtypes, shapes and bits."""
    assert list(left) == list(right)
    for name, column in left.items():
        assert column.dtype == right[name].dtype, name
        np.testing.assert_array_equal(column, right[name], err_msg=name)
