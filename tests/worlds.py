"""Worlds with known answers, and schemas that hold one of everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import torch

from palate.batch import Batch
from palate.candidates import DAY, Candidates, Histories, Leftovers, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.datasets.pairs import Pairs
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.schema import Feature, Label, Owner, Schema
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue
from palate.state.past import Past
from palate.state.rows import EventRows

Values = np.ndarray[Any, Any]
Odds = Callable[[Values, np.random.Generator], Values]  #: of drawn values [N, F], log-odds [N]

TASKS = (Label("choose"), Label("like", weight=0.5))
SIZE = {"times": 1, "size": 0}  #: how much larger than a test says its mechanism world is (``--worlds``), and the size of the last one


def more(size: int) -> int:
    """So many rows (or lists, or users) to learn from, as a test says it; in the bench it is ``times`` as many."""
    SIZE["size"] = size * SIZE["times"]
    return SIZE["size"]


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
        random, rows = np.random.default_rng(seed), more(rows)
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


def _taken(schema: Schema, columns: dict[str, np.ndarray[Any, Any]], odds: np.ndarray[Any, Any], random: np.random.Generator) -> Pointwise:
    """Rows taken with these log-odds."""
    labels = (random.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    return Pointwise(columns, {schema.labels[0].name: labels}, np.zeros(len(odds), np.int64))


def polynomial(rows: int, terms: tuple[tuple[int, ...], ...], strength: float, seed: int) -> tuple[Schema, Pointwise]:
    """Six normal numbers; the log-odds are ``strength`` times the sum over ``terms`` of the product of these numbers."""
    random = np.random.default_rng(seed)
    numbers = random.standard_normal((rows, 6)).astype(np.float32)
    schema = Schema(tuple(Feature(f"x{n}", "user", "number") for n in range(6)), (Label("take"),))
    odds = strength * sum(np.prod(numbers[:, list(term)], 1) for term in terms)
    return schema, _taken(schema, {f"x{n}": numbers[:, n] for n in range(6)}, odds, random)


def agreement(rows: int, terms: tuple[tuple[int, ...], ...], seed: int, values: int = 6) -> tuple[Schema, Pointwise]:
    """Four categories; half of each one's values stand for 1 and half for -1, and the log-odds are 4 times the sum over ``terms`` of products."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, values, (rows, 4))
    schema = Schema(tuple(Feature(f"c{n}", "user", "category", values + 2) for n in range(4)), (Label("take"),))
    odds = 4.0 * sum(np.prod(1.0 - 2.0 * (ids[:, list(term)] % 2), 1) for term in terms)
    return schema, _taken(schema, {f"c{n}": ids[:, n] + 2 for n in range(4)}, odds, random)


def slots(rows: int, turned: bool, seed: int, keys: int = 8) -> tuple[Schema, Pointwise]:
    """Five slots, each with another key and a sign; a row is taken by the sign of the slot that holds the key asked for.

    Which slot matters is another in every row. ``turned``: a sixth field turns that sign round in half of the rows, so that no pair of fields tells.
    """
    random = np.random.default_rng(seed)
    held = np.argsort(random.random((rows, keys)), 1)[:, :5]
    sign, turn, asked = random.integers(0, 2, (rows, 5)), random.integers(0, 2, rows), random.integers(0, 5, rows)
    every, first = np.arange(rows), Feature("s0", "user", "category", 2 * keys + 2)
    others = (Feature(f"s{n}", "user", "category", 2 * keys + 2, shares="s0") for n in range(1, 5))
    schema = Schema((Feature("key", "item", "category", keys + 2), Feature("turn", "context", "category", 4), first, *others), (Label("take"),))
    columns = {"key": held[every, asked] + 2, "turn": turn + 2} | {f"s{n}": 2 * held[:, n] + sign[:, n] + 2 for n in range(5)}
    odds = 4.0 * (2 * sign[every, asked] - 1) * ((2 * turn - 1) if turned else 1)
    return schema, _taken(schema, columns, odds, random)


def switched(rows: int, seed: int, values: int = 12) -> tuple[Schema, Pointwise]:
    """Three pairs of normal numbers and a category; each of its values switches one pair on, and the log-odds are 3 times its product."""
    random = np.random.default_rng(seed)
    ids, numbers = random.integers(0, values, rows), random.standard_normal((rows, 6)).astype(np.float32)
    features = (Feature("switch", "item", "category", values + 2), *(Feature(f"x{n}", "user", "number") for n in range(6)))
    schema = Schema(features, (Label("take"),))
    on = 2 * (ids % 3)
    odds = 3.0 * numbers[np.arange(rows), on] * numbers[np.arange(rows), on + 1]
    return schema, _taken(schema, {"switch": ids + 2} | {f"x{n}": numbers[:, n] for n in range(6)}, odds, random)


class Drawn:
    """Features drawn independently of each other, each of ``sizes`` values (0: a normal number), and a label of which ``odds`` says the log-odds.

    ``odds`` is given the drawn values ``[N, F]`` (as they are, not ids) and chance. The first ``shared`` features have one table. ``best`` is the
    AUC of the true odds on the last half of the rows.
    """

    def __init__(self, sizes: tuple[int, ...], odds: Odds, owners: tuple[Owner, ...], rows: int = 8000, shared: int = 0, seed: int = 0) -> None:
        random, rows = np.random.default_rng(seed), more(rows)
        values = np.stack([random.integers(0, size, rows) if size else random.normal(0, 1, rows) for size in sizes], 1)
        chance = 1 / (1 + np.exp(-odds(values, random)))
        self.labels = (random.random(rows) < chance).astype(np.float32)
        self.best = auc(self.labels[rows // 2 :], chance[rows // 2 :])
        self.columns = {f"f{n}": values[:, n].astype(np.int64) + 2 if size else values[:, n].astype(np.float32) for n, size in enumerate(sizes)}
        features = (
            Feature(f"f{n}", owner, "category" if size else "number", size + 2 if size else 0, shares="f0" if 0 < n < shared else "")
            for n, (size, owner) in enumerate(zip(sizes, owners, strict=True))
        )
        self.schema = Schema(tuple(features), (Label("click"),))


@cache
def ring(seed: int = 0) -> Drawn:
    """Two items of three hidden kinds that beat each other in a ring; both are looked up in one table, so what is symmetric in them says nothing."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        kind = random.integers(0, 3, 60)[values.astype(np.int64)]
        return np.array([0.0, 2.0, -2.0])[(kind[:, 1] - kind[:, 0]) % 3]

    return Drawn((60, 60), odds, ("user", "item"), 6000, shared=2, seed=seed)


@cache
def products(seed: int = 0) -> Drawn:
    """Ten numbers; every product of two of them counts, each by its own weight."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        weights = np.triu(random.normal(0, 1, (10, 10)), 1)
        return 2.5 * np.einsum("ni,ij,nj->n", values, weights, values) / np.sqrt(45)

    return Drawn((0,) * 10, odds, ("user",) * 5 + ("item",) * 5, seed=seed)


@cache
def two_sides(seed: int = 0) -> Drawn:
    """Three things that bend with the user's numbers, each times one that bends with the item's."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        mine, its = random.normal(0, 1, (2, 3, 3))
        return ((np.maximum(values[:, :3] @ mine, 0) - 0.8) * (np.maximum(values[:, 3:] @ its, 0) - 0.8)).sum(1)

    return Drawn((0,) * 6, odds, ("user",) * 3 + ("item",) * 3, 9000, seed=seed)


@cache
def scaled(seed: int = 0) -> Drawn:
    """What an item has is the same everywhere, but each of thirty scenes takes each of it for good, for bad or for nothing."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        inner = np.maximum(values[:, 1:] @ random.normal(0, 1, (6, 6)) + random.normal(0, 1, 6), 0)
        return 0.8 * (random.choice([-1.0, 0.0, 1.0], (30, 6))[values[:, 0].astype(np.int64)] * inner).sum(1)

    return Drawn((30, *(0,) * 6), odds, ("context", *("item",) * 6), 9000, seed=seed)


def parity(noise: int, seed: int = 0) -> Drawn:
    """Two pairs of categories whose hidden signs are multiplied, among ``noise`` categories that say nothing."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        signs = random.choice([-1.0, 1.0], (4, 20))
        first, second, third, fourth = (signs[n][values[:, n].astype(np.int64)] for n in range(4))
        return 2 * first * second + 1.5 * third * fourth

    return Drawn((20,) * (4 + noise), odds, ("user", "item") * ((4 + noise) // 2), seed=seed)


@cache
def additive(seed: int = 0) -> Drawn:
    """Six categories, each of which counts by itself: nothing is there to be crossed."""

    def odds(values: Values, random: np.random.Generator) -> Values:
        return sum(random.normal(0, 0.8, 20)[values[:, n].astype(np.int64)] for n in range(6))  # type: ignore[return-value]

    return Drawn((20,) * 6, odds, ("user",) * 3 + ("item",) * 3, seed=seed)


def of_categories(
    sizes: dict[str, int], ids: dict[str, np.ndarray[Any, Any]], labels: np.ndarray[Any, Any], groups: Any = None
) -> tuple[Schema, Pointwise]:
    """A schema of categories with values from 0 below ``sizes``, users' where the name is ``user``, items' else, and rows of them."""
    features = tuple(Feature(name, "user" if name == "user" else "item", "category", size + 2) for name, size in sizes.items())
    shifted = {name: values + 2 for name, values in ids.items()}
    return Schema(features, (Label("take"),)), Pointwise(
        shifted, {"take": labels.astype(np.float32)}, np.arange(len(labels)) if groups is None else groups
    )


def mostly_noise(size: int, seed: int, noise: int = 2000, part: int = 0) -> tuple[Schema, Pointwise]:
    """Labels that depend on one category of 20 values; beside it stand ten categories of ``noise`` values altogether that mean nothing.

    ``noise = 0``: there is nothing else. ``part``: other rows of the same world.
    """
    effects = np.random.default_rng(seed).normal(0, 1.5, 20)
    random = np.random.default_rng([seed, part])
    ids = {"telling": random.integers(0, 20, size)}
    sizes = {"telling": 20}
    for n in range(10 if noise else 0):
        sizes[f"noise{n}"] = noise // 10
        ids[f"noise{n}"] = random.integers(0, noise // 10, size)
    chance = 1 / (1 + np.exp(-effects[ids["telling"]]))
    return of_categories(sizes, ids, random.random(size) < chance)


def exceptions(size: int, seed: int, share: float = 0.5, pairs: int = 1000, part: int = 0) -> tuple[Schema, Pointwise]:
    """Who of five kinds of users takes what of five kinds of items is a matter of both kinds, but for a ``share`` of ``pairs`` known pairs.

    Nobody states the kinds. Half of the rows are a known pair, the others any of 200 users with any of 200 items. ``part``: other rows of the
    same world.
    """
    world, random = np.random.default_rng(seed), np.random.default_rng([seed, part])
    likes, known, odd = world.random((5, 5)) < 0.5, world.integers(0, 200, (2, pairs)), world.random(pairs) < share
    turned = np.zeros((200, 200), bool)
    turned[known[0][odd], known[1][odd]] = True
    users, items = np.where(random.random(size) < 0.5, known[:, random.integers(0, pairs, size)], random.integers(0, 200, (2, size)))
    takes = likes[users % 5, items % 5] ^ turned[users, items]
    return of_categories({"user": 200, "item": 200}, {"user": users, "item": items}, random.random(size) < np.where(takes, 0.95, 0.05))


class Levels:
    """Lists of eight items. With ``levels`` a list as a whole is good or bad, and a number tells how good it is, but within a list speaks against.

    Who predicts labels looks at that number; who orders a list should do the reverse. ``order`` tells a little of the order either way. Without
    ``levels`` both numbers simply count for an item.
    """

    def __init__(self, lists: int, levels: bool = True, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        level = np.repeat(random.normal(0, 2, lists), 8) if levels else np.zeros(8 * lists)
        own, order = random.normal(size=(2, 8 * lists))
        logits = 1.5 * level - 1 + (-1.0 if levels else 1.0) * own + 0.5 * order
        self.groups = np.repeat(np.arange(lists), 8)
        self.labels = (random.random(8 * lists) < 1 / (1 + np.exp(-logits))).astype(np.float32)
        self.columns = {"level": (level + own).astype(np.float32), "order": order.astype(np.float32)}
        self.features = (Feature("level", "item", "number"), Feature("order", "item", "number"))

    def rows(self) -> Pointwise:
        return Pointwise(self.columns, {"take": self.labels}, self.groups)

    def ndcg(self, scores: np.ndarray[Any, Any], k: int = 3) -> float:
        """Mean over lists that hold something taken and something else."""
        scores, labels = scores.reshape(-1, 8), self.labels.reshape(-1, 8)
        mixed = (labels.sum(1) > 0) & (labels.sum(1) < 8)
        found = np.take_along_axis(labels, np.argsort(-scores, 1, kind="stable"), 1)[:, :k] / np.log2(np.arange(k) + 2)
        best = -np.sort(-labels, 1)[:, :k] / np.log2(np.arange(k) + 2)
        return float((found.sum(1)[mixed] / best.sum(1)[mixed]).mean())


class Tastes:
    """A history shows items of four genres, each in two colours. With ``by_genre`` the user keeps to one colour in each genre, and an item of a known
    genre is wanted if it has the colour liked there: only events of the candidate's genre say anything. Without, the user prefers one colour
    everywhere, and it is what counts. A wanted item is taken with 9 in 10, another with 1 in 10.
    """

    def __init__(self, rows: int, by_genre: bool = True, genres: int = 12, each: int = 2, length: int = 12, seed: int = 0) -> None:
        random, rows = np.random.default_rng(seed), more(rows)
        everyone = np.arange(rows)
        known = random.permuted(np.tile(np.arange(genres), (rows, 1)), axis=1)[:, :4]
        liked = random.integers(0, 2, (rows, 4)) if by_genre else np.tile(random.integers(0, 2, (rows, 1)), 4)
        which = random.permuted(np.concatenate([np.tile(np.arange(4), (rows, 1)), random.integers(0, 4, (rows, length - 4))], 1), axis=1)
        colour = np.take_along_axis(liked, which, 1) ^ (0 if by_genre else random.random(which.shape) < 0.3)
        place, offered = random.integers(0, 4, rows), random.integers(0, 2, rows)
        genre = np.take_along_axis(known, which, 1)
        self.columns = {"history": (genre * 2 + colour) * each + random.integers(0, each, which.shape) + 2, "history_genre": genre + 2}
        self.columns |= {"item_id": (known[everyone, place] * 2 + offered) * each + random.integers(0, each, rows) + 2}
        self.columns |= {"genre": known[everyone, place] + 2}
        self.labels = (random.random(rows) < np.where(offered == liked[everyone, place], 0.9, 0.1)).astype(np.float32)
        self.schema = read_history(genres * 2 * each + 2, genres + 2, length)


def read_history(items: int, genres: int, length: int) -> Schema:
    """A history of items and their genres, and an item with its genre."""
    past = Feature("history", "user", "sequence", items, length=length, shares="item_id")
    genre = Feature("history_genre", "user", "sequence", genres, length=length, shares="genre")
    offered = (Feature("item_id", "item", "category", items), Feature("genre", "item", "category", genres))
    return Schema((past, genre, *offered), (Label("take"),), item_id="item_id", history="history")


class LongAgo:
    """Long ago (5,000 events back) a user took items of four of eight genres, since then only everyday ones that everybody takes. What is offered
    is of the eight, and wanted if its genre is among the four. Without ``ago`` the four come last, within the last 100 events.
    """

    def __init__(self, users: int, ago: bool = True, each: int = 10, past: int = 500, since: int = 5000, seed: int = 0) -> None:
        random, users = np.random.default_rng(seed), more(users)
        touched = random.permuted(np.tile(np.arange(8), (users, 1)), axis=1)[:, :4] + 8
        then, everyday = np.take_along_axis(touched, random.integers(0, 4, (users, past)), 1), random.integers(0, 8, (users, since))
        genre = np.concatenate([then, everyday] if ago else [everyday, then[:, :100]], 1)
        self.user = np.repeat(np.arange(users), each)
        offered = random.integers(8, 16, len(self.user))
        self.histories = {"history": genre * 4 + random.integers(0, 4, genre.shape) + 2, "history_genre": genre + 2}
        self.columns = {"item_id": offered * 4 + random.integers(0, 4, len(offered)) + 2, "genre": offered + 2}
        wanted = (touched[self.user] == offered[:, None]).any(1)
        self.labels = (random.random(len(offered)) < np.where(wanted, 0.9, 0.1)).astype(np.float32)

    def rows(self, length: int, start: int = 0, stop: int | None = None) -> tuple[Schema, Pointwise]:
        """Rows ``start`` to ``stop``, of whose histories the last ``length`` events are seen."""
        chosen, seen = self.user[start:stop], {name: values[:, -length:] for name, values in self.histories.items()}
        columns, labels = ({name: values[start:stop] for name, values in one.items()} for one in (self.columns, {"take": self.labels}))
        return read_history(66, 18, seen["history"].shape[1]), Pointwise(columns, labels, chosen, seen, chosen)


class Curved:
    """Log-odds follow u - u^2 of two skewed numbers' ranks u in [0, 1], so they rise and fall (``curved``), or the ranks themselves."""

    def __init__(self, rows: int, curved: bool = True, seed: int = 0) -> None:
        random, rows = np.random.default_rng(seed), more(rows)
        share = random.random((rows, 2))
        bent = share - share**2 if curved else share
        odds = 1.2 * ((bent - bent.mean(0)) / bent.std(0)).sum(1)
        self.columns = {"a": np.exp(6 * share[:, 0]).astype(np.float32), "b": np.exp(6 * share[:, 1]).astype(np.float32)}
        self.columns |= {"item_id": random.integers(2, 30, rows)}
        self.labels = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.float32)
        item = Feature("item_id", "item", "category", 30)
        self.schema = Schema((Feature("a", "user", "number"), Feature("b", "item", "number"), item), (Label("take"),), item_id="item_id")


class CoActing:
    """Whether an item is taken depends on how it goes with each event of a short history: a weight of its own for each pair of items.

    With ``acts`` the pairs' weights are drawn one by one, so no few numbers an item give them; without, they are sums of one number an item.
    """

    def __init__(self, rows: int, acts: bool = True, items: int = 30, length: int = 3, seed: int = 0) -> None:
        random, rows = np.random.default_rng(seed), more(rows)
        history, offered = random.integers(0, items, (rows, length)), random.integers(0, items, rows)
        alone = random.normal(0, 0.7, (2, items))
        weights = random.choice([-1.5, 1.5], (items, items)) if acts else np.add.outer(*alone)
        self.columns = {"history": history + 2, "item_id": offered + 2}
        self.labels = (random.random(rows) < 1 / (1 + np.exp(-weights[history, offered[:, None]].sum(1)))).astype(np.float32)
        item = Feature("item_id", "item", "category", items + 2)
        past = Feature("history", "user", "sequence", items + 2, length=length, shares="item_id")
        self.schema = Schema((past, item), (Label("take"),), item_id="item_id", history="history")


class ClickedSample:
    """Clicks select who can buy: both follow the same hidden tastes, so clicked rows look unlike the exposures. ``buys`` is known for all."""

    def __init__(self, base: float = -2.0, slope: float = 2.0, users: int = 200, items: int = 150, size: int = 20_000, seed: int = 0) -> None:
        random, size = np.random.default_rng(seed), more(size)
        match = random.normal(size=(users, 2)) @ random.normal(size=(items, 2)).T
        clicks, self.buys = 1 / (1 + np.exp(-base - slope * match)), 1 / (1 + np.exp(0.5 - 1.5 * match))
        self.features = (Feature("user_id", "user", "category", users + 2), Feature("item_id", "item", "category", items + 2))
        self.user, self.item = random.integers(0, users, size), random.integers(0, items, size)
        self.click = (random.random(size) < clicks[self.user, self.item]).astype(np.float32)
        self.buy = np.where(self.click > 0, random.random(size) < self.buys[self.user, self.item], np.nan).astype(np.float32)

    def rows(self, *tasks: str, clicked: bool = False) -> Pointwise:
        kept = self.click > 0 if clicked else np.ones(len(self.click), bool)
        labels = {task: getattr(self, task)[kept] for task in tasks}
        return Pointwise({"user_id": self.user[kept] + 2, "item_id": self.item[kept] + 2}, labels, self.user[kept])

    def board(self) -> Batch:
        users, items = np.indices(self.buys.shape).reshape(2, -1)
        return Batch.of({"user_id": users + 2, "item_id": items + 2})


class Regimes:
    """In each segment two tasks look at different directions out of ``skills``; ``skills`` 1: both look at the same one everywhere."""

    def __init__(self, segments: int = 24, skills: int = 8, numbers: int = 16, sharp: float = 8.0, size: int = 6000, seed: int = 0) -> None:
        random, size = np.random.default_rng(seed), more(size)
        total = size + 4000
        names = [f"x{n}" for n in range(numbers)]
        features = [Feature("segment", "user", "category", segments + 2), *(Feature(name, "item", "number") for name in names)]
        self.schema = Schema(tuple(features), (Label("a"), Label("b")))
        values, segment = random.normal(size=(total, numbers)).astype(np.float32), random.integers(0, segments, total)
        ways = random.normal(size=(skills, numbers))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        labels = {}
        for task, name in enumerate("ab"):
            logit = sharp * (values * ways[(segment + task) % skills]).sum(1)
            labels[name] = (random.random(total) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        every = Pointwise({"segment": segment + 2} | dict(zip(names, values.T, strict=True)), labels, np.arange(total))
        self.train, self.test = (part_of(every, np.arange(total) < size, wanted) for wanted in (True, False))


class LoudTask:
    """Two tasks, sums of sines in unlike directions; the second weighs ``loud`` times the first."""

    def __init__(self, loud: float = 30.0, numbers: int = 8, waves: int = 3, size: int = 4000, seed: int = 0) -> None:
        random, size = np.random.default_rng(seed), more(size)
        total = size + 4000
        names = [f"x{n}" for n in range(numbers)]
        self.schema = Schema(tuple(Feature(name, "user", "number") for name in names), (Label("quiet"), Label("loud", weight=loud)))
        values, labels = random.normal(size=(total, numbers)).astype(np.float32), {}
        for label in self.schema.labels:
            ways = random.normal(size=(waves, numbers))
            ways /= np.linalg.norm(ways, axis=1, keepdims=True)
            wave = np.sin(2 * values @ ways.T + random.uniform(0, 6, waves)).sum(1)
            logit = 3 * (wave - wave.mean()) / wave.std()
            labels[label.name] = (random.random(total) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        every = Pointwise(dict(zip(names, values.T, strict=True)), labels, np.arange(total))
        self.train, self.test = (part_of(every, np.arange(total) < size, wanted) for wanted in (True, False))


def part_of(rows: Pointwise, chosen: np.ndarray[Any, Any], wanted: bool) -> Pointwise:
    """The rows where ``chosen`` bool ``[N]`` is ``wanted``."""
    batch = rows.batch(torch.from_numpy(np.flatnonzero(chosen == wanted)))
    labels = {name.removeprefix("label:"): values for name, values in batch.items() if name.startswith("label:")}
    return Pointwise({name: values for name, values in batch.items() if not name.startswith("label:") and name != "group"}, labels, batch["group"])


class Scenes:
    """Tastes of four dimensions; in each scene every dimension counts as in the first or the other way round (``differ`` False: never)."""

    def __init__(self, differ: bool = True, sizes: tuple[int, ...] = (4000, 1500, 1500, 1500), seed: int = 0) -> None:
        random, scenes = np.random.default_rng(seed), len(sizes)
        tastes, traits = random.normal(size=(60, 4)), random.normal(size=(60, 4))
        signs = np.where(random.random((scenes, 4)) < 0.5, -1.0, 1.0)
        signs[0] = 1
        features = (Feature("user_id", "user", "category", 62), Feature("item_id", "item", "category", 62))
        scene = Feature("scene", "context", "category", scenes + 3)  # the last one is never trained on
        self.schema = Schema((*features, scene), (Label("click"),), user_id="user_id", item_id="item_id", domain="scene")
        parts = []
        learnt, asked = (np.repeat(np.arange(scenes), counts) for counts in (sizes, (2000,) * scenes))
        for where in (np.resize(learnt, more(len(learnt))), asked):
            user, item = random.integers(0, 60, len(where)), random.integers(0, 60, len(where))
            logit = 2 * (tastes[user] * traits[item] * (signs[where] if differ else 1.0)).sum(1)
            click = (random.random(len(where)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
            parts.append(Pointwise({"user_id": user + 2, "item_id": item + 2, "scene": where + 2}, {"click": click}, where))
        self.train, self.test = parts


class Watched:
    """Users watch items with a known chance, then for a time of known mean; without ``tail`` all watch, and times lie close to their mean."""

    def __init__(self, tail: bool = True, users: int = 40, items: int = 40, size: int = 12_000, seed: int = 0) -> None:
        random, size = np.random.default_rng(seed), more(size)
        user, item = random.integers(0, users, size), random.integers(0, items, size)
        one, other = random.normal(size=(users, 1)), random.normal(size=items)
        self.chance = 1 / (1 + np.exp(0.5 - one - other)) if tail else np.ones((users, items))
        length = np.exp(1.5 + 0.6 * (other - one)) if tail else 5 + 0.5 * (one + other)
        self.mean = self.chance * length  # [users, items], over all impressions
        spent = random.exponential(length[user, item]) if tail else np.maximum(length[user, item] + 0.5 * random.normal(size=size), 0.01)
        times = np.where(random.random(size) < self.chance[user, item], spent, 0.0).astype(np.float32)
        features = (Feature("user_id", "user", "category", users + 2), Feature("item_id", "item", "category", items + 2))
        self.schema = Schema(features, (Label("watch", kind="number"),))
        self.rows = Pointwise({"user_id": user + 2, "item_id": item + 2}, {"watch": times}, user)
        users_, items_ = np.indices((users, items)).reshape(2, -1)
        self.board = Batch.of({"user_id": users_ + 2, "item_id": items_ + 2})


def met(rows: int, of: str, seed: int, part: int = 0, fields: int = 6, values: int = 10) -> tuple[Schema, Pointwise]:
    """Six categories. The log-odds sum, over values that meet, a product of what each shows to the other's ``fields``, or shows to all alike
    (``pairs``); or, of ``values``, a weight of each by itself. Other rows of the same world are its other ``part``.
    """
    world, random = np.random.default_rng(seed), np.random.default_rng([seed, part, 1])
    alike, shown = world.normal(size=(fields, values)), world.normal(size=(fields, values, fields))
    ids, odds = random.integers(0, values, (rows, fields)), np.zeros(rows)
    for i in range(fields):
        odds += alike[i, ids[:, i]] if of == "values" else 0.0
        for j in range(i):
            odds += shown[i, ids[:, i], j] * shown[j, ids[:, j], i] if of == "fields" else 0.0
            odds += alike[i, ids[:, i]] * alike[j, ids[:, j]] if of == "pairs" else 0.0
    schema = Schema(tuple(Feature(f"c{n}", "user", "category", values + 2) for n in range(fields)), (Label("take"),))
    return schema, _taken(schema, {f"c{n}": ids[:, n] + 2 for n in range(fields)}, 2 * (odds - odds.mean()) / odds.std(), random)


def levelled(lists: int, uneven: bool, seed: int, size: int = 20) -> tuple[Schema, Pointwise]:
    """Lists whose rows are ordered by two faint numbers. How much is taken of a list at all bends with four of its own (``uneven``): most of the
    log loss, and nothing of the order.
    """
    random = np.random.default_rng(seed)
    own, row = random.normal(size=(lists, 4)).repeat(size, 0), random.normal(size=(lists * size, 2))
    odds = 2.5 * uneven * np.sin(2 * own).sum(1) + 0.8 * np.abs(row[:, 0]) + 0.8 * row[:, 1] - 2.1
    columns = {f"{name}{n}": values[:, n].astype(np.float32) for name, values in (("list", own), ("row", row)) for n in range(values.shape[1])}
    schema = Schema(tuple(Feature(name, "user" if name.startswith("list") else "item", "number") for name in columns), (Label("take"),))
    labels = {"take": (random.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.float32)}
    return schema, Pointwise(columns, labels, np.arange(lists).repeat(size))


def bands(rows: int, bent: bool, seed: int) -> tuple[Schema, Pointwise]:
    """Five numbers: the log-odds jump where two of them pass thresholds together (``bent``), or are a line through three."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 5))
    signs = np.where([np.abs(x[:, 0]) < 0.7, x[:, 1] > 0.3], 2.0, -2.0)
    odds = signs[0] * signs[1] / 2 + 1.5 * ((x[:, 2] > 0) != (x[:, 3] > 0.5)) - 0.7 if bent else 1.2 * x[:, 0] - x[:, 1] + 0.6 * x[:, 2]
    schema = Schema(tuple(Feature(f"x{n}", "user", "number") for n in range(5)), (Label("take"),))
    return schema, _taken(schema, {f"x{n}": x[:, n].astype(np.float32) for n in range(5)}, odds, random)


class Tribes:
    """Each user of a tribe takes ``each`` items, a share ``own`` of the draws from the tribe's own block, the rest from all; hits are drawn more.

    Who finds the blocks (that nobody states) finds what is held out, one item in five; with ``own`` 0 there is nothing to know but popularity.
    With ``noise`` so many random items more were taken by everybody in training.
    """

    def __init__(self, users: int = 300, items: int = 120, tribes: int = 6, each: int = 15, own: float = 0.85, noise: int = 0, seed: int = 0) -> None:
        random, users = np.random.default_rng(seed), more(users)
        self.tribe, self.block = np.arange(users) % tribes, np.arange(items) % tribes
        popular = 1 / (1 + np.arange(items) // tribes) ** 0.7
        takes = np.zeros((users, items), bool)
        for user in range(users):
            chance = own * popular * (self.block == self.tribe[user]) * tribes + (1 - own) * popular
            takes[user, random.choice(items, each, replace=False, p=chance / chance.sum())] = True
        self.held = takes & (random.random(takes.shape) < 0.2)
        self.train = takes & ~self.held
        for user in range(users if noise else 0):
            self.train[user, random.choice(np.flatnonzero(~takes[user]), noise, replace=False)] = True
        rows, columns = np.nonzero(self.train)
        order = random.permutation(len(rows))
        signals, values = np.ones(len(rows), np.uint32), np.full(len(rows), np.nan, np.float32)
        self.rows = EventRows(rows[order], columns[order], np.arange(len(rows)) + DAY, signals, values, ("taken",))
        self.interactions = Interactions.of(self.rows, users, items)

    def request(self, known: bool = True) -> Request:
        """Everybody, with what they took in training, which is not asked for again; with ``known`` False nobody says who they are."""
        users = np.arange(len(self.train))
        asked = Past(self.rows, *self.train.shape).request(users, np.full(len(users), 400 * DAY))
        taken = self.interactions
        return replace(asked, users=users if known else np.full(len(users), -1), exclude=Ragged(taken.items, taken.offsets))

    def recall(self, lists: Candidates) -> float:
        """Share of what was held out that the lists have."""
        return float(self.held[lists.requests, lists.items].sum() / self.held.sum())

    def popular(self, k: int = 10) -> float:
        """``recall`` of lists of what most users took."""
        counts = np.where(self.train, -1, self.train.sum(0))
        best = np.argsort(-counts, 1, kind="stable")[:, :k]
        return float(np.take_along_axis(self.held, best, 1).sum() / self.held.sum())


class Walks:
    """Lists of items: the next is what ``follows`` makes of those before, ``[N, t] -> [N]``, with a probability ``sure``, else any (by 1 / rank)."""

    def __init__(self, lists: int, follows: Callable[[Values], Values], sure: float = 0.9, items: int = 30, length: int = 10, seed: int = 0) -> None:
        random, odds = np.random.default_rng(seed), 1 / np.arange(1, items + 1)
        self.items, self.taken = items, random.integers(0, items, (lists, min(6, length - 1)))
        while self.taken.shape[1] < length:
            known = random.random(lists) < sure
            following = np.where(known, follows(self.taken) % items, random.choice(items, lists, p=odds / odds.sum()))
            self.taken = np.concatenate((self.taken, following[:, None]), 1)

    def rows(self, lists: int) -> EventRows:
        """The first so many lists as events, in order."""
        size, places = lists * self.taken.shape[1], np.tile(np.arange(self.taken.shape[1]), lists)
        users = np.repeat(np.arange(lists), self.taken.shape[1])
        return EventRows(users, self.taken[:lists].ravel(), places * DAY, np.ones(size, np.uint32), np.ones(size, np.float32), ("taken",))

    def asked(self, lists: int) -> tuple[Request, Values]:
        """The later lists but their last item, as strangers ask, and that item."""
        asked = self.taken[lists:]
        history, size = asked[:, :-1], asked[:, :-1].size
        times = np.tile(np.arange(history.shape[1]), len(asked)) * DAY
        offsets = np.arange(len(asked) + 1) * history.shape[1]
        histories = Histories(history.ravel(), times, np.ones(size, np.uint32), np.ones(size, np.float32), offsets)
        return Request(np.full(len(asked), -1), histories, np.full(len(asked), history.shape[1] * DAY)), asked[:, -1]


class Interests(Walks):
    """Lists whose items come, in any order, from ``interests`` of ``groups`` groups of ``size`` items: whoever owns the list likes these."""

    def __init__(self, lists: int, interests: int, groups: int = 12, size: int = 5, length: int = 10, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        own = random.random((lists, groups)).argsort(1)[:, :interests]
        group = np.take_along_axis(own, random.integers(0, interests, (lists, length)), 1)
        self.items, self.taken = groups * size, group * size + random.integers(0, size, (lists, length))


class Trends:
    """Who takes what at a moment of a window, ``age`` before its end: what is in fashion then (``drifts``), or always the same items."""

    schema = Schema(
        (
            Feature("user_id", "user", "category", 52),
            Feature("age", "user", "number"),
            Feature("item_id", "item", "category", 42),
        ),
        user_id="user_id",
        item_id="item_id",
    )

    def __init__(self, examples: int, drifts: bool, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.users, self.age = random.integers(0, 50, examples), random.random(examples)
        self.taken = self._fashion(self.age if drifts else np.full(examples, 0.5), random)
        self.wanted = self._fashion(np.full(1000, 0.0 if drifts else 0.5), random)  # what is taken when the window is over

    @staticmethod
    def _fashion(age: Values, random: np.random.Generator) -> Values:
        return ((35 - 30 * age + random.normal(0, 2, len(age))).round().astype(np.int64)).clip(0, 39)

    def pairs(self, aged: bool = True) -> Pairs:
        columns = {"user_id": self.users + 2} | ({"age": self.age.astype(np.float32)} if aged else {})
        return Pairs(self.taken, self.users, {"item_id": np.arange(40) + 2}, columns)


class Town(Shop):
    """A Shop whose items and askers have places, whose askers follow authors, and whose users come for an hour now and then."""

    def __init__(self, users: int = 40, items: int = 30, events: int = 400, seed: int = 0) -> None:
        super().__init__(users, items, events, seed)
        random, rows = np.random.default_rng(seed + 100), self.rows
        for item in range(items):
            place = random.normal(50, 0.1, 4).tolist()
            self.catalogue.update(item, dict(zip(("latitude", "longitude", "south", "east"), place, strict=True)))
        times = rows.times.copy()
        for user in range(users):
            mine = np.flatnonzero(rows.users == user)
            times[mine] = np.minimum(np.repeat(times[mine][::4], 4)[: len(mine)] + np.arange(len(mine)) % 4 * 1_200_000, self.now - 1)
        order = np.argsort(times, kind="stable")
        self.rows = replace(rows.take(order), times=times[order])
        self.interactions = Interactions.of(self.rows, users, items, weighted=True, now=self.now)
        self.past = Past(self.rows, users, items)
        self.follows = [[("ann", "bob", "cleo")[n]] for n in random.integers(0, 3, users)]
        self.provided = (self.catalogue, Askers(Catalogue("users")))  # what a route may ask for

    def request(self, users: list[int], **fields: Any) -> Request:
        attributes = {"follows": [self.follows[user] for user in users]}
        return replace(super().request(users, **fields), attributes=attributes, former=self.left(users))

    def stranger(self, history: list[int], value: float = 5.0) -> Request:
        return replace(super().stranger(history, value), former=self.left([self.users]))

    def left(self, users: list[int]) -> Leftovers:
        """Of each user ten items of earlier pages, the pages up to four days old."""
        lists = [np.random.default_rng(user).permutation(self.items)[:10] for user in users]
        places, ages = np.tile(np.arange(10), len(users)), np.tile(np.arange(10) // 2 * DAY, len(users))
        return Leftovers(np.concatenate([np.empty(0, np.int64), *lists]), places, self.now - ages, np.arange(len(users) + 1) * 10)


class Views:
    """In each of ``rounds`` everybody takes an item they had not: popular, of their hidden block, of the author they like, each a likelihood ratio.

    ``block`` and ``author`` are what an item of another one loses (1: it says nothing). A share ``new`` of users took one item by chance in the first
    round, and is seen again only in the last two, which are held out.
    """

    def __init__(self, block: float = 0.1, author: float = 0.1, new: float = 0.0, rounds: int = 12, seed: int = 0) -> None:
        users, items, kinds, rows, random = 400, 240, 6, [], np.random.default_rng(seed)
        who, what = (random.integers(0, kinds, (2, size)) for size in (users, items))
        popular = 1 / (1 + random.permutation(items)) ** 0.5
        chance = popular * np.where(who[0][:, None] == what[0], 1, block) * np.where(who[1][:, None] == what[1], 1, author)
        self.new = random.random(users) < new
        for turn in range(rounds):
            likely = np.log(np.where(self.new[:, None] & (turn == 0), 1.0, chance)) + random.gumbel(size=chance.shape)
            coming = np.flatnonzero(~self.new | (turn == 0) | (turn >= rounds - 2))
            chosen = likely.argmax(1)[coming]
            chance[coming, chosen] = 1e-300
            rows += [(user, item, turn * DAY + user) for user, item in zip(coming, chosen, strict=True)]
        takers, taken, times = np.array(rows, np.int64).T
        every = EventRows(takers, taken, times, np.ones(len(rows), np.uint32), np.full(len(rows), np.nan, np.float32), ("taken",))
        self.size, self.now = (users, items), (rounds - 2) * DAY
        self.rows, later = every.before(self.now), every.since(self.now)
        self.held = np.zeros(self.size, bool)
        self.held[later.users, later.items] = True
        frame = pl.DataFrame({"id": [f"item {item}" for item in range(items)], "author": [f"author {kind}" for kind in what[1]]})
        self.catalogue, self.past = Catalogue.of(frame), Past(self.rows, users, items)

    def request(self) -> Request:
        return self.past.request(np.arange(self.size[0]), np.full(self.size[0], self.now))

    def recall(self, lists: Candidates) -> float:
        return float(self.held[lists.requests, lists.items].sum() / self.held.sum())


class Shelves:
    """Items stand on shelves of ``size``, ``kinds`` shelves a room. Each user takes 8 items of one shelf, two of them held out, and 6 of its room.

    That the room is right is soon known, and of what is drawn from everywhere only one item in ``rooms`` tells its shelves apart.
    """

    def __init__(self, users: int = 500, rooms: int = 20, kinds: int = 5, size: int = 10, seed: int = 0) -> None:
        random, wide, users = np.random.default_rng(seed), kinds * size, more(users)
        self.size, taken = (users, rooms * wide), []
        self.held = np.zeros(self.size, bool)
        for user, shelf in enumerate(random.integers(0, rooms * kinds, users)):
            own = shelf * size + random.choice(size, 8, replace=False)
            self.held[user, own[:2]] = True
            other = shelf // kinds * wide + random.choice(wide, 6, replace=False)
            taken += [(user, item) for item in np.unique(np.append(own[2:], other[~np.isin(other, own)]))]
        rows = random.permutation(np.array(taken))
        signals, values = np.ones(len(rows), np.uint32), np.full(len(rows), np.nan, np.float32)
        self.rows = EventRows(rows[:, 0], rows[:, 1], np.arange(len(rows)) + DAY, signals, values, ("taken",))
        self.interactions = Interactions.of(self.rows, *self.size)

    def recall(self, model: Any, k: int = 10) -> float:
        """Share of what was held out among the first k of each user's list."""
        users, taken = np.arange(self.size[0]), self.interactions
        asked = Past(self.rows, *self.size).request(users, np.full(len(users), 400 * DAY), exclude=Ragged(taken.items, taken.offsets))
        found = model.retrieve(asked, k)
        return float(self.held[found.requests, found.items].sum() / self.held.sum())
