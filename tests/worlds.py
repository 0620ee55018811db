"""Worlds with known answers, and schemas that hold one of everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from palate.batch import Batch
from palate.candidates import DAY, Histories, Request
from palate.datasets.interactions import Interactions
from palate.datasets.pairs import Pairs
from palate.datasets.pointwise import Pointwise
from palate.schema import Feature, Label, Owner, Schema
from palate.state.catalogue import Catalogue
from palate.state.past import Past
from palate.state.rows import EventRows

TASKS = (Label("choose"), Label("like", weight=0.5))


def schema_of_everything(*labels: Label) -> Schema:
    """Every owner and every kind of feature; the history shares the items' table."""
    return Schema(
        (
            Feature("user_id", "user", "category", 40),
            Feature("age", "user", "number"),
            Feature("history", "user", "sequence", 60, length=5, shares="item_id"),
            Feature("history_gaps", "user", "sequence", 42, length=5),
            Feature("history_genre", "user", "sequence", 9, length=5, shares="genre"),
            Feature("hour", "context", "category", 26),
            Feature("scene", "context", "category", 5),
            Feature("item_id", "item", "category", 60),
            Feature("genre", "item", "category", 9),
            Feature("tags", "item", "sequence", 12, length=3),
            Feature("year", "item", "number"),
            Feature("text", "item", "vector", dim=4),
            Feature("route.score", "pair", "number"),
            Feature("route.rank", "pair", "number"),
        ),
        labels or TASKS,
        user_id="user_id",
        item_id="item_id",
        history="history",
        domain="scene",
    )


def columns(schema: Schema, size: int, *owners: Owner, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random values that are in order, ids from 2 up; sequences end in padding, a user's all at the same place."""
    random = torch.Generator().manual_seed(seed)
    found, ends = {}, torch.rand(size, 1, generator=random)
    for feature in schema.of(*owners) if owners else schema.features:
        if feature.kind == "category":
            found[feature.name] = torch.randint(2, feature.vocab_size, (size,), generator=random)
        elif feature.kind == "sequence":
            ids = torch.randint(2, feature.vocab_size, (size, feature.length), generator=random)
            lengths = 1 + (ends if feature.owner == "user" else torch.rand(size, 1, generator=random)).mul(feature.length).long()
            found[feature.name] = torch.where(torch.arange(feature.length) < lengths, ids, 0)
        elif feature.kind == "number":
            found[feature.name] = torch.randn(size, generator=random)
        else:
            found[feature.name] = torch.randn(size, feature.dim, generator=random)
    return found


def labelled(schema: Schema, size: int, seed: int = 0) -> Pointwise:
    """Random rows with random labels, some of the second task's missing."""
    random = np.random.default_rng(seed)
    labels = {label.name: random.integers(0, 2, size).astype(np.float32) for label in schema.labels}
    if len(schema.labels) > 1:
        labels[schema.labels[1].name][::3] = np.nan
    return Pointwise(columns(schema, size, seed=seed), labels, random.integers(0, max(size // 4, 1), size))


def paired(schema: Schema, size: int, items: int = 50, uniform: int = 0, seed: int = 0) -> Pairs:
    """Random users, each with one item of a catalogue of ``items``; ``size`` at most ``items`` gives every user another item."""
    random = np.random.default_rng(seed)
    taken = random.permutation(items)[:size] if size <= items else random.integers(0, items, size)
    return Pairs(
        taken, np.arange(size), columns(schema, items, "item", seed=seed + 1), columns(schema, size, "user", "context", seed=seed), uniform=uniform
    )


class Checkerboard:
    """Users and items are black or white and a user takes all items of their colour; one item of each user is withheld.

    Who looks at colours (that nobody states) finds the withheld item before any of the other colour. With ``parts`` a row also has what
    some models cannot do without: four other items of the user's colour as a history, a scene, and a second task, whether what was taken is kept.
    """

    def __init__(self, users: int = 12, items: int = 12, parts: bool = False) -> None:
        self.users, self.items, self.parts = users, items, parts
        self.takes = np.add.outer(np.arange(users), np.arange(items)) % 2 == 0
        self.withheld = np.array([np.flatnonzero(self.takes[user])[user // 2 % (items // 2)] for user in range(users)])
        self.known = np.ones((users, items), bool)
        self.known[np.arange(users), self.withheld] = False
        features = [Feature("user_id", "user", "category", users + 2), Feature("item_id", "item", "category", items + 2)]
        if parts:
            features.append(Feature("history", "user", "sequence", items + 2, length=4, shares="item_id"))
            features.append(Feature("scene", "context", "category", 3))
        self.schema = Schema(
            tuple(features),
            (Label("take"), Label("keep")) if parts else (Label("take"),),
            user_id="user_id",
            item_id="item_id",
            history="history" if parts else "",
            domain="scene" if parts else "",
        )

    def columns(self, users: np.ndarray[Any, Any], items: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """These cells; a history never holds the row's own item, and is as long whether it was taken or not."""
        found = {"user_id": users + 2, "item_id": items + 2}
        if self.parts:
            taken = [np.flatnonzero(self.known[user] & self.takes[user]) for user in range(self.users)]
            others = [[one for one in np.roll(taken[user], item) if one != item][:4] for user, item in zip(users, items, strict=True)]
            found |= {"history": np.array(others) + 2, "scene": np.full(len(users), 2)}
        return found

    def rows(self) -> Pointwise:
        """All known cells of the board, labelled by whether they were taken."""
        users, items = np.nonzero(self.known)
        takes = self.takes[users, items].astype(np.float32)
        labels = {"take": takes, "keep": np.where(takes > 0, takes, np.nan)} if self.parts else {"take": takes}
        return Pointwise(self.columns(users, items), labels, users)

    def pairs(self, **options: Any) -> Pairs:
        """The known cells that were taken."""
        users, items = np.nonzero(self.known & self.takes)
        return Pairs(items, users, {"item_id": np.arange(self.items) + 2}, {"user_id": users + 2}, **options)

    def board(self) -> Batch:
        """Every cell, user by user."""
        users, items = np.indices(self.takes.shape).reshape(2, -1)
        return Batch.of(self.columns(users, items))

    def solved_by(self, scores: np.ndarray[Any, Any]) -> bool:
        """Whether ``scores [users, items]`` put each user's withheld item before every item of the other colour."""
        own = scores[np.arange(self.users), self.withheld]
        return bool(np.all(own > np.where(self.takes, -np.inf, scores).max(1)))


class Shop:
    """A small catalogue with attributes of every kind and events with values and times; what counters are fitted on."""

    def __init__(self, users: int = 40, items: int = 30, events: int = 400, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        genres, authors, words = ("drama", "crime", "comedy", "war"), ("ann", "bob", "cleo"), ("red", "blue", "night", "day", "sea", "city")
        self.users, self.items, self.now = users, items, 400 * DAY
        frame = pl.DataFrame(
            {
                "id": [f"item {item}" for item in range(items)],
                "title": [" ".join(random.choice(words, 3)) for _ in range(items)],
                "genres": [sorted({str(genre) for genre in random.choice(genres, 2)}) for _ in range(items)],
                "author": [str(random.choice(authors)) for _ in range(items)],
                "year": [int(year) for year in random.integers(1980, 2020, items)],
            }
        )
        self.catalogue = Catalogue.of(frame, created={f"item {item}": int(random.integers(300, 400)) * DAY for item in range(items // 2)})
        popularity = 1 / np.arange(1, items + 1)
        taken = random.choice(items, events, p=popularity / popularity.sum())
        times = np.sort(random.integers(300 * DAY, self.now, events))
        values = random.integers(1, 6, events).astype(np.float32)
        self.rows = EventRows(random.integers(0, users, events), taken, times, np.ones(events, np.uint32), values, ("taken",))
        self.interactions = Interactions.of(self.rows, users, items, weighted=True, now=self.now)
        self.past = Past(self.rows, users, items)

    def request(self, users: list[int], **fields: Any) -> Request:
        """These users at the end of time, with what they did before."""
        return self.past.request(np.array(users, np.int64), np.full(len(users), self.now, np.int64), **fields)

    def stranger(self, history: list[int], value: float = 5.0) -> Request:
        """A user nobody knows, with a history given in the request."""
        size = len(history)
        times = self.now - 1 - np.arange(size, dtype=np.int64)[::-1]
        values, offsets = np.full(size, value, np.float32), np.array([0, size], np.int64)
        histories = Histories(np.array(history, np.int64), times, np.ones(size, np.uint32), values, offsets)
        return Request(np.array([-1]), histories, np.array([self.now]))


class Drift:
    """Interest moves through three genres in phases of any length. With ``drifts`` what is offered is of one of them, and wanted if of the last.

    Counts say nothing there, only the order does. Without, places are shuffled and an item of any genre is offered, wanted if its genre is there at
    all. A wanted item is taken with 9 in 10, another with 1 in 10.
    """

    def __init__(self, rows: int, drifts: bool = True, genres: int = 8, each: int = 4, length: int = 12, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        phases = random.permuted(np.tile(np.arange(genres), (rows, 1)), axis=1)[:, :3]
        ends = random.permuted(np.tile(np.arange(1, length), (rows, 1)), axis=1)[:, :2, None]
        seen = np.take_along_axis(phases, (np.arange(length) >= ends).sum(1), 1)  # [rows, length]
        offered = phases[np.arange(rows), random.integers(0, 3, rows)] if drifts else random.integers(0, genres, rows)
        wanted = offered == phases[:, 2] if drifts else (seen == offered[:, None]).any(1)
        history = (seen if drifts else random.permuted(seen, axis=1)) * each + random.integers(0, each, seen.shape)
        self.columns = {"history": history + 2, "item_id": offered * each + random.integers(0, each, rows) + 2}
        self.labels = (random.random(rows) < np.where(wanted, 0.9, 0.1)).astype(np.float32)
        item = Feature("item_id", "item", "category", genres * each + 2)
        past = Feature("history", "user", "sequence", genres * each + 2, length=length, shares="item_id")
        self.schema = Schema((past, item), (Label("take"),), item_id="item_id", history="history")
